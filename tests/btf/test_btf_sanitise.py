"""Types rewritten for kernels that know fewer kinds: still valid, ids and strings where they were."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable

import pytest

from tracebee import uapi
from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.sanitise import FEATURES, sample, without
from tracebee.btf.types import Type
from tracebee.engine.kernel.loader import load_object
from tracebee.engine.kernel.object_types import lacking_features, load_reduced
from tracebee.errors import KernelError
from tracebee.kernel import btf as kernel_btf
from tracebee.kernel.attr import BTF_LOAD
from tracebee.kernel.btf import Btf as KernelBtf
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import Object

NAMES = [feature.name for feature in FEATURES]


def every_feature() -> bytes:
    """Types that use all that kernels learned since 4.18, referring to one another."""
    b = Builder()
    number = b.integer("int", 4, signed=True)
    char = b.integer("char", 1, signed=True)
    double = b.floating("double", 8)
    tagged = b.ptr(b.type_tag("user", b.const(char)))
    wide = b.enum("wide", [("WIDE", 1 << 40)])
    below = b.enum("below", [("BELOW", -2), ("ABOVE", 1)])
    members = [
        ("d", double, 0),
        ("p", tagged, 64),
        ("w", wide, 128),
        ("b", below, 192),
        ("f", number, 224, 3),
    ]
    record = b.struct("record", 32, members)
    b.decl_tag("on a member", record, 1)
    function = b.func("f", b.func_proto(wide, [("r", b.ptr(record)), ("", 0)]), kinds.BTF_FUNC_GLOBAL)
    b.decl_tag("on an argument", function, 0)
    b.func("g", b.func_proto(0, []), kinds.BTF_FUNC_STATIC)
    variables = [b.var("first", record), b.var("second", double, kinds.BTF_VAR_STATIC)]
    b.decl_tag("on a variable", variables[0])
    b.datasec(".data.some-where", 40, [(variables[0], 0, 32), (variables[1], 32, 8)])
    b.datasec("?.other", 4, [(b.var("third", below), 0, 4)])
    b.string("int main(void) {")  # a line of source
    return b.to_bytes()


def uses(data: bytes) -> set[str]:
    """The features that a blob takes, as the kernel's documentation and history have them."""
    found = set()
    for _, t in Btf.from_bytes(data).types():
        if t.kind in (kinds.BTF_KIND_FUNC, kinds.BTF_KIND_FUNC_PROTO):
            found.add("func")
        if t.kind == kinds.BTF_KIND_FUNC and t.linkage:
            found.add("func_global")
        if t.kind in (kinds.BTF_KIND_VAR, kinds.BTF_KIND_DATASEC):
            found.add("datasec")
        if t.kind == kinds.BTF_KIND_DATASEC and not t.name.replace(".", "_").isidentifier():
            found.add("section_name")
        if t.kind == kinds.BTF_KIND_ENUM64 or (t.kind == kinds.BTF_KIND_ENUM and t.flag):
            found.add("enum64")
        found |= {
            name
            for name, kind in (
                ("float", kinds.BTF_KIND_FLOAT),
                ("decl_tag", kinds.BTF_KIND_DECL_TAG),
                ("type_tag", kinds.BTF_KIND_TYPE_TAG),
            )
            if kind == t.kind
        }
    return found


def test_the_example_uses_everything() -> None:
    assert uses(every_feature()) == set(NAMES)


@pytest.mark.needs("btf_kinds")
@pytest.mark.parametrize("name", NAMES)
def test_without_one_feature(name: str) -> None:
    # Functions that are not there are not global, sections have no names; and nothing is tagged that way.
    gone = {
        "func": {"func", "func_global", "decl_tag"},
        "datasec": {"datasec", "section_name", "decl_tag"},
    }.get(name, {name})
    less = without(every_feature(), {name} | gone & {"decl_tag"})
    assert uses(less) == set(NAMES) - gone
    KernelBtf.load(less).close()


@pytest.mark.needs("btf_kinds")
@pytest.mark.parametrize("known", range(len(NAMES) + 1))
def test_as_a_kernel_of_some_version_has_it(known: int) -> None:
    less = without(every_feature(), NAMES[known:])
    assert uses(less) == set(NAMES[:known])
    KernelBtf.load(less).close()


