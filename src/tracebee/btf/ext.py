"""``.BTF.ext``: what the sections of an object say of their instructions (btf.rst, ".BTF.ext section").

Function info, line info and CO-RE relocations, each grouped by ELF section. Instruction offsets
are in bytes from the section's start, as in the file.
"""

from __future__ import annotations

import struct

from tracebee.btf.kinds import BTF_MAGIC, BTF_VERSION
from tracebee.errors import DecodeError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class FuncInfo(NamedTuple):
    """A function starts here; ``type_id`` is its BTF_KIND_FUNC."""

    offset: int
    type_id: int


class LineInfo(NamedTuple):
    """The source line from here on; strings are offsets into the BTF string section."""

    offset: int
    file: int
    text: int
    line: int
    column: int


class CoreInfo(NamedTuple):
    """``struct bpf_core_relo``: ``access`` is the string offset of ``0:1:2``."""

    offset: int
    type_id: int
    access: int
    kind: int


class SectionInfo(NamedTuple):
    """Everything said of one ELF section."""

    name: int
    functions: tuple[FuncInfo, ...] = ()
    lines: tuple[LineInfo, ...] = ()
    cores: tuple[CoreInfo, ...] = ()


_HEADER_SIZE = 32  # magic, version, flags, header size, offset and length of three parts
_SIZES = (8, 16, 16)  # the records' sizes, which the file repeats so that they may grow


def parse_ext(data: bytes, order: str = "<") -> dict[int, SectionInfo]:
    """Read a ``.BTF.ext`` section.

    :param order: ``<`` or ``>``, the object's byte order.
    :returns: by the string offset of the ELF section's name.
    :raises DecodeError: it is not one, or runs over its end.
    """
    try:
        magic, version, _, header_size = struct.unpack_from(f"{order}HBBI", data)
        if magic != BTF_MAGIC or version != BTF_VERSION:
            raise DecodeError("not a .BTF.ext section")
        # CO-RE relocations came later: a short header has none.
        fields = struct.unpack_from(f"{order}{'I' * 6}", data[:header_size].ljust(32, b"\0"), 8)
        parts = [
            dict(_records(data, header_size + fields[i * 2], fields[i * 2 + 1], size, order))
            for i, size in enumerate(_SIZES)
        ]
    except struct.error as error:
        raise DecodeError(".BTF.ext is cut short") from error
    found = {}
    for name in sorted(set().union(*parts)):
        lines = [
            LineInfo(offset, file, text, place >> 10, place & 0x3FF)
            for offset, file, text, place in parts[1].get(name, ())
        ]
        functions = tuple(FuncInfo(*r) for r in parts[0].get(name, ()))
        cores = tuple(CoreInfo(*r) for r in parts[2].get(name, ()))
        found[name] = SectionInfo(name, functions, tuple(lines), cores)
    return found


def _records(
    data: bytes, at: int, length: int, size: int, order: str
) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """(section name, records) of one part; longer records than we know are cut, as the format asks."""
    if not length:
        return
    end = at + length
    (record_size,) = struct.unpack_from(f"{order}I", data, at)
    if end > len(data) or record_size < size:
        raise DecodeError(".BTF.ext has a part outside of it")
    form = struct.Struct(f"{order}{'I' * (size // 4)}")
    at += 4
    while at < end:
        name, count = struct.unpack_from(f"{order}II", data, at)
        at += 8
        if count * record_size > end - at:
            raise DecodeError(".BTF.ext has a part that runs over its end")
        yield name, [form.unpack_from(data, at + i * record_size) for i in range(count)]
        at += count * record_size


def build_ext(sections: list[SectionInfo], order: str = "<") -> bytes:
    """The inverse of ``parse_ext``; parts without records are left empty."""
    bodies = []
    for part, size in zip(("functions", "lines", "cores"), _SIZES, strict=True):
        body = b""
        for section in sections:
            records: tuple[tuple[int, ...], ...] = getattr(section, part)
            if part == "lines":
                records = tuple((r.offset, r.file, r.text, r.line << 10 | r.column) for r in section.lines)
            if records:
                body += struct.pack(f"{order}II", section.name, len(records))
                body += b"".join(struct.pack(f"{order}{'I' * (size // 4)}", *record) for record in records)
        bodies.append(struct.pack(f"{order}I", size) + body if body else b"")
    offsets = []
    at = 0
    for body in bodies:
        offsets += [at, len(body)]
        at += len(body)
    header = struct.pack(f"{order}HBBI", BTF_MAGIC, BTF_VERSION, 0, _HEADER_SIZE)
    return header + struct.pack(f"{order}{'I' * 6}", *offsets) + b"".join(bodies)
