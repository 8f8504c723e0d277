"""Damaged types are refused with an error that says so, by everything that reads them, and soon."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf, kinds, raw
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.cdump import format_c
from tracebee.btf.concat import concatenate
from tracebee.btf.core import Resolver
from tracebee.btf.core_spec import parse_spec
from tracebee.btf.dedup import deduplicate
from tracebee.btf.minimise import minimise
from tracebee.btf.relocate import relocate
from tracebee.btf.sanitise import FEATURES, without
from tracebee.errors import DecodeError, SymbolError, TracebeeError
from tracebee.obj.model import CoreReloc

EVERYTHING = [feature.name for feature in FEATURES]
ACCESSES = ("0", "0:0", "0:1", "0:1:0", "0:0:0:0", "1:2", "0:99", "7", "", "x", "-1", "0:" * 80 + "0")


def whole() -> bytes:
    """Types of every kind that refer to one another, with cycles."""
    b = Builder()
    word = b.integer("int", 4, signed=True)
    char = b.integer("char", 1, signed=True)
    node = b.reserve()
    callback = b.ptr(b.func_proto(word, [("n", b.ptr(node)), ("", 0)]))
    inner = b.union("", 8, [("text", b.array(char, 8), 0), ("real", b.floating("double", 8), 0)])
    name = b.typedef("alias", b.const(b.volatile(word)))
    members = [
        ("next", b.ptr(node), 0),
        ("call", callback, 64),
        ("", inner, 128),
        ("rest", b.array(name, 0), 0),
    ]
    b.struct("node", 32, [*members[:3], ("low", word, 192, 3), ("high", word, 195, 9)], at=node)
    b.struct("flexible", 8, [("head", b.ptr(b.restrict(b.ptr(node))), 0), ("rest", b.array(name, 0), 64)])
    b.enum("few", [("A", 1), ("B", -1)])
    b.enum("wide", [("C", 1 << 40)])
    b.typedef("handle", b.ptr(b.type_tag("user", b.fwd("hidden"))))
    function = b.func("entry", b.func_proto(0, [("p", b.ptr(0))]), kinds.BTF_FUNC_GLOBAL)
    b.decl_tag("bpf_kfunc", function)
    variable = b.var("state", node)
    b.decl_tag("mark", variable)
    b.datasec(".bss", 32, [(variable, 0, 32)])
    return b.to_bytes()


def everything(data: bytes) -> list[Callable[[], object]]:
    """All that can be done with types."""
    btf = Btf.from_bytes(data)
    calls: list[Callable[[], object]] = [
        lambda: list(raw.format_raw(btf)),
        lambda: format_c(btf),
        lambda: deduplicate(btf),
        lambda: concatenate([btf, btf], btf.order),
        lambda: without(data, EVERYTHING),
        lambda: relocate(Btf.from_bytes(data, btf), Btf.from_bytes(whole())),
        lambda: list(btf.names()),
    ]
    for type_id in range(btf.end_id + 1):
        reads = (btf.type, btf.size, btf.align, btf.name_of, btf.fields, btf.prototype, btf.enumerators)
        calls += [partial(read, type_id) for read in reads]
        for kind in range(len(ck.KIND_NAMES) + 1):
            access = ACCESSES[(type_id + kind) % len(ACCESSES)]
            reloc = CoreReloc(kind, "", "", type_id=type_id, spec=access)
            calls += [
                partial(parse_spec, btf, type_id, kind, access),
                partial(Resolver(btf, btf).resolve, reloc),
                partial(minimise, btf, [(btf, [reloc])]),
            ]
    return calls


def survive(data: bytes) -> int:
    """Do everything; how many things were refused."""
    try:
        calls = everything(data)
    except TracebeeError:
        return -1
    refused = 0
    for call in calls:
        try:
            call()
        except TracebeeError:
            refused += 1
    return refused


def test_what_is_whole_is_read() -> None:
    for read in everything(whole())[:5]:
        read()


WORDS = st.one_of(
    st.integers(0, 60),
    st.sampled_from([1 << 31, (1 << 32) - 1, 1 << 24, 0xFFFF]),
    st.builds(
        lambda flag, kind, vlen: flag << 31 | kind << 24 | vlen,
        st.integers(0, 1),
        st.integers(0, 21),
        st.integers(0, 6),
    ),
)
PLACES = st.integers(0, len(whole()) // 4 - 1)


@settings(max_examples=60)
@given(st.lists(st.tuples(PLACES, WORDS), min_size=1, max_size=6))
def test_any_words_may_be_wrong(changes: list[tuple[int, int]]) -> None:
    data = bytearray(whole())
    for place, word in changes:
        struct.pack_into("<I", data, 4 * place, word)
    survive(bytes(data))


@settings(max_examples=60)
@given(st.integers(0, len(whole())), st.integers(0, len(whole()) - 1), st.integers(0, 255))
def test_any_end_may_be_missing(length: int, place: int, byte: int) -> None:
    data = bytearray(whole())
    data[place] = byte
    assert survive(bytes(data[:length])) == -1 or length == len(data)


def header(types: bytes, strings: bytes = b"\0a\0") -> bytes:
    return (
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings
    )


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def info(kind: int, vlen: int = 0) -> int:
    return kind << 24 | vlen


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(words(1, info(kinds.BTF_KIND_STRUCT, 0xFFFF), 4)), "runs over the end"),
        (header(words(1, info(20), 4)), "unknown kind 20"),
        (header(words(1, info(0), 4)), "unknown kind 0"),
        (header(words(1)), "runs over the end"),
        (header(b"", b"a\0"), "start and end with a NUL"),
        (header(b"", b"\0a"), "start and end with a NUL"),
        (header(b"")[:-1], "run over the end of the data"),
        (header(b"").replace(b"\x9f\xeb\x01", b"\x9f\xeb\x02"), "BTF version 2"),
        (b"\x9f\xeb\x01\0" + words(25, 0, 0, 0, 3) + b"\0a\0", "run over the end of the data"),
        (b"\x9f\xeb\x01\0" + words(24, 2, 0, 0, 3) + b"\0a\0__", "not aligned"),
    ],
)
def test_what_is_no_btf_at_all(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Btf.from_bytes(data)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (words(99, info(kinds.BTF_KIND_STRUCT), 4), "string offset 99 is outside"),
        (words(1, info(kinds.BTF_KIND_TYPEDEF), 9), "there is no type 9"),
        (words(1, info(kinds.BTF_KIND_TYPEDEF), 1), "nested too deeply"),
        (
            words(0, info(kinds.BTF_KIND_CONST), 2, 0, info(kinds.BTF_KIND_VOLATILE), 1)
            + words(1, info(kinds.BTF_KIND_TYPEDEF), 1),
            "nested too deeply",
        ),
        (words(0, info(kinds.BTF_KIND_PTR), 1, 1, info(kinds.BTF_KIND_TYPEDEF), 1), "nested too deeply"),
        (
            words(0, info(kinds.BTF_KIND_ARRAY), 0, 1, 1, 2, 1, info(kinds.BTF_KIND_TYPEDEF), 1),
            "nested too deeply",
        ),
        (words(1, info(kinds.BTF_KIND_STRUCT, 1), 4, 1, 1, 0), "contains itself"),
        (
            words(1, info(kinds.BTF_KIND_STRUCT, 1), 1 << 31, 1, 2, 0)
            + words(1, info(kinds.BTF_KIND_INT), 4, 32),
            "without members",
        ),
    ],
)
def test_what_cannot_be_c(types: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        format_c(Btf.from_bytes(header(types)))


def bomb(step: Callable[[Builder, int], int], first: Callable[[Builder], int]) -> tuple[Btf, int]:
    """Types that each hold the one before twice: written out, there are 2 to the 28th of the first."""
    b = Builder()
    last = first(b)
    for _ in range(28):
        last = step(b, last)
    b.struct("whole", 8, [("a", b.ptr(last), 0)])
    b.struct("holder", 8, [("", last, 0)])
    return b.build(), last


def word(b: Builder) -> int:
    return b.integer("int", 4, signed=True)


def test_few_types_may_not_stand_for_millions_of_members() -> None:
    btf, last = bomb(
        lambda b, i: b.union("", 8, [("", i, 0), ("", i, 0)]), lambda b: b.union("", 8, [("m", word(b), 0)])
    )
    for read in (lambda: btf.fields(last), lambda: format_c(btf)):
        with pytest.raises(DecodeError, match="too many"):
            read()
    # Whether a member is there can be told.
    assert btf.member_path(btf.find("holder"), "m").offset == 0
    with pytest.raises(SymbolError):
        btf.member_path(btf.find("whole"), "none")
    local = Builder()
    wanted = local.struct("holder", 8, [("none", word(local), 0)])
    reloc = CoreReloc(ck.BPF_CORE_FIELD_EXISTS, "", "", type_id=wanted, spec="0:0")
    assert Resolver(local.build(), btf).resolve(reloc).value == 0


def test_few_types_may_not_stand_for_millions_of_parameters() -> None:
    btf, last = bomb(
        lambda b, i: b.ptr(b.func_proto(0, [("", i), ("", i)])), lambda b: b.ptr(b.func_proto(0, []))
    )
    for read in (lambda: btf.name_of(last), lambda: format_c(btf)):
        with pytest.raises(DecodeError, match="nested too deeply"):
            read()


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """On files with some words changed: never a traceback, status 0 or 1, and then one line or two."""
    rng = random.Random(7)
    statuses = set()
    for number in range(12):
        data = bytearray(whole())
        for _ in range(3):
            struct.pack_into("<I", data, 4 * rng.randrange(6, len(data) // 4), rng.randrange(64))
        (tmp_path / "types.btf").write_bytes(data)
        command = [
            sys.executable,
            "-m",
            "tracebee",
            "btf",
            "dump",
            "file",
            "types.btf",
            "format",
            ("raw", "c")[number % 2],
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        statuses.add(run.returncode)
        assert "Traceback" not in run.stderr
        assert run.returncode == bool(run.stderr)
        assert run.stderr.count("\n") <= 2
    assert statuses == {0, 1}
