"""Several objects linked into one, as ``bpftool gen object`` links files.

Sections of one name are put one behind the other; what one object declares ``extern`` and another defines is
tied together; weak definitions give way; static names stay apart.
"""

from __future__ import annotations

from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG, ONCE
from tracebee.obj.externs import place_settings
from tracebee.obj.link_names import Part, check_uses, choose_definitions
from tracebee.obj.link_types import merge_types, write_types
from tracebee.obj.map_section import unused_name
from tracebee.obj.model import Export, MapDef, Object, Reloc, RelocKind, SectionDef, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tracebee.obj.model import Extern, Function, ProgramDef, StructOps


def link_objects(objects: Sequence[Object], files: Sequence[str] = ()) -> Object:
    """One object of all, named after the first.

    What none of them defines stays extern: the result can be linked again.

    :param files: what errors call the objects; their names by default.
    :raises DecodeError: a name is defined twice, or declared otherwise than it is defined; sections, licenses
        or versions differ.
    """
    if len(objects) == 1:
        return objects[0]
    return _Linker(objects, files or [obj.name for obj in objects]).link()


def link_files(paths: Sequence[str]) -> Object:
    """The objects in files, linked; errors name the files.

    :raises DecodeError: one is no BPF object, or they do not fit each other. OSError: it cannot be read.
    """
    from tracebee.obj.elf_reader import read_object

    return link_objects([read_object(path) for path in paths], paths)


