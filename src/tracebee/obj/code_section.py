"""Functions of an object: cut out of their sections, with symbolic relocations.

A relocation of the ELF file names a symbol; here it becomes what the instruction means: a map, a byte
of a data section, another function, something of the kernel's.
"""

from __future__ import annotations

from bisect import bisect_right

from tracebee.btf.kinds import BTF_KIND_FUNC
from tracebee.elf.constants import (
    SHN_COMMON,
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STT_SECTION,
    STV_HIDDEN,
    STV_INTERNAL,
)
from tracebee.errors import DecodeError
from tracebee.isa import insn as i
from tracebee.isa.codec import decode
from tracebee.obj.map_section import unused_name
from tracebee.obj.model import CoreReloc, Function, LineInfo, Reloc, RelocKind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.btf import Btf
    from tracebee.btf.ext import SectionInfo
    from tracebee.elf.file import Section
    from tracebee.elf.symbols import Symbol
    from tracebee.isa.insn import Insn
    from tracebee.obj.elf_layout import ElfLayout, ElfReloc
    from tracebee.obj.map_section import PlacedMap
    from tracebee.obj.model import Extern

TEXT = ".text"
_EXCEPTION_TAG = "exception_callback:"
_CALL = i.BPF_JMP | i.BPF_CALL


class Place(NamedTuple):
    """A function's place in the file. ``key`` is its unique name in the object."""

    key: str
    section: Section
    start: int
    end: int
    symbol: Symbol

    @property
    def is_hidden(self) -> bool:
        """A global function for this object alone, which the verifier treats as static."""
        return self.symbol.visibility in (STV_HIDDEN, STV_INTERNAL)

    @property
    def is_global(self) -> bool:
        """Whether the verifier checks it on its own, apart from its callers."""
        return self.symbol.binding != STB_LOCAL and not self.is_hidden


