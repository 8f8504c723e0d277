"""A module's types from a distilled base onto another vmlinux's (btf.rst, ".BTF.base section")."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.relocate import relocate
from tracebee.btf.types import Type
from tracebee.errors import DecodeError


def vmlinux() -> Builder:
    """Types a module refers to, at other ids than in the distilled base."""
    b = Builder()
    b.typedef("filler", b.integer("short", 2, signed=True))
    b.fwd("forward")
    number = b.integer("int", 4, signed=True)
    b.integer("char", 1, signed=True)
    b.floating("double", 8)
    b.enum("few", [("ONE", 1)])
    b.enum("wide", [("WIDE", 1 << 40)])
    b.struct("held", 8, [("a", number, 0), ("b", number, 32)])
    b.struct("pointed", 4, [("c", number, 0)])
    b.union("either", 4, [("d", number, 0)])
    return b


def distilled(b: Builder) -> dict[str, int]:
    """As ``pahole`` leaves it: names and sizes only."""
    return {
        "either": b.union("either", 4, []),
        "pointed": b.struct("pointed", 400, []),
        "held": b.struct("held", 8, []),
        "wide": b.add(Type(kinds.BTF_KIND_ENUM, "wide", 8)),
        "few": b.add(Type(kinds.BTF_KIND_ENUM, "few", 4)),
        "double": b.floating("double", 8),
        "char": b.integer("char", 1, signed=True),
        "int": b.integer("int", 4, signed=True),
        "forward": b.fwd("forward"),
    }


def test_every_reference_finds_its_type() -> None:
    names = Builder()
    ids = distilled(names)
    module = Builder(base=names.build())
    members = [("m_held", module.array(module.const(ids["held"]), 2, ids["int"]), 0)]
    members += [(f"m_{name}", module.ptr(ids[name]), 128 + 64 * i) for i, name in enumerate(ids)]
    module.struct("mine", 88, [*members, ("int", module.type_tag("a tag", ids["char"]), 696)])
    module.func("forward", module.func_proto(ids["double"], [("few", ids["few"])]))
    before = Btf.from_bytes(module.to_bytes(), names.build(), "module")
    target = vmlinux().build()
    after = relocate(before, target)
    assert after.base is target
    assert (after.first_id, after.end_id - after.first_id) == (target.end_id, before.end_id - before.first_id)
    old, new = before.struct("mine"), after.struct("mine")
    assert [before.declare(m.type_id, m.name) for m in old.members] == [
        after.declare(m.type_id, m.name) for m in new.members
    ]
    pointed = {m.name: after.type(m.type_id).type_id for m in new.members[1:-1]}
    assert pointed == {f"m_{name}": target.find_all(name)[0] for name in ids}
    assert after.size(new.members[0].type_id) == 16
    assert after.function("forward").params[0].name == "few"
    # What the module names itself stays in its own strings.
    assert b"mine\0" in after.data[after.str_start :]


def one_reference(add: Callable[[Builder], int], *, embedded: bool = False) -> Btf:
    names = Builder()
    type_id = add(names)
    module = Builder(base=names.build())
    reference = module.typedef("reference", type_id if embedded else module.ptr(type_id))
    module.struct("mine", 8, [("member", reference, 0)])
    return Btf.from_bytes(module.to_bytes(), names.build(), "module")


def target(*add: Callable[[Builder], int]) -> Btf:
    b = Builder()
    for one in add:
        one(b)
    return Btf.from_bytes(b.to_bytes(), name="vmlinux")


def test_of_two_structs_of_a_name_the_size_decides() -> None:
    base = target(lambda b: b.struct("s", 4, []), lambda b: b.struct("s", 8, []))
    found = relocate(one_reference(lambda b: b.struct("s", 8, [])), base)
    assert found.type(found.type(found.find("reference")).type_id).type_id == 2


def test_a_declaration_serves_behind_pointers() -> None:
    base = target(lambda b: b.fwd("s"))
    found = relocate(one_reference(lambda b: b.struct("s", 8, [])), base)
    assert found.name_of(found.type(found.find("reference")).type_id) == "struct s *"


def test_a_declaration_finds_its_definition() -> None:
    base = target(lambda b: b.struct("s", 8, []), lambda b: b.union("s", 8, []))
    found = relocate(one_reference(lambda b: b.fwd("s", union=True)), base)
    assert found.name_of(found.type(found.find("reference")).type_id) == "union s *"


SIGNED = "no signed int 'n' of 4 bytes"


@pytest.mark.parametrize(
    ("wanted", "has", "embedded", "message"),
    [
        (lambda b: b.struct("s", 8, []), lambda b: b.struct("t", 8, []), False, "no struct 's' of 8 bytes"),
        (lambda b: b.struct("s", 8, []), lambda b: b.union("s", 8, []), False, "no struct 's' of 8 bytes"),
        (lambda b: b.struct("s", 8, []), lambda b: b.struct("s", 4, []), True, "no struct 's' of 8 bytes"),
        (lambda b: b.struct("s", 8, []), lambda b: b.fwd("s"), True, "no struct 's' of 8 bytes"),
        (lambda b: b.integer("n", 4, signed=True), lambda b: b.integer("n", 4), False, SIGNED),
        (lambda b: b.integer("n", 4, signed=True), lambda b: b.integer("n", 8, signed=True), False, SIGNED),
        (lambda b: b.floating("f", 4), lambda b: b.floating("f", 8), False, "no float 'f' of 4 bytes"),
        (lambda b: b.add(Type(kinds.BTF_KIND_ENUM, "e", 8)), lambda b: b.enum("e", []), False, "no enum 'e'"),
        (lambda b: b.fwd("s"), lambda b: b.union("s", 8, []), False, "no fwd 's'"),
    ],
)
def test_what_the_kernel_does_not_have(
    wanted: Callable[[Builder], int], has: Callable[[Builder], int], embedded: bool, message: str
) -> None:
    module = one_reference(wanted, embedded=embedded)
    with pytest.raises(DecodeError, match=f"^vmlinux has {message}") as caught:
        relocate(module, target(has))
    assert caught.value.hint == "the module is made for another kernel"


def test_two_of_one_name_and_size_are_one_too_many() -> None:
    base = target(lambda b: b.struct("s", 8, []), lambda b: b.struct("s", 8, [("p", b.ptr(0), 0)]))
    with pytest.raises(DecodeError, match="several struct 's' of 8 bytes"):
        relocate(one_reference(lambda b: b.struct("s", 8, [])), base)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda b: b.ptr(0), r"type 1 \(PTR ''\)"),
        (lambda b: b.struct("", 8, []), r"type 1 \(STRUCT ''\)"),
        (lambda b: b.typedef("t", 0), r"type 1 \(TYPEDEF 't'\)"),
    ],
)
def test_a_base_that_is_not_distilled(add: Callable[[Builder], int], message: str) -> None:
    with pytest.raises(DecodeError, match=f"{message} cannot be in a distilled base"):
        relocate(one_reference(add), target(lambda b: b.integer("int", 4)))


def test_types_that_are_not_split_cannot_be_moved() -> None:
    with pytest.raises(DecodeError, match="vmlinux is not split"):
        relocate(target(lambda b: b.fwd("s")), target(lambda b: b.fwd("s")))
