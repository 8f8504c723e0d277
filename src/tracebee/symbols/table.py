"""The functions of one ELF file by address."""

from __future__ import annotations

import struct
from bisect import bisect_right

from tracebee.elf import ElfFile
from tracebee.elf.constants import SHF_EXECINSTR, SHN_UNDEF, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC
from tracebee.elf.symbols import tables
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FUNCTIONS = (STT_FUNC, STT_GNU_IFUNC)


class SymbolTable:
    """Function names of a file, from every table and companion file given, by linked address.

    Names stay bytes of the string tables until they are asked for: a large library has a hundred
    thousand, a trace shows a few hundred.
    """

    def __init__(self, files: list[ElfFile]) -> None:
        # (address, preference, size, name's place, index of its string table), best name first.
        rows: list[tuple[int, int, int, int, int]] = []
        self._strings: list[bytes] = []
        for file in files:
            for table in tables(file):
                self._strings.append(file.contents(file.sections[table.link]))
                rows.extend(_rows(file, file.contents(table), len(self._strings) - 1))
        rows.sort()
        self._starts = [row[0] for row in rows]
        ends = [s.addr + s.size for file in files for s in file.sections if s.flags & SHF_EXECINSTR]
        self._rows = [row if row[2] else self._bounded(row, ends) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def resolve(self, address: int) -> tuple[str, int] | None:
        """The name of the function that an address lies in and the offset into it."""
        end = bisect_right(self._starts, address)
        near = self._rows[max(0, end - _NEIGHBOURS) : end]
        names = [row for row in near if row[0] == self._starts[end - 1] and address < row[0] + row[2]]
        if not names:
            # Functions nest rarely: an inner label that ends early lies in the one around it.
            names = [row for row in reversed(near) if address < row[0] + row[2]][:1]
        if not names:
            return None
        name = min((row[1], *_plainness(self._name(row)), self._name(row)) for row in names)[-1]
        return name, address - names[0][0]

    def _bounded(
        self, row: tuple[int, int, int, int, int], ends: list[int]
    ) -> tuple[int, int, int, int, int]:
        """A function without a size (assembler), given the room up to the next, or its section's end."""
        following = bisect_right(self._starts, row[0])
        ends = self._starts[following : following + 1] + ends
        end = min((end for end in ends if end > row[0]), default=row[0])
        return row[0], row[1], end - row[0], row[3], row[4]

    def _name(self, row: tuple[int, int, int, int, int]) -> str:
        strings = self._strings[row[4]]
        return strings[row[3] : strings.find(b"\0", row[3])].decode("utf-8", "surrogateescape")


_NEIGHBOURS = 64  # symbols before an address that are looked at


def _plainness(name: str) -> tuple[int, int]:
    # Of read, __read and __GI___libc_read at one address, people know the first.
    return len(name) - len(name.lstrip("_")), len(name)


def _rows(file: ElfFile, entries: bytes, strings: int) -> Iterator[tuple[int, int, int, int, int]]:
    form = struct.Struct(f"{file.order}{'IBBHQQ' if file.is_64 else 'IIIBBH'}")
    whole = entries[: len(entries) - len(entries) % form.size]
    if file.is_64:
        for name, info, _, section, addr, size in form.iter_unpack(whole):
            if info & 15 in _FUNCTIONS and section != SHN_UNDEF and addr:
                yield addr, info >> 4 == STB_LOCAL, size, name, strings
    else:
        for name, addr, size, info, _, section in form.iter_unpack(whole):
            if info & 15 in _FUNCTIONS and section != SHN_UNDEF and addr:
                yield addr, info >> 4 == STB_LOCAL, size, name, strings


def mini_debug_info(elf: ElfFile) -> ElfFile | None:
    """The xz-compressed symbol table that Fedora leaves in stripped files (``.gnu_debugdata``)."""
    section = elf.section(".gnu_debugdata")
    if section is None:
        return None
    import lzma  # only for such files

    try:
        return ElfFile(elf.path, lzma.decompress(elf.contents(section)))
    except (lzma.LZMAError, DecodeError):
        return None
