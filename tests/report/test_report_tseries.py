"""Time series: merging and the graph."""

from __future__ import annotations

import struct

import pytest

from tracebee.lang.types import Type
from tracebee.report import tseries
from tracebee.report.names import Clock
from tracebee.report.tseries import Interval

SECOND = 1_000_000_000


class Midnight(Clock):
    """A clock whose zero is 1970 in UTC."""

    def wall(self, nsecs: int, clock: str = "") -> int:
        return nsecs


def slots(*rows: tuple[int, int, int], kept: int = 5) -> bytes:
    """A CPU's ring, each row (epoch, value, meta)."""
    ring = bytearray(24 * kept)
    for epoch, value, meta in rows:
        struct.pack_into("=QqQ", ring, 24 * (epoch % kept), epoch + 1, value, meta)
    return bytes(ring)


@pytest.mark.parametrize(
    ("name", "expected"), [("", 9), ("sum", 12), ("count", 12), ("avg", 2), ("min", 3), ("max", 9)]
)
def test_the_cpus_are_merged(name: str, expected: int) -> None:
    kind = Type("tseries", 120, name=name, args=(SECOND, 5))
    cpus = [slots((7, 3, 2), (9, 1, 1)), slots((7, 9, 4))]
    assert tseries.merge(kind, cpus) == [
        Interval(7 * SECOND, expected),
        Interval(8 * SECOND, None),
        Interval(9 * SECOND, 1),
    ]


def test_intervals_that_are_too_old_are_left_out() -> None:
    kind = Type("tseries", 120, name="sum", args=(SECOND, 5))
    # Another CPU's ring still holds an interval that five newer ones have passed.
    assert tseries.merge(kind, [slots((2, 1, 0)), slots((9, 5, 0))]) == [Interval(9 * SECOND, 5)]
    assert tseries.merge(kind, [slots()]) == []


def test_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    series = [Interval(3600 * SECOND, 0), Interval(3601 * SECOND, None), Interval(3602 * SECOND, 52)]
    blank = " " * 51
    assert tseries.render(series, SECOND, Midnight()) == (
        f"         {'0':<21}{'52':>32}\n"
        f"hh:mm:ss |{'_' * 51}|\n"
        f"01:00:00 *{blank}| 0\n"
        f"01:00:01 |{blank}| -\n"
        f"01:00:02 |{blank}* 52\n"
        f"         v{'_' * 51}v\n"
        f"         {'0':<21}{'52':>32}\n"
    )


def test_fractions_of_seconds_and_a_constant() -> None:
    text = tseries.render([Interval(1_500_000_000, 7)], 100_000_000, Midnight()).splitlines()
    assert text[1].startswith("hh:mm:ss.ms  |")
    assert text[2][8:] == f".500 |{' ' * 25}*{' ' * 25}| 7"
    assert text[0].split() == ["6", "8"]
