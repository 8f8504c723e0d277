"""Maps as an object declares them: BTF-defined (``.maps``) and legacy (``maps``) definitions.

A BTF-defined map is a variable of a struct whose members say what the map is: ``__uint(name, n)`` is a
pointer to an array of n elements, ``__type(name, T)`` a pointer to T, ``__array(values, T)`` an array
of pointers. Source: libbpf's ``bpf_helpers.h`` (the macros), Linux ``Documentation/bpf/map_*.rst``.
"""

from __future__ import annotations

import struct

from tracebee import uapi
from tracebee.btf.kinds import (
    BTF_KIND_ARRAY,
    BTF_KIND_DATASEC,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_PTR,
    BTF_VAR_GLOBAL_ALLOCATED,
    BTF_VAR_GLOBAL_EXTERN,
    COMPOSITES,
)
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import LEGACY_MAPS, MAPS
from tracebee.obj.model import MapDef
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf import Btf
    from tracebee.obj.elf_layout import ElfLayout

_LIBBPF_PIN_NONE, _LIBBPF_PIN_BY_NAME = 0, 1
# What a definition says in numbers (__uint), each 0 by default.
_NUMBERS = ("type", "key_size", "value_size", "max_entries", "map_flags", "pinning", "numa_node", "map_extra")
_OF_DESCRIPTORS = (
    uapi.BPF_MAP_TYPE_PROG_ARRAY,
    uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    uapi.BPF_MAP_TYPE_HASH_OF_MAPS,
)
# struct bpf_map_def of libbpf before BTF: five numbers, and what some projects put behind them.
_LEGACY = ("type", "key_size", "value_size", "max_entries", "map_flags")


class PlacedMap(NamedTuple):
    """A map definition and where it stands: ELF section and offset, which relocations name."""

    map: MapDef
    section: int
    offset: int
    values_at: int = -1  # offset of its static contents in the section, -1 without


def read_maps(layout: ElfLayout, btf: Btf | None) -> list[PlacedMap]:
    """Every map of both kinds, in the order of their sections.

    :raises DecodeError: a definition says something that no map can be.
    """
    return _btf_maps(layout, btf) + _legacy_maps(layout)


def _btf_maps(layout: ElfLayout, btf: Btf | None) -> list[PlacedMap]:
    section = layout.by_name.get(MAPS)
    if section is None:
        return []
    if btf is None:
        raise DecodeError(".maps needs BTF to be understood", hint="compile the object with -g")
    places = layout.places(section)
    found = []
    rows = [v for datasec in btf.find_all(MAPS, BTF_KIND_DATASEC) for v in btf.type(datasec).variables]
    # A global name is that of one map; static ones, which a linker may have put in twice, make way.
    taken = {var.name for v in rows if (var := btf.type(v.type_id)).linkage == BTF_VAR_GLOBAL_ALLOCATED}
    for variable in rows:
        var = btf.type(variable.type_id)
        if var.linkage == BTF_VAR_GLOBAL_EXTERN:
            continue
        static = var.linkage != BTF_VAR_GLOBAL_ALLOCATED
        offset = places.get((var.name, static), (variable.offset, 0))[0]
        name = unused_name(var.name, taken) if static else var.name
        definition, values = map_definition(btf, name, var.type_id)
        at = offset + values if values >= 0 else -1
        found.append(PlacedMap(definition._replace(type_id=variable.type_id), section.number, offset, at))
    return found


def unused_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; it is then taken too."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}.{number}"
    taken.add(found)
    return found


def map_definition(btf: Btf, name: str, type_id: int, *, inner: bool = False) -> tuple[MapDef, int]:
    """A map from its struct, and the byte offset of ``values`` in it (-1 without).

    :raises DecodeError: it says something that no map can be.
    """
    if btf.type(btf.resolve(type_id)).kind not in COMPOSITES:
        raise DecodeError(
            f"map {name} is no struct", hint="define it as struct { __uint(type, BPF_MAP_TYPE_...); ... }"
        )
    numbers = dict.fromkeys(_NUMBERS, 0)
    types = {"key": 0, "value": 0}
    inner_map: MapDef | None = None
    values_at = -1
    for member in btf.struct(btf.resolve(type_id)).members:
        field = member.name
        if field in ("key_size", "value_size"):
            _set_size(numbers, name, field, _number(btf, name, field, member.type_id))
        elif field in numbers:
            numbers[field] = _number(btf, name, field, member.type_id)
        elif field in types:
            types[field] = _pointee(btf, name, field, member.type_id)
            _set_size(numbers, name, f"{field}_size", _size(btf, name, field, types[field]))
        elif field == "values":
            values_at = member.bit_offset // 8
            inner_map = _values(btf, name, member.type_id, inner=inner)
        else:
            raise DecodeError(f"map {name}: unknown field '{field}'")
    _check(name, numbers, inner=inner, has_values=values_at >= 0)
    if inner_map is not None or numbers["type"] in _OF_DESCRIPTORS:
        # Their values are file descriptors, whatever the types say.
        numbers["key_size"] = numbers["key_size"] or 4
        numbers["value_size"] = 4
    definition = MapDef(
        name=name,
        type=numbers["type"],
        key_size=numbers["key_size"],
        value_size=numbers["value_size"],
        max_entries=numbers["max_entries"],
        flags=numbers["map_flags"],
        key_type_id=types["key"],
        value_type_id=types["value"],
        inner=inner_map,
        pinning=name if numbers["pinning"] == _LIBBPF_PIN_BY_NAME else None,
        # Without the flag the kernel does not look at it.
        numa_node=numbers["numa_node"] if numbers["map_flags"] & uapi.BPF_F_NUMA_NODE else None,
        extra=numbers["map_extra"],
    )
    return definition, values_at


