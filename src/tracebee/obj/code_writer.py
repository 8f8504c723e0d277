"""Functions of an object, written to its ELF file: code, relocations, and what ``.BTF.ext`` says of both."""

from __future__ import annotations

from tracebee.btf.ext import CoreInfo, FuncInfo, LineInfo, SectionInfo
from tracebee.elf.constants import STT_FUNC
from tracebee.errors import UnsupportedError
from tracebee.isa.codec import encode
from tracebee.isa.insn import BPF_PSEUDO_CALL
from tracebee.obj.code_section import TEXT
from tracebee.obj.elf_layout import KCONFIG, R_BPF_64_32, R_BPF_64_64
from tracebee.obj.elf_output import CODE
from tracebee.obj.model import RelocKind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.obj.elf_output import Output
    from tracebee.obj.model import Function, Reloc, Variable


class CodeWriter:
    """Places the functions first, so that everything can refer to them, then writes them."""

    def __init__(self, out: Output) -> None:
        self.out = out
        self.sections: dict[str, list[Function]] = {}
        self.places: dict[str, tuple[str, int]] = {}  # by name: section, byte offset
        self._settings = {e.offset: e.name for e in out.obj.externs if e.kind == "kconfig"}
        self._variables: dict[str, list[Variable]] = {}
        for variable in out.obj.variables:
            if not variable.is_static:
                self._variables.setdefault(variable.map, []).append(variable)

    def place(self) -> None:
        """Lay the functions out in their sections and add their symbols."""
        out = self.out
        sizes: dict[str, int] = {}
        functions = [
            (p.section if p.autoload else f"?{p.section}", p.function, False) for p in out.obj.programs
        ]
        functions += [(TEXT, f, out.is_static(f.name)) for f in out.obj.functions]
        for section, function, static in functions:
            start = sizes.get(section, 0)
            size = 8 * sum(i.slots for i in function.insns)
            self.sections.setdefault(section, []).append(function)
            self.places[function.name] = section, start
            sizes[section] = start + size
            name = function.name
            if static and function.type_id and out.btf is not None:
                name = out.btf.type(function.type_id).name
            out.symbols[function.name] = out.define(
                function.name, section, start, size, STT_FUNC, static=static, as_name=name
            )

    def write(self) -> list[SectionInfo]:
        """Add the sections of code; returns what is to be said of them."""
        return [self._section(name, functions) for name, functions in self.sections.items()]

    def _section(self, section: str, functions: list[Function]) -> SectionInfo:
        insns: list[Insn] = []
        funcs, lines, cores = [], [], []
        string = self.out.types.string
        for function in functions:
            start = at = self.places[function.name][1]
            offsets = []
            for insn in function.insns:
                offsets.append(at)
                at += 8 * insn.slots
            body = list(function.insns)
            for reloc in function.relocs:
                offset = offsets[reloc.at]
                if reloc.core is None:
                    body[reloc.at] = self._relocate(section, offset, body[reloc.at], reloc)
                else:
                    access = string(reloc.core.spec)
                    cores.append(CoreInfo(offset, reloc.core.type_id, access, reloc.core.kind))
            insns += body
            if function.type_id:
                funcs.append(FuncInfo(start, function.type_id))
            lines += [
                LineInfo(offsets[n.at], string(n.file), string(n.text), n.line, min(n.column, 1023))
                for n in function.lines
            ]
        self.out.section(section, encode(insns, self.out.obj.order), CODE, 8)
        return SectionInfo(string(section), tuple(funcs), tuple(lines), tuple(cores))

    def _relocate(self, section: str, offset: int, insn: Insn, reloc: Reloc) -> Insn:
        """Add a relocation; returns the instruction as the file has it."""
        symbol, addend = self._target(reloc)
        is_call = reloc.kind in (RelocKind.CALL, RelocKind.KFUNC)
        self.out.file.relocate(section, offset, R_BPF_64_32 if is_call else R_BPF_64_64, symbol)
        if is_call:
            return insn._replace(src=BPF_PSEUDO_CALL, imm=-1, off=0)
        return insn._replace(src=0, imm=addend)

    def _target(self, reloc: Reloc) -> tuple[int, int]:
        """The symbol that a relocation is against, and what is added to it."""
        out, kind, name = self.out, reloc.kind, reloc.symbol
        if kind == RelocKind.DATA:
            return self._data(name, reloc.addend)
        if kind == RelocKind.FUNC and name in self.places and out.is_static(name):
            # libbpf takes the address of a static function only by its section.
            section, start = self.places[name]
            return out.file.section_symbol(section), start
        if kind in (RelocKind.MAP, RelocKind.CALL, RelocKind.FUNC) and name in out.symbols:
            return out.symbols[name], 0
        if name in out.externs:
            return out.externs[name], reloc.addend
        raise UnsupportedError(
            f"{out.obj.name}: a relocation of kind '{kind}' against {name}, which is not there"
        )

    def _data(self, section: str, offset: int) -> tuple[int, int]:
        """A byte of a data section: by the variable it belongs to, which another object's may replace, or by
        the section.
        """
        out = self.out
        if section == KCONFIG:
            return out.externs[self._settings[offset]], 0
        for variable in self._variables.get(section, ()):
            if variable.offset <= offset < variable.offset + variable.size:
                return out.symbols[variable.name], offset - variable.offset
        return out.file.section_symbol(section), offset
