"""Reads a BPF object file, as clang and libbpf's linker make them, into an Object."""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf.kinds import BTF_VAR_STATIC
from tracebee.btf.reader import Btf
from tracebee.elf.constants import (
    SHN_UNDEF,
    STB_LOCAL,
    STB_WEAK,
    STT_OBJECT,
    STT_SECTION,
    STV_HIDDEN,
    STV_INTERNAL,
)
from tracebee.elf.file import ElfFile
from tracebee.errors import DecodeError
from tracebee.obj.btf_fixup import placed_btf
from tracebee.obj.code_section import TEXT, CodeReader, Place
from tracebee.obj.elf_layout import (
    KCONFIG,
    METADATA_SECTION,
    STRUCT_OPS_SECTIONS,
    ElfLayout,
    datasec_variables,
)
from tracebee.obj.externs import read_externs
from tracebee.obj.file_sections import read_sections
from tracebee.obj.map_section import PlacedMap, read_maps
from tracebee.obj.model import ARENA_DATA, Export, MapDef, Object, ProgramDef, StructOps, Variable
from tracebee.obj.sections import section_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.ext import SectionInfo
    from tracebee.elf.file import Section
    from tracebee.obj.elf_layout import ElfReloc
    from tracebee.obj.model import Function


def read_object(path: str, data: bytes | None = None) -> Object:
    """Read a BPF object.

    :param path: the file; with ``data`` only the name that errors use.
    :returns: the object, named after the file up to its first dot.
    :raises DecodeError: it is not a BPF object, or says something that cannot be.
    :raises OSError: the file cannot be opened.
    """
    with ElfFile(path, data) as elf:
        return _Reader(ElfLayout(elf)).read()


