"""A module's types put onto another kernel's than the one they were split from.

Since Linux 6.11 modules may bring ``.BTF.base``: of the vmlinux they were built with, the types they refer
to, by name and size only. Each is looked for in a vmlinux, and the module's references are moved there.
Source: Documentation/bpf/btf.rst, ".BTF.base section"; the rules are the kernel's (``btf_relocate.c``).
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.builder import Builder
from tracebee.btf.reader import Btf
from tracebee.btf.references import check_references, with_references
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.types import Type

_DISTILLED = frozenset(
    {kinds.BTF_KIND_INT, kinds.BTF_KIND_FLOAT, kinds.BTF_KIND_ENUM, kinds.BTF_KIND_FWD, *kinds.COMPOSITES}
)
_MAX_DEPTH = 64


def relocate(split: Btf, base: Btf) -> Btf:
    """The types of ``split``, whose base is a distilled one, on top of ``base``.

    :raises DecodeError: ``base`` has no type, or several, for one that the module refers to; or the
        distilled base has types that none may have, or is not there.
    """
    distilled = split.base
    if distilled is None:
        raise DecodeError(f"{split.name} is not split from a base that could be another")
    check_references(split)
    embedded = _embedded(split)
    ids = {0: 0}
    for type_id, record in distilled.types():
        if record.kind not in _DISTILLED or not record.name:
            raise DecodeError(
                f"{distilled.name}: type {type_id} ({kinds.kind_name(record.kind)} '{record.name}') "
                f"cannot be in a distilled base"
            )
        ids[type_id] = _find(record, type_id in embedded, distilled, base)
    moved = base.end_id - split.first_id
    builder = Builder(split.order, base)
    builder.keep_strings(split.data[split.str_start : split.str_end])
    for _, record in split.types():
        builder.add(with_references(record, lambda i: ids.get(i, i + moved)))
    return Btf.from_bytes(builder.to_bytes(), base, split.name)


def _embedded(split: Btf) -> set[int]:
    """Structs and unions of the base that the module's own hold by value: their size must be the same."""
    found = set()
    for _, record in split.types():
        for member in record.members:
            type_id = member.type_id
            for _ in range(_MAX_DEPTH):
                inner = split.type(type_id)
                if inner.kind not in kinds.MODIFIERS and inner.kind != kinds.BTF_KIND_ARRAY:
                    break
                type_id = inner.type_id
            if inner.kind in kinds.COMPOSITES:
                found.add(type_id)
    return found


def _find(wanted: Type, embedded: bool, distilled: Btf, base: Btf) -> int:
    """The one type of ``base`` that a type of the distilled base stands for."""
    named = base.find_all(wanted.name)
    found = [i for i in named if _suits(wanted, base.type(i))]
    if wanted.kind in kinds.COMPOSITES and (embedded or len(found) > 1):
        found = [i for i in found if base.type(i).size == wanted.size]
    if not found and not embedded:
        # Behind pointers a declaration will do.
        found = [i for i in named if _declares(wanted, base.type(i))]
    if len(found) == 1:
        return found[0]
    what = f"{kinds.kind_name(wanted.kind).lower()} '{wanted.name}'"
    if wanted.kind == kinds.BTF_KIND_INT:
        what = f"{'signed' if wanted.encoding & kinds.BTF_INT_SIGNED else 'unsigned'} {what}"
    if wanted.kind != kinds.BTF_KIND_FWD:
        what += f" of {wanted.size} bytes"
    raise DecodeError(
        f"{base.name} has {'several' if found else 'no'} {what}, which {distilled.name} names",
        hint="the module is made for another kernel",
    )


def _suits(wanted: Type, found: Type) -> bool:
    kind = wanted.kind
    if kind == kinds.BTF_KIND_FWD:
        return found.kind == _declared_kind(wanted)
    if kind in kinds.COMPOSITES:
        return found.kind == kind
    if kind == kinds.BTF_KIND_ENUM:
        # A distilled base has 64-bit enumerations as plain ones of 8 bytes.
        return found.kind in kinds.ENUMS and found.size == wanted.size
    return (found.kind, found.size, found.encoding) == (kind, wanted.size, wanted.encoding)


def _declares(wanted: Type, found: Type) -> bool:
    kind = _declared_kind(wanted) if wanted.kind == kinds.BTF_KIND_FWD else wanted.kind
    return found.kind == kinds.BTF_KIND_FWD and _declared_kind(found) == kind


def _declared_kind(forward: Type) -> int:
    return kinds.BTF_KIND_UNION if forward.flag else kinds.BTF_KIND_STRUCT
