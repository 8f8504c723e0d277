"""Bytes with a BTF type as plain values: what ``map dump`` shows of keys and values.

The values follow bpftool's JSON: structures as objects, character arrays that hold text as text,
enumerators by name, bit-fields and integers wider than 64 bits as hexadecimal text.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

from tracebee.btf import kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf.reader import Btf

    Pointer = Callable[[int, int], Any]

_FLOATS = {4: "f", 8: "d"}
_INT_CHAR, _INT_BOOL = 2, 4
_MODIFIERS = frozenset((kinds.BTF_KIND_CONST, kinds.BTF_KIND_VOLATILE, kinds.BTF_KIND_RESTRICT))


def typed_value(
    btf: Btf,
    type_id: int,
    data: bytes,
    bit_offset: int = 0,
    bit_size: int = 0,
    pointer: Pointer | None = None,
) -> Any:
    """The value of a type in some bytes.

    :param bit_offset: where it starts; a multiple of 8 except for bit-fields.
    :param bit_size: width of a bit-field, else 0.
    :param pointer: called with a pointer's target type and value, for what to show instead of its number.
    """
    record = btf.type(btf.resolve(type_id))
    if bit_size:
        return hex(_bits(data, bit_offset, bit_size))
    start = bit_offset // 8
    part = data[start : start + btf.size(type_id)]
    if record.kind in kinds.COMPOSITES:
        return {
            member.name: typed_value(
                btf, member.type_id, data, bit_offset + member.bit_offset, member.bit_size, pointer
            )
            for member in record.members
        }
    if record.kind == kinds.BTF_KIND_ARRAY:
        return _array(btf, record.type_id, record.nelems, part)
    if record.kind == kinds.BTF_KIND_DATASEC:
        return {
            record.name: [
                {
                    btf.type(var.type_id).name: typed_value(
                        btf, btf.type(var.type_id).type_id, data, bit_offset + 8 * var.offset
                    )
                }
                for var in record.variables
            ]
        }
    if record.kind in kinds.ENUMS:
        number = int.from_bytes(part, sys.byteorder, signed=record.flag)
        return next((e.name for e in record.enumerators if e.value == number), number)
    if record.kind == kinds.BTF_KIND_FLOAT and record.size in _FLOATS:
        return struct.unpack("=" + _FLOATS[record.size], part)[0]
    if record.kind == kinds.BTF_KIND_INT:
        return _integer(part, record.encoding, record.bits)
    number = int.from_bytes(part, sys.byteorder)
    return number if pointer is None or record.kind != kinds.BTF_KIND_PTR else pointer(record.type_id, number)


def _integer(part: bytes, encoding: int, bits: int) -> Any:
    number = int.from_bytes(part, sys.byteorder, signed=bool(encoding & kinds.BTF_INT_SIGNED))
    if encoding & _INT_BOOL:
        return bool(number)
    return hex(number) if bits > 64 else number


def _bits(data: bytes, offset: int, size: int) -> int:
    first, last = offset // 8, (offset + size + 7) // 8
    number = int.from_bytes(data[first:last], sys.byteorder)
    shift = offset % 8 if sys.byteorder == "little" else last * 8 - offset - size
    return number >> shift & (1 << size) - 1


def _array(btf: Btf, element: int, count: int, data: bytes) -> Any:
    if _is_char(btf, element):
        text = _text(data)
        if text is not None:
            return text
    size = btf.size(element)
    return [typed_value(btf, element, data[i * size : (i + 1) * size]) for i in range(count)]


def _is_char(btf: Btf, type_id: int) -> bool:
    """Whether a type is ``char`` itself: a typedef of it, such as ``u8``, is a number."""
    record = btf.type(type_id)
    while record.kind in _MODIFIERS:
        record = btf.type(record.type_id)
    if record.kind != kinds.BTF_KIND_INT or record.size != 1:
        return False
    return record.name == "char" or bool(record.encoding & _INT_CHAR)


def _text(data: bytes) -> str | None:
    """The text of a character array: printable up to a NUL that is there."""
    head, nul, _ = data.partition(b"\0")
    if not nul or any(not 32 <= byte < 127 for byte in head):
        return None
    return head.decode()
