"""The ids inside a type: what it refers to, and the same type referring to others."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.types import Member, Param, Variable
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_REFERRING = frozenset(
    {
        kinds.BTF_KIND_PTR,
        kinds.BTF_KIND_FUNC,
        kinds.BTF_KIND_VAR,
        kinds.BTF_KIND_DECL_TAG,
        *kinds.MODIFIERS,
    }
)


def references(record: Type) -> list[int]:
    """Ids of the types a type is made of, in the order they stand in it."""
    if record.members:
        return [m.type_id for m in record.members]
    if record.variables:
        return [v.type_id for v in record.variables]
    if record.kind == kinds.BTF_KIND_ARRAY:
        return [record.type_id, record.index_type_id]
    if record.kind == kinds.BTF_KIND_FUNC_PROTO:
        return [record.type_id, *(p.type_id for p in record.params)]
    return [record.type_id] if record.kind in _REFERRING else []


def check_references(btf: Btf) -> None:
    """Refuse types that refer to ids which do not exist.

    :raises DecodeError: one does.
    """
    for type_id, record in btf.types():
        for other in references(record):
            if not 0 <= other < btf.end_id:
                raise DecodeError(f"{btf.name}: type {type_id} refers to type {other}, which does not exist")


def with_references(record: Type, new: Callable[[int], int]) -> Type:
    """The type with ``new(id)`` in place of every id in it; 0 (``void``) stays 0."""

    def mapped(type_id: int) -> int:
        return new(type_id) if type_id else 0

    if record.members:
        return record._replace(
            members=tuple(Member(m.name, mapped(m.type_id), m.bit_offset, m.bit_size) for m in record.members)
        )
    if record.params or record.variables:
        return record._replace(
            type_id=mapped(record.type_id),
            params=tuple(Param(p.name, mapped(p.type_id)) for p in record.params),
            variables=tuple(Variable(mapped(v.type_id), v.offset, v.size) for v in record.variables),
        )
    if not record.type_id and not record.index_type_id:
        return record
    return record._replace(type_id=mapped(record.type_id), index_type_id=mapped(record.index_type_id))
