"""Several objects linked into one, before it is loaded: what ``bpftool gen object`` does with files.

Data sections of one name are put one behind the other; what one object declares ``extern`` and another
defines is tied together; weak definitions give way; static names stay apart.
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG
from tracebee.obj.externs import place_settings
from tracebee.obj.link_types import agree, merge_types, write_types
from tracebee.obj.map_section import unused_name
from tracebee.obj.model import Export, MapDef, Object, Reloc, RelocKind, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.obj.model import Extern, Function, ProgramDef, StructOps


def link_objects(objects: Sequence[Object]) -> Object:
    """One object of all, named after the first.

    What none of them defines stays extern: the result can be linked again.

    :raises DecodeError: a name is defined twice, or declared otherwise than it is defined; licenses or
        versions differ.
    """
    if len(objects) == 1:
        return objects[0]
    return _Linker(objects).link()


class _Part:
    """One object on its way: what its names and places become."""

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.exports = {e.name: e for e in obj.exports}
        self.functions: dict[str, str] = {}
        self.maps: dict[str, str] = {}
        self.shifts: dict[str, int] = {}  # by data section
        self.dropped: set[str] = set()  # definitions of its own that another object's replace

    def defined(self) -> set[str]:
        """Every name it gives something to."""
        obj = self.obj
        names = {p.name for p in obj.programs} | {f.name for f in obj.functions}
        return names | {m.name for m in obj.maps if m.contents is None} | {v.name for v in self.variables()}

    def variables(self) -> list[Variable]:
        """Those it defines itself."""
        return [v for v in self.obj.variables if v.map != KCONFIG]


class _Linker:
    def __init__(self, objects: Sequence[Object]) -> None:
        self.parts = [_Part(obj) for obj in objects]
        self.merged = merge_types([obj.btf for obj in objects])
        self.owners: dict[str, _Part] = {}
        self.settings: dict[str, Extern] = {}

    def link(self) -> Object:
        first = self.parts[0].obj
        self._choose_definitions()
        externs = self._externs()
        self._check_declarations()
        self._rename()
        exports = self._exports()
        self.hidden = frozenset(e.name for e in exports if e.hidden)
        maps = self._data_maps(externs)
        strings = [
            text
            for part in self.parts
            for f in (*(p.function for p in part.obj.programs), *part.obj.functions)
            for line in f.lines
            for text in (line.file, line.text)
        ]
        btf, new = write_types(
            self.merged,
            [p.shifts for p in self.parts],
            [frozenset(p.dropped) for p in self.parts],
            self.settings,
            self.hidden,
            dict.fromkeys(strings),
        )
        self.ids = [{old: new[small] for old, small in ids.items()} for ids in self.merged.ids]
        return Object(
            name=first.name,
            license=self._same("license"),
            maps=(*self._own_maps(), *(m._replace(value_type_id=new[m.value_type_id]) for m in maps)),
            programs=tuple(self._programs()),
            functions=tuple(self._functions()),
            btf=btf if any(part.obj.btf for part in self.parts) else b"",
            version=self._same("version"),
            metadata=self._same("metadata"),
            variables=tuple(self._variables(new)),
            externs=tuple(e._replace(type_id=new[e.type_id]) for e in externs),
            struct_ops=tuple(self._struct_ops()),
            exports=tuple(exports),
        )

    def _same(self, field: str) -> Any:
        """What the objects that say it agree on."""
        said: dict[Any, str] = {}
        for part in self.parts:
            value = getattr(part.obj, field)
            if value:
                said.setdefault(value, part.obj.name)
        if len(said) > 1:
            (one, name), (other, second) = list(said.items())[:2]
            raise DecodeError(f"{field} of {name} is {one!r}, of {second} {other!r}")
        return next(iter(said), getattr(self.parts[0].obj, field))

    # Names.

    def _choose_definitions(self) -> None:
        """Whose definition of each exported name counts: the one that is not weak, else the first."""
        for part in self.parts:
            names = part.defined()
            for export in part.obj.exports:
                if export.name not in names:
                    continue
                known = self.owners.get(export.name)
                if known is None:
                    self.owners[export.name] = part
                elif export.weak:
                    part.dropped.add(export.name)
                elif known.exports[export.name].weak:
                    known.dropped.add(export.name)
                    self.owners[export.name] = part
                else:
                    raise DecodeError(
                        f"'{export.name}' is defined in {known.obj.name} and in {part.obj.name}",
                        hint="make one of them static, or __weak",
                    )

    def _rename(self) -> None:
        """Static names that another object has too get a number behind them."""
        functions, maps = set(self.owners), set(self.owners)
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
            found.append(owner.exports[name]._replace(hidden=hidden))
        return found

    # What is expected of the kernel.

    def _externs(self) -> list[Extern]:
        """Each once, weak if all are; their types are ids of the merged types."""
        found: dict[str, Extern] = {}
        for part, ids in zip(self.parts, self.merged.ids, strict=True):
            for extern in part.obj.externs:
                known = found.get(extern.name)
                if extern.kind == "object" and extern.name in self.owners:
                    continue
                if known is None:
                    found[extern.name] = extern._replace(type_id=ids[extern.type_id])
                elif known.kind != extern.kind:
                    raise DecodeError(
                        f"extern '{extern.name}' is a {known.kind} here and a {extern.kind} there"
                    )
                else:
                    found[extern.name] = known._replace(weak=known.weak and extern.weak)
        wanted = [(e.name, e.type_id, e.weak) for e in found.values() if e.kind == "kconfig"]
        self.settings = {e.name: e for e in place_settings(self.merged.btf, wanted)}
        self.weak = {name: extern.weak for name, extern in found.items()}
        return [self.settings.get(name, extern) for name, extern in found.items()]

    def _check_declarations(self) -> None:
        """Declarations that another object's definition answers must be of its kind and type."""
        btf = self.merged.btf
        for part, ids in zip(self.parts, self.merged.ids, strict=True):
            for extern in part.obj.externs:
                owner = self.owners.get(extern.name)
                if extern.kind != "object" or owner is None:
                    continue
                definition = next((m for m in owner.obj.maps if m.name == extern.name), None)
                if extern.map is not None and definition is not None:
                    self._check_map(extern.map, definition, part, owner)
                    continue
                declared, defined = ids[extern.type_id], self._type_of(owner, extern.name)
                same = btf.type(declared).kind == btf.type(defined).kind if defined else True
                if extern.map or definition or not same or (defined and not agree(btf, declared, defined)):
                    raise DecodeError(
                        f"'{extern.name}' is declared in {part.obj.name} otherwise than it is defined in "
                        f"{owner.obj.name}"
                    )
        for part in self.parts:
            # A definition that gives way still has to be of the same map.
            for name in part.dropped:
                own = next((m for m in part.obj.maps if m.name == name), None)
                other = next((m for m in self.owners[name].obj.maps if m.name == name), None)
                if own is not None and other is not None:
                    self._check_map(own, other, part, self.owners[name])

    def _type_of(self, part: _Part, name: str) -> int:
        """Merged id of the FUNC or VAR of a definition; 0 when there are no types for it."""
        ids = self.merged.ids[self.parts.index(part)]
        for function in (*(p.function for p in part.obj.programs), *part.obj.functions):
            if function.name == name:
                return ids[function.type_id]
        own = set(ids.values())
        found = self.merged.btf.find_all(name, kinds.BTF_KIND_VAR)
        externs = kinds.BTF_VAR_GLOBAL_EXTERN
        return next((i for i in found if i in own and self.merged.btf.type(i).linkage != externs), 0)

    @staticmethod
    def _check_map(declared: MapDef, defined: MapDef, part: _Part, owner: _Part) -> None:
        for field in (
            "type",
            "key_size",
            "value_size",
            "max_entries",
            "flags",
            "pinning",
            "numa_node",
            "extra",
        ):
            one, other = getattr(declared, field), getattr(defined, field)
            if one != other:
                raise DecodeError(
                    f"map '{declared.name}': {field} is {one} in {part.obj.name}, {other} in {owner.obj.name}"
                )
        if (declared.inner is None) != (defined.inner is None):
            raise DecodeError(f"map '{declared.name}' is a map of maps in one object and not in the other")

    # Maps and data.

    def _data_maps(self, externs: list[Extern]) -> list[MapDef]:
        """The data sections, joined; types are ids of the merged types."""
        joined: dict[str, MapDef] = {}
        for part, ids in zip(self.parts, self.merged.ids, strict=True):
            for section in part.obj.maps:
                if section.contents is None:
                    continue
                known = joined.get(section.name)
                if known is None or section.name == KCONFIG:
                    part.shifts[section.name] = 0
                    joined[section.name] = section._replace(value_type_id=ids[section.value_type_id])
                    continue
                assert known.contents is not None
                padding = -len(known.contents) % section.align
                part.shifts[section.name] = len(known.contents) + padding
                contents = known.contents + bytes(padding) + section.contents
                joined[section.name] = known._replace(
                    contents=contents, value_size=len(contents), align=max(known.align, section.align)
                )
        if KCONFIG in joined:
            size = max(e.offset + e.size for e in externs if e.kind == "kconfig")
            joined[KCONFIG] = joined[KCONFIG]._replace(contents=bytes(size), value_size=size)
        return list(joined.values())

    def _own_maps(self) -> list[MapDef]:
        found = []
        for part, ids in zip(self.parts, self.ids, strict=True):
            for definition in part.obj.maps:
                if definition.contents is None and definition.name not in part.dropped:
                    values = tuple(
                        (index, part.maps.get(name) or part.functions.get(name, name))
                        for index, name in definition.values
                    )
                    changed = _with_types(definition, ids)
                    found.append(changed._replace(name=part.maps[definition.name], values=values))
        return found

    def _variables(self, new: dict[int, int]) -> list[Variable]:
        found = [Variable(e.name, KCONFIG, e.offset, e.size, new[e.type_id]) for e in self.settings.values()]
        for part, ids in zip(self.parts, self.ids, strict=True):
            found += [
                v._replace(offset=v.offset + part.shifts[v.map], type_id=ids[v.type_id])
                for v in part.variables()
                if v.name not in part.dropped
            ]
        return found

    def _struct_ops(self) -> list[StructOps]:
        found = []
        for part, ids in zip(self.parts, self.ids, strict=True):
            for ops in part.obj.struct_ops:
                members = tuple((offset, part.functions.get(name, name)) for offset, name in ops.members)
                found.append(ops._replace(map=part.maps[ops.map], type_id=ids[ops.type_id], members=members))
        return found

    # Code.

    def _programs(self) -> list[ProgramDef]:
        return [
            program._replace(function=self._function(part, ids, program.function))
            for part, ids in zip(self.parts, self.ids, strict=True)
            for program in part.obj.programs
            if program.name not in part.dropped
        ]

    def _functions(self) -> list[Function]:
        return [
            self._function(part, ids, function)
            for part, ids in zip(self.parts, self.ids, strict=True)
            for function in part.obj.functions
            if function.name not in part.dropped
        ]

    def _function(self, part: _Part, ids: dict[int, int], function: Function) -> Function:
        return function._replace(
            name=part.functions[function.name],
            type_id=ids[function.type_id],
            is_global=function.is_global and function.name not in self.hidden,
            exception_callback=part.functions.get(function.exception_callback, function.exception_callback),
            relocs=tuple(self._reloc(part, ids, reloc) for reloc in function.relocs),
        )

    def _reloc(self, part: _Part, ids: dict[int, int], reloc: Reloc) -> Reloc:
        kind = reloc.kind
        if kind == RelocKind.CORE and reloc.core is not None:
            return reloc._replace(core=reloc.core._replace(type_id=ids[reloc.core.type_id]))
        if kind == RelocKind.MAP:
            return reloc._replace(symbol=part.maps[reloc.symbol])
        if kind in (RelocKind.CALL, RelocKind.FUNC):
            return reloc._replace(symbol=part.functions.get(reloc.symbol, reloc.symbol))
        if kind == RelocKind.EXTERN:
            return self._resolved(reloc)
        if kind == RelocKind.DATA:
            return self._data(part, reloc)
        return reloc._replace(weak=self.weak[reloc.symbol]) if reloc.symbol in self.weak else reloc

    def _data(self, part: _Part, reloc: Reloc) -> Reloc:
        """A place in a data section, where it is now; in the definition that counts, if another does."""
        if reloc.symbol == KCONFIG:
            old = next(e for e in part.obj.externs if e.kind == "kconfig" and e.offset == reloc.addend)
            return reloc._replace(addend=self.settings[old.name].offset)
        for variable in part.variables():
            inside = reloc.addend - variable.offset
            if variable.map == reloc.symbol and variable.name in part.dropped and 0 <= inside < variable.size:
                return self._resolved(Reloc(reloc.at, RelocKind.EXTERN, variable.name, inside))
        return reloc._replace(addend=reloc.addend + part.shifts[reloc.symbol])

    def _resolved(self, reloc: Reloc) -> Reloc:
        """What a reference to another object's map, variable or function is in the whole."""
        owner = self.owners.get(reloc.symbol)
        if owner is None:
            return reloc
        for variable in owner.variables():
            if variable.name == reloc.symbol:
                addend = variable.offset + owner.shifts[variable.map] + reloc.addend
                return Reloc(reloc.at, RelocKind.DATA, variable.map, addend)
        if any(m.name == reloc.symbol for m in owner.obj.maps):
            return Reloc(reloc.at, RelocKind.MAP, reloc.symbol)
        return Reloc(reloc.at, RelocKind.FUNC, reloc.symbol)


def _with_types(definition: MapDef, ids: dict[int, int]) -> MapDef:
    return definition._replace(
        key_type_id=ids[definition.key_type_id],
        value_type_id=ids[definition.value_type_id],
        inner=None if definition.inner is None else _with_types(definition.inner, ids),
    )
