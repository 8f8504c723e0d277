"""Time series: the intervals of all CPUs as one series, and bpftrace's graph of it."""

from __future__ import annotations

import struct

from tracebee.report.histogram import single
from tracebee.report.names import strftime
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.lang.types import Type
    from tracebee.report.names import Clock

_SLOT = struct.Struct("=QqQ")  # epoch + 1, value, meta (lang.types)
_WIDTH = 53  # of the graph, with its edges
_UNITS = ((1_000_000_000, "", 0), (1_000_000, "ms", 3), (1_000, "us", 6), (1, "ns", 9))


class Interval(NamedTuple):
    """One interval: nsecs of its start on the clock of ``nsecs``, its value, None without one."""

    start: int
    value: int | None


def merge(t: Type, cpus: Sequence[bytes]) -> list[Interval]:
    """The intervals from the first that has a value to the last; those between may have none."""
    length, kept = t.args
    slots: dict[int, list[tuple[int, int]]] = {}
    for data in cpus:
        for epoch, value, meta in _SLOT.iter_unpack(data[: _SLOT.size * kept]):
            if epoch:
                slots.setdefault(epoch - 1, []).append((value, meta))
    if not slots:
        return []
    last = max(slots)
    first = min(epoch for epoch in slots if epoch > last - kept)
    combine = _COMBINE[t.name]
    return [
        Interval(epoch * length, combine(slots[epoch]) if epoch in slots else None)
        for epoch in range(first, last + 1)
    ]


def _mean(slots: list[tuple[int, int]]) -> int:
    total, number = sum([value for value, _ in slots]), sum([meta for _, meta in slots])
    if not number:
        return 0
    return -(-total // number) if total < 0 else total // number


_COMBINE: dict[str, Callable[[list[tuple[int, int]]], int]] = {
    "": lambda slots: max(slots, key=lambda slot: slot[1])[0],  # the latest value: meta is its time
    "avg": _mean,
    "sum": lambda slots: sum([value for value, _ in slots]),
    "count": lambda slots: sum([value for value, _ in slots]),
    "min": lambda slots: min([value for value, _ in slots]),
    "max": lambda slots: max([value for value, _ in slots]),
}


def render(series: Sequence[Interval], length: int, clock: Clock) -> str:
    """The series as a graph: one line for each interval, its value a star between the least and
    the most of all.

    :param length: nanoseconds of an interval.
    """
    if not series:
        return "<no data>"
    values = [i.value for i in series if i.value is not None]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 1, high + 1
    _, unit, digits = next(row for row in _UNITS if length % row[0] == 0)
    title = "hh:mm:ss" + (f".{unit}" if unit else "")
    pad = 8 + (1 + digits if digits else 0)
    scale = f"{' ' * (pad + 1)}{low:<21}{high:>32}\n"
    lines = [scale, f"{title:<{pad + 1}}|{'_' * (_WIDTH - 2)}|\n"]
    for interval in series:
        graph = ["|", *[" "] * (_WIDTH - 2), "|"]
        text = "-"
        if interval.value is not None:
            place = int(single(single((_WIDTH - 1) * (interval.value - low)) / single(high - low)))
            graph[max(0, min(_WIDTH - 1, place))] = "*"
            text = str(interval.value)
        lines.append(f"{time_of_day(clock.wall(interval.start), digits)} {''.join(graph)} {text}\n")
    lines.append(f"{' ' * (pad + 1)}v{'_' * (_WIDTH - 2)}v\n")
    return "".join([*lines, scale])


def time_of_day(wall: int, digits: int) -> str:
    """``hh:mm:ss`` and so many digits of the second's fraction, local time."""
    text = strftime("%H:%M:%S", wall)
    return text + (f".{wall % 1_000_000_000:09}"[: 1 + digits] if digits else "")
