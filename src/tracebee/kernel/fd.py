"""File descriptors with one owner, which closes them once."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Fd:
    """A file descriptor that belongs to this object, and is closed with it."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor's number.

        :raises ValueError: it was closed or given away.
        """
        if self._fd < 0:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether it was closed or given away."""
        return self._fd < 0

    def fileno(self) -> int:
        """As :attr:`fd`, for select and its relatives."""
        return self.fd

    def detach(self) -> int:
        """Give the descriptor away: the caller closes it from now on."""
        fd, self._fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close it; nothing happens the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        fd: int = getattr(self, "_fd", -1)
        # At the end of the process, imports are over, and the kernel closes it.
        if fd >= 0 and not sys.is_finalizing():
            import warnings  # only a defect leads here

            warnings.warn(
                f"unclosed {type(self).__name__} (fd {fd})", ResourceWarning, source=self, stacklevel=2
            )
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._fd < 0 else f'fd {self._fd}'}>"
