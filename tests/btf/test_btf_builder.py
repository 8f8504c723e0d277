"""Types built here: read back, and accepted by the kernel and bpftool."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.cdump import format_c
from tracebee.btf.types import Enumerator, Member, Param, Type, Variable
from tracebee.errors import EncodeError
from tracebee.kernel.btf import Btf as KernelBtf


def _every_kind() -> Builder:
    b = Builder()
    u32 = b.integer("unsigned int", 4)
    char = b.integer("char", 1, encoding=kinds.BTF_INT_CHAR)
    node = b.reserve()
    name = b.array(char, 16)
    callback = b.ptr(b.func_proto(0, [("", node), ("", u32)]))
    members = [("next", b.ptr(node), 0), ("name", name, 64), ("low", u32, 192, 3), ("high", u32, 195, 5)]
    b.struct("node", 40, [*members, ("call", callback, 256)], at=node)
    b.union("either", 4, [("i", b.integer("int", 4, signed=True), 0), ("f", b.floating("float", 4), 0)])
    b.enum("plain", [("A", 0), ("B", 5)])
    b.enum("minus", [("C", -1)])
    b.enum("wide", [("D", 1 << 40)])
    b.fwd("later")
    alias = b.typedef("word", b.const(b.volatile(u32)))
    b.restrict(b.ptr(alias))
    b.ptr(b.type_tag("user", char))
    function = b.func("entry", b.func_proto(u32, [("ctx", b.ptr(0))]), kinds.BTF_FUNC_GLOBAL)
    b.decl_tag("marked", function, 0)
    value = b.var("value", u32)
    b.datasec(".bss", 4, [(value, 0, 4)])
    return b


def test_every_kind_reads_back() -> None:
    btf = _every_kind().build()
    found = {record.kind for _, record in btf.types()}
    assert found == set(range(1, 20))
    node = btf.struct("node")
    assert node.members[2:4] == (Member("low", 1, 192, 3), Member("high", 1, 195, 5))
    assert btf.name_of(node.members[0].type_id) == "struct node *"
    assert btf.name_of(node.members[4].type_id) == "void (*)(struct node, unsigned int)"
    assert btf.enumerators("minus") == (Enumerator("C", -1),)
    assert btf.enumerators("wide") == (Enumerator("D", 1 << 40),)
    assert btf.type(btf.find("wide")).kind == kinds.BTF_KIND_ENUM64
    assert btf.type(btf.find(".bss")).variables[0].offset == 0
    assert btf.decl_tags(btf.function("entry").id, 0) == ["marked"]


@pytest.mark.needs("bpf")
def test_the_kernel_accepts_every_kind() -> None:
    data = _every_kind().to_bytes()
    with KernelBtf.load(data) as loaded:
        assert loaded.data() == data


@pytest.mark.needs("bpftool")
def test_bpftool_reads_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "types.btf"
    file.write_bytes(_every_kind().to_bytes())
    run = subprocess.run(["bpftool", "-j", "btf", "dump", "file", str(file)], capture_output=True, check=True)
    names = {t["kind"]: t["name"] for t in json.loads(run.stdout)["types"]}
    assert len(names) == 19
    assert names["DATASEC"] == ".bss"


def test_equal_types_and_strings_are_stored_once() -> None:
    b = Builder()
    assert b.integer("int", 4, signed=True) == b.integer("int", 4, signed=True) == 1
    assert b.ptr(1) == b.ptr(1) == 2
    assert b.string("int") == b.string("int") == 1
    assert b.end_id == 3


def test_what_does_not_fit_is_refused() -> None:
    b = Builder()
    with pytest.raises(EncodeError):
        b.ptr(1 << 32)
    with pytest.raises(EncodeError):
        b.string("a\0b")
    with pytest.raises(EncodeError):
        b.struct("s", 4, [("x", 1, 1 << 24, 3)])
    b.reserve()
    with pytest.raises(EncodeError, match="type 1 was reserved"):
        b.to_bytes()


def test_the_other_byte_order() -> None:
    b = Builder("big")
    b.struct("s", 8, [("x", b.integer("int", 4, signed=True), 32)])
    data = b.to_bytes()
    assert data[:2] == b"\xeb\x9f"
    assert Btf.from_bytes(data).member_path(2, "x").offset == 4


def test_split_btf_goes_on_where_its_base_ends() -> None:
    base = _every_kind().build()
    b = Builder(base=base)
    assert b.string("node") == base.string_offsets("node")[0]
    own = b.struct("module_thing", 40, [("node", base.find("struct node"), 0)])
    split = b.build()
    assert own == base.end_id
    assert split.find("struct module_thing") == own
    assert split.name_of(split.struct("module_thing").members[0].type_id) == "struct node"
    assert split.find("struct node") == base.find("struct node")


@pytest.mark.needs("btf")
def test_rewriting_the_kernels_types_gives_the_same_types() -> None:
    kernel = Btf.vmlinux()
    b = Builder(kernel.order)
    b.add_all(record for _, record in kernel.types())
    again = b.build()
    assert again.end_id == kernel.end_id
    pairs = zip(kernel.types(), again.types(), strict=True)
    assert [mine for mine, theirs in pairs if mine != theirs] == []


@pytest.mark.needs("gcc")
def test_types_of_one_name_get_numbers(tmp_path: Path) -> None:
    b = Builder()
    word, byte = b.integer("int", 4, signed=True), b.integer("char", 1)
    b.struct("same", 4, [("a", word, 0)])
    b.struct("same", 1, [("b", byte, 0)])
    b.enum("one", [("A", 0)])
    b.enum("two", [("A", 1)])
    checks = '_Static_assert(sizeof(struct same) == 4 && sizeof(struct same___2) == 1 && A___2 == 1, "");\n'
    (tmp_path / "check.c").write_text(format_c(b.build()) + checks)
    subprocess.run(["gcc", "-fsyntax-only", str(tmp_path / "check.c")], check=True)


NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), max_size=8)
WORD = st.integers(0, (1 << 32) - 1)
FLAG = st.booleans()
BIT_OFFSET, BIT_SIZE = st.integers(0, 0xFFFFFF), st.integers(0, 255)
BIT_MEMBERS = st.lists(st.tuples(NAMES, WORD, BIT_OFFSET, BIT_SIZE).map(Member._make), max_size=4)
MEMBERS = st.lists(st.tuples(NAMES, WORD, WORD, st.just(0)).map(Member._make), max_size=4)


def _values(low: int, high: int) -> st.SearchStrategy[tuple[Enumerator, ...]]:
    return st.lists(st.builds(Enumerator, NAMES, st.integers(low, high)), max_size=4).map(tuple)


def _of(kind: int, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Type]:
    return st.fixed_dictionaries({"name": NAMES, **fields}).map(lambda values: Type(kind, **values))


REFERENCES = [2, 8, 9, 10, 11, 18]
TYPES = st.one_of(
    *(_of(kind, type_id=WORD, flag=FLAG) for kind in REFERENCES),
    _of(1, size=WORD, encoding=st.integers(0, 15), bits=st.integers(0, 255), bit_offset=st.integers(0, 255)),
    _of(3, type_id=WORD, index_type_id=WORD, nelems=WORD),
    *(_of(k, size=WORD, flag=st.just(True), members=BIT_MEMBERS.map(tuple)) for k in (4, 5)),
    *(_of(k, size=WORD, members=MEMBERS.map(tuple)) for k in (4, 5)),
    _of(6, size=WORD, enumerators=_values(0, (1 << 32) - 1)),
    _of(6, size=WORD, flag=st.just(True), enumerators=_values(-(1 << 31), (1 << 31) - 1)),
    _of(7, flag=FLAG),
    _of(12, type_id=WORD, linkage=st.integers(0, 0xFFFF)),
    _of(13, type_id=WORD, params=st.lists(st.builds(Param, NAMES, WORD), max_size=12).map(tuple)),
    _of(14, type_id=WORD, linkage=WORD),
    _of(15, size=WORD, variables=st.lists(st.builds(Variable, WORD, WORD, WORD), max_size=3).map(tuple)),
    _of(16, size=WORD),
    _of(17, type_id=WORD, component=st.integers(-1, 100)),
    _of(19, size=WORD, enumerators=_values(0, (1 << 64) - 1)),
    _of(19, size=WORD, flag=st.just(True), enumerators=_values(-(1 << 63), (1 << 63) - 1)),
)


@given(st.lists(TYPES, max_size=30), st.sampled_from(["little", "big"]))
def test_reading_inverts_writing(records: list[Type], order: str) -> None:
    b = Builder(order)
    b.add_all(records)
    assert [record for _, record in Btf.from_bytes(b.to_bytes()).types()] == records


@pytest.mark.needs("btf")
def test_many_types_in_the_other_byte_order() -> None:
    some = [record for _, (_, record) in zip(range(20_000), Btf.vmlinux().types(), strict=False)]
    b = Builder("big" if Btf.vmlinux().order == "little" else "little")
    b.add_all(some)
    swapped = b.build()
    assert [record for _, record in swapped.types()] == some
    assert swapped.find("task_struct") == 1 + next(
        i for i, r in enumerate(some) if (r.kind, r.name) == (kinds.BTF_KIND_STRUCT, "task_struct")
    )
    plain = [swapped.index.start]
    while plain[-1] < swapped.index.end:
        plain.append(plain[-1] + swapped.index._length(plain[-1]))
    assert list(swapped.index.anchors) == plain[:-1:16]
