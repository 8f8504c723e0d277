"""Which CPUs there are: per-CPU map values have a slot for each possible one."""

from __future__ import annotations

from functools import cache

_DIR = "/sys/devices/system/cpu/"


def parse_list(text: str) -> tuple[int, ...]:
    """CPU numbers of a kernel list such as ``0-3,8``.

    Source: Documentation/admin-guide/cputopology.rst.
    """
    numbers: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


@cache
def possible() -> tuple[int, ...]:
    """CPUs that may ever be there; their count sizes per-CPU values."""
    with open(_DIR + "possible") as file:
        return parse_list(file.read())


def online() -> tuple[int, ...]:
    """CPUs that are running now: where perf events can be opened."""
    with open(_DIR + "online") as file:
        return parse_list(file.read())


def possible_count() -> int:
    """Number of value slots in a per-CPU map (``num_possible_cpus()``)."""
    return possible()[-1] + 1
