"""An object of our own making as clang would have left it: with types for its functions, maps and data.

Maps become BTF-defined, data maps data sections, and relocations by name CO-RE relocations against types of
the object's own.
"""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.kinds import BTF_FUNC_EXTERN, BTF_FUNC_GLOBAL, BTF_FUNC_STATIC
from tracebee.elf.constants import SHF_ALLOC, SHF_WRITE, SHT_PROGBITS
from tracebee.errors import UnsupportedError
from tracebee.obj.core_types import LocalTypes
from tracebee.obj.elf_layout import KSYMS, LICENSE, MAPS, VERSION
from tracebee.obj.model import Export, Extern, MapDef, Object, Reloc, RelocKind, SectionDef, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.btf.reader import Btf
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Function

# Where the engine would choose by the machine, an object file must say a number.
_RING_BUFFER = 1 << 22
# The kernel's functions that scripts call (kernel/bpf/bpf_iter.c): result and parameters.
_KERNEL_FUNCTIONS = {
    "bpf_iter_num_new": ("int", "struct bpf_iter_num *", "int", "int"),
    "bpf_iter_num_next": ("int *", "struct bpf_iter_num *"),
    "bpf_iter_num_destroy": ("void", "struct bpf_iter_num *"),
}


def described(obj: Object, kernel: Btf | None = None) -> Object:
    """The object with BTF.

    :param kernel: the types that relocations by name were compiled against; needed when there are any.
    :raises UnsupportedError: the object has what only C can express, or a relocation that CO-RE has no
        form for.
    """
    return _Describer(obj, kernel).run()


def data_section_name(definition: MapDef) -> str:
    """The section a data map lies in: ``.rodata.NAME`` or ``.data.NAME``, or its own name if it is one."""
    if definition.name.startswith("."):
        return definition.name
    return f".rodata.{definition.name}" if definition.frozen else f".data.{definition.name}"


