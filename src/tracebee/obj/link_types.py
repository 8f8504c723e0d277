"""The types of linked objects: one BTF of all, equal types once, and what became of every id.

Data sections of one name become one, their variables shifted as the data is. Of the variables and functions
of one name that are not static one stays, and whoever refers to the others refers to it. The rules are
those of ``bpftool gen object``.
"""

from __future__ import annotations

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.concat import concatenate
from tracebee.btf.dedup import deduplicate
from tracebee.btf.references import with_references
from tracebee.obj.elf_layout import ONCE
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracebee.btf.types import Type

EXTERN_LINKAGE = {
    kinds.BTF_KIND_FUNC: kinds.BTF_FUNC_EXTERN,
    kinds.BTF_KIND_VAR: kinds.BTF_VAR_GLOBAL_EXTERN,
}


class Merged(NamedTuple):
    """The types of all objects after deduplication, before sections are joined.

    :param ids: for each object, what its ids are now.
    """

    btf: Btf
    ids: list[dict[int, int]]


def merge_types(parts: Sequence[bytes]) -> Merged:
    """One BTF of all parts; an object without BTF has no ids."""
    opened = [Btf.from_bytes(data) if data else None for data in parts]
    present = [btf for btf in opened if btf is not None]
    if not present:
        return Merged(Btf.from_bytes(Builder().to_bytes()), [{0: 0} for _ in parts])
    data, shifts = concatenate(present, present[0].order)
    small = deduplicate(Btf.from_bytes(data))
    places = iter(zip(present, shifts, strict=True))
    ids = []
    for btf in opened:
        known = {0: 0}
        if btf is not None:
            _, shift = next(places)
            known.update((i, small.ids[i + shift]) for i in range(1, btf.end_id))
        ids.append(known)
    return Merged(Btf.from_bytes(small.data), ids)


def write_types(
    merged: Merged, shifts: Sequence[Mapping[str, int]], counts: Mapping[str, int], strings: Iterable[str]
) -> tuple[bytes, dict[int, int]]:
    """The final blob.

    :param shifts: for each object, how far each of its data sections was moved, by name.
    :param counts: by name, the variable or function that stays of those that are not static.
    :param strings: what line information refers to.
    :returns: it, and what became of the ids of ``merged``.
    """
    records = dict(merged.btf.types())
    replaced = {
        type_id: counts[record.name]
        for type_id, record in records.items()
        if record.kind in EXTERN_LINKAGE and record.linkage and counts.get(record.name, type_id) != type_id
    }
    sections = _join_sections(merged, shifts, replaced)
    kept = [i for i, r in records.items() if i not in replaced and r.kind != kinds.BTF_KIND_DATASEC]
    new = {0: 0} | {old: number for number, old in enumerate(kept, 1)}
    for old, other in replaced.items():
        new[old] = new[other]
    builder = Builder(merged.btf.order)
    for type_id in kept:
        builder.add(with_references(records[type_id], new.__getitem__))
    for name, (size, rows) in sections.items():
        # A section of which only declarations were left, and these are answered, is none any more.
        section_id = 0
        if size or rows:
            section_id = builder.datasec(name, size, [(new[var], at, length) for var, at, length in rows])
        for type_id, record in records.items():
            if record.kind == kinds.BTF_KIND_DATASEC and record.name == name:
                new[type_id] = section_id
    for text in strings:
        builder.string(text)
    return builder.to_bytes(), new


_Rows = list[tuple[int, int, int]]


