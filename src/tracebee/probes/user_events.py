"""The tracepoints that can be served without the kernel's help: system calls, and the life of processes.

The functions of ``kernel.tracefs``, for whom tracefs is closed: the same events and records. System
calls come from a table that ``scripts/syscall_table.py`` wrote.
"""

from __future__ import annotations

import functools
import os

from tracebee.errors import SymbolError, UnsupportedError
from tracebee.typed import NamedTuple

_COMMON = """\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""
# Fields behind the common ones: (declaration, offset, size, signed).
_RECORDS: dict[tuple[str, str], tuple[tuple[str, int, int, int], ...]] = {
    ("raw_syscalls", "sys_enter"): (("long id", 8, 8, 1), ("unsigned long args[6]", 16, 48, 0)),
    ("raw_syscalls", "sys_exit"): (("long id", 8, 8, 1), ("long ret", 16, 8, 1)),
    ("sched", "sched_process_exec"): (
        ("__data_loc char[] filename", 8, 4, 0),
        ("pid_t pid", 12, 4, 1),
        ("pid_t old_pid", 16, 4, 1),
    ),
    ("sched", "sched_process_fork"): (
        ("__data_loc char[] parent_comm", 8, 4, 0),
        ("pid_t parent_pid", 12, 4, 1),
        ("__data_loc char[] child_comm", 16, 4, 0),
        ("pid_t child_pid", 20, 4, 1),
    ),
    ("sched", "sched_process_exit"): (
        ("char comm[16]", 8, 16, 0),
        ("pid_t pid", 24, 4, 1),
        ("int prio", 28, 4, 1),
        ("bool group_dead", 32, 1, 0),
    ),
}
_WAY_OUT = "as root, or with CAP_BPF and CAP_PERFMON, all tracepoints are to be had (--engine kernel)"


class SystemCall(NamedTuple):
    """A row of the table: parameters as C declares them."""

    number: int
    name: str
    parameters: tuple[str, ...]


@functools.cache
def system_calls() -> dict[str, SystemCall]:
    """Every system call of this architecture by name.

    :raises UnsupportedError: there is no table for it.
    """
    path = f"{os.path.dirname(__file__)}/syscalls_{os.uname().machine}.txt"
    if not os.path.exists(path):
        raise UnsupportedError(f"no table of system calls for {os.uname().machine}", hint=_WAY_OUT)
    found = {}
    with open(path) as file:
        for line in file:
            if not line.startswith("#"):
                number, name, *rest = line.rstrip("\n").split(" ", 2)
                parameters = tuple(rest[0].split(", ")) if rest and rest[0] else ()
                found[name] = SystemCall(int(number), name, parameters)
    return found


def categories() -> list[str]:
    """The tracepoints' categories, sorted."""
    return ["raw_syscalls", "sched", "syscalls"]


def events(category: str) -> list[str]:
    """The tracepoints of a category, sorted; none for a category that is not there."""
    if category == "syscalls":
        return sorted(f"sys_{when}_{name}" for name in system_calls() for when in ("enter", "exit"))
    return sorted(event for system, event in _RECORDS if system == category)


def tracepoints() -> list[tuple[str, str]]:
    """All tracepoints as (category, event), sorted."""
    return [(category, event) for category in categories() for event in events(category)]


def event_exists(category: str, event: str) -> bool:
    """Whether there is such a tracepoint."""
    return (category, event) in _RECORDS or (category == "syscalls" and _system_call(event) is not None)


def event_format(category: str, event: str) -> str:
    """The text of a tracepoint's ``format`` file.

    :raises SymbolError: it cannot be served without the kernel; says what would help.
    """
    fields = _RECORDS.get((category, event))
    if fields is None:
        call = _system_call(event) if category == "syscalls" else None
        if call is None:
            raise SymbolError(f"tracepoint {category}:{event} needs the kernel engine", hint=_WAY_OUT)
        fields = (("int __syscall_nr", 8, 4, 1), *_call_fields(event, call))
    lines = (
        f"\tfield:{d};\toffset:{offset};\tsize:{size};\tsigned:{signed};"
        for d, offset, size, signed in fields
    )
    return f"name: {event}\nID: 0\nformat:\n{_COMMON}\n" + "\n".join(lines) + "\n"


def _call_fields(event: str, call: SystemCall) -> tuple[tuple[str, int, int, int], ...]:
    if event.startswith("sys_exit_"):
        return (("long ret", 16, 8, 1),)
    return tuple((declaration, 16 + 8 * i, 8, 0) for i, declaration in enumerate(call.parameters))


def _system_call(event: str) -> SystemCall | None:
    for prefix in ("sys_enter_", "sys_exit_"):
        if event.startswith(prefix):
            return system_calls().get(event.removeprefix(prefix))
    return None
