"""Maps of stacks as folded lines and flame graphs."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from tracebee.lang import types
from tracebee.lang.script import Action, MapInfo, Script
from tracebee.lang.types import Type, tuple_of
from tracebee.obj.model import Object
from tracebee.report.stacks import StackReporter
from tracebee.symbols.frame import Frame


class Names:
    def kernel_frame(self, address: int) -> Frame:
        return Frame(address, f"k{address:x}", 4)

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        return Frame(address, f"u{address:x}") if address < 0x100 else Frame(address)


class Stacks:
    def stack(self, frames: int, number: int) -> bytes | None:
        return struct.pack("=4Q", *[16 * number + n for n in range(1, 4)], 0)

    def more(self) -> list[tuple[bytes, bytes]]:
        return []


class Reader:
    def __init__(self, entries: dict[bytes, Any]) -> None:
        self.entries = entries

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        return list(self.entries.items())

    def clear(self) -> None:
        raise NotImplementedError

    def zero(self) -> None:
        raise NotImplementedError

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError


KSTACK, USTACK = Type("kstack", 16, number=127), Type("ustack", 16, number=127)
COUNT = Type("count", 8)


def output(
    maps: dict[str, tuple[Type | None, Type, dict[bytes, Any]]], *, graph: bool = False
) -> tuple[str, str]:
    infos = tuple(MapInfo(name, name[1:], key, value) for name, (key, value, _) in maps.items())
    actions = (Action("printf", tuple_of([]), "hello\n"),)
    script = Script(Object("t", "GPL", (), ()), (), actions, infos, ("profile:hz:99",), (), {})
    out, err = io.BytesIO(), io.BytesIO()
    readers = {name[1:]: Reader(entries) for name, (_, _, entries) in maps.items()}
    reporter = StackReporter(script, readers, Stacks(), Names(), out=out, err=err, graph=graph)
    reporter.events([bytes(8)])
    reporter.finish()
    return out.getvalue().decode(), err.getvalue().decode()


def kernel(number: int) -> bytes:
    return struct.pack("=qQ", number, 0)


def user(number: int) -> bytes:
    return struct.pack("=qII", number, 10, 11)


def counts(*per_cpu: int) -> list[bytes]:
    return [struct.pack("=Q", n) for n in per_cpu]


def test_folded_lines_go_from_the_root_to_the_kernel() -> None:
    key = tuple_of([KSTACK, types.string(16), USTACK])
    entries = {kernel(1) + b"python3".ljust(16, b"\0") + user(2): counts(2, 3)}
    text, _ = output({"@": (key, COUNT, entries)})
    assert text == "python3;u23;u22;u21;k13_[k];k12_[k];k11_[k] 5\n"


def test_addresses_without_names_stay() -> None:
    text, _ = output({"@": (USTACK, COUNT, {user(16): counts(1)})})
    assert text == "0x103;0x102;0x101 1\n"


def test_equal_stacks_of_all_maps_are_one_line() -> None:
    maps: dict[str, tuple[Type | None, Type, dict[bytes, Any]]] = {
        "@a": (KSTACK, COUNT, {kernel(1): counts(1), kernel(2): counts(4)}),
        "@b": (KSTACK, types.INT64, {kernel(1): struct.pack("=q", 10)}),
        "@no_stack": (types.INT64, COUNT, {bytes(8): counts(1)}),
        "@no_number": (KSTACK, types.string(4), {kernel(1): b"abc\0"}),
        "@scalar": (None, COUNT, {bytes(4): counts(9)}),
    }
    text, _ = output(maps)
    assert text == "k13_[k];k12_[k];k11_[k] 11\nk23_[k];k22_[k];k21_[k] 4\n"


def test_what_the_script_prints_keeps_out_of_the_stacks() -> None:
    text, rest = output({"@": (KSTACK, COUNT, {kernel(1): counts(1)})})
    assert "hello" not in text
    assert rest == "hello\n"


def test_a_flame_graph() -> None:
    text, _ = output({"@": (KSTACK, COUNT, {kernel(1): counts(3)})}, graph=True)
    assert text.startswith("<?xml")
    assert "profile:hz:99" in text
    assert "k11 (3 samples, 100.00%)" in text
