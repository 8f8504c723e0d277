"""Global variables of an object by name and type: Python values to bytes and back, by the object's BTF."""

from __future__ import annotations

import re

from tracebee.btf.kinds import (
    BTF_INT_BOOL,
    BTF_INT_CHAR,
    BTF_INT_SIGNED,
    BTF_KIND_ARRAY,
    BTF_KIND_FLOAT,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    COMPOSITES,
    ENUMS,
)
from tracebee.errors import EncodeError, SymbolError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.btf import Btf
    from tracebee.isa.codec import ByteOrder
    from tracebee.obj.model import Object, Variable


def find_variable(obj: Object, name: str) -> Variable:
    """A variable by its C name, a static one if no global one has it.

    :raises SymbolError: the object has none of that name.
    """
    for variable in sorted(obj.variables, key=lambda v: v.is_static):
        if variable.name == name:
            return variable
    raise SymbolError(f"{obj.name} has no global variable '{name}'", sorted(v.name for v in obj.variables))


def with_variable(obj: Object, name: str, value: Any) -> Object:
    """The object with another initial value of a variable, read-only ones included (before loading).

    :raises SymbolError: no such variable; EncodeError: the value does not fit its type.
    """
    from tracebee.btf import Btf

    variable, path = split_name(obj, name)
    maps = []
    for definition in obj.maps:
        if definition.name == variable.map and definition.contents is not None:
            contents = bytearray(definition.contents)
            data = contents[variable.offset : variable.offset + variable.size]
            write_value(Btf.from_bytes(obj.btf), variable.type_id, data, path, value, name)
            contents[variable.offset : variable.offset + variable.size] = data
            definition = definition._replace(contents=bytes(contents))
        maps.append(definition)
    return obj._replace(maps=tuple(maps))


def split_name(obj: Object, name: str) -> tuple[Variable, str]:
    """A variable and what of it is meant: ``rules[1].port`` is ``rules`` and ``[1].port``.

    :raises SymbolError: the object has no such variable.
    """
    # A static variable of a function is called ``function.variable``.
    if any(v.name == name for v in obj.variables):
        return find_variable(obj, name), ""
    head = re.match(r"[^.\[]*", name)
    assert head is not None
    return find_variable(obj, head[0]), name[head.end() :]


