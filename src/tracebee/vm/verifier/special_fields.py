"""Fields of map values that are not plain memory, found in the object's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf import kinds
from tracebee.btf.reader import Btf
from tracebee.errors import TracebeeError

if TYPE_CHECKING:
    from tracebee.obj.model import Object


def spin_locks(obj: Object) -> dict[str, int]:
    """Byte offset of the ``struct bpf_spin_lock`` in the values of each map that has one, by map name."""
    typed = [m for m in obj.maps if m.value_type_id]
    if not typed or b"bpf_spin_lock" not in obj.btf:
        return {}
    btf = Btf.from_bytes(obj.btf)
    found = {}
    for m in typed:
        offset = _offset(btf, m.value_type_id, "bpf_spin_lock")
        if offset is not None:
            found[m.name] = offset
    return found


def _offset(btf: Btf, type_id: int, name: str) -> int | None:
    try:
        real = btf.resolve(type_id)
        if btf.type(real).kind != kinds.BTF_KIND_STRUCT:
            return None
        for member in btf.struct(real).members:
            t = btf.type(btf.resolve(member.type_id))
            if t.kind == kinds.BTF_KIND_STRUCT and t.name == name:
                return member.bit_offset // 8
    except TracebeeError:
        return None
    return None
