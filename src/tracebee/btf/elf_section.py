"""One section of an ELF file by its name (gABI, "Sections")."""

from __future__ import annotations

import struct
from typing import IO

from tracebee.errors import DecodeError


def read_section(file: IO[bytes], name: str) -> bytes | None:
    """The section's bytes, None when the file has no such section.

    :raises DecodeError: the file is not ELF, or its section table is broken.
    """
    file.seek(0)
    ident = file.read(64)
    if ident[:4] != b"\x7fELF" or len(ident) < 52 or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise DecodeError("not an ELF file")
    mark, wide = "<>"[ident[5] - 1], ident[4] == 2
    if wide and len(ident) < 64:
        raise DecodeError("ELF file is cut short")
    table, entry, count, names = struct.unpack_from(
        f"{mark}Q10xHHH" if wide else f"{mark}I10xHHH", ident, 40 if wide else 32
    )
    form = struct.Struct(f"{mark}IIQQQQIIQQ" if wide else f"{mark}IIIIIIIIII")
    if entry < form.size:
        raise DecodeError("ELF file has no section table")

    def header(index: int) -> tuple[int, ...]:
        file.seek(table + index * entry)
        raw = file.read(form.size)
        if len(raw) < form.size:
            raise DecodeError("ELF section table runs over the end of the file")
        return form.unpack(raw)

    if count == 0 and table:
        count = header(0)[5]
    if names == 0xFFFF:
        names = header(0)[6]
    if not count:
        return None
    strings = _contents(file, header(names))
    for index in range(count):
        section = header(index)
        start = section[0]
        if strings[start : strings.find(b"\0", start)] == name.encode():
            return _contents(file, section)
    return None


def _contents(file: IO[bytes], section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    file.seek(offset)
    data = file.read(size)
    if len(data) < size:
        raise DecodeError("ELF section runs over the end of the file")
    return data
