"""Where C puts the members of a struct or union.

Source: the System V x86-64 and AArch64 psABIs, which agree on all of it.
"""

from __future__ import annotations

from tracebee.lang.types import Type, TypeField
from tracebee.typed import NamedTuple


class Member(NamedTuple):
    """A member before layout; ``align`` is its natural or requested alignment in bytes."""

    name: str
    type: Type
    align: int
    bits: int = -1


def layout(
    members: list[Member], *, union: bool = False, packed: bool = False, aligned: int = 0
) -> tuple[tuple[TypeField, ...], int, int]:
    """Offsets of the members: fields, size and alignment (bytes) of the record.

    :raises ValueError: a name stands twice; the message continues "the struct ...".
    """
    fields: list[TypeField] = []
    bit = 0  # next free bit of a struct
    size_bits = 0
    align = 1
    for member in members:
        step = 1 if packed else member.align
        width = member.type.size * 8
        if union:
            bit = 0
        if member.bits >= 0:
            if member.bits == 0:
                bit = -(-bit // width) * width
                continue
            if not packed and bit // width != (bit + member.bits - 1) // width:
                bit = -(-bit // width) * width
            if member.name:
                fields.append(TypeField(member.name, member.type, bit // 8, bit, member.bits))
                align = max(align, step)
            bit += member.bits
        else:
            bit = -(-bit // (step * 8)) * step * 8
            offset = bit // 8
            if member.name:
                fields.append(TypeField(member.name, member.type, offset))
            else:
                fields.extend(_moved(f, offset) for f in member.type.fields)
            align = max(align, step)
            bit += width
        size_bits = max(size_bits, bit)
    align = max(align, aligned)
    size = -(-size_bits // (align * 8)) * align
    seen: set[str] = set()
    for f in fields:
        if f.name in seen:
            raise ValueError(f"has '{f.name}' twice")
        seen.add(f.name)
    return tuple(fields), size, align


def _moved(field: TypeField, offset: int) -> TypeField:
    bits = field.bit_offset + offset * 8 if field.bit_size else 0
    return field._replace(offset=field.offset + offset, bit_offset=bits)
