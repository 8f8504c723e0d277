"""Versions of dynamic symbols: ``memcpy@GLIBC_2.2.5`` beside ``memcpy@@GLIBC_2.14``.

``.gnu.version`` has for each dynamic symbol the number of its version, ``.gnu.version_d`` the names of the
numbers. Source: the Linux Standard Base, "Symbol Versioning".
"""

from __future__ import annotations

import struct

from tracebee.elf.constants import SHN_UNDEF, SHT_DYNSYM, SHT_GNU_VERDEF, SHT_GNU_VERSYM, VERSYM_HIDDEN
from tracebee.elf.symbols import FUNCTION_TYPES, symbols
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.elf.file import ElfFile
    from tracebee.elf.symbols import Symbol


def find_versioned(elf: ElfFile, name: str) -> Symbol | None:
    """A defined dynamic function by ``NAME@VERSION``; with ``@@`` only if it is the name's default version.

    :raises DecodeError: the tables of versions are damaged.
    """
    plain, _, version = name.partition("@")
    default = version.startswith("@")
    version = version.removeprefix("@")
    numbers = next((s for s in elf.sections if s.type == SHT_GNU_VERSYM), None)
    table = next((s for s in elf.sections if s.type == SHT_DYNSYM and s.link < len(elf.sections)), None)
    if numbers is None or table is None:
        return None
    wanted = _defined(elf).get(version)
    data = elf.contents(numbers)
    for index, symbol in enumerate(symbols(elf, table)):
        if symbol.name != plain or symbol.section == SHN_UNDEF or symbol.type not in FUNCTION_TYPES:
            continue
        if 2 * index + 2 > len(data):
            raise DecodeError(f"{elf.path}: .gnu.version is shorter than the symbol table")
        (number,) = struct.unpack_from(f"{elf.order}H", data, 2 * index)
        if number & ~VERSYM_HIDDEN == wanted and not (default and number & VERSYM_HIDDEN):
            return symbol
    return None


def _defined(elf: ElfFile) -> dict[str, int]:
    """Numbers of the versions that the file defines, by name."""
    section = next((s for s in elf.sections if s.type == SHT_GNU_VERDEF), None)
    if section is None or section.link >= len(elf.sections):
        return {}
    data, strings = elf.contents(section), elf.contents(elf.sections[section.link])
    found: dict[str, int] = {}
    at = 0
    try:
        while True:
            # Elf64_Verdef: version, flags, index, count of names, hash, offset of the names, of the next.
            _, _, number, _, _, names, following = struct.unpack_from(f"{elf.order}4H3I", data, at)
            start = struct.unpack_from(f"{elf.order}I", data, at + names)[0]
            found[strings[start : strings.index(b"\0", start)].decode("utf-8", "surrogateescape")] = number
            if not following:
                return found
            at += following
    except (struct.error, ValueError) as error:
        raise DecodeError(f"{elf.path}: .gnu.version_d is damaged") from error
