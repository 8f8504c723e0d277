"""Maps as bpftrace prints them, in text and in JSON."""

from __future__ import annotations

from tracebee.report import aggregate, entries, fields, histogram, tseries
from tracebee.report.histogram import Bucket
from tracebee.report.names import strftime
from tracebee.report.values import KEY_INDENT, Style, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tracebee.lang.script import MapInfo
    from tracebee.lang.types import Type
    from tracebee.report.entries import Entry
    from tracebee.report.scene import Scene

# The text of a stack ends its own line.
_UNJOINED = frozenset({"kstack", "ustack"})


class MapText:
    """Prints one script's map again and again."""

    def __init__(self, info: MapInfo, scene: Scene) -> None:
        self.info = info
        self._value = value_writer(info.value, Style(scene))
        self._key = _key_text(info.key, Style(scene, indent=KEY_INDENT))

    def render(self, found: Sequence[Entry], top: int = 0, div: int = 1) -> str:
        """The map's lines.

        :param top: only the last ``top`` entries, 0 for all.
        :param div: every number is divided by it.
        """
        info = self.info
        kept = _top(info, entries.ordered(info, found), top)
        lines = [f"{info.name}{self._key(e.key)}: {self._value(e.value, div)}" for e in kept]
        end = "\n\n" if info.value.kind in ("avg", "stats") else "\n"
        return ("" if info.value.kind in _UNJOINED else "\n").join(lines) + end


class MapJson:
    """Writes one script's map as a JSON record again and again."""

    def __init__(self, info: MapInfo, scene: Scene) -> None:
        self.info = info
        self._value = value_writer(info.value, Style(scene, json=True))
        self._key = _key_json(info.key, Style(scene, indent=KEY_INDENT))

    def render(self, found: Sequence[Entry], top: int = 0, div: int = 1) -> str:
        """The record and a newline; nothing for an empty map."""
        info = self.info
        kept = _top(info, entries.ordered(info, found), top)
        if not kept:
            return ""
        body = ", ".join([self._key(e.key) + self._value(e.value, div) for e in kept])
        if info.key is not None:
            body = "{" + body + "}"
        return (
            f'{{"type": "{_RECORD.get(info.value.kind, "map")}", "data": {{{quote(info.name)}: {body}}}}}\n'
        )


_RECORD = {"hist": "hist", "lhist": "hist", "avg": "stats", "stats": "stats", "tseries": "tseries"}


def _top(info: MapInfo, ordered: list[Entry], top: int) -> list[Entry]:
    return ordered[-top:] if top and info.value.kind != "stats" else ordered


def _key_text(key: Type | None, style: Style) -> Callable[[bytes], str]:
    if key is None:
        return lambda _key: ""
    write = style.writer(key)
    if key.kind == "tuple":
        return lambda data: f"[{write(data)[1:-1]}]"
    return lambda data: f"[{write(data)}]"


def _key_json(key: Type | None, style: Style) -> Callable[[bytes], str]:
    if key is None:
        return lambda _key: ""
    if key.kind == "tuple":
        members = [(fields.member(f), style.writer(f.type)) for f in key.fields]
        return lambda data: quote(",".join([write(cut(data)) for cut, write in members])) + ": "
    write = style.writer(key)
    return lambda data: quote(write(data)) + ": "


def value_writer(t: Type, style: Style) -> Callable[[Any, int], str]:
    """A function that writes an entry's value (``entries.Entry.value``), divided by ``div``."""
    if t.kind in ("hist", "lhist"):
        return _histogram(t, json=style.json)
    if t.kind == "tseries":
        return _series(t, style)
    if t.kind == "stats":
        return _stats_json if style.json else _stats_text
    if aggregate.is_aggregation(t) or t.kind == "int":
        return lambda value, div: str(aggregate.quotient(entries.number(t, value) or 0, div))
    write = style.writer(t)
    return lambda value, _div: write(value)


def _histogram(t: Type, *, json: bool) -> Callable[[Any, int], str]:
    def buckets(counts: list[int]) -> list[Bucket]:
        if t.kind == "hist":
            return histogram.log_buckets(counts, t.number)
        low, high, step = t.args
        return histogram.linear_buckets(counts, low, high, step)

    if json:
        return lambda counts, div: _buckets_json(buckets(counts), div)
    linear = t.kind == "lhist"
    return lambda counts, div: "\n" + histogram.render(buckets(counts), linear=linear, div=div)


def _buckets_json(buckets: Sequence[Bucket], div: int) -> str:
    def one(b: Bucket) -> str:
        low = "" if b.low is None else f'"min": {b.low}, '
        high = "" if b.high is None else f'"max": {b.high}, '
        return f'{{{low}{high}"count": {b.hits // div}}}'

    return f"[{', '.join([one(b) for b in buckets])}]"


def _series(t: Type, style: Style) -> Callable[[Any, int], str]:
    length, clock = t.args[0], style.scene.clock
    if not style.json:
        return lambda series, _div: "\n" + tseries.render(series, length, clock)

    def one(interval: tseries.Interval) -> str:
        wall = clock.wall(interval.start)
        start = strftime("%Y-%m-%dT", wall) + tseries.time_of_day(wall, 9)
        value = "null" if interval.value is None else str(interval.value)
        return f'{{"interval_start": {quote(start)}, "value": {value}}}'

    return lambda series, _div: f"[{', '.join([one(interval) for interval in series])}]"


def _stats_text(totals: aggregate.Totals, _div: int) -> str:
    return f"count {totals.number}, average {totals.average}, total {totals.total}"


def _stats_json(totals: aggregate.Totals, _div: int) -> str:
    return f'{{"count": {totals.number}, "average": {totals.average}, "total": {totals.total}}}'
