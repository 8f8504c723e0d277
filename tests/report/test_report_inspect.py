"""Typed values, code graphs and events as text, without a kernel."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.btf import Btf
from tracebee.isa.asm import assemble
from tracebee.isa.disasm import format_insn
from tracebee.kernel.perfbuf import PerfRecord
from tracebee.report.inspect.btf import btf_text, users_of_btf
from tracebee.report.inspect.code import Row, translated_text
from tracebee.report.inspect.events import event_json, event_text
from tracebee.report.inspect.link_text import link_text
from tracebee.report.inspect.program import program_text
from tracebee.report.inspect.typed import typed_value

INT, PTR, ARRAY, STRUCT, ENUM, FLOAT, TYPEDEF, CONST = 1, 2, 3, 4, 6, 16, 8, 10


def types(*records: bytes, strings: bytes) -> Btf:
    body = b"".join(records)
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    return Btf.from_bytes(head + body + strings)


def record(name: int, kind: int, size: int, *more: int, vlen: int = 0, flag: int = 0) -> bytes:
    return struct.pack(f"={3 + len(more)}I", name, flag << 31 | kind << 24 | vlen, size, *more)


STRINGS = b"\0int\0char\0u8\0double\0__int128\0s\0e\0A\0_Bool\0long unsigned int\0"


def at(text: str) -> int:
    return STRINGS.index(b"\0" + text.encode() + b"\0") + 1


BTF = types(
    record(at("int"), INT, 4, 1 << 24 | 32),  # 1
    record(at("char"), INT, 1, 1 << 24 | 8),  # 2
    record(at("u8"), TYPEDEF, 2),  # 3
    record(at("double"), FLOAT, 8),  # 4
    record(at("__int128"), INT, 16, 1 << 24 | 128),  # 5
    record(0, ARRAY, 0, 2, 1, 4),  # 6: char[4]
    record(0, ARRAY, 0, 3, 1, 4),  # 7: u8[4]
    record(at("e"), ENUM, 4, at("A"), 7, vlen=1),  # 8
    record(at("_Bool"), INT, 1, 4 << 24 | 8),  # 9
    record(0, PTR, 1),  # 10
    record(0, CONST, 6),  # 11: const char[4]
    record(at("long unsigned int"), INT, 8, 64),  # 12
    # 13: struct s { int A : 5; int e : 27; }
    record(at("s"), STRUCT, 4, at("A"), 1, 5 << 24, at("e"), 1, 27 << 24 | 5, vlen=2, flag=1),
    strings=STRINGS,
)


@pytest.mark.parametrize(
    ("type_id", "data", "value"),
    [
        (1, struct.pack("=i", -3), -3),
        (2, b"\xff", -1),
        (4, struct.pack("=d", 1.5), 1.5),
        (5, bytes(15) + b"\x01", hex(1 << 120)),
        (6, b"abc\0", "abc"),
        (6, b"\0abc", ""),
        (6, b"abcd", [97, 98, 99, 100]),
        (6, b"\x01\0\0\0", [1, 0, 0, 0]),
        (7, b"abc\0", [97, 98, 99, 0]),
        (8, struct.pack("=i", 7), "A"),
        (8, struct.pack("=i", 8), 8),
        (9, b"\x01", True),
        (10, struct.pack("=Q", 0xFFFF888000000000), 0xFFFF888000000000),
        (11, b"hi\0\0", "hi"),
        (13, struct.pack("=I", 0x61), {"A": "0x1", "e": "0x3"}),
    ],
)
def test_typed_values(type_id: int, data: bytes, value: Any) -> None:
    assert typed_value(BTF, type_id, data) == value


@given(st.integers(0, 31), st.integers(0, 2**27 - 1))
def test_bit_fields(low: int, high: int) -> None:
    data = struct.pack("=I", low | high << 5)
    assert typed_value(BTF, 13, data) == {"A": hex(low), "e": hex(high)}


def rows(text: str) -> list[Row]:
    out, slot = [], 0
    for insn in assemble(text):
        out.append(Row(slot, insn, format_insn(insn), None, None))
        slot += insn.slots
    return out


def test_listing_without_sources() -> None:
    assert translated_text(rows("r0 = 1\nexit"), opcodes=True) == (
        "   0: (b7) r0 = 1\n       b7 00 00 00 01 00 00 00\n   1: (95) exit\n       95 00 00 00 00 00 00 00"
    )


def test_events_as_text_and_json() -> None:
    data = b"hello\x00world 123456"
    assert event_text(PerfRecord(3, 4, 5_000_000_007, data)) == (
        "== @5.000000007 CPU: 3 index: 4 =====\n"
        "0000: 68 65 6c 6c 6f 00 77 6f 72 6c 64 20 31 32 33 34  hello.world 1234\n"
        "0010: 35 36                                            56"
    )
    assert event_text(data[:2]) == "== 2 bytes\n0000: 68 65                                            he"
    assert event_json(b"\x01") == '{"data": ["0x01"]}'
    lost = PerfRecord(0, 1, 0, b"", 7, 9)
    assert event_text(lost) == "lost 7 events"
    assert event_json(lost) == '{"type": 2, "cpu": 0, "index": 1, "lost": {"id": 9, "count": 7}}'
    assert event_json(PerfRecord(0, 1, 5, b"\x01")) == (
        '{"type": 9, "cpu": 0, "index": 1, "timestamp": 5, "data": ["0x01"]}'
    )


def test_statistics_and_holders_in_a_program_line() -> None:
    text = program_text(
        {
            "id": 5,
            "type": "kprobe",
            "tag": "0011223344556677",
            "gpl_compatible": False,
            "run_time_ns": 10,
            "run_cnt": 2,
            "recursion_misses": 1,
            "bytes_xlated": 16,
            "jited": False,
            "pids": [{"pid": 1, "comm": "init"}, {"pid": 20, "comm": "sh"}],
        }
    )
    assert text == (
        "5: kprobe  tag 0011223344556677 run_time_ns 10 run_cnt 2 recursion_misses 1\n"
        "\txlated 16B  not jited\n"
        "\tpids init(1),sh(20)"
    )


def test_link_lines() -> None:
    text = link_text(
        {
            "id": 3,
            "type": "kprobe_multi",
            "prog_id": 9,
            "retprobe": False,
            "func_cnt": 1,
            "missed": 0,
            "funcs": [{"addr": 0xFFFFFFFF81000000, "func": "vfs_read", "module": None, "cookie": 4}],
        }
    )
    assert text == (
        "3: kprobe_multi  prog 9  \n"
        "\tkprobe.multi  func_cnt 1\n"
        "\taddr             cookie           func [module]\n"
        "\tffffffff81000000 4                vfs_read"
    )


def test_btf_lines_and_users() -> None:
    assert users_of_btf([(1, 5), (2, 0), (3, 5)]) == {5: [1, 3]}
    line = btf_text({"id": 5, "size": 80, "prog_ids": [1, 3], "map_ids": [], "kernel": False})
    assert line == "5: name <anon>  size 80B  prog_ids 1,3"
