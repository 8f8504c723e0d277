"""Stack keys to addresses, and stacks as text."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest

from tracebee.stacks.table import NO_STACK, StackTable, addresses
from tracebee.stacks.text import render
from tracebee.symbols.frame import Frame


class Reader:
    """Two maps of stacks, counting how often they are read."""

    def __init__(self) -> None:
        self.reads = 0
        self.extra = [(struct.pack("=4Q", 7, 8, 9, 0), struct.pack("=q", -1))]

    def stack(self, frames: int, number: int) -> bytes | None:
        self.reads += 1
        return struct.pack("=4Q", 1, 2, 3, 0) if (frames, number) in ((127, 5), (2, 5)) else None

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        self.reads += 1
        return self.extra


def test_a_stack_is_read_once() -> None:
    reader = Reader()
    table = StackTable(reader)
    assert [table.frames(5, 127) for _ in range(3)] == [(1, 2, 3)] * 3
    assert reader.reads == 1


def test_the_limit_chooses_the_map_and_cuts() -> None:
    table = StackTable(Reader())
    assert table.frames(5, 2) == (1, 2)
    assert table.frames(5, 9) == ()


def test_a_stack_may_appear_later() -> None:
    reader = Reader()
    table = StackTable(reader)
    assert table.frames(-1, 127) == (7, 8, 9)
    assert table.frames(-2, 127) == ()
    reader.extra.append((struct.pack("=2Q", 4, 0), struct.pack("=q", -2)))
    assert table.frames(-2, 127) == (4,)
    assert table.frames(-1, 2) == (7, 8)


def test_no_stack() -> None:
    reader = Reader()
    assert StackTable(reader).frames(NO_STACK, 127) == ()
    assert reader.reads == 0


def test_padding_ends_a_stack() -> None:
    assert addresses(struct.pack("=3Q", 5, 0, 0) + b"odd") == (5,)


FRAMES = [Frame(0xFFFFFFFF81000010, "do_it", 16), Frame(0x7F00, module="/bin/x"), Frame(0)]


# The lines have the form bpftrace 0.17 printed here for its own stacks; raw is of later versions.
@pytest.mark.parametrize(
    ("mode", "indent", "user", "expected"),
    [
        ("", 8, False, "\n        do_it+16\n        0x7f00\n        0\n"),
        ("bpftrace", 4, True, "\n    do_it+16\n    0x7f00\n    0\n"),
        ("perf", 8, False, "\n\tffffffff81000010 do_it+16\n\t7f00 0x7f00\n\t0 0\n"),
        ("perf", 4, True,
         "\n\tffffffff81000010 do_it+16 ([unknown])\n\t7f00 0x7f00 (/bin/x)\n\t0 0 ([unknown])\n"),
        ("raw", 8, True, "\nffffffff81000010\n7f00\n0\n"),
    ],
)  # fmt: skip
def test_modes(mode: str, indent: int, user: bool, expected: str) -> None:
    assert render(FRAMES, mode, indent, user=user) == expected


def test_an_empty_stack_is_an_empty_line() -> None:
    assert render([], "", 8, user=False) == "\n"