def _check(name: str, numbers: Mapping[str, int], *, inner: bool, has_values: bool) -> None:
    """Refuse what no map can be."""
    if not numbers["type"]:
        raise DecodeError(f"map {name} says no type", hint="give it __uint(type, BPF_MAP_TYPE_...)")
    if inner and numbers["pinning"]:
        raise DecodeError(f"map {name}: an inner map cannot be pinned by its name")
    if has_values and numbers["type"] not in _OF_DESCRIPTORS:
        raise DecodeError(
            f"map {name}: 'values' is for maps of maps and BPF_MAP_TYPE_PROG_ARRAY",
            hint="other maps are filled after loading",
        )
    if numbers["pinning"] not in (_LIBBPF_PIN_NONE, _LIBBPF_PIN_BY_NAME):
        raise DecodeError(f"map {name}: unknown pinning {numbers['pinning']}")


def _set_size(numbers: dict[str, int], name: str, field: str, size: int) -> None:
    """Note a size, which may be said twice: by itself, and by a type."""
    if numbers[field] and numbers[field] != size:
        raise DecodeError(f"map {name}: {field} is {numbers[field]} in one place and {size} in another")
    numbers[field] = size


def _size(btf: Btf, name: str, field: str, type_id: int) -> int:
    size = btf.size(type_id)
    if not size and btf.type(btf.resolve(type_id)).kind not in COMPOSITES:
        raise DecodeError(
            f"map {name}: a {field} of type {btf.name_of(type_id)} has no size",
            hint=f"write __type({field}, TYPE) with another, or __uint({field}_size, N)",
        )
    return size


def _number(btf: Btf, name: str, field: str, type_id: int) -> int:
    """``__uint(field, n)``: a pointer to an array of n; ``__ulong``: an enum's one value."""
    member = btf.type(btf.resolve(type_id))
    if member.enumerators:
        return member.enumerators[0].value
    if member.kind == BTF_KIND_PTR:
        array = btf.type(btf.resolve(member.type_id))
        if array.kind == BTF_KIND_ARRAY:
            return array.nelems
    raise DecodeError(
        f"map {name}: field '{field}' is not written with __uint",
        hint=f'write __uint({field}, NUMBER) of bpf_helpers.h; definitions by number belong in SEC("maps")',
    )


def _pointee(btf: Btf, name: str, field: str, type_id: int) -> int:
    member = btf.type(btf.resolve(type_id))
    if member.kind != BTF_KIND_PTR:
        raise DecodeError(
            f"map {name}: field '{field}' is not written with __type", hint=f"write __type({field}, TYPE)"
        )
    return member.type_id


def _values(btf: Btf, name: str, type_id: int, *, inner: bool) -> MapDef | None:
    """The inner map's definition of a map of maps; None for an array of programs."""
    array = btf.type(btf.resolve(type_id))
    if inner or array.kind != BTF_KIND_ARRAY:
        raise DecodeError(
            f"map {name}: 'values' is not written with __array, or inside an inner map",
            hint="maps are nested once, as __array(values, struct { ... })",
        )
    element = btf.type(btf.resolve(array.type_id))
    if element.kind != BTF_KIND_PTR:
        raise DecodeError(f"map {name}: 'values' has elements that are no pointers")
    target = btf.resolve(element.type_id)
    if btf.type(target).kind == BTF_KIND_FUNC_PROTO:
        return None
    return map_definition(btf, f"{name}.inner", target, inner=True)[0]


def _legacy_maps(layout: ElfLayout) -> list[PlacedMap]:
    section = layout.by_name.get(LEGACY_MAPS)
    if section is None:
        return []
    named = sorted((s.addr, s.name) for s in layout.symbols if s.section == section.number and s.name)
    if not named:
        return []
    data = layout.contents(section)
    size = section.size // len(named)
    if size < len(_LEGACY) * 4:
        raise DecodeError(f"section maps: definitions of {size} bytes are shorter than struct bpf_map_def")
    found = []
    for offset, name in named:
        if offset + size > len(data):
            raise DecodeError(f"map {name}: does not lie in section maps")
        numbers = struct.unpack_from(f"{layout.elf.order}{'I' * len(_LEGACY)}", data, offset)
        rest = data[offset + len(_LEGACY) * 4 : offset + size]
        if any(rest):
            raise DecodeError(
                f"map {name}: has fields that struct bpf_map_def does not know",
                hint='those of iproute2 are not read: define it in SEC(".maps"), with __uint and __type',
            )
        kind, key_size, value_size, entries, flags = numbers
        found.append(
            PlacedMap(MapDef(name, kind, key_size, value_size, entries, flags), section.number, offset)
        )
    return found
