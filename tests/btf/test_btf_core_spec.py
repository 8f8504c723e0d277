"""Access strings: what each means in the local types, and where the same access is in others."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.core_spec import match_enumerator, match_names, match_spec, parse_spec
from tracebee.errors import DecodeError, SymbolError

OFFSET = ck.BPF_CORE_FIELD_BYTE_OFFSET


def local() -> Btf:
    """What an object may have been compiled with: struct outer is 1, the alias of it 2, the enum 3."""
    b = Builder()
    outer = b.reserve()
    b.typedef("alias", outer)
    b.enum("colour", [("RED", 0), ("GREEN___mine", 1)])
    word = b.integer("int", 4, signed=True)
    pair = b.struct("pair", 8, [("a", word, 0), ("b", word, 32)])
    anonymous = b.union("", 8, [("whole", b.integer("long", 8), 0), ("half", word, 0)])
    members = [
        ("first", word, 0),
        ("", anonymous, 64),
        ("pairs", b.array(pair, 3), 128),
        ("low", word, 320, 3),
        ("tail", b.array(word, 0), 384),
    ]
    b.struct("outer", 48, members, at=outer)
    return b.build()


def target() -> Btf:
    """The same in another kernel: moved, in another struct's anonymous member, more elements."""
    b = Builder()
    outer = b.reserve()
    b.enum("colour", [("BLUE", 0), ("GREEN", 5)])
    word = b.integer("int", 4, signed=True)
    pair = b.struct("pair", 12, [("new", word, 0), ("b", word, 32), ("a", word, 64)])
    deeper = b.struct("", 16, [("first", word, 32), ("whole", b.integer("long", 8), 64)])
    members = [("pairs", b.array(pair, 2), 0), ("", b.union("", 16, [("", deeper, 0)]), 192)]
    b.struct("outer", 44, [*members, ("low", word, 320, 5), ("tail", b.array(word, 0), 352)], at=outer)
    return b.build()


@pytest.mark.parametrize(
    ("access", "text", "bits"),
    [
        ("0", "struct outer", 0),
        ("2", "struct outer[2]", 2 * 48 * 8),
        ("0:0", "struct outer.first", 0),
        ("1:0", "struct outer[1].first", 48 * 8),
        ("0:1:1", "struct outer.half", 64),
        ("0:2", "struct outer.pairs", 128),
        ("0:2:2:1", "struct outer.pairs[2].b", 128 + 2 * 64 + 32),
        ("0:3", "struct outer.low", 320),
        # The last member of no elements has as many as there is memory.
        ("0:4:9", "struct outer.tail[9]", 384 + 9 * 32),
    ],
)
def test_accesses(access: str, text: str, bits: int) -> None:
    spec = parse_spec(local(), 1, OFFSET, access)
    assert (str(spec), spec.bit_offset) == (text, bits)
    assert spec.indices == tuple(map(int, access.split(":")))
    # Through a typedef it is the same place, under the name that was asked for.
    alias = parse_spec(local(), 2, OFFSET, access)
    assert (str(alias), alias.bit_offset) == (text.replace("struct outer", "alias"), bits)


@pytest.mark.parametrize(
    ("access", "there"),
    [
        ("0:0", ("0:1:0:0", 192 + 32)),  # now inside two anonymous members
        ("0:1:0", ("0:1:0:1", 192 + 64)),
        ("0:2:1:0", ("0:0:1:2", 12 * 8 + 64)),
        ("0:3", ("0:2", 320)),
        ("0:4:9", ("0:3:9", 352 + 9 * 32)),
        ("1:3", ("1:2", 44 * 8 + 320)),
        ("0:2:2:1", None),  # one element less
        ("0:1:1", None),  # gone
    ],
)
def test_the_same_access_elsewhere(access: str, there: tuple[str, int] | None) -> None:
    found = match_spec(parse_spec(local(), 1, OFFSET, access), OFFSET, target(), 1)
    if there is None:
        assert found is None
    else:
        assert found is not None
        assert (":".join(map(str, found.indices)), found.bit_offset) == there


@pytest.mark.parametrize(
    ("kind", "type_id", "access", "message"),
    [
        (OFFSET, 1, "", "not a CO-RE access string"),
        (OFFSET, 1, "0:", "not a CO-RE access string"),
        (OFFSET, 1, "a", "not a CO-RE access string"),
        (OFFSET, 1, "0:-1", "not a CO-RE access string"),
        (OFFSET, 1, ":".join("0" * 65), "not a CO-RE access string"),
        (OFFSET, 1, "0:5", "'0:5' does not fit struct outer"),
        (OFFSET, 1, "0:2:3", "does not fit struct outer"),
        (OFFSET, 1, "0:0:0", "does not fit struct outer"),
        (OFFSET, 99, "0", "there is no type 99"),
        (ck.BPF_CORE_TYPE_SIZE, 1, "0:0", "access string '0:0', not '0'"),
        (ck.BPF_CORE_ENUMVAL_VALUE, 3, "2", "enum colour has no enumerator '2'"),
        (ck.BPF_CORE_ENUMVAL_VALUE, 3, "0:0", "has no enumerator"),
        (ck.BPF_CORE_ENUMVAL_VALUE, 1, "0", "struct outer has no enumerator"),
        (13, 1, "0", "unknown CO-RE relocation kind 13"),
    ],
)
def test_what_does_not_fit(kind: int, type_id: int, access: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse_spec(local(), type_id, kind, access)


def test_types_and_enumerators() -> None:
    size = parse_spec(local(), 2, ck.BPF_CORE_TYPE_SIZE, "0")
    assert (str(size), size.steps) == ("alias", ())
    green = parse_spec(local(), 3, ck.BPF_CORE_ENUMVAL_VALUE, "1")
    assert str(green) == "enum colour::GREEN___mine"
    there = target()
    # Flavours aside, names are what counts; numbers are not.
    found = match_spec(green, ck.BPF_CORE_ENUMVAL_VALUE, there, 2)
    assert found is not None
    assert (str(found), found.indices) == ("enum colour::GREEN", (1,))
    assert match_enumerator("RED", there, 2) is None


def test_by_names() -> None:
    found = match_names("pairs[1].b", target(), 1)
    assert (str(found), found.indices, found.bit_offset) == ("struct outer.pairs[1].b", (0, 0, 1, 1), 96 + 32)
    # Anonymous members are gone through without being named.
    assert match_names("whole", target(), 1).indices == (0, 1, 0, 1)
    with pytest.raises(SymbolError, match="no field 'half'"):
        match_names("half", target(), 1)