def test_ids_sizes_and_strings_stay() -> None:
    before, after = Btf.from_bytes(every_feature()), Btf.from_bytes(without(every_feature(), NAMES))
    assert after.end_id == before.end_id
    strings = before.data[before.str_start : before.str_end]
    assert after.data[after.str_start :].startswith(strings)
    old, new = before.struct("record"), after.struct("record")
    assert (old.id, old.size) == (new.id, new.size)
    assert [(m.name, m.bit_offset, m.bit_size) for m in old.members] == [
        (m.name, m.bit_offset, m.bit_size) for m in new.members
    ]
    for one, other in zip(old.members, new.members, strict=True):
        assert before.size(one.type_id) == after.size(other.type_id)


def test_what_stands_for_what() -> None:
    btf = Btf.from_bytes(without(every_feature(), NAMES))
    assert btf.type(btf.find("wide")) == Type(kinds.BTF_KIND_INT, "wide", 8, bits=64)
    assert [e.value for e in btf.enumerators("below")] == [0xFFFFFFFE, 1]
    section = btf.struct("_data_some_where")
    assert [(m.name, m.bit_offset) for m in section.members] == [("first", 0), ("second", 256)]
    assert btf.name_of(section.members[0].type_id) == "struct record"
    assert btf.type(btf.find("f")).kind == kinds.BTF_KIND_TYPEDEF


@pytest.mark.needs("btf_kinds")
@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_the_samples_ask_for_their_feature(feature: object) -> None:
    """A kernel older than what it is asked for takes the one of two blobs and refuses the other."""
    data = sample(feature)  # type: ignore[arg-type]
    assert feature.name in uses(data)  # type: ignore[attr-defined]
    KernelBtf.load(data).close()
    KernelBtf.load(without(data, {feature.name})).close()  # type: ignore[attr-defined]


def older_kernel(monkeypatch: pytest.MonkeyPatch, lacking: set[str]) -> list[set[str]]:
    """This kernel, refusing types with some features; the answer lists what it was asked to load."""
    asked = []
    real = kernel_btf.try_bpf

    def answer(command: int, attr: bytearray) -> int:
        if command == uapi.BPF_BTF_LOAD:
            place, size = BTF_LOAD.get(attr, "btf"), BTF_LOAD.get(attr, "btf_size")
            found = uses(ctypes.string_at(place, size))
            asked.append(found)
            if found & lacking:
                return -errno.EINVAL
        return real(command, attr)

    monkeypatch.setattr(kernel_btf, "try_bpf", answer)
    return asked


def object_of(data: bytes) -> Object:
    return Object("only_types", "GPL", (), (), btf=data)


@pytest.mark.needs("btf_kinds")
def test_what_a_kernel_takes_is_loaded_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = older_kernel(monkeypatch, set())
    with load_object(object_of(every_feature())) as loaded:
        assert loaded.btf is not None
        assert loaded.btf.data() == every_feature()
    assert len(asked) == 1


@pytest.mark.needs("btf_kinds")
def test_what_it_refuses_is_loaded_without_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    older_kernel(monkeypatch, {"float", "enum64"})
    assert lacking_features() == {"float", "enum64"}
    with load_object(object_of(every_feature())) as loaded:
        assert loaded.btf is not None
        assert uses(loaded.btf.data()) == set(NAMES) - {"float", "enum64"}


@pytest.mark.needs("btf_kinds")
@pytest.mark.parametrize("lacking", [set(), {"float"}])
def test_types_that_are_wrong(monkeypatch: pytest.MonkeyPatch, lacking: set[str]) -> None:
    b = Builder()
    b.struct("too_small", 1, [("a", b.integer("int", 4), 0)])
    older_kernel(monkeypatch, lacking)
    with load_object(object_of(b.to_bytes())) as loaded:
        assert loaded.btf is None
    with pytest.raises(KernelError, match="Member exceeds struct_size") as caught:
        KernelBtf.load(b.to_bytes())
    with pytest.raises(KernelError, match="Member exceeds struct_size"):
        load_reduced(b.to_bytes(), caught.value)


@pytest.mark.needs("btf_kinds", "clang")
@pytest.mark.parametrize("known", range(len(NAMES)))
def test_an_object_on_an_older_kernel(
    monkeypatch: pytest.MonkeyPatch, compiled: Callable[[str], str], known: int
) -> None:
    """Function and line information, typed maps and data sections, as far as each kernel has them."""
    older_kernel(monkeypatch, set(NAMES[known:]))
    for name in ("globals", "maps"):
        obj = read_object(compiled(name))
        with load_object(obj) as loaded:
            assert set(loaded.programs) == {p.name for p in obj.programs if p.autoload}
