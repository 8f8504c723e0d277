"""The ELF file of a BPF object, opened: its sections by role, its symbols, its relocations."""

from __future__ import annotations

import struct

from tracebee.elf.constants import (
    EM_BPF,
    ET_REL,
    SHF_EXECINSTR,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_SYMTAB,
    STB_LOCAL,
    STT_NOTYPE,
)
from tracebee.elf.symbols import symbols
from tracebee.errors import DecodeError
from tracebee.obj.model import ARENA_DATA
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf import Btf
    from tracebee.elf.file import ElfFile, Section
    from tracebee.elf.symbols import Symbol
    from tracebee.isa.codec import ByteOrder

EM_NONE = 0  # what old versions of clang wrote

# Relocation types (Linux Documentation/bpf/llvm_reloc.rst).
R_BPF_64_64 = 1
R_BPF_64_ABS64 = 2
R_BPF_64_ABS32 = 3
R_BPF_64_NODYLD32 = 4
R_BPF_64_32 = 10

DATA_PREFIXES = (".rodata", ".data", ".bss")
STRUCT_OPS_SECTIONS = (".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link")
METADATA_SECTION = ".tracebee"  # what a script prints: lang.script, as JSON
MAPS, LEGACY_MAPS, KCONFIG, KSYMS = ".maps", "maps", ".kconfig", ".ksyms"
LICENSE, VERSION = "license", "version"
ONCE = frozenset({LICENSE, VERSION})  # every object has them for itself, and one is enough


class ElfReloc(NamedTuple):
    """One relocation of a section: byte offset in it, type, and the symbol it refers to."""

    offset: int
    type: int
    symbol: Symbol


class ElfLayout:
    """A BPF ELF object taken apart, as plain tables; nothing is interpreted yet.

    :raises DecodeError: it is not a relocatable BPF object.
    """

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self.order: ByteOrder = "little" if elf.order == "<" else "big"
        if elf.type != ET_REL or elf.machine not in (EM_BPF, EM_NONE):
            hint = "compile it with clang -target bpf -c"
            raise DecodeError(f"{elf.path} is not a relocatable BPF object", hint=hint)
        tables = [s for s in elf.sections if s.type == SHT_SYMTAB]
        if not tables:
            hint = "it was stripped: strip it of what a debugger needs only (llvm-strip -g)"
            raise DecodeError(f"{elf.path} has no symbols, so nothing says where its programs are", hint=hint)
        if len(tables) > 1:
            raise DecodeError(f"{elf.path} has {len(tables)} symbol tables where one is expected")
        if tables[0].link >= len(elf.sections):
            raise DecodeError(f"{elf.path} has a symbol table without names")
        self.by_name = {s.name: s for s in elf.sections}
        self.symbols = [self._as_meant(s) for s in symbols(elf, tables[0])]
        for section in elf.sections:
            if section.type in (SHT_PROGBITS, SHT_NOBITS):
                _check(section, elf.path)
        self._contents: dict[int, bytes] = {}
        self._relocs: dict[int, list[ElfReloc]] = {}
        for section in elf.sections:
            if section.type == SHT_REL:
                self._relocs.setdefault(section.info, []).extend(self._read_relocs(section))

    def contents(self, section: Section) -> bytes:
        """A section's bytes; zeros for one that takes no room in the file."""
        if section.number not in self._contents:
            empty = section.type == SHT_NOBITS
            self._contents[section.number] = bytes(section.size) if empty else self.elf.contents(section)
        return self._contents[section.number]

    def relocs(self, section: Section) -> list[ElfReloc]:
        """A section's relocations by rising offset."""
        return sorted(self._relocs.get(section.number, ()), key=lambda r: r.offset)

    def _as_meant(self, symbol: Symbol) -> Symbol:
        """A symbol without a type in ``.maps`` is how libbpf's linker writes a map that is only declared."""
        maps = self.by_name.get(MAPS)
        if maps is None or symbol.section != maps.number:
            return symbol
        is_declared = symbol.type == STT_NOTYPE and symbol.binding != STB_LOCAL
        return symbol._replace(section=SHN_UNDEF) if is_declared else symbol

    def places(self, section: Section) -> dict[tuple[str, bool], tuple[int, int]]:
        """(offset, size) of what lies in a section, by name and whether it is static.

        A static name that a linker has put in more than once is left out: its offsets are only in BTF, which
        in turn may be wrong about names that were extern before.
        """
        found: dict[tuple[str, bool], tuple[int, int]] = {}
        repeated = set()
        for symbol in self.symbols:
            if symbol.section == section.number and symbol.name:
                key = symbol.name, symbol.binding == STB_LOCAL
                if key in found:
                    repeated.add(key)
                found[key] = symbol.addr, symbol.size
        return {key: place for key, place in found.items() if key not in repeated}

    def _read_relocs(self, section: Section) -> list[ElfReloc]:
        form = f"{self.elf.order}{'QQ' if self.elf.is_64 else 'II'}"
        shift, mask = (32, 0xFFFFFFFF) if self.elf.is_64 else (8, 0xFF)
        found = []
        data = self.elf.contents(section)
        if len(data) % struct.calcsize(form):
            raise DecodeError(f"{self.elf.path}: {section.name} is not made of whole relocations")
        for offset, info in struct.iter_unpack(form, data):
            if info >> shift >= len(self.symbols):
                raise DecodeError(f"{self.elf.path}: {section.name} refers to symbol {info >> shift}")
            found.append(ElfReloc(offset, info & mask, self.symbols[info >> shift]))
        return found

    @property
    def code_sections(self) -> list[Section]:
        """Sections of instructions, in file order."""
        return [s for s in self.elf.sections if s.type == SHT_PROGBITS and s.flags & SHF_EXECINSTR and s.size]

    @property
    def data_sections(self) -> list[Section]:
        """Sections of variables: ``.data``, ``.rodata``, ``.bss`` and custom ones of these, which become
        array maps; and the one whose place is in an arena.
        """
        return [
            s
            for s in self.elf.sections
            if (s.name == ARENA_DATA or any(s.name == p or s.name.startswith(f"{p}.") for p in DATA_PREFIXES))
            and s.type in (SHT_PROGBITS, SHT_NOBITS)
            and s.size
        ]

    def string_section(self, name: str) -> str:
        """The NUL-terminated text of a section such as ``license``; empty when there is none."""
        section = self.by_name.get(name)
        if section is None:
            return ""
        return self.contents(section).split(b"\0", 1)[0].decode("utf-8", "replace")


# No map's value, and no alignment, is larger.
_MAX_SIZE, _MAX_ALIGN = 1 << 31, 1 << 20


def _check(section: Section, path: str) -> None:
    if section.size >= _MAX_SIZE:
        raise DecodeError(f"{path}: section {section.name} has {section.size} bytes, too many for a map")
    if section.align > _MAX_ALIGN or section.align & (section.align - 1):
        raise DecodeError(f"{path}: section {section.name} cannot be aligned to {section.align} bytes")


def datasec_variables(btf: Btf, name: str) -> list[tuple[str, int, int, int]]:
    """(name, BTF_KIND_VAR's id, offset, size) of a data section by the object's BTF; empty without."""
    from tracebee.btf.kinds import BTF_KIND_DATASEC

    for section_id in btf.find_all(name, BTF_KIND_DATASEC):
        return [
            (btf.type(v.type_id).name, v.type_id, v.offset, v.size) for v in btf.type(section_id).variables
        ]
    return []
