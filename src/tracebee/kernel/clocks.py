"""The kernel's clocks: what bpf_ktime_get_* return, as time of day."""

from __future__ import annotations

import time


def wall_offset_ns(clock: int = time.CLOCK_BOOTTIME) -> int:
    """Nanoseconds to add to a clock's reading to get the time since 1970.

    Taken between two readings of the wall clock, and the narrowest of some tries, so that being
    scheduled away in between does no harm.

    :param clock: CLOCK_BOOTTIME for bpf_ktime_get_boot_ns (``nsecs``), CLOCK_MONOTONIC for
        bpf_ktime_get_ns.
    """
    best_width, best = 1 << 62, 0
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_REALTIME)
        there = time.clock_gettime_ns(clock)
        after = time.clock_gettime_ns(time.CLOCK_REALTIME)
        if after - before < best_width:
            best_width, best = after - before, (before + after) // 2 - there
    return best


def boot_time() -> float:
    """When the machine started, in seconds since 1970."""
    return wall_offset_ns() / 1e9