class _Linker:
    def __init__(self, objects: Sequence[Object], files: Sequence[str]) -> None:
        self.merged = merge_types([obj.btf for obj in objects])
        rows = zip(objects, files, self.merged.ids, strict=True)
        self.parts = [Part(obj, file, ids) for obj, file, ids in rows]
        self.settings: dict[str, Extern] = {}

    def link(self) -> Object:
        first = self.parts[0].obj
        order = self._same("order", "byte order")
        self.owners = choose_definitions(self.parts)
        counts = check_uses(self.merged.btf, self.parts, self.owners)
        externs = self._externs()
        self._rename({e.name for e in externs})
        exports = self._exports()
        self.hidden = frozenset(e.name for e in exports if e.hidden)
        sections = self._sections()
        maps = self._data_maps(externs)
        strings = [
            text
            for part in self.parts
            for f in (*(p.function for p in part.obj.programs), *part.obj.functions)
            for line in f.lines
            for text in (line.file, line.text)
        ]
        shifts = [part.shifts for part in self.parts]
        btf, new = write_types(self.merged, shifts, counts, dict.fromkeys(strings))
        for part in self.parts:
            part.ids = {old: new[small] for old, small in part.ids.items()}
        return Object(
            name=first.name,
            license=self._same("license"),
            maps=(*self._own_maps(), *(m._replace(value_type_id=new[m.value_type_id]) for m in maps)),
            programs=tuple(self._programs()),
            functions=tuple(self._functions()),
            btf=btf if any(part.obj.btf for part in self.parts) else b"",
            version=self._same("version"),
            metadata=self._script(),
            variables=tuple(self._variables(new)),
            externs=tuple(e._replace(type_id=new[e.type_id]) for e in externs),
            struct_ops=tuple(self._struct_ops()),
            exports=tuple(exports),
            sections=tuple(sections),
            order=order,
        )

    def _same(self, field: str, words: str = "") -> Any:
        """What the objects that say it agree on; ``words`` is what errors call it."""
        said: dict[Any, str] = {}
        for part in self.parts:
            value = getattr(part.obj, field)
            if value:
                said.setdefault(value, part.file)
        if len(said) > 1:
            (one, name), (other, second) = list(said.items())[:2]
            raise DecodeError(f"{words or field} of {name} is {one!r}, of {second} {other!r}")
        return next(iter(said), getattr(self.parts[0].obj, field))

    def _script(self) -> bytes:
        """What the one part that was built from a script says of it."""
        found = [part for part in self.parts if part.obj.metadata]
        if len(found) > 1:
            raise DecodeError(
                f"{found[0].file} and {found[1].file} are both built from scripts",
                hint="a file holds one script: put their probes into one, and build that",
            )
        return found[0].obj.metadata if found else b""

    # Names.

    def _rename(self, externs: set[str]) -> None:
        """Static names that another object has too get a number behind them."""
        functions, maps = self.owners.keys() | externs, self.owners.keys() | externs
        for part in self.parts:
            own = [p.name for p in part.obj.programs] + [f.name for f in part.obj.functions]
            for name in own:
                part.functions[name] = name if name in part.exports else unused_name(name, functions)
            for definition in part.obj.maps:
                name = definition.name
                exported = definition.contents is not None or name in part.exports
                part.maps[name] = name if exported else unused_name(name, maps)

    def _exports(self) -> list[Export]:
        found = []
        for name, owner in self.owners.items():
            hidden = any(p.exports[name].hidden for p in self.parts if name in p.exports)
            hidden |= any(e.hidden for p in self.parts for e in p.obj.externs if e.name == name)
            found.append(owner.exports[name]._replace(hidden=hidden))
        return found

    def _externs(self) -> list[Extern]:
        """What stays extern: each once, weak if all are; their types are ids of the merged types."""
        found: dict[str, Extern] = {}
        for part in self.parts:
            for extern in part.obj.externs:
                known = found.get(extern.name)
                if extern.name in self.owners:
                    continue
                if known is None:
                    found[extern.name] = extern._replace(type_id=part.ids[extern.type_id])
                else:
                    weak, hidden = known.weak and extern.weak, known.hidden or extern.hidden
                    found[extern.name] = known._replace(weak=weak, hidden=hidden)
        wanted = [(e.name, e.type_id, e.weak) for e in found.values() if e.kind == "kconfig"]
        self.settings = {e.name: e for e in place_settings(self.merged.btf, wanted)}
        self.weak = {name: extern.weak for name, extern in found.items()}
        return [self.settings.get(name, extern) for name, extern in found.items()]

    # Maps and data.

    def _sections(self) -> list[SectionDef]:
        """The files' sections, each once, with the contents that only they have."""
        joined: dict[str, tuple[SectionDef, Part]] = {}
        for part in self.parts:
            for section in part.obj.sections:
                known, owner = joined.get(section.name, (None, part))
                if known is None:
                    known = section._replace(contents=section.contents and b"", variables=())
                elif any(getattr(known, f) != getattr(section, f) for f in ("type", "flags", "entry_size")):
                    raise DecodeError(
                        f"section {section.name} of {part.file} is not of the kind it has in {owner.file}",
                        hint="declare what lies in it alike (const or not, code or data)",
                    )
                elif section.name in ONCE:
                    continue
                known = known._replace(align=max(known.align, section.align))
                if known.contents is not None and section.contents is not None:
                    contents = known.contents + bytes(-len(known.contents) % known.align)
                    part.shifts[section.name] = shift = len(contents)
                    variables = (
                        v._replace(offset=v.offset + shift) for v in section.variables if part.keeps(v)
                    )
                    known = known._replace(
                        contents=contents + section.contents, variables=(*known.variables, *variables)
                    )
                joined[section.name] = known, owner
        return [section for section, _ in joined.values()]

    def _data_maps(self, externs: list[Extern]) -> list[MapDef]:
        """The data sections, joined; types are ids of the merged types."""
        joined: dict[str, MapDef] = {}
        for part in self.parts:
            for section in part.obj.maps:
                if section.contents is None:
                    continue
                known = joined.get(section.name)
                if known is None or section.name == KCONFIG:
                    part.shifts[section.name] = 0
                    joined[section.name] = section._replace(value_type_id=part.ids[section.value_type_id])
                    continue
                assert known.contents is not None
                align = max(known.align, section.align)
                contents = known.contents + bytes(-len(known.contents) % align)
                part.shifts[section.name] = len(contents)
                contents += section.contents
                joined[section.name] = known._replace(
                    contents=contents, value_size=len(contents), align=align
                )
        if KCONFIG in joined:
            size = max(e.offset + e.size for e in externs if e.kind == "kconfig")
            joined[KCONFIG] = joined[KCONFIG]._replace(contents=bytes(size), value_size=size)
        return list(joined.values())

    def _own_maps(self) -> list[MapDef]:
        found = []
        for part in self.parts:
            for definition in part.obj.maps:
                if definition.contents is None and definition.name not in part.dropped:
                    values = tuple(
                        (index, part.maps.get(name) or part.functions.get(name, name))
                        for index, name in definition.values
                    )
                    changed = _with_types(definition, part.ids)
                    found.append(changed._replace(name=part.maps[definition.name], values=values))
        return found

    def _variables(self, new: dict[int, int]) -> list[Variable]:
        found = [Variable(e.name, KCONFIG, e.offset, e.size, new[e.type_id]) for e in self.settings.values()]
        for part in self.parts:
            found += [
                v._replace(offset=v.offset + part.shifts[v.map], type_id=part.ids[v.type_id])
                for v in part.variables()
                if part.keeps(v)
            ]
        return found

    def _struct_ops(self) -> list[StructOps]:
        found = []
        for part in self.parts:
            for ops in part.obj.struct_ops:
                if ops.map in part.dropped:
                    continue
                members = tuple((offset, part.functions.get(name, name)) for offset, name in ops.members)
                found.append(
                    ops._replace(map=part.maps[ops.map], type_id=part.ids[ops.type_id], members=members)
                )
        return found

    # Code.

    def _programs(self) -> list[ProgramDef]:
        return [
            program._replace(function=self._function(part, program.function))
            for part in self.parts
            for program in part.obj.programs
            if program.name not in part.dropped
        ]

    def _functions(self) -> list[Function]:
        return [
            self._function(part, function)
            for part in self.parts
            for function in part.obj.functions
            if function.name not in part.dropped
        ]

    def _function(self, part: Part, function: Function) -> Function:
        return function._replace(
            name=part.functions[function.name],
            type_id=part.ids[function.type_id],
            is_global=function.is_global and function.name not in self.hidden,
            exception_callback=part.functions.get(function.exception_callback, function.exception_callback),
            relocs=tuple(self._reloc(part, reloc) for reloc in function.relocs),
        )

    def _reloc(self, part: Part, reloc: Reloc) -> Reloc:
        kind = reloc.kind
        if kind == RelocKind.CORE and reloc.core is not None:
            return reloc._replace(core=reloc.core._replace(type_id=part.ids[reloc.core.type_id]))
        if kind == RelocKind.MAP:
            return reloc._replace(symbol=part.maps[reloc.symbol])
        if kind in (RelocKind.CALL, RelocKind.FUNC):
            return reloc._replace(symbol=part.functions.get(reloc.symbol, reloc.symbol))
        if kind == RelocKind.EXTERN:
            return self._resolved(reloc)
        if kind == RelocKind.DATA:
            return self._data(part, reloc)
        return reloc._replace(weak=self.weak[reloc.symbol]) if reloc.symbol in self.weak else reloc

    def _data(self, part: Part, reloc: Reloc) -> Reloc:
        """A place in a data section, where it is now; in the definition that counts, if another does."""
        if reloc.symbol == KCONFIG:
            old = next(e for e in part.obj.externs if e.kind == "kconfig" and e.offset == reloc.addend)
            return reloc._replace(addend=self.settings[old.name].offset)
        for variable in part.variables():
            inside = reloc.addend - variable.offset
            replaced = not part.keeps(variable) and variable.map == reloc.symbol
            if replaced and 0 <= inside < variable.size:
                return self._resolved(Reloc(reloc.at, RelocKind.EXTERN, variable.name, inside))
        return reloc._replace(addend=reloc.addend + part.shifts[reloc.symbol])

    def _resolved(self, reloc: Reloc) -> Reloc:
        """What a reference to another object's map, variable or function is in the whole."""
        owner = self.owners.get(reloc.symbol)
        if owner is None:
            return reloc
        for variable in owner.variables():
            if variable.name == reloc.symbol and not variable.is_static:
                addend = variable.offset + owner.shifts[variable.map] + reloc.addend
                return Reloc(reloc.at, RelocKind.DATA, variable.map, addend)
        if any(m.name == reloc.symbol for m in owner.obj.maps):
            return Reloc(reloc.at, RelocKind.MAP, reloc.symbol)
        return Reloc(reloc.at, RelocKind.FUNC, reloc.symbol)


def _with_types(definition: MapDef, ids: Mapping[int, int]) -> MapDef:
    return definition._replace(
        key_type_id=ids[definition.key_type_id],
        value_type_id=ids[definition.value_type_id],
        type_id=ids[definition.type_id],
        inner=None if definition.inner is None else _with_types(definition.inner, ids),
    )
