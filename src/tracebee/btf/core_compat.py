"""When two types of different BTF are the same to CO-RE.

Three degrees, each as libbpf has it (its ``relo_core.c``): fields that can be read for one another, types
whose kinds agree (``bpf_core_type_exists``), and types that match in every member that the local one
names (``bpf_core_type_matches``).
"""

from __future__ import annotations

import re

from tracebee.btf import kinds
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_MAX_DEPTH = 32
_FLAVOUR = re.compile(r"(?<=[^_])___(?=[^_])")


def essential_name(name: str) -> str:
    """A name without its flavour: what stands in front of the last ``___``."""
    cuts = list(_FLAVOUR.finditer(name))
    return name[: cuts[-1].start()] if cuts else name


def kinds_agree(one: Type, other: Type) -> bool:
    """The same kind, 32- and 64-bit enumerations being one."""
    return one.kind == other.kind or (one.kind in kinds.ENUMS and other.kind in kinds.ENUMS)


def _names_agree(local: str, target: str) -> bool:
    if not target:
        return not local
    return essential_name(local) == essential_name(target)


def fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether a member of the target may be read where a member of the local type is meant."""
    for _ in range(_MAX_DEPTH):
        mine, theirs = local.type(local.resolve(local_id)), target.type(target.resolve(target_id))
        if mine.kind in kinds.COMPOSITES and theirs.kind in kinds.COMPOSITES:
            return True
        if not kinds_agree(mine, theirs):
            return False
        if mine.kind in (kinds.BTF_KIND_PTR, kinds.BTF_KIND_FLOAT):
            return True
        if mine.kind == kinds.BTF_KIND_FWD or mine.kind in kinds.ENUMS:
            names = essential_name(mine.name), essential_name(theirs.name)
            return not all(names) or names[0] == names[1]
        if mine.kind == kinds.BTF_KIND_INT:
            # Integers of any size and sign; only bit-fields written as odd integers are refused.
            return mine.bit_offset == 0 and theirs.bit_offset == 0
        if mine.kind != kinds.BTF_KIND_ARRAY:
            return False
        local_id, target_id = mine.type_id, theirs.type_id
    raise DecodeError(f"{local.name}: type {local_id} is nested too deeply")


def types_compatible(local: Btf, local_id: int, target: Btf, target_id: int, depth: int = _MAX_DEPTH) -> bool:
    """Whether the target's type is of the local one's kind, down through pointers and prototypes."""
    if not kinds_agree(local.type(local_id), target.type(target_id)):
        return False
    while depth > 0:
        depth -= 1
        mine, theirs = local.type(local.resolve(local_id)), target.type(target.resolve(target_id))
        if not kinds_agree(mine, theirs):
            return False
        if mine.kind in kinds.COMPOSITES or mine.kind in kinds.ENUMS:
            return True
        if mine.kind in (kinds.BTF_KIND_UNKN, kinds.BTF_KIND_FWD):
            return True
        if mine.kind == kinds.BTF_KIND_INT:
            return mine.bit_offset == 0 and theirs.bit_offset == 0
        if mine.kind == kinds.BTF_KIND_FUNC_PROTO:
            if len(mine.params) != len(theirs.params):
                return False
            for one, other in zip(mine.params, theirs.params, strict=True):
                ids = local.resolve(one.type_id), target.resolve(other.type_id)
                if not types_compatible(local, ids[0], target, ids[1], depth):
                    return False
        elif mine.kind not in (kinds.BTF_KIND_PTR, kinds.BTF_KIND_ARRAY):
            return False
        local_id, target_id = mine.type_id, theirs.type_id
    raise DecodeError(f"{local.name}: type {local_id} is nested too deeply")


def types_match(
    local: Btf,
    local_id: int,
    target: Btf,
    target_id: int,
    behind_pointer: bool = False,
    depth: int = _MAX_DEPTH,
) -> bool:
    """Whether the target's type has all that the local one has, under the same names.

    Behind a pointer, structs and unions need only be of the same name and kind, or declared only.
    """
    while depth > 0:
        depth -= 1
        mine, theirs = local.type(local.resolve(local_id)), target.type(target.resolve(target_id))
        if not _names_agree(mine.name, theirs.name):
            return False
        kind = mine.kind
        if kind in kinds.ENUMS:
            return theirs.kind in kinds.ENUMS and _enumerators_match(mine, theirs)
        if kind == kinds.BTF_KIND_FWD:
            return _declares(mine, theirs, behind_pointer)
        if kind in kinds.COMPOSITES and behind_pointer:
            return kind == theirs.kind or _declares(theirs, mine, theirs.kind == kinds.BTF_KIND_FWD)
        if kind != theirs.kind:
            return False
        if kind in kinds.COMPOSITES:
            return _members_match(local, mine, target, theirs, depth)
        if kind == kinds.BTF_KIND_UNKN:
            return True
        if kind == kinds.BTF_KIND_INT:
            signs = mine.encoding & kinds.BTF_INT_SIGNED, theirs.encoding & kinds.BTF_INT_SIGNED
            return mine.size == theirs.size and signs[0] == signs[1]
        if kind == kinds.BTF_KIND_PTR:
            behind_pointer = True
        elif kind == kinds.BTF_KIND_ARRAY:
            if mine.nelems != theirs.nelems:
                return False
        elif kind == kinds.BTF_KIND_FUNC_PROTO:
            if len(mine.params) != len(theirs.params):
                return False
            for one, other in zip(mine.params, theirs.params, strict=True):
                if not types_match(local, one.type_id, target, other.type_id, behind_pointer, depth):
                    return False
        else:
            return False
        local_id, target_id = mine.type_id, theirs.type_id
    raise DecodeError(f"{local.name}: type {local_id} is nested too deeply")


def _declares(forward: Type, other: Type, behind_pointer: bool) -> bool:
    """Whether a forward declaration stands for the other type."""
    if forward.kind != kinds.BTF_KIND_FWD:
        return False
    if other.kind == kinds.BTF_KIND_FWD:
        return forward.flag == other.flag
    kind = kinds.BTF_KIND_UNION if forward.flag else kinds.BTF_KIND_STRUCT
    return behind_pointer and other.kind == kind


def _enumerators_match(mine: Type, theirs: Type) -> bool:
    if len(mine.enumerators) > len(theirs.enumerators):
        return False
    names = {essential_name(e.name) for e in theirs.enumerators}
    return all(essential_name(e.name) in names for e in mine.enumerators)


def _members_match(local: Btf, mine: Type, target: Btf, theirs: Type, depth: int) -> bool:
    if len(mine.members) > len(theirs.members):
        return False
    return all(
        any(
            _names_agree(one.name, other.name)
            and types_match(local, one.type_id, target, other.type_id, False, depth)
            for other in theirs.members
        )
        for one in mine.members
    )
