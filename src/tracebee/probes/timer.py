"""interval and profile: the cpu-clock software event, on one CPU or on every one.

Spellings: ``profile:hz:99``, ``interval:s:1`` (units hz, s, ms, us) and, for interval and profile
alike, a duration in one word: ``interval:500ms``.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.kernel.perf import PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS
from tracebee.probes.count import positive
from tracebee.probes.group import RegsGroup
from tracebee.probes.kinds import kind_of
from tracebee.uapi import BPF_PROG_TYPE_PERF_EVENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tracebee.lang.ast import AttachPoint
    from tracebee.probes.machine import Machine

_NANOSECONDS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_DURATION = re.compile(r"(\d+)(us|ms|s|m|h|d)\Z")
_LONG = {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


class Timer(RegsGroup):
    """A perf event program; its context begins with the interrupted registers."""

    program_type = BPF_PROG_TYPE_PERF_EVENT


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Timer]:
    """One group with one target; the spec has ``freq`` (in Hz) or ``period`` (in ns)."""
    kind = kind_of(point.parts[0]).name
    spec = _rate(point, kind)
    name = ":".join([kind, *point.parts[1:]])
    return [Timer(kind, "perf_event", [(name, spec)], machine.regs)]


def _rate(point: AttachPoint, kind: str) -> dict[str, Any]:
    usage = f"write {kind}:UNIT:COUNT, UNIT being hz, s, ms or us, for example {kind}:hz:99"
    parts = point.parts[1:]
    if len(parts) == 1 and (match := _DURATION.match(parts[0])):
        unit = match[2]
        return {"period": positive(match[1], kind) * (_NANOSECONDS.get(unit) or _LONG[unit])}
    if len(parts) != 2:
        raise Diagnostic(f"{kind} needs a unit and a count", hint=usage)
    unit, count = parts
    if unit == "hz":
        return {"freq": positive(count, kind)}
    if unit not in _NANOSECONDS:
        raise Diagnostic(f"'{unit}' is not a unit of time", hint=usage)
    return {"period": positive(count, kind) * _NANOSECONDS[unit]}


def attach(program: Any, targets: Any, session: Any) -> Iterator[Any]:
    """profile: an event per CPU, or of the traced process alone with ``-p``; interval: one on one CPU."""
    for target in targets:
        cpus = session.cpus if session.kind == "profile" else session.cpus[:1]
        pid = session.pid if session.kind == "profile" else None
        rate = target.spec
        yield from session.sampled(
            program,
            type=PERF_TYPE_SOFTWARE,
            config=SOFTWARE_EVENTS["cpu-clock"],
            frequency=rate.get("freq", 0),
            period=rate.get("period", 0),
            cpus=cpus,
            pid=pid,
            cookie=target.cookie,
        )


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """The forms: any count is possible."""
    for kind in ("interval", "profile"):
        for unit in ("hz", "ms", "s", "us"):
            yield f"{kind}:{unit}:"
