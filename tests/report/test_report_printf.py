"""The printf engine against the C library's, which is the authority on every integer conversion."""

from __future__ import annotations

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import DecodeError
from tracebee.lang import types
from tracebee.lang.types import Type, tuple_of
from tracebee.report.names import Clock
from tracebee.report.printf import compile_format, parse
from tracebee.report.scene import Scene
from tracebee.stacks.table import StackTable
from tracebee.symbols.frame import Frame


class NoNames:
    def kernel_frame(self, address: int) -> Frame:
        return Frame(address)

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        return Frame(address)


class NoStacks:
    def stack(self, frames: int, number: int) -> bytes | None:
        return None

    def more(self) -> list[tuple[bytes, bytes]]:
        return []


SCENE = Scene(NoNames(), StackTable(NoStacks()), clock=Clock())


def text(form: str, layout: list[Type], *values: bytes) -> bytes:
    packed = tuple_of(layout)
    record = bytearray(8 + packed.size)
    for field, value in zip(packed.fields, values, strict=True):
        record[8 + field.offset : 8 + field.offset + len(value)] = value
    return compile_format(form, packed, SCENE)(bytes(record))


def snprintf(form: str, *arguments: object) -> bytes:
    buffer = ctypes.create_string_buffer(4096)
    written = ctypes.CDLL(None).snprintf(buffer, ctypes.c_size_t(4096), form.encode(), *arguments)
    assert 0 <= written < 4096
    return buffer.raw[:written]


@given(
    flags=st.text("-+ #0", max_size=5),
    width=st.one_of(st.just(""), st.integers(1, 40).map(str)),
    precision=st.one_of(st.just(""), st.just("."), st.integers(0, 30).map(lambda n: f".{n}")),
    length=st.sampled_from(["hh", "h", "l", "ll", "j", "z", "t", ""]),
    letter=st.sampled_from("diouxX"),
    value=st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-300, 300)),
    kind=st.sampled_from([t for t in vars(types).values() if isinstance(t, Type) and t.kind == "int"]),
)
def test_integers_are_formatted_as_c_formats_them(
    flags: str, width: str, precision: str, length: str, letter: str, value: int, kind: Type
) -> None:
    raw = (value & (1 << 8 * kind.size) - 1).to_bytes(kind.size, "little")
    widened = int.from_bytes(raw, "little", signed=kind.signed)
    # No length means the value's own 64 bits: bpftrace prints whole integers for %d.
    reference = snprintf(f"%{flags}{width}{precision}{length or 'll'}{letter}", ctypes.c_longlong(widened))
    assert text(f"%{flags}{width}{precision}{length}{letter}", [kind], raw) == reference


@given(
    st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"x").removesuffix(b"\xff")),
    st.booleans(),
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(0, 25)),
)
def test_strings_are_formatted_as_c_formats_them(
    value: bytes, left: bool, width: int, precision: int | None
) -> None:
    point = "" if precision is None else f".{precision}"
    form = f"[%{'-' if left else ''}{width or ''}{point}s]"
    assert text(form, [types.string(24)], value + b"\0") == snprintf(form, ctypes.c_char_p(value))


@given(st.integers(0, (1 << 64) - 1), st.booleans(), st.integers(0, 30))
def test_pointers_are_formatted_as_c_formats_them(value: int, left: bool, width: int) -> None:
    form = f"[%{'-' if left else ''}{width or ''}p]"
    assert text(form, [types.UINT64], struct.pack("=Q", value)) == snprintf(form, ctypes.c_void_p(value))


@given(st.integers(0, 255), st.integers(0, 5))
def test_characters_are_bytes(value: int, width: int) -> None:
    form = f"[%{width or ''}c]"
    assert text(form, [types.INT64], struct.pack("=q", value)) == snprintf(form, ctypes.c_int(value))


def test_fields_are_read_where_the_layout_has_them() -> None:
    layout = [types.INT8, types.INT64, types.string(3), types.UINT16]
    values = (b"\xff", struct.pack("=q", -2), b"ab\0", struct.pack("=H", 65535))
    assert text("%d %d %s %d%%\n", layout, *values) == b"-1 -2 ab 65535%\n"


def test_undefined_bytes_after_a_nul_are_not_printed() -> None:
    assert text("%s|", [types.string(8)], b"ab\0zzzz\xff") == b"ab|"


def test_a_string_that_was_cut_off_says_so() -> None:
    assert text("%s|", [types.string(4)], b"abc\xff") == b"abc..|"


def test_bytes_that_are_no_utf8_pass_unchanged() -> None:
    assert text("é %s", [types.string(4)], b"\xfe\xc3\0") == b"\xc3\xa9 \xfe\xc3"


def test_buffers() -> None:
    # What bpftrace 0.17 prints for buf("a\x01b\xff\\", 5) and its neighbours.
    buffer = Type("buffer", 12)
    assert text("%r|", [buffer], struct.pack("=I", 5) + b"a\x01b\xff\\") == b"a\\x01b\\xff\\|"
    assert text("%rh|%rx|", [buffer] * 2, *[struct.pack("=I", 3) + b"ab\x01zz"] * 2) == (
        b"61 62 01|\\x61\\x62\\x01|"
    )


def test_any_value_has_a_text() -> None:
    inner = tuple_of([types.INT32, types.string(4)])
    values = (b"\x01", struct.pack("=i4s", 7, b"hi\0\0"), struct.pack("=I16s", 2, b"\x7f\0\0\x01"))
    assert text("%s %s %15s|", [types.BOOL, inner, Type("inet", 20)], *values) == (
        b"true (7, hi)       127.0.0.1|"
    )


def test_a_percent_sign_that_starts_nothing_stands_for_itself() -> None:
    assert parse("100%, sure%") == ["100%, sure%"]


def test_a_layout_that_fits_not_its_format_is_refused() -> None:
    with pytest.raises(DecodeError, match="1 conversions"):
        compile_format("%d", tuple_of([]), SCENE)
