"""Layouts of kernel structures as tables: field name, byte offset, ``struct`` code."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STRUCTS: dict[str, struct.Struct] = {}


def _struct(code: str) -> struct.Struct:
    found = _STRUCTS.get(code)
    if found is None:
        found = _STRUCTS[code] = struct.Struct("=" + code)
    return found


class Layout:
    """One structure: its size in bytes and its fields.

    Members of nested structures are joined with an underscore; members of a union simply overlap.

    :param rows: ``(name, offset, code)``, the code being a letter of the struct module or ``16s``.
    """

    __slots__ = ("_fields", "name", "rows", "size")

    def __init__(self, name: str, size: int, rows: tuple[tuple[str, int, str], ...]) -> None:
        self.name = name
        self.size = size
        self.rows = rows
        self._fields: dict[str, tuple[int, struct.Struct]] | None = None

    @property
    def fields(self) -> dict[str, tuple[int, struct.Struct]]:
        """Offset and compiled code of each field, by name."""
        if self._fields is None:
            self._fields = {name: (offset, _struct(code)) for name, offset, code in self.rows}
        return self._fields

    def pack(self, **values: int | bytes) -> bytearray:
        """A whole structure with the given fields set and all others zero.

        :raises KeyError: no such field; struct.error: a value does not fit.
        """
        buffer = bytearray(self.size)
        self.set(buffer, **values)
        return buffer

    def set(self, buffer: bytearray, **values: int | bytes) -> None:
        """Set some fields of a structure in place."""
        fields = self.fields
        for name, value in values.items():
            offset, code = fields[name]
            code.pack_into(buffer, offset, value)

    def get(self, buffer: bytes | bytearray | memoryview, name: str) -> Any:
        """One field's value: an int, or bytes for an array; 0 or empty beyond a short buffer's end."""
        offset, code = self.fields[name]
        if offset + code.size > len(buffer):
            return 0 if code.format[-1:] != "s" else b""
        return code.unpack_from(buffer, offset)[0]

    def unpack(self, buffer: bytes | bytearray | memoryview) -> dict[str, Any]:
        """All fields by name; as :meth:`get` for what a short buffer lacks."""
        return {name: self.get(buffer, name) for name in self.fields}
