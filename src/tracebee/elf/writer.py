"""Writes relocatable ELF files: sections, symbols and relocations, added in any order."""

from __future__ import annotations

import struct

from tracebee.elf.constants import (
    ET_REL,
    SHF_INFO_LINK,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_LOCAL,
    STT_SECTION,
    STV_DEFAULT,
)
from tracebee.errors import EncodeError
from tracebee.typed import NamedTuple


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    data: bytes
    align: int
    entry_size: int
    link: int = 0
    info: int = 0


class _Symbol(NamedTuple):
    name: str
    section: str  # empty: undefined
    value: int
    size: int
    type: int
    binding: int
    visibility: int


class RelocatableFile:
    """A 64-bit ELF file that grows. Sections are known by their names, symbols by a number.

    :param machine: an EM_* number.
    :param order: ``little`` or ``big``.
    """

    def __init__(self, machine: int, order: str = "little") -> None:
        self.machine = machine
        self._mark = "<" if order == "little" else ">"
        self._sections: dict[str, _Section] = {}
        self._symbols: list[_Symbol] = []
        self._section_symbols: dict[str, int] = {}
        self._relocs: dict[str, list[tuple[int, int, int]]] = {}  # section: offset, type, symbol

    def section(
        self,
        name: str,
        data: bytes,
        *,
        kind: int = SHT_PROGBITS,
        flags: int = 0,
        align: int = 1,
        entry_size: int = 0,
    ) -> None:
        """Add a section; one of kind SHT_NOBITS has the size of ``data`` and takes no room in the file.

        :raises EncodeError: there is one of that name.
        """
        if name in self._sections:
            raise EncodeError(f"section {name} is there twice")
        self._sections[name] = _Section(name, kind, flags, data, align, entry_size)

    def symbol(
        self,
        name: str,
        section: str = "",
        value: int = 0,
        size: int = 0,
        *,
        kind: int,
        binding: int,
        visibility: int = STV_DEFAULT,
    ) -> int:
        """Add a symbol, undefined without a section; returns the number by which relocations name it."""
        self._symbols.append(_Symbol(name, section, value, size, kind, binding, visibility))
        return len(self._symbols) - 1

    def section_symbol(self, section: str) -> int:
        """The symbol that stands for a section's start."""
        if section not in self._section_symbols:
            number = self.symbol("", section, kind=STT_SECTION, binding=STB_LOCAL)
            self._section_symbols[section] = number
        return self._section_symbols[section]

    def relocate(self, section: str, offset: int, kind: int, symbol: int) -> None:
        """Add a relocation (without addend: SHT_REL) at a byte of a section."""
        self._relocs.setdefault(section, []).append((offset, kind, symbol))

    def to_bytes(self, order: list[str] | None = None) -> bytes:
        """The file.

        :param order: names of sections that come first, in this order; others follow as they were added.
        """
        names = list(
            dict.fromkeys(name for name in (*(order or ()), *self._sections) if name in self._sections)
        )
        sections = [_Section("", 0, 0, b"", 0, 0), *(self._sections[name] for name in names)]
        numbers = {section.name: number for number, section in enumerate(sections)}
        numbers[""] = SHN_UNDEF
        # Local symbols come first, and of them the sections'.
        ranks = [(s.binding != STB_LOCAL, s.type != STT_SECTION) for s in self._symbols]
        ranked = sorted(range(len(self._symbols)), key=ranks.__getitem__)
        places = {number: place for place, number in enumerate(ranked, 1)}
        strings = _Strings()
        mark = self._mark
        table = bytes(24)
        for symbol in (self._symbols[number] for number in ranked):
            info = symbol.binding << 4 | symbol.type
            fields = (strings.add(symbol.name), info, symbol.visibility, numbers[symbol.section])
            table += struct.pack(f"{mark}IBBHQQ", *fields, symbol.value, symbol.size)
        symtab = len(sections) + len(self._relocs)
        for name in sorted(self._relocs, key=numbers.__getitem__):
            rows = sorted(self._relocs[name])
            body = b"".join(
                struct.pack(f"{mark}QQ", offset, places[symbol] << 32 | kind) for offset, kind, symbol in rows
            )
            row = _Section(f".rel{name}", SHT_REL, SHF_INFO_LINK, body, 8, 16, symtab, numbers[name])
            sections.append(row)
        locals_count = 1 + sum(s.binding == STB_LOCAL for s in self._symbols)
        sections.append(_Section(".symtab", SHT_SYMTAB, 0, table, 8, 24, symtab + 1, locals_count))
        sections.append(_Section(".strtab", SHT_STRTAB, 0, b"", 1, 0))
        offsets = [strings.add(section.name) for section in sections]
        sections[-1] = sections[-1]._replace(data=strings.data())
        return self._assemble(sections, offsets)

    def _assemble(self, sections: list[_Section], names: list[int]) -> bytes:
        body = bytearray(64)
        headers = b""
        for name, section in zip(names, sections, strict=True):
            body += bytes(-len(body) % max(section.align, 1))
            offset = len(body) if section.type else 0
            if section.type != SHT_NOBITS:
                body += section.data
            headers += struct.pack(
                f"{self._mark}IIQQQQIIQQ",
                name,
                section.type,
                section.flags,
                0,
                offset,
                len(section.data),
                section.link,
                section.info,
                section.align,
                section.entry_size,
            )
        body += bytes(-len(body) % 8)
        ident = b"\x7fELF\x02" + (b"\x01" if self._mark == "<" else b"\x02") + b"\x01"
        count = len(sections)
        numbers = (ET_REL, self.machine, 1, 0, 0, len(body), 0, 64, 0, 0, 64, count, count - 1)
        body[:64] = ident.ljust(16, b"\0") + struct.pack(f"{self._mark}HHIQQQIHHHHHH", *numbers)
        return bytes(body) + headers


class _Strings:
    def __init__(self) -> None:
        self._offsets = {"": 0}
        self._data = bytearray(1)

    def add(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self._data)
            self._data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._offsets[text]

    def data(self) -> bytes:
        return bytes(self._data)
