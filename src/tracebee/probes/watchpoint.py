"""watchpoint: a memory address that is read, written or executed, by the processor's debug registers.

Spelling: ``watchpoint:ADDRESS:LENGTH:MODE``, MODE being letters of ``rwx``. With ``-p`` or ``-c`` the
address is one of that process, else of the kernel, where it may be a symbol's name too.
Source: perf_event_open(2), ``bp_type``; include/uapi/linux/hw_breakpoint.h.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic, MissingProbe
from tracebee.kernel.perf import EVENT_ATTR, PERF_TYPE_BREAKPOINT, PerfEvent
from tracebee.probes.group import RegsGroup
from tracebee.probes.session import threads
from tracebee.uapi import BPF_PROG_TYPE_PERF_EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.probes.machine import Machine

_MODES = {"r": 1, "w": 2, "rw": 3, "wr": 3, "x": 4}  # HW_BREAKPOINT_R, _W, _RW, _X
_LENGTHS = (1, 2, 4, 8)
_USAGE = "write watchpoint:ADDRESS:LENGTH:MODE, for example watchpoint:0x10000000:8:rw"


class Watchpoint(RegsGroup):
    """A perf event program; its context begins with the interrupted registers."""

    program_type = BPF_PROG_TYPE_PERF_EVENT


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Watchpoint]:
    """One group with one target; the spec has ``address``, ``length`` and ``mode`` (bp_type)."""
    if len(point.parts) != 4:
        raise Diagnostic("watchpoint needs an address, a length and a mode", hint=_USAGE)
    where, length, mode = point.parts[1:]
    if mode not in _MODES:
        raise Diagnostic(f"'{mode}' is not a mode", hint="modes: r, w, rw, x")
    if not length.isdecimal() or int(length) not in _LENGTHS:
        raise Diagnostic(f"'{length}' is not a length", hint="lengths: 1, 2, 4, 8 bytes")
    address = _address(where, machine)
    if address % int(length):
        raise Diagnostic(f"address {address:#x} is not a multiple of the length {length}")
    size = 8 if mode == "x" else int(length)  # the kernel wants sizeof(long) for execution
    spec = {"address": address, "length": size, "mode": _MODES[mode]}
    return [Watchpoint("watchpoint", "perf_event", [(point.text, spec)], machine.regs)]


def _address(text: str, machine: Machine) -> int:
    try:
        return int(text, 0)
    except ValueError:
        pass
    if machine.pid is None:
        from tracebee.kernel.kallsyms import address_of

        found = address_of(text)
        if found is not None:
            return found
    raise MissingProbe(f"'{text}' is neither an address nor a symbol of the kernel", hint=_USAGE)


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """A breakpoint event on every CPU, or on each thread of the traced process."""
    spec = targets[0].spec
    places = [(-1, cpu) for cpu in session.cpus]
    if session.pid is not None:
        places = [(tid, -1) for tid in threads(session.pid)]
    for tid, cpu in session.steps(places):
        attr = EVENT_ATTR.pack(
            type=PERF_TYPE_BREAKPOINT,
            sample_period=1,
            bp_type=spec["mode"],
            bp_addr=spec["address"],
            bp_len=spec["length"],
        )
        event = PerfEvent.open(attr, pid=tid, cpu=cpu, what=targets[0].probe)
        yield session.perf_link(program, event, targets[0].cookie)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Nothing: every address is possible."""
    yield from ()
