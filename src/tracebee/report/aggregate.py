"""Aggregations: the values of all CPUs as one."""

from __future__ import annotations

import struct
import sys

from tracebee.lang.types import AGGREGATIONS
from tracebee.report import tseries
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.lang.types import Type


class Totals(NamedTuple):
    """What ``avg`` and ``stats`` keep."""

    number: int
    total: int

    @property
    def average(self) -> int:
        """The mean, rounded towards zero as C divides; 0 of nothing."""
        return quotient(self.total, self.number) if self.number else 0


def quotient(number: int, divisor: int) -> int:
    """C's division: towards zero."""
    return -(-number // divisor) if number < 0 else number // divisor


def wrap(number: int, *, signed: bool) -> int:
    """A sum in 64 bits, as it overflows in C."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if signed and number >> 63 else number


def merge(t: Type, cpus: Sequence[bytes]) -> int | Totals | list[int] | list[tseries.Interval]:
    """One value from each CPU's bytes.

    :returns: an integer for count, sum, min and max; Totals for avg and stats; the counts of all
        buckets for hist and lhist; the intervals of a tseries.
    """
    return _MERGE[t.kind](t, cpus)


def is_aggregation(t: Type) -> bool:
    """Whether values of the type are kept per CPU."""
    return t.kind in AGGREGATIONS


def _sum(t: Type, cpus: Sequence[bytes]) -> int:
    total = sum([int.from_bytes(value[:8], sys.byteorder) for value in cpus])
    return wrap(total, signed=t.kind == "sum" and t.signed)


def _totals(_t: Type, cpus: Sequence[bytes]) -> Totals:
    pairs = [struct.unpack_from("=qQ", value) for value in cpus]
    return Totals(sum([count for _, count in pairs]), wrap(sum([n for n, _ in pairs]), signed=True))


def _extreme(t: Type, cpus: Sequence[bytes]) -> int:
    values = [value for value, is_set in map(_VALUE_SET.unpack_from, cpus) if is_set]
    return (max if t.kind == "max" else min)(values, default=0)


_VALUE_SET = struct.Struct("=qQ")


def _counts(_t: Type, cpus: Sequence[bytes]) -> list[int]:
    unpack = struct.Struct(f"={len(cpus[0]) // 8}Q").unpack_from
    return [sum(counts) for counts in zip(*map(unpack, cpus), strict=True)]


_MERGE: dict[str, Callable[[Type, Sequence[bytes]], int | Totals | list[int] | list[tseries.Interval]]] = {
    "count": _sum,
    "sum": _sum,
    "avg": _totals,
    "stats": _totals,
    "min": _extreme,
    "max": _extreme,
    "hist": _counts,
    "lhist": _counts,
    "tseries": tseries.merge,
}
