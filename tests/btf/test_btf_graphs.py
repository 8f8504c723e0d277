"""Random types as C has them, cycles included: the kernel takes them, and they keep their meaning."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf, kinds
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.cdump import Header
from tracebee.btf.concat import concatenate
from tracebee.btf.core import CoreValue, Resolver
from tracebee.btf.dedup import deduplicate
from tracebee.btf.minimise import minimise
from tracebee.btf.references import references
from tracebee.errors import UnsupportedError
from tracebee.kernel.btf import Btf as KernelBtf
from tracebee.obj.model import CoreReloc

HERE = Path(__file__).parent / "core"
FORWARD = kinds.BTF_KIND_FWD


@st.composite
def graphs(draw: st.DrawFn, forward: bool = True, nameless: bool = True) -> Btf:
    """A compilation unit: structs that hold earlier ones by value and point to any; few names, so that two
    units have some in common and disagree about others.
    """
    b = Builder()
    word, char = b.integer("int", 4, signed=True), b.integer("char", 1, signed=True)
    sized = [(word, 4), (char, 1), (b.integer("long", 8), 8), (b.enum("colour", [("RED", 1)]), 4)]
    structs = [b.reserve() for _ in range(draw(st.integers(1, 4)))]
    others = [0, *structs]
    if forward:
        others += [
            b.fwd(name, union=union)
            for name in ("s0", "s3")
            for union in draw(st.sampled_from([(), (False,), (True,)]))
        ]

    def anything() -> int:
        return draw(st.sampled_from([i for i, _ in sized] + others))

    def wrapped() -> int:
        """A pointer, some steps away from what it points to."""
        target = anything()
        for wrap in draw(
            st.lists(st.sampled_from(["const", "volatile", "typedef", "ptr", "array", "proto"]), max_size=3)
        ):
            if wrap == "typedef":
                target = b.typedef(draw(st.sampled_from(["t0", "t1"])), target)
            elif wrap == "array":
                target = b.array(b.ptr(target), draw(st.integers(0, 3)), word)
            elif wrap == "proto":
                # A function's result and parameters are no functions and no arrays.
                target = b.ptr(b.func_proto(b.ptr(target), [("p", b.ptr(anything()))]))
            else:
                target = {"const": b.const, "volatile": b.volatile, "ptr": b.ptr}[wrap](target)
        return b.ptr(target)

    for number, struct_id in enumerate(structs):
        members: list[tuple[str, int, int]] = []
        at = 0
        for name in draw(st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=3)):
            type_id, size = draw(st.sampled_from(sized)) if draw(st.booleans()) else (wrapped(), 8)
            at = (at + 7) // 8 * 8
            members.append((name, type_id, 8 * at))
            at += size
        size = max(8, (at + 7) // 8 * 8)
        name = draw(st.sampled_from([f"s{number}", f"s{number}", "s0", *([""] if nameless else [])]))
        b.struct(name, size, members, at=struct_id)
        sized.append((struct_id, size))
    for name in draw(st.lists(st.sampled_from(["f0", "f1"]), max_size=2)):
        b.func(name, b.func_proto(word, [("p", wrapped())]))
    return b.build()


@pytest.mark.needs("bpf")
@settings(max_examples=150)
@given(graphs())
def test_the_kernel_takes_them(btf: Btf) -> None:
    KernelBtf.load(btf.data).close()


def check_same(before: Btf, after: Btf, ids: dict[int, int]) -> None:
    """Every type is still what it was, and so is what it refers to; a declaration may be a definition now."""
    for old in range(1, before.end_id):
        one, other = before.type(old), after.type(ids[old])
        assert one.name == other.name
        if one.kind == FORWARD != other.kind:
            assert other.kind == (kinds.BTF_KIND_UNION if one.flag else kinds.BTF_KIND_STRUCT)
            continue
        assert one._replace(type_id=0, index_type_id=0, members=(), params=()) == other._replace(
            type_id=0, index_type_id=0, members=(), params=()
        )
        assert [(m.name, m.bit_offset) for m in one.members] == [
            (m.name, m.bit_offset) for m in other.members
        ]
        for mine, theirs in zip(references(one), references(other), strict=True):
            expected = ids[mine] if mine else 0
            # A copy of the same struct within one unit may have been kept for it.
            assert expected == theirs


@pytest.mark.needs("gcc")
@settings(max_examples=60)
@given(st.lists(graphs(nameless=False), min_size=1, max_size=2), st.booleans())
def test_their_header_compiles_to_the_same_sizes(units: list[Btf], by_name: bool) -> None:
    btf = Btf.from_bytes(deduplicate(Btf.from_bytes(concatenate(units)[0])).data)
    header = Header(btf)
    lines = [header.text(None, by_name=by_name)]
    for type_id, record in btf.types():
        if record.kind == kinds.BTF_KIND_STRUCT:
            name = f"struct {header.names[type_id]}"
            lines.append(f'_Static_assert(sizeof({name}) == {record.size}, "{name}");')
            lines += [
                f'_Static_assert(__builtin_offsetof({name}, {m.name}) == {m.bit_offset // 8}, "{name}");'
                for m in record.members
            ]
    text = "\n".join(lines)
    run = subprocess.run(
        ["gcc", "-w", "-x", "c", "-fsyntax-only", "-"], input=text, capture_output=True, text=True
    )
    assert run.stderr == ""


@settings(max_examples=200)
@given(st.lists(graphs(), min_size=1, max_size=3))
def test_deduplication_keeps_what_types_are(units: list[Btf]) -> None:
    data, _ = concatenate(units)
    before = Btf.from_bytes(data)
    found = deduplicate(before)
    after = Btf.from_bytes(found.data)
    check_same(before, after, found.ids)
    assert deduplicate(after).data == found.data


@settings(max_examples=100)
@given(graphs(forward=False))
def test_a_unit_and_its_copy_are_one(unit: Btf) -> None:
    data, _ = concatenate([unit, unit])
    once = Btf.from_bytes(deduplicate(unit).data)
    twice = Btf.from_bytes(deduplicate(Btf.from_bytes(data)).data)
    assert list(twice.types()) == list(once.types())


@pytest.fixture(scope="module")
def by_libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("libbpf") / "dedup"
    subprocess.run(["gcc", "-w", str(HERE / "dedup.c"), "-o", str(binary), "-lbpf"], check=True)
    return binary


@pytest.mark.needs("libbpf")
@settings(max_examples=60)
@given(st.lists(graphs(), min_size=1, max_size=3))
def test_libbpf_keeps_the_same_types(by_libbpf: Path, units: list[Btf]) -> None:
    folder = by_libbpf.parent
    paths = []
    for number, unit in enumerate(units):
        paths.append(folder / f"unit{number}.btf")
        paths[-1].write_bytes(unit.data)
    subprocess.run([str(by_libbpf), str(folder / "expected"), "-", *map(str, paths)], check=True)
    data, _ = concatenate(units)
    left = Btf.from_bytes(deduplicate(Btf.from_bytes(data)).data)
    assert list(left.types()) == list(Btf.from_file(str(folder / "expected")).types())


def answer(resolver: Resolver, reloc: CoreReloc) -> CoreValue | str:
    """A value, or why there is none, without the ids of types."""
    try:
        return resolver.resolve(reloc)._replace(target=None)
    except UnsupportedError as error:
        return error.message.partition(":")[0]


@pytest.mark.needs("bpf")
@settings(max_examples=100)
@given(graphs(), graphs(), st.data())
def test_what_is_kept_resolves_as_in_the_whole(local: Btf, target: Btf, data: st.DataObject) -> None:
    relocs = []
    for type_id, record in local.types():
        if record.kind == kinds.BTF_KIND_STRUCT and record.name:
            for number in range(len(record.members)):
                kind = data.draw(st.sampled_from(sorted(ck.FIELD_KINDS)))
                relocs.append(CoreReloc(kind, "", "", type_id=type_id, spec=f"0:{number}"))
            kind = data.draw(
                st.sampled_from([ck.BPF_CORE_TYPE_EXISTS, ck.BPF_CORE_TYPE_SIZE, ck.BPF_CORE_TYPE_MATCHES])
            )
            relocs.append(CoreReloc(kind, "", "", type_id=type_id, spec="0"))
    part = Btf.from_bytes(minimise(target, [(local, relocs)]))
    if part.end_id > 1:
        KernelBtf.load(part.data).close()
    whole, less = Resolver(local, target), Resolver(local, part)
    for reloc in relocs:
        assert answer(less, reloc) == answer(whole, reloc)
