"""The order of a C header's definitions: by what they are and by name, as ``bpftool`` (since 7.5) sorts them.

Ids change with every build of a kernel, names do not: two headers can be compared line by line.
"""

from __future__ import annotations

from tracebee.btf import kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

# What a header defines: these, and anonymous ones only of enumerations.
_WRITTEN = (
    *kinds.COMPOSITES,
    *kinds.ENUMS,
    kinds.BTF_KIND_TYPEDEF,
    kinds.BTF_KIND_FWD,
)
_RANKS = {
    **dict.fromkeys(kinds.ENUMS, 1),
    kinds.BTF_KIND_INT: 2,
    kinds.BTF_KIND_FLOAT: 2,
    **dict.fromkeys(kinds.COMPOSITES, 3),
    kinds.BTF_KIND_FUNC_PROTO: 4,
}
_LAST = 10
_THROUGH = frozenset({*kinds.MODIFIERS, kinds.BTF_KIND_PTR, kinds.BTF_KIND_ARRAY})
_MAX_DEPTH = 64


def in_order(btf: Btf) -> list[int]:
    """Ids of the types that a header defines, its base's included, in their order there."""
    return sorted(btf.ids(*_WRITTEN), key=lambda type_id: _key(btf, type_id))


def _key(btf: Btf, type_id: int) -> tuple[int, str, str, tuple[str, ...], int]:
    """Enumerations first; a typedef goes with what it is of."""
    record = btf.type(type_id)
    base = _base(btf, record)
    if record.kind in kinds.ENUMS and not record.name:
        first = record.enumerators[0].name if record.enumerators else ""
        return 0, first, "", _inside(record), type_id
    return _RANKS.get(base.kind, _LAST), base.name, record.name, _inside(base), type_id


def _base(btf: Btf, record: Type) -> Type:
    """What stands behind typedefs, qualifiers, pointers and arrays."""
    for _ in range(_MAX_DEPTH):
        if record.kind not in _THROUGH:
            break
        record = btf.type(record.type_id)
    return record


def _inside(record: Type) -> tuple[str, ...]:
    """Tells types of one name apart."""
    return tuple(m.name for m in record.members) or tuple(e.name for e in record.enumerators)
