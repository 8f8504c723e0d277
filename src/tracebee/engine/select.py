"""Which engine runs a script: ``--engine auto|kernel|user``."""

from __future__ import annotations

from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.api import Engine

ENGINES = ("auto", "kernel", "user")


def choose(name: str) -> str:
    """``kernel`` or ``user``: for ``auto``, the kernel where this process may use bpf(2).

    :raises UsageError: no engine is called so.
    """
    if name not in ENGINES:
        raise UsageError(f"'{name}' is not an engine", hint=f"engines: {', '.join(ENGINES)}")
    if name != "auto":
        return name
    return "kernel" if _may_load() else "user"


def _may_load() -> bool:
    from tracebee.kernel.privileges import has

    # What is tried and refused for another reason (lockdown, seccomp) is for the kernel engine to explain.
    return has("CAP_SYS_ADMIN") or (has("CAP_BPF") and has("CAP_PERFMON"))


def make_engine(name: str, *, pid: int | None, held: bool = False, log_level: int = 0) -> Engine:
    """An engine that has loaded nothing yet.

    :param name: ``kernel`` or ``user``.
    :param pid: the process that probes of processes are limited to.
    :param held: it is a command that waits to be let go.
    """
    if name == "user":
        from tracebee.engine.user.engine import UserEngine

        return UserEngine(pid=pid, held=held)
    from tracebee.engine.kernel.engine import KernelEngine

    return KernelEngine(pid=pid, log_level=log_level)
