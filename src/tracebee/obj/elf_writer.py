"""Writes an Object as the relocatable ELF file that libbpf, bpftool and tracebee itself load.

Maps become BTF-defined, data maps data sections, code sections carry the names by which libbpf types and
attaches programs, and relocations by name become CO-RE relocations against types of the object's own.
"""

from __future__ import annotations

import struct

from tracebee import uapi
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.ext import CoreInfo, FuncInfo, LineInfo, SectionInfo, build_ext
from tracebee.btf.kinds import BTF_FUNC_EXTERN, BTF_FUNC_GLOBAL, BTF_FUNC_STATIC
from tracebee.elf.constants import (
    EM_BPF,
    ET_REL,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_UNDEF,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
)
from tracebee.errors import UnsupportedError
from tracebee.isa.codec import encode
from tracebee.isa.insn import BPF_PSEUDO_CALL
from tracebee.obj.core_types import LocalTypes
from tracebee.obj.elf_layout import METADATA_SECTION, R_BPF_64_32, R_BPF_64_64
from tracebee.obj.model import RelocKind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.reader import Btf
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Function, MapDef, Object, Reloc

TEXT = ".text"
# Where the engine would choose by the machine, an object file must say a number.
_RING_BUFFER = 1 << 22


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int
    size: int
    type: int
    binding: int


def write_object(obj: Object, kernel: Btf | None = None) -> bytes:
    """The ELF file of an object.

    :param kernel: the types that relocations by name were compiled against; needed when there are any.
    :raises UnsupportedError: the object has what only clang can write (struct_ops, kconfig values), or a
        relocation that CO-RE has no form for.
    """
    return _Writer(obj, kernel).write()


def data_section_name(definition: MapDef) -> str:
    """The section a data map lies in: ``.rodata.NAME`` or ``.data.NAME``, or its own name if it is one."""
    if definition.name.startswith("."):
        return definition.name
    return f".rodata.{definition.name}" if definition.frozen else f".data.{definition.name}"


