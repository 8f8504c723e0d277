"""What compiling a script depends on besides its text."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from tracebee.errors import Diagnostic
    from tracebee.ir import Function

# The settings of a config block that the compiler reads, with what holds when none is given.
DEFAULTS: dict[str, Any] = {
    "max_strlen": 1024,
    "max_map_keys": 4096,
    "stack_mode": "bpftrace",
    "license": "GPL",
}


class Options:
    """Command-line and machine facts.

    :param config: settings by their lower-case name; ``DEFAULTS`` for what it lacks.
    :param parameters: the positional parameters, ``$1`` first.
    :param named: named parameters for ``getopt``, as text (``"true"`` for one without a value).
    :param unsafe: whether ``--unsafe`` allows functions that change things.
    :param runtime_checks: 1 to have failed helper calls reported, 2 for reads of memory too.
    :param lasting: it is to run without a process behind it (``--pin``): exit() stops its programs by
        itself, and time() is the time of the event, not of whoever reads it later.
    :param cpid: process id of the ``-c`` command, None without one.
    :param ncpus: number of possible CPUs.
    :param pid_namespace: (device, inode) of this process's PID namespace when it is not the first one.
    :param start: nanoseconds of CLOCK_BOOTTIME from which ``elapsed`` counts.
    :param symbol: address of a kernel symbol by name (for ``kaddr``), 0 when there is none.
    :param user_symbol: (address, size) of a symbol in an executable's file, for ``uaddr``.
    :param portable: it may run on another machine and kernel: nothing of this one's goes into the code.
    :param cpu_version: instructions the target has: 3, or 4 (Linux 6.6 and later), or a function that
        finds out.
    :param warn: called with every warning about the script.
    :param after_pass: called after each pass over the IR, with the pass's name and the function.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        parameters: Sequence[str] = (),
        named: Mapping[str, str] | None = None,
        unsafe: bool = False,
        runtime_checks: int = 0,
        lasting: bool = False,
        portable: bool = False,
        cpid: int | None = None,
        ncpus: int = 1,
        pid_namespace: tuple[int, int] | None = None,
        start: int = 0,
        symbol: Callable[[str], int] | None = None,
        user_symbol: Callable[[str, str], tuple[int, int]] | None = None,
        cpu_version: int | Callable[[], int] = 3,
        warn: Callable[[Diagnostic], None] | None = None,
        after_pass: Callable[[str, Function], None] | None = None,
    ) -> None:
        self.config = {**DEFAULTS, **(config or {})}
        self.parameters = tuple(parameters)
        self.named = dict(named or {})
        self.unsafe = unsafe
        self.runtime_checks = runtime_checks
        self.lasting = lasting
        self.portable = portable
        self.cpid = cpid
        self.ncpus = ncpus
        self.pid_namespace = pid_namespace
        self.start = start
        self.symbol = symbol
        self.user_symbol = user_symbol
        self.cpu_version = cpu_version
        self.warn = warn
        self.after_pass = after_pass

    @property
    def max_strlen(self) -> int:
        """Bytes of a string whose length nothing else limits."""
        return int(self.config["max_strlen"])
