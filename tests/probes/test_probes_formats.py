"""Files that probes are found in: tracepoint formats, the linker's cache, USDT notes and their arguments."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import Diagnostic
from tracebee.lang.types import INT32, UINT32
from tracebee.probes.ldcache import entries
from tracebee.probes.tracepoint import Tracepoint
from tracebee.probes.tracepoint_format import parse_format
from tracebee.probes.usdt_args import Argument, parse_arguments

# As Documentation/trace/events.rst describes the file; the fields are of several real events.
FORMAT = """name: sample
ID: 316
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:const char * filename;\toffset:32;\tsize:8;\tsigned:0;
\tfield:int dfd;\toffset:40;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] name;\toffset:48;\tsize:4;\tsigned:0;
\tfield:__rel_loc char[] where;\toffset:52;\tsize:4;\tsigned:0;
\tfield:unsigned long args[6];\toffset:56;\tsize:48;\tsigned:0;
\tfield:char msg[TASK_COMM_LEN];\toffset:104;\tsize:16;\tsigned:0;
\tfield:enum mode mode;\toffset:120;\tsize:4;\tsigned:0;
\tfield:struct page * page;\toffset:128;\tsize:8;\tsigned:0;

print fmt: "%s", REC->prev_comm
"""


def test_fields() -> None:
    found = parse_format(FORMAT)
    assert found.id == 316
    fields = {f.name: f for f in found.fields}
    assert len(fields) == 12
    assert (fields["prev_comm"].type, fields["prev_comm"].array) == ("char", 16)
    assert fields["filename"].type == "const char *"
    assert (fields["name"].type, fields["name"].dynamic) == ("char", "data")
    assert fields["where"].dynamic == "rel"
    assert fields["args"].array == 6
    assert fields["msg"].array == 16
    assert fields["args"].declaration == "unsigned long args[6]"


def test_types() -> None:
    group = Tracepoint(
        [("t", {"system": "syscalls", "event": "sys_enter_x"})], parse_format(FORMAT), "_tracepoint_x"
    )
    record = group.args_type()
    assert record is not None
    types = {f.name: f.type for f in record.fields}
    assert (types["prev_comm"].kind, types["prev_comm"].size) == ("string", 16)
    assert types["dfd"] == INT32  # the low half of its register
    assert types["mode"] == UINT32
    assert (types["filename"].kind, types["filename"].name) == ("pointer", "user")
    assert types["name"].name == "kernel"
    assert (types["args"].kind, types["args"].number) == ("array", 6)
    assert types["page"].element is not None
    assert types["page"].element.name == "struct page"


@given(st.text(max_size=200))
def test_any_text_parses(text: str) -> None:
    parse_format("\n".join(line for line in text.splitlines() if not line.startswith("ID:")))


def _cache(rows: list[tuple[int, str, str]], *, behind_old: bool = False) -> bytes:
    """A cache file as glibc's dl-cache.h lays it out."""
    table = b""
    strings = b""
    at = 48 + 24 * len(rows)
    for flags, soname, path in rows:
        places = []
        for text in (soname, path):
            places.append(at + len(strings))
            strings += text.encode() + b"\0"
        table += struct.pack("=iIIIQ", flags, *places, 0, 0)
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(rows), len(strings)) + bytes(20)
    new = head + table + strings
    return b"ld.so-1.7.0\0" + struct.pack("=I", 1) + bytes(12) + bytes(4) + new if behind_old else new


@pytest.mark.parametrize("behind_old", [False, True])
def test_linker_cache(behind_old: bool) -> None:
    rows = [(0x0303, "libc.so.6", "/lib/x/libc.so.6"), (3, "libc.so.6", "/lib32/libc.so.6")]
    assert list(entries(_cache(rows, behind_old=behind_old))) == rows


@given(st.sampled_from([b"", b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0"]), st.binary(max_size=300))
def test_any_bytes_are_a_cache_or_none(magic: bytes, data: bytes) -> None:
    list(entries(magic + data))


X86 = [
    ("8@%rdi", [Argument(8, False, "reg", base="di")]),
    ("-4@%esi", [Argument(4, True, "reg", base="si")]),
    ("1@%ah", [Argument(1, False, "reg", base="ax", shift=8)]),
    ("-2@%r8w", [Argument(2, True, "reg", base="r8")]),
    ("4@$-5", [Argument(4, False, "const", -5)]),
    ("8@$0x10", [Argument(8, False, "const", 16)]),
    ("-4@-20(%rbp)", [Argument(4, True, "mem", -20, "bp")]),
    ("8@(%rax)", [Argument(8, False, "mem", 0, "ax")]),
    ("-4@-20(%rbp,%rax,4)", [Argument(4, True, "mem", -20, "bp", "ax", 4)]),
    ("8@(%rcx,%rdx)", [Argument(8, False, "mem", 0, "cx", "dx", 1)]),
    ("4@0x8(,%r9,8)", [Argument(4, False, "mem", 8, "", "r9", 8)]),
    ("-4@counter(%rip)", [Argument(4, True, "symbol", 0, symbol="counter")]),
    ("4@table+12(%rip)", [Argument(4, False, "symbol", 12, symbol="table")]),
    ("4@-4+table(%rip)", [Argument(4, False, "symbol", -4, symbol="table")]),
    ("8@%rdi -4@$3", [Argument(8, False, "reg", base="di"), Argument(4, True, "const", 3)]),
    ("", []),
]
ARM = [
    ("8@x0", [Argument(8, False, "reg", base="r0")]),
    ("-4@w21", [Argument(4, True, "reg", base="r21")]),
    ("8@sp", [Argument(8, False, "reg", base="sp")]),
    ("8@5", [Argument(8, False, "const", 5)]),
    ("-4@-1", [Argument(4, True, "const", -1)]),
    ("8@[sp]", [Argument(8, False, "mem", 0, "sp")]),
    ("-4@[sp, 16]", [Argument(4, True, "mem", 16, "sp")]),
    ("4@[x29, -20]", [Argument(4, False, "mem", -20, "r29")]),
    ("8@[x1, x2]", [Argument(8, False, "mem", 0, "r1", "r2")]),
    ("8@[x1, x2, lsl 3]", [Argument(8, False, "mem", 0, "r1", "r2", 8)]),
    ("8@[sp, 8] -4@w1", [Argument(8, False, "mem", 8, "sp"), Argument(4, True, "reg", base="r1")]),
]


@pytest.mark.parametrize(("text", "arguments"), X86)
def test_x86_arguments(text: str, arguments: list[Argument]) -> None:
    assert parse_arguments(text, "x86_64") == tuple(arguments)


@pytest.mark.parametrize(("text", "arguments"), ARM)
def test_arm64_arguments(text: str, arguments: list[Argument]) -> None:
    assert parse_arguments(text, "aarch64") == tuple(arguments)


@pytest.mark.parametrize("text", ["8f@%xmm0", "16@%rdi", "8@%zmm1", "4@foo(bar)", "8@%rdi,%rsi"])
def test_arguments_that_cannot_be_read(text: str) -> None:
    with pytest.raises(Diagnostic):
        parse_arguments(text, "x86_64")


@given(
    st.text(alphabet="0123456789@%$()-+,[] abcdefrxswlp#", max_size=40),
    st.sampled_from(["x86_64", "aarch64"]),
)
def test_any_argument_text(text: str, machine: str) -> None:
    try:
        parse_arguments(text, machine)
    except Diagnostic:
        pass