class _Describer:
    def __init__(self, obj: Object, kernel: Btf | None) -> None:
        if obj.struct_ops or any(e.kind != "kfunc" for e in obj.externs):
            raise UnsupportedError(f"{obj.name}: struct_ops and externs without types cannot be written")
        self.obj = obj
        self.types = Builder("little")
        self.local = None if kernel is None else LocalTypes(self.types, kernel)
        self.sections = {m.name: data_section_name(m) for m in obj.maps if m.contents is not None}
        self.any_line = next((n for f in self._functions() for n in f.lines), None)

    def run(self) -> Object:
        obj = self.obj
        self._note_relocations()
        maps, variables = self._maps()
        programs = [p._replace(function=self._function(p.function, is_program=True)) for p in obj.programs]
        functions = [self._function(f) for f in obj.functions]
        externs = self._externs()
        sections = list(self._own_sections())
        names = [p.name for p in programs] + [f.name for f in functions if f.is_global]
        names += [m.name for m in maps if m.contents is None] + [v.name for v in variables]
        return obj._replace(
            maps=tuple(maps),
            programs=tuple(programs),
            functions=tuple(functions),
            btf=self.types.to_bytes(),
            variables=tuple(variables),
            externs=tuple(externs),
            exports=tuple(Export(name) for name in names),
            sections=tuple(sections),
        )

    # Code.

    def _functions(self) -> Iterator[Function]:
        yield from (p.function for p in self.obj.programs)
        yield from self.obj.functions

    def _note_relocations(self) -> None:
        for function in self._functions():
            for reloc in function.relocs:
                if reloc.core is not None:
                    if self.local is None:
                        raise UnsupportedError(f"{function.name}: CO-RE relocations need the kernel's types")
                    self.local.note(reloc.core)

    def _function(self, function: Function, *, is_program: bool = False) -> Function:
        insns = list(function.insns)
        relocs = []
        for reloc in function.relocs:
            if reloc.core is not None:
                insns[reloc.at], reloc = self._core(insns[reloc.at], reloc)
            elif reloc.kind == RelocKind.DATA:
                reloc = reloc._replace(symbol=self.sections[reloc.symbol])
            relocs.append(reloc)
        # libbpf wants a line at the start of every function when any has lines.
        lines = function.lines
        if self.any_line and (not lines or lines[0].at):
            lines = (self.any_line._replace(at=0), *lines)
        integer = self.types.integer("long", 8, signed=True)
        proto = self.types.func_proto(integer, [(f"a{i}", integer) for i in range(function.args)])
        linkage = BTF_FUNC_GLOBAL if is_program or function.is_global else BTF_FUNC_STATIC
        return function._replace(
            insns=tuple(insns),
            relocs=tuple(relocs),
            lines=lines,
            type_id=self.types.func(function.name, proto, linkage),
        )

    def _core(self, insn: Insn, reloc: Reloc) -> tuple[Insn, Reloc]:
        """The instruction with the local value in it, which loaders check, and the relocation."""
        from tracebee.btf.core import resolve
        from tracebee.btf.core_patch import patch

        assert reloc.core is not None
        assert self.local is not None
        if insn.off and not insn.is_wide and reloc.core.kind == ck.BPF_CORE_FIELD_BYTE_OFFSET:
            raise UnsupportedError(f"an access {insn.off} bytes into {reloc.core.access} cannot be written")
        (patched,) = patch(insn, resolve(reloc.core, None, self.local.kernel))
        type_id, spec = self.local.locate(reloc.core)
        return patched, reloc._replace(core=reloc.core._replace(type_id=type_id, spec=spec))

    # Maps and data.

    def _maps(self) -> tuple[list[MapDef], list[Variable]]:
        maps, rows, variables = [], [], []
        at = 0
        for definition in self.obj.maps:
            if definition.contents is None:
                type_id, size = self._map_type(definition)
                var = self.types.var(definition.name, type_id)
                rows.append((var, at, size))
                maps.append(definition._replace(type_id=var, key_type_id=0, value_type_id=0))
                at += size
        if rows:
            self.types.datasec(MAPS, at, rows)
        for definition in self.obj.maps:
            if definition.contents is not None:
                section = self.sections[definition.name]
                symbol = definition.name.strip(".").replace(".", "_")
                variable, section_id = self._array(symbol, section, "unsigned char", definition.contents)
                variables.append(variable)
                maps.append(definition._replace(name=section, key_type_id=0, value_type_id=section_id))
        return maps, variables

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

    def _array(self, name: str, section: str, element: str, contents: bytes) -> tuple[Variable, int]:
        """A section that is one array of bytes: the variable, and the section's type."""
        size = len(contents)
        type_id = self.types.array(self.types.integer(element, 1, signed=element == "char"), size)
        section_id = self.types.datasec(section, size, [(self.types.var(name, type_id), 0, size)])
        return Variable(name, section, 0, size, type_id), section_id

    def _own_sections(self) -> Iterator[SectionDef]:
        flags = SHF_ALLOC | SHF_WRITE
        texts = [(LICENSE, self.obj.license.encode() + b"\0", 1)]
        if self.obj.version:
            texts.append((VERSION, self.obj.version.to_bytes(4, "little"), 4))
        for name, contents, align in texts:
            variable, _ = self._array(f"_{name}", name, "char", contents)
            yield SectionDef(name, SHT_PROGBITS, flags, align, 0, contents, (variable,))

    def _externs(self) -> list[Extern]:
        """Kernel functions that are called."""
        called: dict[str, bool] = {}
        for function in self._functions():
            for reloc in function.relocs:
                if reloc.kind == RelocKind.KFUNC:
                    called[reloc.symbol] = reloc.weak
        if not called:
            return []
        types = {name: self._kernel_function(name) for name in called}
        self.types.datasec(KSYMS, 0, [(type_id, 0, 0) for type_id in types.values()])
        return [Extern(name, "kfunc", types[name], weak) for name, weak in called.items()]

    def _kernel_function(self, name: str) -> int:
        """Its declaration, which loaders compare with the kernel's."""
        if name not in _KERNEL_FUNCTIONS:
            raise UnsupportedError(f"{self.obj.name}: the type of the kernel's function {name} is not known")
        b = self.types
        number = b.integer("int", 4, signed=True)
        word = b.array(b.integer("unsigned long long", 8), 1)
        types = {"void": 0, "int": number, "int *": b.ptr(number)}
        types["struct bpf_iter_num *"] = b.ptr(b.struct("bpf_iter_num", 8, [("__opaque", word, 0)]))
        result, *parameters = _KERNEL_FUNCTIONS[name]
        proto = b.func_proto(types[result], [(f"a{i}", types[t]) for i, t in enumerate(parameters)])
        return b.func(name, proto, BTF_FUNC_EXTERN)
