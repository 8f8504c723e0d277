"""Why a program is refused."""

from __future__ import annotations


class RefusalError(Exception):
    """Raised where a rule is broken; the driver adds the instruction, the path and the registers.

    :param message: what is wrong, as the kernel's log says it where it has words for it.
    :param hint: what to change.
    :param register: the register the message is about, or None.
    """

    def __init__(self, message: str, *, hint: str = "", register: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.register = register
