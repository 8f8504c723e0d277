"""One mapped file as a source of names: the file with all its symbol tables, opened once."""

from __future__ import annotations

import os

from tracebee.elf import ElfFile
from tracebee.errors import DecodeError
from tracebee.symbols import debugfile
from tracebee.symbols.table import SymbolTable, mini_debug_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.procmaps import Mapping


class Image:
    """A program, library or vDSO. The symbol table is read when the first address is asked for."""

    def __init__(self, elf: ElfFile, path: str) -> None:
        self._elf = elf
        self._path = path
        self._table: SymbolTable | None = None

    def resolve(self, offset: int) -> tuple[str, int] | None:
        """The function at a file offset and the offset into it."""
        address = self._elf.address(offset)
        if address is None:
            return None
        if self._table is None:
            self._table = self._read()
        return self._table.resolve(address)

    def _read(self) -> SymbolTable:
        """The chain of sources: the file's own tables, what stripping left, the debug file."""
        files = [self._elf]
        if self._elf.section(".symtab") is None:
            files += [f for f in (mini_debug_info(self._elf), debugfile.find(self._elf, self._path)) if f]
        try:
            return SymbolTable(files)
        except DecodeError:
            return SymbolTable([])
        finally:
            for file in files[1:]:
                file.close()


def open_image(mapping: Mapping, pid: int) -> Image | None:
    """The file behind a mapping of a process; None when it is gone or no ELF file.

    The kernel's link to the mapped file is tried first: it leads to the file itself even when its
    name was deleted or means another file in the process's root. A path must lead to the inode
    that is mapped.
    """
    if mapping.path == "[vdso]":
        return _vdso(mapping, pid)
    if not mapping.path.startswith("/"):
        return None
    link = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    for path in (link, f"/proc/{pid}/root{mapping.path}", mapping.path):
        try:
            if path == link or os.stat(path).st_ino == mapping.inode:
                return Image(ElfFile(path), mapping.path)
        except (OSError, DecodeError):
            continue
    return None


def _vdso(mapping: Mapping, pid: int) -> Image | None:
    """The vDSO has no file; it is copied out of the process."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(mapping.start)
            data = memory.read(mapping.end - mapping.start)
        return Image(ElfFile("[vdso]", data), "[vdso]")
    except (OSError, DecodeError):
        return None
