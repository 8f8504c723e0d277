"""One BTF type from its bytes (``Documentation/bpf/btf.rst``, "Type Encoding")."""

from __future__ import annotations

import struct

from tracebee.btf import kinds
from tracebee.btf.types import Enumerator, Member, Param, Type, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap


def decode(data: bytes | mmap, offset: int, order: str, string: Callable[[int], str]) -> Type:
    """The type that starts at ``offset``; the caller has checked that all of it is there.

    :param order: ``little`` or ``big``.
    :param string: gives the string at an offset of the string section, or raises DecodeError.
    """
    mark = "<" if order == "little" else ">"
    name_off, info, size_or_type = struct.unpack(f"{mark}III", data[offset : offset + 12])
    kind, vlen, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
    name = string(name_off) if name_off else ""
    _, once, each = kinds.KINDS[kind]
    body = data[offset + 12 : offset + 12 + once + each * vlen]

    if kind == kinds.BTF_KIND_INT:
        (word,) = struct.unpack(f"{mark}I", body)
        return Type(
            kind,
            name,
            size_or_type,
            flag=flag,
            encoding=word >> 24 & 0xF,
            bits=word & 0xFF,
            bit_offset=word >> 16 & 0xFF,
        )
    if kind in kinds.COMPOSITES:
        members = tuple(
            Member(string(n), t, o & 0xFFFFFF, o >> 24) if flag else Member(string(n), t, o)
            for n, t, o in struct.iter_unpack(f"{mark}III", body)
        )
        return Type(kind, name, size_or_type, flag=flag, members=members)
    if kind == kinds.BTF_KIND_ARRAY:
        element, index, count = struct.unpack(f"{mark}III", body)
        return Type(kind, name, type_id=element, flag=flag, nelems=count, index_type_id=index)
    if kind == kinds.BTF_KIND_ENUM:
        form = f"{mark}Ii" if flag else f"{mark}II"
        values = tuple(Enumerator(string(n), v) for n, v in struct.iter_unpack(form, body))
        return Type(kind, name, size_or_type, flag=flag, enumerators=values)
    if kind == kinds.BTF_KIND_ENUM64:
        form = f"{mark}IIi" if flag else f"{mark}III"
        values = tuple(
            Enumerator(string(n), high << 32 | low) for n, low, high in struct.iter_unpack(form, body)
        )
        return Type(kind, name, size_or_type, flag=flag, enumerators=values)
    if kind == kinds.BTF_KIND_FUNC_PROTO:
        params = tuple(Param(string(n), t) for n, t in struct.iter_unpack(f"{mark}II", body))
        return Type(kind, name, type_id=size_or_type, flag=flag, params=params)
    if kind == kinds.BTF_KIND_FUNC:
        return Type(kind, name, type_id=size_or_type, flag=flag, linkage=vlen)
    if kind == kinds.BTF_KIND_VAR:
        (linkage,) = struct.unpack(f"{mark}I", body)
        return Type(kind, name, type_id=size_or_type, flag=flag, linkage=linkage)
    if kind == kinds.BTF_KIND_DATASEC:
        variables = tuple(Variable(*item) for item in struct.iter_unpack(f"{mark}III", body))
        return Type(kind, name, size_or_type, flag=flag, variables=variables)
    if kind == kinds.BTF_KIND_DECL_TAG:
        (component,) = struct.unpack(f"{mark}i", body)
        return Type(kind, name, type_id=size_or_type, flag=flag, component=component)
    if kind == kinds.BTF_KIND_FLOAT:
        return Type(kind, name, size_or_type, flag=flag)
    if kind == kinds.BTF_KIND_FWD:
        return Type(kind, name, flag=flag)
    return Type(kind, name, type_id=size_or_type, flag=flag)
