"""The bytes of scalar values: how each kind is unpacked. One table for text, JSON and Python."""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.types import Type, TypeField

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


def integer_code(t: Type, *, signed: bool | None = None) -> str | None:
    """The ``struct`` code of a value that is one integer, None for any other kind.

    :param signed: overrides the type's own signedness (for integers only).
    """
    if t.kind in ("int", "enum", "bool", "pointer", "ksym", "username", "probe", "strerror"):
        code = _UNSIGNED.get(t.size or _SIZES.get(t.kind, 8))
        own = t.signed if t.kind in ("int", "enum") else t.kind == "strerror"
        return code.lower() if code and (own if signed is None else signed) else code
    return None


_SIZES = {"bool": 1, "username": 4, "probe": 4, "strerror": 4}


def size_of(t: Type) -> int:
    """Bytes a value of the type takes: kinds of one fixed size need not say it."""
    return t.size or _FIXED.get(t.kind, 0)


_FIXED = {
    "bool": 1, "pointer": 8, "kstack": 16, "ustack": 16, "ksym": 8, "usym": 16, "inet": 20, "mac": 6,
    "username": 4, "probe": 4, "timestamp": 8, "cgroup_path": 8, "strerror": 4,
}  # fmt: skip


def integer(t: Type) -> Callable[[bytes], int]:
    """A function that reads the type's integer from the start of some bytes."""
    code = integer_code(t)
    if code is None:
        width, signed = t.size, t.signed
        return lambda data: int.from_bytes(data[:width], sys.byteorder, signed=signed)
    unpack = struct.Struct("=" + code).unpack_from
    return lambda data: unpack(data)[0]


def member(field: TypeField) -> Callable[[bytes], bytes]:
    """A function that cuts a member's bytes out of its record's; a bit-field becomes an integer
    of its type's size.
    """
    start, end = field.offset, field.offset + size_of(field.type)
    if not field.bit_size:
        return lambda data: data[start:end]
    return lambda data: bit_field(field, data)


def bit_field(field: TypeField, data: bytes) -> bytes:
    """A bit-field's value, sign-extended where its type is signed, in its type's size."""
    first, width = field.bit_offset, field.bit_size
    start, end = first // 8, -(-(first + width) // 8)
    whole = int.from_bytes(data[start:end], sys.byteorder)
    shift = first - 8 * start if sys.byteorder == "little" else 8 * end - first - width
    value = whole >> shift & (1 << width) - 1
    if field.type.signed and value >> (width - 1):
        value |= -1 << width
    size = size_of(field.type)
    return (value & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)


def text_of(data: bytes, cut: str) -> str:
    """A string value's text; ``cut`` is added when the program could not copy all of it."""
    head, end, _ = data.partition(b"\0")
    if end or not data:
        return head.decode("utf-8", "surrogateescape")
    return data[:-1].decode("utf-8", "surrogateescape") + (cut if data[-1] == _CUT else chr(data[-1]))


_CUT = 0xFF  # the last byte of a string that was cut off (lang.types)


def buffer_of(data: bytes) -> bytes:
    """A buffer value's bytes: a u32 length goes before them."""
    return data[4 : 4 + int.from_bytes(data[:4], sys.byteorder)]


def escaped(data: bytes) -> str:
    r"""A buffer as ``%r`` prints it: printable ASCII as it is, anything else as ``\x00``."""
    # A backslash stays single: bpftrace prints it so, though it cannot be told from an escape.
    return "".join([chr(b) if 32 <= b < 127 else f"\\x{b:02x}" for b in data])


def escaped_hex(data: bytes) -> str:
    r"""A buffer as ``%rx`` prints it: every byte as ``\x00``."""
    return "".join([f"\\x{b:02x}" for b in data])
