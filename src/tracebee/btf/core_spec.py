"""What a CO-RE relocation accesses: parsed from its access string, and found again in another BTF."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.core_compat import (
    essential_name,
    fields_compatible,
    types_compatible,
    types_match,
)
from tracebee.btf.core_kinds import BPF_CORE_TYPE_MATCHES, ENUMVAL_KINDS, FIELD_KINDS, TYPE_KINDS
from tracebee.errors import DecodeError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf

_MAX_LENGTH = 64


class Access(NamedTuple):
    """One step: a named member (``type_id`` is the struct, ``number`` the member), an enumerator, or,
    with the name None, an element (``type_id`` is the element's, ``number`` which).
    """

    type_id: int
    number: int
    name: str | None = None


class Spec(NamedTuple):
    """An access from a root type. Steps through anonymous members are in ``indices`` only."""

    btf: Btf
    root_id: int
    steps: tuple[Access, ...] = ()
    bit_offset: int = 0
    indices: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = self.btf.name_of(self.root_id)
        for number, step in enumerate(self.steps):
            if step.name is not None:
                text += f".{step.name}" if number else f"::{step.name}"
            elif number or step.number:
                text += f"[{step.number}]"
        return text


def parse_spec(btf: Btf, type_id: int, kind: int, access: str) -> Spec:
    """The access that a relocation in an object file means.

    :param access: indices as ``0:1:2``: an array index of the root, then members and elements; for an
        enumerator its number; ``0`` for relocations of types.
    :raises DecodeError: it does not fit the type.
    """
    try:
        indices = tuple(int(part) for part in access.split(":"))
    except ValueError:
        raise DecodeError(f"'{access}' is not a CO-RE access string") from None
    if len(indices) > _MAX_LENGTH or min(indices) < 0:
        raise DecodeError(f"'{access}' is not a CO-RE access string")
    if kind in TYPE_KINDS:
        if indices != (0,):
            raise DecodeError(f"CO-RE relocation of a type has the access string '{access}', not '0'")
        return Spec(btf, type_id)
    root = btf.resolve(type_id)
    if kind in ENUMVAL_KINDS:
        values = btf.type(root).enumerators
        if len(indices) != 1 or indices[0] >= len(values):
            raise DecodeError(f"{btf.name_of(type_id)} has no enumerator '{access}'")
        return Spec(btf, type_id, (Access(root, indices[0], values[indices[0]].name),), 0, indices)
    if kind not in FIELD_KINDS:
        raise DecodeError(f"unknown CO-RE relocation kind {kind}")
    steps = [Access(root, indices[0])]
    bits = indices[0] * 8 * btf.size(root)
    current = root
    for index in indices[1:]:
        record = btf.type(btf.resolve(current))
        if record.kind in kinds.COMPOSITES and index < len(record.members):
            member = record.members[index]
            if member.name:
                steps.append(Access(btf.resolve(current), index, member.name))
            bits += member.bit_offset
            current = member.type_id
        elif record.kind == kinds.BTF_KIND_ARRAY and (
            index < record.nelems or _is_flexible(btf, steps[-1], record.nelems)
        ):
            current = btf.resolve(record.type_id)
            steps.append(Access(current, index))
            bits += index * 8 * btf.size(current)
        else:
            raise DecodeError(f"access string '{access}' does not fit {btf.name_of(type_id)}")
    return Spec(btf, type_id, tuple(steps), bits, indices)


def _is_flexible(btf: Btf, holder: Access, nelems: int) -> bool:
    """Whether an array without elements ends the struct it is a member of."""
    return (
        holder.name is not None and nelems == 0 and holder.number == len(btf.type(holder.type_id).members) - 1
    )


def match_spec(local: Spec, kind: int, target: Btf, target_id: int) -> Spec | None:
    """The same access in the target's type; None when it does not have it."""
    if kind in TYPE_KINDS:
        same = types_match if kind == BPF_CORE_TYPE_MATCHES else types_compatible
        found = same(local.btf, local.root_id, target, target_id)
        return Spec(target, target_id) if found else None
    if kind in ENUMVAL_KINDS:
        return match_enumerator(local.steps[0].name or "", target, target_id)
    steps: list[Access] = []
    indices: list[int] = []
    bits, current = 0, target_id
    for number, step in enumerate(local.steps):
        current = target.resolve(current)
        if step.name is not None:
            member_type = local.btf.type(step.type_id).members[step.number].type_id
            found_member = _find_member(local.btf, step.name, member_type, target, current, set())
            if found_member is None:
                return None
            holder, path, offset, following = found_member
            steps.append(Access(holder, path[-1], step.name))
            indices += path
            bits += offset
            current = following
            continue
        if number:
            record = target.type(current)
            if record.kind != kinds.BTF_KIND_ARRAY:
                return None
            if step.number >= record.nelems and not _is_flexible(target, steps[-1], record.nelems):
                return None
            current = target.resolve(record.type_id)
        steps.append(Access(current, step.number))
        indices.append(step.number)
        bits += step.number * 8 * target.size(current)
    return Spec(target, target_id, tuple(steps), bits, tuple(indices))


def match_enumerator(name: str, target: Btf, target_id: int) -> Spec | None:
    """The enumerator of the same name, flavours aside."""
    target_id = target.resolve(target_id)
    for index, (found, _) in enumerate(target.type(target_id).enumerators):
        if essential_name(found) == essential_name(name):
            return Spec(target, target_id, (Access(target_id, index, found),), 0, (index,))
    return None


def _find_member(
    local: Btf, name: str, member_type: int, target: Btf, target_id: int, without: set[int], depth: int = 32
) -> tuple[int, list[int], int, int] | None:
    """The compatible member called ``name``, in source order, also inside anonymous members.

    :param without: structs that do not have it, so that none is searched twice.
    :returns: the struct that holds it, the indices to it, its offset in bits, its type.
    """
    target_id = target.resolve(target_id)
    record = target.type(target_id)
    if depth == 0:
        raise DecodeError(f"{target.name}: type {target_id} is nested too deeply")
    if target_id in without:
        return None
    for index, member in enumerate(record.members):
        if not member.name:
            inner = _find_member(local, name, member_type, target, member.type_id, without, depth - 1)
            if inner is not None:
                holder, path, offset, following = inner
                return holder, [index, *path], member.bit_offset + offset, following
        elif member.name == name:
            if not fields_compatible(local, member_type, target, member.type_id):
                return None
            return target_id, [index], member.bit_offset, member.type_id
    without.add(target_id)
    return None


def match_names(path: str, target: Btf, target_id: int) -> Spec:
    """The access of a path such as ``se.vruntime`` or ``comm[0]`` by names alone.

    :raises SymbolError: the type has no such member.
    """
    root = target.resolve(target_id)
    field = target.member_path(root, path)
    steps, current = [Access(root, 0)], root
    for index in field.indices[1:]:
        record = target.type(target.resolve(current))
        if record.kind == kinds.BTF_KIND_ARRAY:
            current = target.resolve(record.type_id)
            steps.append(Access(current, index))
        else:
            member = record.members[index]
            if member.name:
                steps.append(Access(target.resolve(current), index, member.name))
            current = member.type_id
    return Spec(target, target_id, tuple(steps), field.bit_offset, field.indices)