def write_value(btf: Btf, type_id: int, data: bytearray, path: str, value: Any, what: str) -> slice:
    """Put a value into a variable's bytes, or into a part of it.

    :param path: members and elements, ``.where[2].port``; empty for all of it.
    :returns: where it was put.
    :raises SymbolError, EncodeError: there is no such part; the value does not fit it.
    """
    part = _part(btf, type_id, path, what, len(data))
    if part.bit_size:
        _set_bits(data, _order(btf), part.bit_offset, part.bit_size, value, what)
        return slice(part.bit_offset // 8, (part.bit_offset + part.bit_size + 7) // 8)
    place = slice(part.bit_offset // 8, part.bit_offset // 8 + part.size)
    data[place] = encode_value(btf, part.type_id, value, part.size, what)
    return place


def read_value(btf: Btf, type_id: int, data: bytes, path: str, what: str) -> Any:
    """A variable's value from its bytes, or that of a part of it: the inverse of ``write_value``."""
    part = _part(btf, type_id, path, what, len(data))
    if not part.type_id:
        return data
    if part.bit_size:
        return _decode_field(btf, part.type_id, part.bit_offset, part.bit_size, data)
    at = part.bit_offset // 8
    return decode_value(btf, part.type_id, data[at : at + part.size])


class _Part(NamedTuple):
    """Where a part of a variable lies, from the variable's beginning; ``bit_size`` is 0 for whole bytes."""

    type_id: int
    bit_offset: int
    size: int
    bit_size: int = 0


_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")


def _part(btf: Btf, type_id: int, path: str, what: str, size: int) -> _Part:
    part, at = _Part(type_id, 0, size), 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise SymbolError(
                f"cannot read '{path[at:]}' of '{what}'", hint="write members as .x, elements as [1]"
            )
        record = btf.type(btf.resolve(part.type_id))
        if step[1] and record.kind in COMPOSITES:
            field = btf.member_path(btf.resolve(part.type_id), step[1])
            width = btf.size(field.type_id)
            part = _Part(field.type_id, part.bit_offset + field.bit_offset, width, field.bit_size)
        elif step[2] and record.kind == BTF_KIND_ARRAY:
            if int(step[2]) >= record.nelems:
                raise SymbolError(f"'{what}': the array has {record.nelems} elements")
            width = btf.size(record.type_id)
            part = _Part(record.type_id, part.bit_offset + 8 * width * int(step[2]), width)
        else:
            raise SymbolError(f"'{what}': {btf.name_of(part.type_id)} has no '{step[0]}'")
        at = step.end()
    return part


def encode_value(btf: Btf, type_id: int, value: Any, size: int, what: str = "value") -> bytes:
    """A Python value as the C type's bytes.

    Integers, booleans and enumerations take int (enumerations their names too), char arrays str or
    bytes, arrays sequences, structs dictionaries (members not named are zero) or tuples of their members in
    order, anything bytes.

    :raises EncodeError: it does not fit; SymbolError: no such member or enumerator.
    """
    order = _order(btf)
    type_id = btf.resolve(type_id)
    record = btf.type(type_id)
    if isinstance(value, (bytes, bytearray)) and record.kind not in (BTF_KIND_INT, BTF_KIND_PTR):
        if len(value) > size:
            raise EncodeError(f"{what}: {len(value)} bytes do not fit {size}")
        return bytes(value).ljust(size, b"\0")
    if record.kind in ENUMS and isinstance(value, str):
        names = {e.name: e.value for e in record.enumerators}
        if value not in names:
            raise SymbolError(f"{what}: no enumerator '{value}'", sorted(names))
        value = names[value]
    if record.kind in (BTF_KIND_INT, BTF_KIND_PTR) or record.kind in ENUMS:
        if not isinstance(value, int):
            raise EncodeError(f"{what} is {btf.name_of(type_id)}: an integer is expected, not {value!r}")
        if not -(1 << size * 8 - 1) <= value < 1 << size * 8:
            raise EncodeError(f"{what}: {value} does not fit {btf.name_of(type_id)}")
        return (value & (1 << size * 8) - 1).to_bytes(size, order)
    if record.kind == BTF_KIND_ARRAY:
        if isinstance(value, str):
            return encode_value(btf, type_id, value.encode("utf-8", "surrogateescape"), size, what)
        if len(value) > record.nelems:
            raise EncodeError(f"{what}: {len(value)} elements do not fit an array of {record.nelems}")
        step = btf.size(record.type_id)
        parts = (encode_value(btf, record.type_id, v, step, f"{what}[{i}]") for i, v in enumerate(value))
        return b"".join(parts).ljust(size, b"\0")
    if record.kind in COMPOSITES:
        data = bytearray(size)
        if isinstance(value, tuple):
            value = dict(zip((f.name for f in btf.fields(type_id)), value, strict=False))
        for name, item in value.items():
            write_value(btf, type_id, data, f".{name}", item, f"{what}.{name}")
        return bytes(data)
    raise EncodeError(f"{what} has type {btf.name_of(type_id)}: only bytes can be given for it")


def decode_value(btf: Btf, type_id: int, data: bytes) -> Any:
    """The inverse of ``encode_value``: int, bool, str for char arrays, list, dict."""
    order = _order(btf)
    type_id = btf.resolve(type_id)
    record = btf.type(type_id)
    if record.kind == BTF_KIND_INT:
        if record.encoding & BTF_INT_BOOL:
            return bool(data[0])
        return int.from_bytes(data[: record.size], order, signed=bool(record.encoding & BTF_INT_SIGNED))
    if record.kind in ENUMS:
        return int.from_bytes(data[: record.size], order, signed=record.flag)
    if record.kind == BTF_KIND_PTR:
        return int.from_bytes(data[:8], order)
    if record.kind == BTF_KIND_ARRAY:
        element = btf.type(btf.resolve(record.type_id))
        size = btf.size(record.type_id)
        if element.kind == BTF_KIND_INT and size == 1 and _is_char(btf, record.type_id):
            return data[: record.nelems].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        return [
            decode_value(btf, record.type_id, data[i * size : (i + 1) * size]) for i in range(record.nelems)
        ]
    if record.kind in COMPOSITES:
        return {
            f.name: _decode_field(btf, f.type_id, f.bit_offset, f.bit_size, data) for f in btf.fields(type_id)
        }
    if record.kind == BTF_KIND_FLOAT:
        import struct

        return struct.unpack(f"{'<' if order == 'little' else '>'}{'f' if record.size == 4 else 'd'}", data)[
            0
        ]
    return bytes(data)


def _decode_field(btf: Btf, type_id: int, bit_offset: int, bit_size: int, data: bytes) -> Any:
    start, size = bit_offset // 8, btf.size(type_id)
    if not bit_size:
        return decode_value(btf, type_id, data[start : start + size])
    whole = int.from_bytes(data, _order(btf))
    shift = bit_offset if btf.order == "little" else len(data) * 8 - bit_offset - bit_size
    value = whole >> shift & (1 << bit_size) - 1
    record = btf.type(btf.resolve(type_id))
    signed = record.encoding & BTF_INT_SIGNED or (record.kind in ENUMS and record.flag)
    return value - (1 << bit_size) if signed and value >> bit_size - 1 else value


def _set_bits(data: bytearray, order: ByteOrder, offset: int, size: int, value: Any, what: str) -> None:
    if not isinstance(value, int) or not -(1 << size - 1) <= value < 1 << size:
        raise EncodeError(f"{what}: {value!r} does not fit a bit-field of {size}")
    shift = offset if order == "little" else len(data) * 8 - offset - size
    mask = (1 << size) - 1
    whole = int.from_bytes(data, order) & ~(mask << shift) | (value & mask) << shift
    data[:] = whole.to_bytes(len(data), order)


def _order(btf: Btf) -> ByteOrder:
    return "little" if btf.order == "little" else "big"


def _is_char(btf: Btf, type_id: int) -> bool:
    """Whether C calls it char: clang marks only plain ``char`` (its name), not ``__u8``."""
    record = btf.type(btf.resolve(type_id))
    return record.name == "char" or bool(record.encoding & BTF_INT_CHAR)