def _join_sections(
    merged: Merged, shifts: Sequence[Mapping[str, int]], replaced: dict[int, int]
) -> dict[str, tuple[int, _Rows]]:
    """(size, rows) of each section; grows ``replaced`` by variables of sections of which one is enough."""
    btf = merged.btf
    joined: dict[str, tuple[int, _Rows]] = {}
    for ids, moved in zip(merged.ids, shifts, strict=True):
        for section_id in sorted(set(ids.values())):
            section = btf.type(section_id)
            name = section.name
            if section.kind != kinds.BTF_KIND_DATASEC:
                continue
            if name in ONCE and name in joined:
                first = joined[name][1]
                replaced.update((v.type_id, row[0]) for v, row in zip(section.variables, first, strict=False))
                continue
            size, rows = joined.setdefault(name, (0, []))
            # Sections without contents of their own (maps) follow one another.
            shift = moved.get(name, (size + 7) // 8 * 8)
            known = {row[0] for row in rows}
            for variable, offset, length in section.variables:
                record = btf.type(variable)
                if variable in replaced or variable in known:
                    continue
                is_extern = record.linkage == EXTERN_LINKAGE.get(record.kind)
                rows.append((variable, 0 if is_extern else shift + offset, length))
            joined[name] = (shift + section.size if section.size else size), rows
    return joined


def mismatch(btf: Btf, one: int, other: int) -> str:
    """How two types differ, in words; empty when a linker takes them for the same.

    Qualifiers, typedefs, names of parameters, lengths of arrays and signs of integers do not matter; behind
    a pointer a struct is known by its name alone.
    """
    return _mismatch(btf, one, other, exact=True, depth=32)


def _mismatch(btf: Btf, one: int, other: int, *, exact: bool, depth: int) -> str:
    one, other = btf.resolve(one), btf.resolve(other)
    if one == other or depth == 0:
        return ""
    mine, theirs = btf.type(one), btf.type(other)
    if not exact and kinds.BTF_KIND_FWD in (mine.kind, theirs.kind) and mine.kind != theirs.kind:
        # A declared struct is any struct of its name.
        same = mine.name == theirs.name and _word(mine) == _word(theirs)
        return "" if same else _differ(btf, one, other)
    if mine.kind != theirs.kind or (mine.kind in _NAMED and mine.name != theirs.name):
        return _differ(btf, one, other)
    if mine.kind in _SIZED:
        return "" if mine.size == theirs.size else _differ(btf, one, other)
    if mine.kind == kinds.BTF_KIND_PTR:
        return _mismatch(btf, mine.type_id, theirs.type_id, exact=False, depth=depth - 1)
    if mine.kind in kinds.COMPOSITES:
        if not exact:
            return ""
        places = [[(m.name, m.bit_offset, m.bit_size) for m in t.members] for t in (mine, theirs)]
        if places[0] != places[1]:
            return f"members of {btf.name_of(one)} differ"
        pairs = [(m.type_id, o.type_id) for m, o in zip(mine.members, theirs.members, strict=True)]
    elif mine.kind == kinds.BTF_KIND_FUNC_PROTO:
        if len(mine.params) != len(theirs.params):
            return f"{len(mine.params)} parameters, and {len(theirs.params)}"
        pairs = [(m.type_id, o.type_id) for m, o in zip(mine.params, theirs.params, strict=True)]
        pairs.append((mine.type_id, theirs.type_id))
    else:
        pairs = [(mine.type_id, theirs.type_id)]
    found = (_mismatch(btf, a, b, exact=exact, depth=depth - 1) for a, b in pairs)
    return next(filter(None, found), "")


_NAMED = frozenset({*kinds.COMPOSITES, *kinds.ENUMS, kinds.BTF_KIND_FWD, *EXTERN_LINKAGE})
_SIZED = frozenset({kinds.BTF_KIND_INT, kinds.BTF_KIND_FLOAT, *kinds.ENUMS})


def _word(record: Type) -> str:
    if record.kind == kinds.BTF_KIND_FWD:
        return "union" if record.flag else "struct"
    return {kinds.BTF_KIND_STRUCT: "struct", kinds.BTF_KIND_UNION: "union"}.get(record.kind, "")


def _differ(btf: Btf, one: int, other: int) -> str:
    names = [btf.name_of(i) if i else "void" for i in (one, other)]
    return " and ".join(names) if names[0] != names[1] else f"{names[0]} has two sizes"