class _Writer:
    def __init__(self, obj: Object, kernel: Btf | None) -> None:
        if obj.struct_ops or any(e.kind != "kfunc" for e in obj.externs):
            raise UnsupportedError(
                f"{obj.name}: struct_ops and externs are written by clang, not by tracebee"
            )
        self.obj = obj
        self.types = Builder("little")
        self.local = None if kernel is None else LocalTypes(self.types, kernel)
        self.sections: list[tuple[str, int, int, bytes, int, int, int, int]] = [("", 0, 0, b"", 0, 0, 0, 0)]
        self.symbols: list[_Symbol] = [_Symbol("", 0, 0, 0, STT_NOTYPE, STB_LOCAL)]
        self.numbers: dict[str, int] = {}  # section by name
        self.places: dict[str, tuple[str, int]] = {}  # function: section, byte offset
        self.infos: list[SectionInfo] = []
        self.relocs: dict[str, list[tuple[int, int, str]]] = {}  # section: offset, type, symbol
        self.any_line = next((n for _, f in self._functions() for n in f.lines), None)

    def write(self) -> bytes:
        self._note_relocations()
        code = self._place_functions()
        for name in code:
            self._section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, b"", align=8)
        self._maps()
        for name, functions in code.items():
            self._code(name, functions)
        self._externs()
        self._text_section("license", self.obj.license)
        if self.obj.version:
            version = struct.pack("<I", self.obj.version)
            self._section("version", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, version, align=4)
        if self.obj.metadata:
            self._section(METADATA_SECTION, SHT_PROGBITS, 0, self.obj.metadata)
        self._section(".BTF", SHT_PROGBITS, 0, self.types.to_bytes(), align=4)
        self._section(".BTF.ext", SHT_PROGBITS, 0, build_ext(self.infos), align=4)
        return self._file()

    # Code.

    def _functions(self) -> Iterable[tuple[str, Function]]:
        for program in self.obj.programs:
            name = program.section if program.autoload else f"?{program.section}"
            yield name, program.function
        for function in self.obj.functions:
            yield TEXT, function

    def _note_relocations(self) -> None:
        for _, function in self._functions():
            for reloc in function.relocs:
                if reloc.core is not None:
                    if self.local is None:
                        raise UnsupportedError(f"{function.name}: CO-RE relocations need the kernel's types")
                    self.local.note(reloc.core)

    def _place_functions(self) -> dict[str, list[Function]]:
        code: dict[str, list[Function]] = {}
        sizes: dict[str, int] = {}
        for section, function in self._functions():
            code.setdefault(section, []).append(function)
            self.places[function.name] = section, sizes.get(section, 0)
            sizes[section] = sizes.get(section, 0) + 8 * sum(i.slots for i in function.insns)
        return code

    def _code(self, section: str, functions: list[Function]) -> None:
        insns: list[Insn] = []
        funcs, lines, cores = [], [], []
        self.relocs[section] = []
        string = self.types.string
        for function in functions:
            start = self.places[function.name][1]
            offsets = []
            at = start
            for insn in function.insns:
                offsets.append(at)
                at += 8 * insn.slots
            body = list(function.insns)
            for reloc in function.relocs:
                if reloc.core is None:
                    body[reloc.at] = self._relocation(section, offsets[reloc.at], body[reloc.at], reloc)
                else:
                    body[reloc.at], core = self._core(offsets[reloc.at], body[reloc.at], reloc)
                    cores.append(core)
            insns += body
            is_program = section != TEXT
            linkage = BTF_FUNC_GLOBAL if is_program or function.is_global else BTF_FUNC_STATIC
            funcs.append(FuncInfo(start, self._function_type(function, linkage)))
            binding = STB_LOCAL if linkage == BTF_FUNC_STATIC else STB_GLOBAL
            self.symbols.append(
                _Symbol(function.name, self.numbers[section], start, at - start, STT_FUNC, binding)
            )
            # libbpf wants a line at the start of every function when any has lines.
            places = function.lines
            if self.any_line and (not places or places[0].at):
                places = (self.any_line._replace(at=0), *places)
            lines += [
                LineInfo(offsets[n.at], string(n.file), string(n.text), n.line, min(n.column, 1023))
                for n in places
            ]
        self._set_contents(section, encode(insns))
        self.infos.append(SectionInfo(string(section), tuple(funcs), tuple(lines), tuple(cores)))

    def _function_type(self, function: Function, linkage: int) -> int:
        number = self.types.integer("long", 8, signed=True)
        parameters = [(f"a{i}", number) for i in range(function.args)]
        return self.types.func(function.name, self.types.func_proto(number, parameters), linkage)

    def _relocation(self, section: str, offset: int, insn: Insn, reloc: Reloc) -> Insn:
        add = self.relocs[section].append
        kind = reloc.kind
        if kind == RelocKind.MAP:
            add((offset, R_BPF_64_64, reloc.symbol))
            return insn._replace(src=0, imm=0)
        if kind == RelocKind.DATA:
            name = data_section_name(next(m for m in self.obj.maps if m.name == reloc.symbol))
            add((offset, R_BPF_64_64, name))
            return insn._replace(src=0, imm=reloc.addend)
        if kind == RelocKind.FUNC:
            # libbpf takes the address of a static function only by its section.
            add((offset, R_BPF_64_64, TEXT))
            return insn._replace(src=0, imm=self.places[reloc.symbol][1])
        if kind in (RelocKind.CALL, RelocKind.KFUNC):
            add((offset, R_BPF_64_32, reloc.symbol))
            return insn._replace(src=BPF_PSEUDO_CALL, imm=-1, off=0)
        raise UnsupportedError(f"a relocation of kind '{kind}' against {reloc.symbol} cannot be written")

    def _core(self, offset: int, insn: Insn, reloc: Reloc) -> tuple[Insn, CoreInfo]:
        """The instruction with the local value in it, which loaders check, and the relocation."""
        from tracebee.btf.core import resolve
        from tracebee.btf.core_patch import patch

        assert reloc.core is not None
        assert self.local is not None
        if insn.off and not insn.is_wide and reloc.core.kind == ck.BPF_CORE_FIELD_BYTE_OFFSET:
            raise UnsupportedError(f"an access {insn.off} bytes into {reloc.core.access} cannot be written")
        (patched,) = patch(insn, resolve(reloc.core, None, self.local.kernel))
        type_id, access = self.local.locate(reloc.core)
        return patched, CoreInfo(offset, type_id, self.types.string(access), reloc.core.kind)

    # Maps and data.

    def _maps(self) -> None:
        variables = []
        at = 0
        number = None
        declared = [m for m in self.obj.maps if m.contents is None]
        if declared:
            number = self._section(".maps", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, b"", align=8)
        for definition in declared:
            type_id, size = self._map_type(definition)
            variables.append((self.types.var(definition.name, type_id), at, size))
            assert number is not None
            self.symbols.append(_Symbol(definition.name, number, at, size, STT_OBJECT, STB_GLOBAL))
            at += size
        if declared:
            self._set_contents(".maps", bytes(at))
            self.types.datasec(".maps", at, variables)
        for definition in self.obj.maps:
            if definition.contents is not None:
                self._data(definition)

    def _map_type(self, definition: MapDef) -> tuple[int, int]:
        if definition.inner is not None or definition.values:
            raise UnsupportedError(f"map {definition.name}: maps of maps and static contents are not written")
        entries = definition.max_entries
        if definition.type == uapi.BPF_MAP_TYPE_RINGBUF:
            entries = entries or _RING_BUFFER
        values = (
            ("type", definition.type),
            ("key_size", definition.key_size),
            ("value_size", definition.value_size),
            ("max_entries", entries),
            ("map_flags", definition.flags),
            ("map_extra", definition.extra),
        )
        integer = self.types.integer("int", 4, signed=True)
        members: list[tuple[str, int, int]] = []
        for name, value in values:
            if value:
                pointer = self.types.ptr(self.types.array(integer, value))
                members.append((name, pointer, 64 * len(members)))
        return self.types.struct("", 8 * len(members), members), 8 * len(members)

    def _data(self, definition: MapDef) -> None:
        assert definition.contents is not None
        name = data_section_name(definition)
        flags = SHF_ALLOC | (0 if definition.frozen else SHF_WRITE)
        number = self._section(name, SHT_PROGBITS, flags, definition.contents, align=8)
        size = len(definition.contents)
        byte = self.types.integer("unsigned char", 1)
        variable = self.types.var(definition.name.strip(".").replace(".", "_"), self.types.array(byte, size))
        self.types.datasec(name, size, [(variable, 0, size)])
        symbol = definition.name.strip(".").replace(".", "_")
        self.symbols.append(_Symbol(symbol, number, 0, size, STT_OBJECT, STB_GLOBAL))

    def _externs(self) -> None:
        """Kernel functions that are called: undefined symbols, and their types in ``.ksyms``."""
        called: dict[str, bool] = {}
        for _, function in self._functions():
            for reloc in function.relocs:
                if reloc.kind == RelocKind.KFUNC:
                    called[reloc.symbol] = reloc.weak
        if not called:
            return
        # What the kernel takes is checked against its own prototype; here any will do.
        proto = self.types.func_proto(self.types.integer("long", 8, signed=True), [])
        rows = []
        for name, weak in called.items():
            self.symbols.append(_Symbol(name, SHN_UNDEF, 0, 0, STT_NOTYPE, STB_WEAK if weak else STB_GLOBAL))
            rows.append((self.types.func(name, proto, BTF_FUNC_EXTERN), 0, 0))
        self.types.datasec(".ksyms", 0, rows)

    def _text_section(self, name: str, text: str) -> None:
        data = text.encode() + b"\0"
        number = self._section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, data)
        variable = self.types.var(
            f"_{name}", self.types.array(self.types.integer("char", 1, signed=True), len(data))
        )
        self.types.datasec(name, len(data), [(variable, 0, len(data))])
        self.symbols.append(_Symbol(f"_{name}", number, 0, len(data), STT_OBJECT, STB_GLOBAL))

    # The file.

    def _section(
        self,
        name: str,
        kind: int,
        flags: int,
        data: bytes,
        *,
        align: int = 1,
        link: int = 0,
        info: int = 0,
        entry: int = 0,
    ) -> int:
        self.sections.append((name, kind, flags, data, link, info, align, entry))
        self.numbers[name] = len(self.sections) - 1
        return self.numbers[name]

    def _set_contents(self, name: str, data: bytes) -> None:
        number = self.numbers[name]
        row = self.sections[number]
        self.sections[number] = (*row[:3], data, *row[4:])

    def _file(self) -> bytes:
        """Symbols (local ones first), relocation sections, string tables, headers."""
        referred = {symbol for rows in self.relocs.values() for _, _, symbol in rows}
        for name in (TEXT, *self.numbers):
            if name in referred and name in self.numbers and not any(s.name == name for s in self.symbols):
                self.symbols.append(_Symbol("", self.numbers[name], 0, 0, STT_SECTION, STB_LOCAL))
        self.symbols.sort(key=lambda s: s.binding != STB_LOCAL)
        index = {s.name: n for n, s in enumerate(self.symbols) if s.name}
        section_index = {s.section: n for n, s in enumerate(self.symbols) if s.type == STT_SECTION}
        strings = _Strings()
        table = b"".join(
            struct.pack(
                "<IBBHQQ", strings.add(s.name), s.binding << 4 | s.type, 0, s.section, s.value, s.size
            )
            for s in self.symbols
        )
        locals_count = sum(1 for s in self.symbols if s.binding == STB_LOCAL)
        symtab = len(self.sections) + sum(1 for rows in self.relocs.values() if rows)
        for name, rows in self.relocs.items():
            if rows:
                body = b"".join(
                    struct.pack(
                        "<QQ",
                        offset,
                        (index.get(symbol) or section_index[self.numbers[symbol]]) << 32 | kind,
                    )
                    for offset, kind, symbol in sorted(rows)
                )
                self._section(
                    f".rel{name}", SHT_REL, 0, body, align=8, link=symtab, info=self.numbers[name], entry=16
                )
        self._section(".symtab", SHT_SYMTAB, 0, table, align=8, link=symtab + 1, info=locals_count, entry=24)
        self._section(".strtab", SHT_STRTAB, 0, b"")
        names = [strings.add(row[0]) for row in self.sections]
        self._set_contents(".strtab", strings.data())
        return _assemble(self.sections, names)


class _Strings:
    def __init__(self) -> None:
        self._offsets = {"": 0}
        self._data = bytearray(1)

    def add(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self._data)
            self._data += text.encode() + b"\0"
        return self._offsets[text]

    def data(self) -> bytes:
        return bytes(self._data)


def _assemble(sections: list[tuple[str, int, int, bytes, int, int, int, int]], names: list[int]) -> bytes:
    body = bytearray(64)
    headers = b""
    for name, (_, kind, flags, data, link, info, align, entry) in zip(names, sections, strict=True):
        body += bytes(-len(body) % max(align, 1))
        offset = len(body) if kind else 0
        body += data
        headers += struct.pack(
            "<IIQQQQIIQQ", name, kind, flags, 0, offset, len(data), link, info, align, entry
        )
    body += bytes(-len(body) % 8)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    body[:64] = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        ET_REL,
        EM_BPF,
        1,
        0,
        0,
        len(body),
        0,
        64,
        0,
        0,
        64,
        len(sections),
        len(sections) - 1,
    )
    return bytes(body) + headers
