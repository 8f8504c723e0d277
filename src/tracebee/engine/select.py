"""Which engine runs a script: ``--engine auto|kernel|user``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from tracebee.engine.api import Engine

ENGINES = ("auto", "kernel", "user")


def make_engine(name: str, *, pid: int | None, log_level: int = 0) -> Engine:
    """An engine that has loaded nothing yet.

    :param pid: the process that probes of processes are limited to.
    :raises UsageError: no engine is called so; UnsupportedError: it cannot serve here.
    """
    if name not in ENGINES:
        raise UsageError(f"'{name}' is not an engine", hint=f"engines: {', '.join(ENGINES)}")
    if name == "user":
        raise UnsupportedError("the user engine is not part of this version", hint="use --engine kernel")
    from tracebee.engine.kernel.engine import KernelEngine

    return KernelEngine(pid=pid, log_level=log_level)
