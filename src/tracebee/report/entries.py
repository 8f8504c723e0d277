"""A map's entries: read, merged over the CPUs, and put in the order bpftrace prints them in."""

from __future__ import annotations

import sys

from tracebee.report import aggregate, fields
from tracebee.report.aggregate import Totals
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tracebee.engine.api import MapReader
    from tracebee.lang.script import MapInfo
    from tracebee.lang.types import Type

_FLAG = 8  # bytes before a scalar's value that say whether it was set (lang.script.MapInfo)


class Entry(NamedTuple):
    """An element. ``value`` is what ``aggregate.merge`` gives, or the bytes of any other type."""

    key: bytes
    value: Any


def read(info: MapInfo, reader: MapReader) -> list[Entry]:
    """The entries of a script's map as it is now, in the map's own order.

    A scalar map gives one entry, or none while it was not set.
    """
    if info.scalar_index >= 0:
        return _scalar(info, reader)
    found = [Entry(key, single(info.value, value)) for key, value in reader.items()]
    return [e for e in found if not _is_unset(e.value)] if info.key is None else found


def single(t: Type, value: bytes | Sequence[bytes]) -> Any:
    """The value of an Entry from the bytes of an element."""
    if aggregate.is_aggregation(t):
        return aggregate.merge(t, [value] if isinstance(value, bytes) else value)
    return value if isinstance(value, bytes) else value[0]


def _is_unset(value: Any) -> bool:
    """Whether an aggregation without a key has seen nothing yet; a count of nothing is 0."""
    if isinstance(value, list):
        return not any(value)
    return isinstance(value, Totals) and not value.number


def clear(info: MapInfo, reader: MapReader) -> None:
    """What ``clear(@x)`` does."""
    if info.scalar_index >= 0:
        reader.write(info.scalar_index - _FLAG, bytes(_FLAG + fields.size_of(info.value)))
    else:
        reader.clear()


def zero(info: MapInfo, reader: MapReader) -> None:
    """What ``zero(@x)`` does: the keys stay."""
    if info.scalar_index >= 0:
        reader.write(info.scalar_index, bytes(fields.size_of(info.value)))
    else:
        reader.zero()


def _scalar(info: MapInfo, reader: MapReader) -> list[Entry]:
    start = info.scalar_index
    for key, value in reader.items():
        data = value if isinstance(value, bytes) else value[0]
        if any(data[start - _FLAG : start]):
            return [Entry(key, data[start : start + fields.size_of(info.value)])]
    return []


def ordered(info: MapInfo, entries: Sequence[Entry]) -> list[Entry]:
    """Ascending by value where values are numbers, else by key; equal values by key.

    Histograms count by all their values, averages and stats by the average.
    """
    if info.key is None:
        return list(entries)
    by_key = key_order(info.key)
    by_value = value_order(info.value)
    if by_value is None:
        return sorted(entries, key=lambda entry: by_key(entry.key))
    return sorted(entries, key=lambda entry: (by_value(entry.value), by_key(entry.key)))


def key_order(t: Type) -> Callable[[bytes], Any]:
    """A function from a key's bytes to something that sorts as the key does."""
    if fields.integer_code(t) is not None:
        return fields.integer(t)
    if t.kind == "string":
        return lambda data: data.partition(b"\0")[0]
    if t.kind in ("tuple", "record"):
        members = [(fields.member(f), key_order(f.type)) for f in t.fields]
        return lambda data: [order(cut(data)) for cut, order in members]
    return bytes


def value_order(t: Type) -> Callable[[Any], int] | None:
    """A function from an entry's value to the number it sorts by; None when it sorts by key."""
    if t.kind in ("hist", "lhist"):
        return sum
    if t.kind in ("avg", "stats"):
        return lambda totals: totals.average
    if aggregate.is_aggregation(t) and t.kind != "tseries":
        return lambda number: number
    return fields.integer(t) if t.kind == "int" else None


def number(t: Type, value: Any) -> int | None:
    """The integer of an entry whose value is one (an average for ``avg``), else None."""
    if isinstance(value, Totals):
        return value.average if t.kind == "avg" else None
    if isinstance(value, int):
        return value
    if t.kind == "int":
        return int.from_bytes(value[: t.size], sys.byteorder, signed=t.signed)
    return None
