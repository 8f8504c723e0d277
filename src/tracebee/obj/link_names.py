"""Names that several objects share: whose definition counts, and whether all who use one mean the same.

The rules are those of libbpf's linker: of two definitions one must be weak, and gives way (of two weak ones
the later); all declarations and definitions of a name must be of one type, maps be defined alike in all of
their fields; hidden anywhere is hidden everywhere.
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG, ONCE
from tracebee.obj.link_types import EXTERN_LINKAGE, mismatch
from tracebee.obj.map_section import map_definition
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracebee.btf import Btf
    from tracebee.obj.model import Extern, MapDef, Object, Variable


class Part:
    """One object on its way: what its names and places become.

    :ivar file: what errors call it.
    :ivar ids: its type ids among those of all objects.
    """

    def __init__(self, obj: Object, file: str, ids: Mapping[int, int]) -> None:
        self.obj, self.file, self.ids = obj, file, ids
        self.exports = {e.name: e for e in obj.exports}
        self.functions: dict[str, str] = {}
        self.maps: dict[str, str] = {}
        self.shifts: dict[str, int] = {}  # by section
        self.dropped: set[str] = set()  # definitions of its own that another object's replace

    def defined(self) -> set[str]:
        """Every exported name it gives something to."""
        obj = self.obj
        names = {p.name for p in obj.programs} | {f.name for f in obj.functions}
        names |= {m.name for m in obj.maps if m.contents is None}
        names |= {v.name for v in self.variables() if not v.is_static}
        for section in obj.sections:
            if section.name not in ONCE:
                names |= {v.name for v in section.variables if not v.is_static}
        return names & self.exports.keys()

    def variables(self) -> list[Variable]:
        """Those it defines itself, static ones included."""
        return [v for v in self.obj.variables if v.map != KCONFIG]

    def keeps(self, variable: Variable) -> bool:
        """Whether a variable of its own counts."""
        return variable.is_static or variable.name not in self.dropped


class Use(NamedTuple):
    """One object's declaration or definition of a name.

    :param what: ``function``, ``variable`` or ``map``, of an object or (in as many words) of the kernel.
    :param type_id: its BTF_KIND_VAR or BTF_KIND_FUNC among all objects' types, 0 when there is none.
    """

    part: Part
    what: str
    type_id: int
    is_definition: bool


def choose_definitions(parts: list[Part]) -> dict[str, Part]:
    """Whose definition of each exported name counts; the others' are marked as dropped.

    :raises DecodeError: two that are not weak.
    """
    owners: dict[str, Part] = {}
    for part in parts:
        names = part.defined()
        for export in part.obj.exports:
            if export.name not in names:
                continue
            known = owners.get(export.name)
            if known is None:
                owners[export.name] = part
            elif export.weak:
                part.dropped.add(export.name)
            elif known.exports[export.name].weak:
                known.dropped.add(export.name)
                owners[export.name] = part
            else:
                raise DecodeError(
                    f"'{export.name}' is defined in {known.file} and in {part.file}",
                    hint="make one of them static, or __weak",
                )
    return owners


def check_uses(btf: Btf, parts: list[Part], owners: Mapping[str, Part]) -> dict[str, int]:
    """Compare all uses of each name with the one that counts.

    :param btf: the types of all objects.
    :returns: by name, the BTF_KIND_VAR or BTF_KIND_FUNC that counts: the definition's, else that of the first
        declaration.
    :raises DecodeError: two that do not agree.
    """
    uses: dict[str, list[Use]] = {}
    for part in parts:
        for name, use in _uses(btf, part):
            uses.setdefault(name, []).append(use)
    counts = {}
    for name, found in uses.items():
        owner = owners.get(name)
        first = next((u for u in found if u.is_definition and u.part is owner), found[0])
        for use in found:
            _check(btf, name, first, use)
        if first.type_id:
            counts[name] = first.type_id
    return counts


def _uses(btf: Btf, part: Part) -> Iterator[tuple[str, Use]]:
    """Every name of an object that is not static, with its use there."""
    obj = part.obj
    types = _named_types(btf, part)
    names = part.defined()
    functions = (*(p.function for p in obj.programs), *obj.functions)
    for function in functions:
        if function.name in names:
            yield function.name, Use(part, "function", part.ids[function.type_id], True)
    for definition in obj.maps:
        if definition.name in names and definition.contents is None:
            yield definition.name, Use(part, "map", part.ids[definition.type_id], True)
    for section in obj.sections:
        for variable in section.variables:
            # Legacy maps lie in such a section too.
            if variable.name in names and not any(m.name == variable.name for m in obj.maps):
                yield variable.name, Use(part, "variable", types.get((variable.name, False), 0), True)
    for variable in part.variables():
        if variable.name in names and not variable.is_static:
            yield variable.name, Use(part, "variable", types.get((variable.name, False), 0), True)
    for extern in obj.externs:
        type_id = types.get((extern.name, True), 0)
        yield extern.name, Use(part, _what(btf, extern, type_id), type_id, False)


def _what(btf: Btf, extern: Extern, type_id: int) -> str:
    if extern.kind in _OF_THE_KERNEL:
        return f"{_OF_THE_KERNEL[extern.kind]} of the kernel"
    if extern.map is not None:
        return "map"
    return "function" if btf.type(type_id).kind == kinds.BTF_KIND_FUNC else "variable"


_OF_THE_KERNEL = {"kconfig": "setting", "ksym": "variable", "kfunc": "function"}


def _named_types(btf: Btf, part: Part) -> dict[tuple[str, bool], int]:
    """VARs and FUNCs of an object that are not static: (name, whether it is extern)."""
    found: dict[tuple[str, bool], int] = {}
    for type_id in sorted(set(part.ids.values())):
        record = btf.type(type_id)
        if record.kind in EXTERN_LINKAGE and record.linkage:
            found.setdefault((record.name, record.linkage == EXTERN_LINKAGE[record.kind]), type_id)
    return found


def _check(btf: Btf, name: str, one: Use, other: Use) -> None:
    if one is other:
        return
    if one.what != other.what:
        raise DecodeError(
            f"'{name}' is a {one.what} in {one.part.file} and a {other.what} in {other.part.file}"
        )
    if not one.type_id or not other.type_id or one.type_id == other.type_id:
        return
    if one.what == "map":
        _check_maps(btf, name, one, other)
        return
    reason = mismatch(btf, one.type_id, other.type_id)
    if reason:
        how = "declared in {} otherwise than it is {} in {}".format(
            other.part.file, "defined" if one.is_definition else "declared", one.part.file
        )
        if other.is_definition:
            how = f"defined in {other.part.file} otherwise than in {one.part.file}"
        raise DecodeError(f"'{name}' is {how}: {reason}")


def _check_maps(btf: Btf, name: str, one: Use, other: Use) -> None:
    maps = [map_definition(btf, name, btf.type(use.type_id).type_id)[0] for use in (one, other)]
    field, mine, theirs = _difference(btf, maps[0], maps[1])
    if field:
        raise DecodeError(
            f"map '{name}': {field} is {mine} in {one.part.file}, {theirs} in {other.part.file}",
            hint="declare it with all fields of its definition",
        )


# What a declaration must say as the definition does.
_MAP_FIELDS = ("type", "key_size", "value_size", "max_entries", "flags", "pinning", "numa_node")


def _difference(btf: Btf, one: MapDef, other: MapDef) -> tuple[str, object, object]:
    """The first field in which two definitions of a map differ, and its values."""
    for field in _MAP_FIELDS:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs:
            return field, mine, theirs
    for field in ("key", "value"):
        mine, theirs = getattr(one, f"{field}_type_id"), getattr(other, f"{field}_type_id")
        if bool(mine) != bool(theirs) or (mine and mismatch(btf, mine, theirs)):
            names = [btf.name_of(type_id) if type_id else "not typed" for type_id in (mine, theirs)]
            return f"the {field}'s type", names[0], names[1]
    if (one.inner is None) != (other.inner is None):
        says = {True: "a map", False: "none"}
        return "the inner map", says[one.inner is not None], says[other.inner is not None]
    if one.inner is not None and other.inner is not None:
        field, mine, theirs = _difference(btf, one.inner, other.inner)
        return (f"the inner map's {field}" if field else ""), mine, theirs
    return "", None, None
