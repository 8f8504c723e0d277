"""Symbols of an ELF file: all of them, or one by name without reading the rest."""

from __future__ import annotations

import struct

from tracebee.elf.constants import (
    SHN_UNDEF,
    SHT_DYNSYM,
    SHT_GNU_VERSYM,
    SHT_SYMTAB,
    STT_FUNC,
    STT_GNU_IFUNC,
    VERSYM_HIDDEN,
)
from tracebee.errors import DecodeError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.elf.file import ElfFile, Section

FUNCTION_TYPES = (STT_FUNC, STT_GNU_IFUNC)


class Symbol(NamedTuple):
    """A symbol table entry. ``addr`` as linked (in a relocatable file: offset in its section)."""

    name: str
    addr: int
    size: int
    type: int
    binding: int
    visibility: int
    section: int


def tables(elf: ElfFile) -> list[Section]:
    """The file's symbol tables: ``.symtab``, which has all of ``.dynsym`` and more, first."""
    found = [s for s in elf.sections if s.type in (SHT_SYMTAB, SHT_DYNSYM) and s.link < len(elf.sections)]
    return sorted(found, key=lambda s: s.type)


def symbols(elf: ElfFile, table: Section) -> Iterator[Symbol]:
    """Every entry of one symbol table, in order, the empty first one included."""
    strings = elf.contents(elf.sections[table.link])
    for fields in _form(elf).iter_unpack(_whole(elf, table)):
        name, addr, size, info, other, section = _ordered(elf, fields)
        end = strings.find(b"\0", name)
        text = strings[name:end].decode("utf-8", "surrogateescape")
        yield Symbol(text, addr, size, info & 15, info >> 4, other & 3, section)


def functions(elf: ElfFile) -> Iterator[Symbol]:
    """Every defined function, each address and name once, mini debug info included."""
    seen: set[tuple[int, str]] = set()
    for source in _sources(elf):
        for table in tables(source):
            for symbol in symbols(source, table):
                if symbol.type in FUNCTION_TYPES and symbol.section != SHN_UNDEF and symbol.addr:
                    place = (symbol.addr, symbol.name)
                    if place not in seen:
                        seen.add(place)
                        yield symbol


def find_symbol(elf: ElfFile, name: str, types: tuple[int, ...] = FUNCTION_TYPES) -> Symbol | None:
    """One defined symbol by its exact name: a search for its bytes, not a walk over the table.

    Of several versions of a dynamic symbol it is the default one, which new programs are linked with.
    """
    wanted = name.encode("utf-8", "surrogateescape") + b"\0"
    for source in _sources(elf):
        for table in tables(source):
            found = _find(source, table, wanted, name, types)
            if found is not None:
                return found
    return None


def _find(elf: ElfFile, table: Section, wanted: bytes, name: str, types: tuple[int, ...]) -> Symbol | None:
    strings = elf.contents(elf.sections[table.link])
    entries, form = _whole(elf, table), _form(elf)
    at = strings.find(wanted)
    old: Symbol | None = None
    # Linkers let one string be the tail of another, so the byte before a match need not be zero.
    while at >= 0:
        key = struct.pack(f"{elf.order}I", at)
        place = entries.find(key)
        while place >= 0:
            if place % form.size == 0:
                _, addr, size, info, other, section = _ordered(elf, form.unpack_from(entries, place))
                if info & 15 in types and section != SHN_UNDEF and addr:
                    symbol = Symbol(name, addr, size, info & 15, info >> 4, other & 3, section)
                    if not _is_old_version(elf, table, place // form.size):
                        return symbol
                    old = old or symbol
            place = entries.find(key, place + 1)
        at = strings.find(wanted, at + 1)
    return old


def _is_old_version(elf: ElfFile, table: Section, index: int) -> bool:
    """Whether a dynamic symbol is there for programs that were linked with an earlier library."""
    if table.type != SHT_DYNSYM:
        return False
    versions = next((s for s in elf.sections if s.type == SHT_GNU_VERSYM), None)
    if versions is None or 2 * index + 2 > versions.size:
        return False
    (number,) = struct.unpack_from(f"{elf.order}H", elf.contents(versions), 2 * index)
    return bool(number & VERSYM_HIDDEN)


def _sources(elf: ElfFile) -> Iterator[ElfFile]:
    """The file, then its mini debug info: an xz-compressed ELF file with what stripping removed."""
    yield elf
    section = elf.section(".gnu_debugdata")
    if section is None or elf.section(".symtab") is not None:
        return
    import lzma  # only for such files

    from tracebee.elf.file import ElfFile

    try:
        mini = ElfFile(elf.path, lzma.decompress(elf.contents(section)))
    except (lzma.LZMAError, DecodeError):
        return  # a broken extra table hides no symbol of the file itself
    yield mini


def _form(elf: ElfFile) -> struct.Struct:
    return struct.Struct(f"{elf.order}{'IBBHQQ' if elf.is_64 else 'IIIBBH'}")


def _ordered(elf: ElfFile, fields: tuple[int, ...]) -> tuple[int, int, int, int, int, int]:
    """(name, addr, size, info, other, section) whichever class the entry is of."""
    if elf.is_64:
        name, info, other, section, addr, size = fields
    else:
        name, addr, size, info, other, section = fields
    return name, addr, size, info, other, section


def _whole(elf: ElfFile, table: Section) -> bytes:
    """The table's bytes, cut to whole entries."""
    data = elf.contents(table)
    return data[: len(data) - len(data) % _form(elf).size]