class CodeReader:
    """Reads every function of an object's code sections."""

    def __init__(
        self,
        layout: ElfLayout,
        btf: Btf | None,
        maps: list[PlacedMap],
        externs: list[Extern],
        infos: dict[str, SectionInfo],
    ) -> None:
        self.layout, self.btf, self.infos = layout, btf, infos
        self.maps = {(m.section, m.offset): m.map.name for m in maps}
        self.map_sections = {m.section for m in maps}
        self.data = {s.number: s.name for s in layout.data_sections}
        self.externs = {e.name: e for e in externs}
        self.places = list(self._find_places())
        self._starts: dict[int, list[Place]] = {}
        for place in self.places:
            self._starts.setdefault(place.section.number, []).append(place)

    def _find_places(self) -> Iterator[Place]:
        """Functions by section and address; static names that occur twice get a number behind them."""
        functions = [s for s in self.layout.symbols if s.type == STT_FUNC and s.section != SHN_UNDEF]
        taken = {s.name for s in functions if s.binding != STB_LOCAL}
        for section in self.layout.code_sections:
            own = [s for s in functions if s.section == section.number]
            for symbol in sorted(own, key=lambda s: s.addr):
                if not symbol.size or symbol.size % 8 or symbol.addr % 8:
                    raise DecodeError(
                        f"function {symbol.name} in {section.name} is not made of whole instructions"
                    )
                if symbol.addr + symbol.size > section.size:
                    raise DecodeError(f"function {symbol.name} runs over the end of {section.name}")
                key = symbol.name if symbol.binding != STB_LOCAL else unused_name(symbol.name, taken)
                yield Place(key, section, symbol.addr, symbol.addr + symbol.size, symbol)

    def at(self, section: int, offset: int) -> Place | None:
        """The function that starts at a byte of a section."""
        places = self._starts.get(section, [])
        index = bisect_right(places, offset, key=lambda p: p.start) - 1
        return places[index] if index >= 0 and places[index].start == offset else None

    def read(self, place: Place) -> Function:
        """One function with its relocations, lines and BTF type."""
        code = self.layout.contents(place.section)[place.start : place.end]
        insns = decode(code, self.layout.order)
        at_offset: dict[int, int] = {}
        offset = place.start
        for index, insn in enumerate(insns):
            at_offset[offset] = index
            offset += 8 * insn.slots
        relocs = self._relocations(place, insns, at_offset)
        # What a relocation fills in says nothing now: how the file counted it does not matter.
        for found in relocs:
            insn = insns[found.at]
            insns[found.at] = insn._replace(imm=0 if insn.is_wide else -1)
        type_id, lines, cores = self._described(place, at_offset)
        relocs = sorted((*relocs, *cores), key=lambda r: r.at)
        return Function(
            place.key,
            tuple(insns),
            tuple(relocs),
            lines,
            type_id,
            self._argument_count(type_id),
            place.is_global,
            self._exception_callback(place, type_id),
        )

    def _relocations(self, place: Place, insns: list[Insn], at_offset: dict[int, int]) -> list[Reloc]:
        """Those of the ELF file, and calls that need none there."""
        relocs = []
        for reloc in self.layout.relocs(place.section):
            if place.start <= reloc.offset < place.end:
                index = at_offset.get(reloc.offset, -1)
                if index < 0:
                    raise DecodeError(f"{place.key}: a relocation at {reloc.offset} is inside an instruction")
                relocs.append(self._reloc(place, index, insns[index], reloc))
        done = {reloc.at for reloc in relocs}
        return [*relocs, *self._local_calls(place, insns, at_offset, done)]

    def _described(
        self, place: Place, at_offset: dict[int, int]
    ) -> tuple[int, tuple[LineInfo, ...], list[Reloc]]:
        """What ``.BTF.ext`` says: the function's type, its lines and its CO-RE relocations."""
        info = self.infos.get(place.section.name)
        if info is None or self.btf is None:
            return 0, (), []
        string = self.btf.string
        lines = tuple(
            LineInfo(at_offset[n.offset], string(n.file), string(n.text), n.line, n.column)
            for n in info.lines
            if n.offset in at_offset
        )
        cores = []
        for core in info.cores:
            if core.offset in at_offset:
                name = self.btf.name_of(core.type_id)
                spec = CoreReloc(core.kind, name, "", core.type_id, string(core.access))
                cores.append(Reloc(at_offset[core.offset], RelocKind.CORE, name, core=spec))
        type_id = next((f.type_id for f in info.functions if f.offset == place.start), 0)
        return type_id, lines, cores

    def _argument_count(self, type_id: int) -> int:
        if not type_id or self.btf is None or self.btf.type(type_id).kind != BTF_KIND_FUNC:
            return 1
        return len(self.btf.prototype(type_id).params)

    def _exception_callback(self, place: Place, type_id: int) -> str:
        """What a declaration tag on a program names for bpf_throw(); empty without one."""
        if not type_id or self.btf is None or place.section.name == TEXT:
            return ""
        tags = [t for t in self.btf.decl_tags(type_id) if t.startswith(_EXCEPTION_TAG)]
        for tag in tags[:1]:  # the verifier refuses more than one
            name = tag.removeprefix(_EXCEPTION_TAG)
            found = [p for p in self.places if p.symbol.name == name and p.section.name == TEXT]
            if not found:
                raise DecodeError(
                    f"program {place.key}: its exception callback '{name}' is no function of the object"
                )
            if not found[0].is_global:
                raise DecodeError(
                    f"program {place.key}: the verifier would not see its exception callback '{name}'",
                    hint="make it a global function, neither static nor __hidden",
                )
            return name
        return ""

    def _reloc(self, place: Place, index: int, insn: Insn, reloc: ElfReloc) -> Reloc:
        symbol = reloc.symbol
        if insn.opcode == _CALL:
            return self._call(place, index, insn, symbol)
        if not insn.is_wide:
            raise DecodeError(f"{place.key}: instruction {index} has a relocation but holds no address")
        if symbol.section == SHN_UNDEF:
            return self._extern_value(place, index, insn, symbol)
        addend = insn.imm & 0xFFFFFFFF
        if symbol.section in self.map_sections:
            name = self.maps.get((symbol.section, symbol.addr + addend))
            if name is None:
                raise DecodeError(f"{place.key}: instruction {index} points into a map definition")
            return Reloc(index, RelocKind.MAP, name)
        if symbol.section in self.data:
            base = 0 if symbol.type == STT_SECTION else symbol.addr
            return Reloc(index, RelocKind.DATA, self.data[symbol.section], base + addend)
        # An address of a function: the immediate of a section symbol counts bytes.
        base = 0 if symbol.type == STT_SECTION else symbol.addr
        target = self.at(symbol.section, base + addend)
        if target is not None:
            return Reloc(index, RelocKind.FUNC, target.key)
        if symbol.section == SHN_COMMON:
            raise DecodeError(
                f"{place.key}: instruction {index} refers to '{symbol.name}', which has no section yet",
                hint="compile with -fno-common, or give the variable a value",
            )
        sections = self.layout.elf.sections
        where = sections[symbol.section].name if symbol.section < len(sections) else symbol.name
        raise DecodeError(
            f"{place.key}: instruction {index} refers to '{symbol.name or where}' in section '{where}'",
            hint="variables live in .data, .bss, .rodata and sections named after them (.data.mine)",
        )

    def _extern_value(self, place: Place, index: int, insn: Insn, symbol: Symbol) -> Reloc:
        extern = self.externs.get(symbol.name)
        if extern is None:
            raise DecodeError(f"{place.key}: instruction {index} refers to a symbol without a name")
        if extern.kind == "object":
            return Reloc(index, RelocKind.EXTERN, symbol.name, insn.imm & 0xFFFFFFFF, weak=extern.weak)
        if extern.kind == "kconfig":
            return Reloc(index, RelocKind.DATA, ".kconfig", extern.offset, weak=extern.weak)
        return Reloc(index, RelocKind.KSYM, symbol.name, weak=extern.weak)

    def _call(self, place: Place, index: int, insn: Insn, symbol: Symbol) -> Reloc:
        if symbol.section == SHN_UNDEF:
            extern = self.externs.get(symbol.name)
            if extern is not None and extern.kind == "object":
                return Reloc(index, RelocKind.CALL, symbol.name, weak=extern.weak)
            if extern is None or extern.kind != "kfunc":
                raise DecodeError(f"{place.key} calls {symbol.name}, which is nowhere defined")
            return Reloc(index, RelocKind.KFUNC, symbol.name, weak=extern.weak)
        # Against a section symbol the immediate is the target in slots, less one.
        target = symbol.addr
        if symbol.type == STT_SECTION:
            target += (insn.imm + 1) * 8
        found = self.at(symbol.section, target)
        if found is None:
            raise DecodeError(f"{place.key}: call at instruction {index} to the middle of a function")
        return Reloc(index, RelocKind.CALL, found.key)

    def _local_calls(
        self, place: Place, insns: list[Insn], at_offset: dict[int, int], done: set[int]
    ) -> Iterator[Reloc]:
        """Calls inside one section, which the compiler resolved itself: targets relative to the call."""
        for offset, index in at_offset.items():
            insn = insns[index]
            if insn.opcode == _CALL and insn.src == i.BPF_PSEUDO_CALL and index not in done:
                found = self.at(place.section.number, offset + (insn.imm + 1) * 8)
                if found is None:
                    raise DecodeError(f"{place.key}: call at instruction {index} to the middle of a function")
                yield Reloc(index, RelocKind.CALL, found.key)