class _Reader:
    def __init__(self, layout: ElfLayout) -> None:
        self.layout = layout
        elf = layout.elf
        section = layout.by_name.get(".BTF")
        self.btf = None if section is None else Btf.from_bytes(layout.contents(section), name=elf.path)
        license_section = layout.by_name.get("license")
        self._license = SHN_UNDEF if license_section is None else license_section.number
        self.maps = read_maps(layout, self.btf)
        self.externs = read_externs(layout, self.btf)
        self.code = CodeReader(layout, self.btf, self.maps, self.externs, self._infos())

    def _infos(self) -> dict[str, SectionInfo]:
        section = self.layout.by_name.get(".BTF.ext")
        if section is None or self.btf is None:
            return {}
        from tracebee.btf.ext import parse_ext

        infos = parse_ext(self.layout.contents(section), self.layout.elf.order)
        return {self.btf.string(name): info for name, info in infos.items()}

    def read(self) -> Object:
        layout = self.layout
        programs, functions = [], []
        for place in self.code.places:
            function = self.code.read(place)
            if place.section.name == TEXT:
                functions.append(function)
            elif place.symbol.binding == STB_LOCAL:
                raise DecodeError(
                    f"static program {place.symbol.name} in section {place.section.name} cannot be loaded",
                    hint="make it global, or put a static function that others call in .text (no SEC)",
                )
            else:
                programs.append(self._program(place, function))
        metadata = layout.by_name.get(METADATA_SECTION)
        version = layout.by_name.get("version")
        return Object(
            name=layout.elf.path.rsplit("/", 1)[-1].split(".", 1)[0],
            license=layout.string_section("license"),
            maps=(*(self._with_values(m) for m in self.maps), *self._data_maps(), *self._struct_ops_maps()),
            programs=tuple(programs),
            functions=tuple(functions),
            btf=b"" if self.btf is None else placed_btf(self.btf, layout),
            version=0 if version is None else self._number(version),
            metadata=b"" if metadata is None else layout.contents(metadata),
            variables=tuple(self._variables()),
            externs=tuple(self.externs),
            struct_ops=tuple(ops for ops, _ in self._struct_ops()),
            exports=tuple(self._exports()),
            sections=tuple(read_sections(layout)),
            order=layout.order,
        )

    def _number(self, section: Section) -> int:
        data = self.layout.contents(section)
        if len(data) != 4:
            raise DecodeError(
                f"section {section.name} has {len(data)} bytes",
                hint=f'write __u32 _version SEC("{section.name}")',
            )
        return int.from_bytes(data, self.layout.order)

    def _exports(self) -> list[Export]:
        return [
            Export(s.name, s.binding == STB_WEAK, s.visibility in (STV_HIDDEN, STV_INTERNAL))
            for s in self.layout.symbols
            if s.binding != STB_LOCAL and s.section not in (SHN_UNDEF, self._license) and s.name
        ]

    def _program(self, place: Place, function: Function) -> ProgramDef:
        name = place.section.name
        kind = section_kind(name)
        plain = name.removeprefix("?")
        if kind is None:
            return ProgramDef(function, plain, 0, autoload=not name.startswith("?"))
        target = plain.partition("/")[2] if kind.target else ""
        return ProgramDef(
            function,
            plain,
            kind.type,
            kind.attach_type,
            kind.flags,
            target,
            autoload=not name.startswith("?"),
        )

    # Maps.

    def _with_values(self, placed: PlacedMap) -> MapDef:
        """A map definition with the static contents that relocations of ``.maps`` give it."""
        if placed.values_at < 0:
            return placed.map
        section = self.layout.elf.sections[placed.section]
        ends = [m.offset for m in self.maps if m.section == placed.section and m.offset > placed.offset]
        end = min(ends, default=section.size)
        values = [
            ((reloc.offset - placed.values_at) // 8, self._referred(section, reloc))
            for reloc in self.layout.relocs(section)
            if placed.values_at <= reloc.offset < end
        ]
        definition = placed.map
        if definition.type == uapi.BPF_MAP_TYPE_PROG_ARRAY and definition.max_entries == 0 and values:
            definition = definition._replace(max_entries=values[-1][0] + 1)
        return definition._replace(values=tuple(values))

    def _referred(self, section: Section, reloc: ElfReloc) -> str:
        """The map or function whose address data asks for."""
        symbol = reloc.symbol
        if symbol.section == SHN_UNDEF and symbol.name:
            return symbol.name
        at = symbol.addr
        if symbol.type == STT_SECTION:
            content = self.layout.contents(section)[reloc.offset : reloc.offset + 8]
            at += int.from_bytes(content, self.layout.order)
        for placed in self.maps:
            if (placed.section, placed.offset) == (symbol.section, at):
                return placed.map.name
        function = self.code.at(symbol.section, at)
        if function is None:
            raise DecodeError(f"{section.name} refers to '{symbol.name}', which is no map and no function")
        return function.key

    def _data_maps(self) -> list[MapDef]:
        """An array of one element for each data section, and one for the kconfig values.

        What lies in an arena stands there as a map of that type, which is none of its own.
        """
        found = []
        for section in self.layout.data_sections:
            read_only = section.name.startswith(".rodata")
            data_map = self._data_map(section.name, self.layout.contents(section), read_only=read_only)
            if section.name == ARENA_DATA:
                data_map = data_map._replace(type=uapi.BPF_MAP_TYPE_ARENA)
            found.append(data_map._replace(align=max(section.align, 1)))
        settings = [e for e in self.externs if e.kind == "kconfig"]
        if settings:
            size = max(e.offset + e.size for e in settings)
            found.append(self._data_map(KCONFIG, bytes(size), read_only=True))
        return found

    def _data_map(self, name: str, contents: bytes, *, read_only: bool) -> MapDef:
        from tracebee.btf.kinds import BTF_KIND_DATASEC

        types = [] if self.btf is None else self.btf.find_all(name, BTF_KIND_DATASEC)
        flags = uapi.BPF_F_MMAPABLE | (uapi.BPF_F_RDONLY_PROG if read_only else 0)
        if name == KCONFIG:
            flags = uapi.BPF_F_RDONLY_PROG
        return MapDef(
            name,
            uapi.BPF_MAP_TYPE_ARRAY,
            4,
            len(contents),
            1,
            flags,
            value_type_id=types[0] if types else 0,
            contents=contents,
            frozen=read_only,
        )

    def _variables(self) -> list[Variable]:
        """Global variables of data sections, externs of ``.kconfig`` included."""
        found = [
            Variable(e.name, KCONFIG, e.offset, e.size, e.type_id)
            for e in self.externs
            if e.kind == "kconfig"
        ]
        for section in self.layout.data_sections:
            rows = [] if self.btf is None else datasec_variables(self.btf, section.name)
            # By place where a linker has filled it in, static names being there more than once; else by name.
            types = {n: t for n, t, _, _ in rows} | {(n, at): t for n, t, at, _ in rows}
            for symbol in self.layout.symbols:
                if symbol.section == section.number and symbol.type == STT_OBJECT:
                    var = types.get((symbol.name, symbol.addr)) or types.get(symbol.name, 0)
                    type_id = self.btf.type(var).type_id if var and self.btf is not None else 0
                    static = symbol.binding == STB_LOCAL
                    place = (symbol.name, section.name, symbol.addr, symbol.size)
                    found.append(Variable(*place, type_id, static))
        return found

    # struct_ops.

    def _struct_ops_sections(self) -> list[Section]:
        return [s for s in self.layout.elf.sections if s.name in STRUCT_OPS_SECTIONS]

    def _struct_ops(self) -> list[tuple[StructOps, int]]:
        """Each with the BTF_KIND_VAR it is."""
        found = []
        for section in self._struct_ops_sections():
            if self.btf is None:
                raise DecodeError(
                    f"{section.name} needs BTF to be understood", hint="compile the object with -g"
                )
            data = self.layout.contents(section)
            places = self.layout.places(section)
            for name, var, declared, size in datasec_variables(self.btf, section.name):
                static = self.btf.type(var).linkage == BTF_VAR_STATIC
                offset = places.get((name, static), (declared, 0))[0]
                type_id = self.btf.resolve(self.btf.type(var).type_id)
                size = size or self.btf.size(type_id)
                members = tuple(
                    (r.offset - offset, self._referred(section, r))
                    for r in self.layout.relocs(section)
                    if offset <= r.offset < offset + size
                )
                type_name = self.btf.type(type_id).name
                content = data[offset : offset + size]
                found.append((StructOps(name, type_name, type_id, content, members, section.name), var))
        return found

    def _struct_ops_maps(self) -> list[MapDef]:
        """Their sizes are those of the kernel's own struct, known only where it is loaded."""
        kind = uapi.BPF_MAP_TYPE_STRUCT_OPS
        return [
            MapDef(s.map, kind, 4, 0, 1, uapi.BPF_F_LINK if s.link else 0, type_id=var)
            for s, var in self._struct_ops()
        ]
