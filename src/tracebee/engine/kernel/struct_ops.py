"""``.struct_ops``: kernel structs whose function pointers are BPF programs.

The kernel describes each such struct by its BTF twice: ``struct NAME``, and ``struct bpf_struct_ops_NAME``
around it, which is the map's value. Members are matched by name, so an object's struct may be older or
newer than the kernel's. Source: Linux ``kernel/bpf/bpf_struct_ops.c``.
"""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.kernel.map import Map
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.types import Member
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.link import Link
    from tracebee.obj.model import Object, ProgramDef, StructOps


_KEY = bytes(4)  # such a map has one element


class _Target(NamedTuple):
    """The kernel's side: ids of the struct and of the map's value, its size, the struct's place in it."""

    type_id: int
    value_id: int
    value_size: int
    data_offset: int
    members: tuple[Member, ...]


def _target(ops: StructOps) -> _Target:
    kernel = Btf.vmlinux()
    name = ops.type_name.partition("___")[0]
    try:
        type_id = kernel.find(f"struct {name}")
        value = kernel.struct(f"struct bpf_struct_ops_{name}")
    except SymbolError as error:
        raise UnsupportedError(
            f"this kernel takes no programs for struct {name}",
            hint="the subsystem's BPF support must be built in (or its module loaded)",
        ) from error
    data = next(m for m in value.members if m.name == "data")
    return _Target(type_id, value.id, value.size, data.bit_offset // 8, kernel.struct(type_id).members)


def check_targets(obj: Object) -> None:
    """Look at the kernel's side of each struct_ops variable.

    :raises UnsupportedError: the kernel takes no programs for such a struct.
    """
    for ops in obj.struct_ops:
        _target(ops)


def create_maps(loaded: LoadedObject) -> None:
    """Create the object's struct_ops maps, with the size the kernel's own struct has."""
    definitions = {m.name: m for m in loaded.object.maps}
    for ops in loaded.object.struct_ops:
        target = _target(ops)
        definition = definitions[ops.map]._replace(value_size=target.value_size)
        # The kernel wants the object's types too, though the map's value is one of its own.
        loaded.maps[ops.map] = Map.create(
            definition, btf=loaded.btf, btf_vmlinux_value_type_id=target.value_id
        )


def attach_target(obj: Object, program: ProgramDef) -> int:
    """BTF id of the kernel struct a program is a member of."""
    return _target(_owner(obj, program.name)[0]).type_id


def member_index(obj: Object, program: ProgramDef) -> int:
    """Which member of the kernel struct a program is: its expected attach type."""
    ops, offset = _owner(obj, program.name)
    name = _member_name(obj, ops, offset)
    for index, member in enumerate(_target(ops).members):
        if member.name == name:
            return index
    raise UnsupportedError(f"this kernel's struct {ops.type_name} has no member '{name}'")


def _owner(obj: Object, program: str) -> tuple[StructOps, int]:
    for ops in obj.struct_ops:
        for offset, name in ops.members:
            if name == program:
                return ops, offset
    raise UnsupportedError(f"struct_ops program {program} is in no .struct_ops variable")


def _member_name(obj: Object, ops: StructOps, offset: int) -> str:
    own = Btf.from_bytes(obj.btf)
    for member in own.struct(ops.type_id).members:
        if member.bit_offset == offset * 8:
            return member.name
    raise UnsupportedError(f"{ops.map}: no member of struct {ops.type_name} at offset {offset}")


def optional(obj: Object) -> set[str]:
    """Variables in sections like ``?.struct_ops``, which are made only on demand."""
    return {ops.map for ops in obj.struct_ops if ops.section.startswith("?")}


def without(obj: Object, names: set[str]) -> Object:
    """The object without some struct_ops variables, and without loading the programs that only they have."""
    kept = tuple(ops for ops in obj.struct_ops if ops.map not in names)
    members = {program for ops in obj.struct_ops for _, program in ops.members}
    members -= {program for ops in kept for _, program in ops.members}
    return obj._replace(
        struct_ops=kept,
        maps=tuple(m for m in obj.maps if m.name not in names),
        programs=tuple(p._replace(autoload=False) if p.name in members else p for p in obj.programs),
    )


class Registration:
    """A struct that the kernel uses until ``close``, by an update of its map alone."""

    def __init__(self, table: Map) -> None:
        self._map = table

    def close(self) -> None:
        """Take it out of use."""
        self._map.delete(_KEY)


def attach_struct_ops(loaded: LoadedObject, name: str) -> Registration | Link:
    """Give a ``.struct_ops`` variable of a loaded object to its subsystem; closing the result takes it back.

    The kernel keeps a reference to what is registered without a link: it stays when the process ends.

    :raises SymbolError: the object has no such variable.
    :raises UnsupportedError: this kernel's struct lacks a member that the variable sets.
    :raises KernelError: the subsystem refuses it.
    """
    from tracebee.kernel.link import Link

    for ops in loaded.object.struct_ops:
        if ops.map == name:
            break
    else:
        found = [ops.map for ops in loaded.object.struct_ops]
        raise SymbolError(f"{loaded.object.name} has no struct_ops variable '{name}'", found)
    table = loaded.maps[name]
    table.update(_KEY, _value(loaded, ops))
    if not ops.link:
        return Registration(table)
    return Link.create(table.fd, 0, uapi.BPF_STRUCT_OPS, what=name)


def _value(loaded: LoadedObject, ops: StructOps) -> bytes:
    """The map's value: data members copied by name, function pointers as program descriptors."""
    kernel = Btf.vmlinux()
    own = Btf.from_bytes(loaded.object.btf)
    target = _target(ops)
    places = {m.name: m for m in target.members}
    value = bytearray(target.value_size)
    programs = {offset: name for offset, name in ops.members if name in loaded.programs}
    for member in own.struct(ops.type_id).members:
        offset, size = member.bit_offset // 8, own.size(member.type_id)
        content = ops.data[offset : offset + size]
        if offset in programs:
            content = loaded.programs[programs[offset]].fd.to_bytes(8, "little")
        if not any(content):
            continue
        place = places.get(member.name)
        if place is None or kernel.size(place.type_id) != len(content):
            raise UnsupportedError(
                f"{ops.map}: this kernel's struct {ops.type_name} has no such '{member.name}'"
            )
        at = target.data_offset + place.bit_offset // 8
        value[at : at + len(content)] = content
    return bytes(value)
