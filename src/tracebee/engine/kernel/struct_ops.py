"""``.struct_ops``: kernel structs whose function pointers are BPF programs.

The kernel describes each such struct by its BTF twice: ``struct NAME``, and ``struct bpf_struct_ops_NAME``
around it, which is the map's value. Members are matched by name, so an object's struct may be older or
newer than the kernel's. Source: Linux ``kernel/bpf/bpf_struct_ops.c``.
"""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.btf.kinds import BTF_KIND_FUNC_PROTO, BTF_KIND_PTR
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.kernel.map import Map
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.btf.types import Member
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.link import Link
    from tracebee.obj.model import Object, StructOps


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
            f"{ops.map}: this kernel takes no programs for struct {name}",
            hint="the subsystem's BPF support must be built in (or its module loaded)",
        ) from error
    data = next(m for m in value.members if m.name == "data")
    return _Target(type_id, value.id, value.size, data.bit_offset // 8, kernel.struct(type_id).members)


class Place(NamedTuple):
    """What a program is for: the kernel's struct by its BTF id, and which of its members."""

    type_id: int
    member: int


def program_places(obj: Object) -> dict[str, Place]:
    """The kernel's side of each program in a struct_ops variable, by its name.

    :raises UnsupportedError: the kernel takes no programs for such a struct, or its struct is another one; a
        program is set where it cannot be, or in two places.
    """
    types = {program.name: program.type for program in obj.programs}
    found: dict[str, Place] = {}
    for ops in obj.struct_ops:
        target = _target(ops)
        programs = dict(ops.members)
        for own, index, _ in _members(obj, ops, target):
            name = programs.get(own.bit_offset // 8)
            if name is None:
                continue
            if types.get(name) != uapi.BPF_PROG_TYPE_STRUCT_OPS:
                raise UnsupportedError(
                    f"{ops.map}: its member '{own.name}' is set to '{name}', which is no struct_ops program",
                    hint='give the program SEC("struct_ops")',
                )
            place = Place(target.type_id, index)
            if found.setdefault(name, place) != place:
                raise UnsupportedError(
                    f"{ops.map}: program '{name}' cannot be its member '{own.name}' and another one too",
                    hint="it may be in several variables, but as one member of one struct: write another",
                )
    return found


def _members(obj: Object, ops: StructOps, target: _Target) -> Iterator[tuple[Member, int, Member]]:
    """Members of a variable that the kernel's struct has too: (own, number in the kernel's, the kernel's).

    What is not set need not be there. Source: libbpf 1.5 (``struct_ops init_kern``), for the conditions.
    """
    kernel, own = Btf.vmlinux(), Btf.from_bytes(obj.btf)
    known = {member.name: (index, member) for index, member in enumerate(target.members)}
    programs = dict(ops.members)
    for member in own.struct(ops.type_id).members:
        offset, size = member.bit_offset // 8, own.size(member.type_id)
        where = f"{ops.map}: struct {ops.type_name.partition('___')[0]}"
        if member.name not in known:
            if offset in programs or any(ops.data[offset : offset + size]):
                raise UnsupportedError(
                    f"{where} of this kernel has no member '{member.name}'",
                    hint=f"leave it unset here, from Python: obj.struct_ops['{ops.map}']['{member.name}']",
                )
            continue
        index, other = known[member.name]
        if member.bit_size or other.bit_size:
            raise UnsupportedError(f"{where} has a bit-field '{member.name}': such cannot be set")
        mine, theirs = own.resolve(member.type_id), kernel.resolve(other.type_id)
        kind = kernel.type(theirs).kind
        fits = own.type(mine).kind == kind and (kind == BTF_KIND_PTR or own.size(mine) == kernel.size(theirs))
        if fits and offset in programs:
            pointee = kernel.type(kernel.resolve(kernel.type(theirs).type_id))
            fits = kind == BTF_KIND_PTR and pointee.kind == BTF_KIND_FUNC_PROTO
        if not fits:
            raise UnsupportedError(
                f"{where}: its member '{member.name}' is {own.name_of(member.type_id)}, "
                f"in this kernel {kernel.name_of(other.type_id)}",
                hint="declare the struct as this kernel has it",
            )
        yield member, index, other


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
    target = _target(ops)
    value = bytearray(target.value_size)
    programs = {offset: name for offset, name in ops.members if name in loaded.programs}
    for own, _, member in _members(loaded.object, ops, target):
        offset, size = own.bit_offset // 8, kernel.size(member.type_id)
        content = ops.data[offset : offset + size]
        if offset in programs:
            content = loaded.programs[programs[offset]].fd.to_bytes(8, "little")
        at = target.data_offset + member.bit_offset // 8
        value[at : at + size] = content
    return bytes(value)
