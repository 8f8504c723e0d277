"""The types of linked objects: one BTF of all, equal types once, and what became of every id.

Data sections of one name become one, their variables shifted as the data is. Declarations of what another
object defines go, and whoever refers to them refers to the definition. The rules are those of
``bpftool gen object``.
"""

from __future__ import annotations

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.concat import concatenate
from tracebee.btf.dedup import deduplicate
from tracebee.btf.references import references, with_references
from tracebee.obj.elf_layout import KCONFIG, KSYMS
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracebee.obj.model import Extern

# Sections that every object has for itself, and of which one is enough.
_ONCE = frozenset({"license", "version"})
_EXTERN_LINKAGE = {
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
    merged: Merged,
    shifts: Sequence[Mapping[str, int]],
    dropped: Sequence[frozenset[str]],
    settings: Mapping[str, Extern],
    hidden: frozenset[str],
    strings: Iterable[str],
) -> tuple[bytes, dict[int, int]]:
    """The final blob.

    :param shifts: for each object, how far each of its data sections was moved, by name.
    :param dropped: for each object, the variables and maps that another object's replace.
    :param settings: where the kconfig values are now, by name.
    :param hidden: functions that are for linking only: from here on they are static.
    :param strings: what line information refers to.
    :returns: it, and what became of the ids of ``merged``.
    """
    btf = merged.btf
    sections, replaced = _join_sections(merged, shifts, dropped, settings)
    records = dict(btf.types())
    defined: dict[tuple[int, str], int] = {}
    for type_id, record in records.items():
        if record.kind in _EXTERN_LINKAGE and record.linkage != _EXTERN_LINKAGE[record.kind]:
            defined.setdefault((record.kind, record.name), type_id)
    for type_id, record in records.items():
        if record.kind in _EXTERN_LINKAGE and record.linkage == _EXTERN_LINKAGE[record.kind]:
            definition = defined.get((record.kind, record.name))
            if definition is not None:
                replaced[type_id] = definition
    kept = [i for i, r in records.items() if i not in replaced and r.kind != kinds.BTF_KIND_DATASEC]
    new = {0: 0} | {old: number for number, old in enumerate(kept, 1)}
    for old, definition in replaced.items():
        new[old] = new[definition]
    builder = Builder(btf.order)
    for type_id in kept:
        record = with_references(records[type_id], new.__getitem__)
        if record.kind == kinds.BTF_KIND_FUNC and record.name in hidden:
            record = record._replace(linkage=kinds.BTF_FUNC_STATIC)
        builder.add(record)
    for name, (size, rows) in sections.items():
        # A section of nothing but declarations has no size, and the kernel takes none without.
        section_id = size and builder.datasec(
            name, size, [(new[var], at, length) for var, at, length in rows]
        )
        for type_id, record in records.items():
            if record.kind == kinds.BTF_KIND_DATASEC and record.name == name:
                new[type_id] = section_id
    for text in strings:
        builder.string(text)
    return builder.to_bytes(), new


_Rows = list[tuple[int, int, int]]


def _join_sections(
    merged: Merged,
    shifts: Sequence[Mapping[str, int]],
    dropped: Sequence[frozenset[str]],
    settings: Mapping[str, Extern],
) -> tuple[dict[str, tuple[int, _Rows]], dict[int, int]]:
    """(size, rows) of each section, and variables that an equal one of an earlier object stands for."""
    btf = merged.btf
    joined: dict[str, tuple[int, _Rows]] = {}
    replaced: dict[int, int] = {}
    named: dict[tuple[str, str], int] = {}
    for ids, moved, gone in zip(merged.ids, shifts, dropped, strict=True):
        for section_id in sorted(set(ids.values())):
            section = btf.type(section_id)
            name = section.name
            if section.kind != kinds.BTF_KIND_DATASEC or (name in _ONCE and name in joined):
                continue
            size, rows = joined.setdefault(name, (0, []))
            # Sections without contents of their own (maps) follow one another.
            shift = moved.get(name, (size + 7) // 8 * 8)
            for variable, offset, length in section.variables:
                record = btf.type(variable)
                if name in (KCONFIG, KSYMS):
                    first = named.setdefault((name, record.name), variable)
                    if first != variable:
                        replaced[variable] = first
                        continue
                    setting = settings.get(record.name) if name == KCONFIG else None
                    at = setting.offset if setting is not None else 4 * len(rows)
                elif record.linkage == kinds.BTF_VAR_GLOBAL_EXTERN or record.name in gone:
                    continue
                else:
                    at = shift + offset
                rows.append((variable, at, length))
            own = (
                [at + length for _, at, length in rows]
                if name in (KCONFIG, KSYMS)
                else [shift + section.size]
            )
            joined[name] = max([size, *own]), rows
    return joined, replaced


def agree(btf: Btf, one: int, other: int, depth: int = 32) -> bool:
    """Whether a declaration and a definition are of the same type, as far as a linker can ask: structs by
    name, what is only declared agrees with what is defined, arrays without a length with any.
    """
    one, other = btf.resolve(one), btf.resolve(other)
    if one == other or depth == 0:
        return True
    mine, theirs = btf.type(one), btf.type(other)
    structs = {*kinds.COMPOSITES, kinds.BTF_KIND_FWD}
    if mine.kind in structs and theirs.kind in structs:
        return mine.name == theirs.name
    if mine.kind != theirs.kind:
        return False
    if mine.kind in kinds.ENUMS:
        return mine.name == theirs.name
    if mine.kind == kinds.BTF_KIND_INT:
        return (mine.size, mine.encoding) == (theirs.size, theirs.encoding)
    if mine.kind == kinds.BTF_KIND_ARRAY:
        lengths_agree = mine.nelems == theirs.nelems or not mine.nelems or not theirs.nelems
        return lengths_agree and agree(btf, mine.type_id, theirs.type_id, depth - 1)
    pairs = zip(references(mine), references(theirs), strict=False)
    return len(references(mine)) == len(references(theirs)) and all(agree(btf, *p, depth - 1) for p in pairs)
