"""software and hardware: the kernel's and the processor's counters, sampled every so many events.

Names, short names and default periods are bpftrace's (its language reference, "hardware" and "software").
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.kernel.perf import HARDWARE_EVENTS, PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS
from tracebee.probes.count import positive
from tracebee.probes.group import RegsGroup
from tracebee.probes.kinds import kind_of
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.typed import NamedTuple
from tracebee.uapi import BPF_PROG_TYPE_PERF_EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tracebee.lang.ast import AttachPoint
    from tracebee.probes.machine import Machine


class Event(NamedTuple):
    """A counter: bpftrace's names for it, the kernel's, and the period used when the script gives none."""

    name: str
    alias: str
    kernel: str
    period: int


SOFTWARE = (
    Event("alignment-faults", "", "alignment-faults", 1),
    Event("bpf-output", "", "bpf-output", 1),
    Event("context-switches", "cs", "context-switches", 1000),
    Event("cpu-clock", "cpu", "cpu-clock", 1_000_000),
    Event("cpu-migrations", "", "cpu-migrations", 1),
    Event("dummy", "", "dummy", 1),
    Event("emulation-faults", "", "emulation-faults", 1),
    Event("major-faults", "", "major-faults", 1),
    Event("minor-faults", "", "minor-faults", 100),
    Event("page-faults", "faults", "page-faults", 100),
    Event("task-clock", "", "task-clock", 1_000_000),
)

HARDWARE = (
    Event("backend-stalls", "", "stalled-cycles-backend", 1_000_000),
    Event("branch-instructions", "branches", "branch-instructions", 100_000),
    Event("branch-misses", "", "branch-misses", 100_000),
    Event("bus-cycles", "", "bus-cycles", 100_000),
    Event("cache-misses", "", "cache-misses", 1_000_000),
    Event("cache-references", "", "cache-references", 1_000_000),
    Event("cpu-cycles", "cycles", "cpu-cycles", 1_000_000),
    Event("frontend-stalls", "", "stalled-cycles-frontend", 1_000_000),
    Event("instructions", "", "instructions", 1_000_000),
    Event("ref-cycles", "", "ref-cycles", 1_000_000),
)

# kind: (perf_event_attr.type, the kernel's numbers, the events)
_FAMILIES = {
    "software": (PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS, SOFTWARE),
    "hardware": (PERF_TYPE_HARDWARE, HARDWARE_EVENTS, HARDWARE),
}


class Counter(RegsGroup):
    """A perf event program; its context begins with the interrupted registers."""

    program_type = BPF_PROG_TYPE_PERF_EVENT


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Counter]:
    """One group; its targets' specs have ``type``, ``config`` and ``period`` (in events)."""
    kind = kind_of(point.parts[0]).name
    parts = point.parts[1:]
    if len(parts) not in (1, 2):
        raise Diagnostic(f"{kind} needs an event", hint=f"write {kind}:EVENT or {kind}:EVENT:COUNT")
    number, configs, events = _FAMILIES[kind]
    by_name = {name: e for e in events for name in (e.name, e.alias) if name}
    if is_wild(parts[0]):
        chosen = [by_name[n] for n in matching(parts[0], [e.name for e in events])]
    else:
        chosen = [by_name[parts[0]]] if parts[0] in by_name else []
    if not chosen:
        known = f"events: {', '.join(e.name for e in events)}"
        raise missing(f"no {kind} event is called '{parts[0]}'", parts[0], by_name, known)
    period = positive(parts[1], kind) if len(parts) == 2 and parts[1] else 0
    wanted = [
        (
            ":".join([kind, parts[0] if len(chosen) == 1 else e.name, *parts[1:]]),
            {"type": number, "config": configs[e.kernel], "period": period or e.period, "event": e.name},
        )
        for e in chosen
    ]
    return [Counter(kind, "perf_event", wanted, machine.regs)]


def attach(program: Any, targets: Any, session: Any) -> Iterator[Any]:
    """An event per CPU, or of the traced process alone with ``-p``."""
    for target in targets:
        spec = target.spec
        yield from session.sampled(
            program,
            type=spec["type"],
            config=spec["config"],
            period=spec["period"],
            cpus=session.cpus,
            pid=session.pid,
            cookie=target.cookie,
            what=f"{session.kind} event {spec['event']}",
        )


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every event, with the colon that a count goes after, as bpftrace lists them."""
    for kind, (_, _, events) in _FAMILIES.items():
        for event in events:
            yield f"{kind}:{event.name}:"
