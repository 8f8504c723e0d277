"""Histograms: the bounds of their buckets and their bars."""

from __future__ import annotations

import struct

from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BAR = 52


class Bucket(NamedTuple):
    """Values from ``low`` to ``high``, both inclusive; None where the bucket has no such bound."""

    low: int | None
    high: int | None
    hits: int


def log_bounds(index: int, bits: int) -> tuple[int | None, int | None]:
    """The lowest and highest value of a bucket of ``hist(n, bits)`` (see ``lang.types``)."""
    if index == 0:
        return None, -1
    place = index - 1
    if place < 1 << bits:
        return place, place
    shift = (place >> bits) - 1
    low = (1 << bits | place & (1 << bits) - 1) << shift
    return low, low + (1 << shift) - 1


def linear_bounds(index: int, low: int, high: int, step: int) -> tuple[int | None, int | None]:
    """The lowest and highest value of a bucket of ``lhist(n, low, high, step)``."""
    if index == 0:
        return None, low - 1
    start = low + (index - 1) * step
    return (high, None) if start >= high else (start, min(start + step, high) - 1)


def log_buckets(counts: Sequence[int], bits: int) -> list[Bucket]:
    """The buckets of a ``hist`` from its first that is not empty to its last."""
    return [Bucket(*log_bounds(i, bits), counts[i]) for i in _range(counts)]


def linear_buckets(counts: Sequence[int], low: int, high: int, step: int) -> list[Bucket]:
    """The buckets of an ``lhist`` from its first that is not empty to its last."""
    return [Bucket(*linear_bounds(i, low, high, step), counts[i]) for i in _range(counts)]


def _range(counts: Sequence[int]) -> range:
    used = [i for i, count in enumerate(counts) if count]
    return range(used[0], used[-1] + 1) if used else range(0)


def log_label(bucket: Bucket) -> str:
    """A ``hist`` bucket's label: ``(..., 0)``, ``[1]``, ``[4, 8)``, ``[1K, 2K)``."""
    if bucket.low is None or bucket.high is None:
        return "(..., 0)"
    if bucket.low == bucket.high:
        return f"[{_short(bucket.low, 4)}]"
    return f"[{_short(bucket.low, 4)}, {_short(bucket.high + 1, 4)})"


def linear_label(bucket: Bucket) -> str:
    """An ``lhist`` bucket's label: ``(..., 0)``, ``[0, 10)``, ``[1M, 2M)``, ``[100, ...)``."""
    if bucket.high is None:
        return f"[{_short(bucket.low or 0, 2)}, ...)"
    if bucket.low is None:
        return f"(..., {_short(bucket.high + 1, 2)})"
    return f"[{_short(bucket.low, 2)}, {_short(bucket.high + 1, 2)})"


def _short(number: int, units: int) -> str:
    """The number in the largest of K, M, G, T (the first ``units`` of them) that divides it."""
    if number:
        for power in range(units, 0, -1):
            if number % (1 << 10 * power) == 0:
                return f"{number >> 10 * power}{'KMGT'[power - 1]}"
    return str(number)


def render(buckets: Sequence[Bucket], *, linear: bool, div: int = 1) -> str:
    """The buckets as lines of label, count and bar; counts are divided, bars are not."""
    label = linear_label if linear else log_label
    most = single(max((b.hits for b in buckets), default=0))
    return "".join(
        f"{label(b):<16}{b.hits // div:>8} |{'@' * _width(b.hits, most):<{BAR}}|\n" for b in buckets
    )


def _width(count: int, most: float) -> int:
    # bpftrace computes in C's float; a double would give another width at some boundaries.
    return int(single(single(single(count) / most) * BAR))


def single(number: float) -> float:
    """The number as C's ``float`` holds it."""
    rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    return rounded
