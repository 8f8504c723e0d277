"""Deduplication: of types that several compilation units defined, one of each is kept.

The algorithm is libbpf's (``btf__dedup``). Integers, floats, enumerations and forward declarations are
equal when their contents are. Structs may refer to themselves, so two are equal when walking both
graphs side by side finds no difference, a forward declaration standing for the struct it declares.
References (pointers, typedefs, prototypes, ...) are equal when they are of the same kind and
name and refer to the same kept types; they come last, when all that they refer to is settled.
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.builder import Builder
from tracebee.btf.references import check_references, references, with_references
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_LEAVES = frozenset({kinds.BTF_KIND_INT, kinds.BTF_KIND_FLOAT, kinds.BTF_KIND_FWD, *kinds.ENUMS})
# Never merged: a variable and its section belong to one object.
_UNIQUE = frozenset({kinds.BTF_KIND_VAR, kinds.BTF_KIND_DATASEC})
# Pairs of types compared before two graphs that repeat themselves are taken to be different.
_MAX_PAIRS = 1 << 14


class Deduplicated:
    """The result.

    :param data: the smaller BTF blob; split from the same base as the input.
    :param ids: what each old id is now, for the tables that refer to types (``.BTF.ext``).
    """

    def __init__(self, data: bytes, ids: dict[int, int]) -> None:
        self.data, self.ids = data, ids


def deduplicate(btf: Btf) -> Deduplicated:
    """Merge the types of ``btf`` that are equal to one another, or to one of its base.

    :raises DecodeError: types refer to one another in a way C cannot express, or to none.
    """
    check_references(btf)
    return _Dedup(btf).run()


class _Dedup:
    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.first = btf.first_id
        self.types: dict[int, Type] = dict(btf.base.types()) if btf.base else {}
        self.types.update(btf.types())
        self.types[0] = btf.type(0)
        # Each type's representative, which may be represented by another in turn (a forward declaration
        # by a struct that turns out to equal an earlier one).
        self.kept: dict[int, int] = {i: i for i in self.types if i < self.first}
        self.pairs: dict[int, int] = {}
        self.bare: dict[int, Type] = {}

    def run(self) -> Deduplicated:
        self._leaves()
        self._structs()
        self._forward_declarations()
        self._references()
        return self._write()

    def resolve(self, type_id: int) -> int:
        """The representative, as far as it is known."""
        while True:
            following = self.kept.get(type_id, type_id)
            if following == type_id:
                return type_id
            type_id = following

    # Leaves.

    def _leaves(self) -> None:
        known: dict[Hashable, int] = {}
        declared: list[int] = []
        for type_id, record in self.types.items():
            if record.kind in _UNIQUE:
                self.kept[type_id] = type_id
            if record.kind not in _LEAVES:
                continue
            if record.kind in kinds.ENUMS and not record.enumerators:
                declared.append(type_id)
                continue
            self._keep(type_id, known.setdefault(record, type_id))
        enums: dict[str, list[int]] = {}
        for type_id in known.values():
            record = self.types[type_id]
            if record.kind in kinds.ENUMS and record.name:
                enums.setdefault(record.name, []).append(type_id)
        for type_id in declared:
            # `enum e;` stands for the one definition of e.
            record = self.types[type_id]
            defined = enums.get(record.name, [])
            unique = defined[0] if len(defined) == 1 else known.setdefault(record, type_id)
            self._keep(type_id, unique)

    def _keep(self, type_id: int, representative: int) -> None:
        """Set a type's representative; those of the base stand for themselves."""
        if type_id >= self.first:
            self.kept[type_id] = representative

    def _bare(self, type_id: int) -> Type:
        """A type without what it refers to."""
        found = self.bare.get(type_id)
        if found is None:
            found = self.bare[type_id] = with_references(self.types[type_id], _nothing)
        return found

    # Structs and unions.

    def _structs(self) -> None:
        candidates: dict[Hashable, list[int]] = {}
        for type_id, record in self.types.items():
            if record.kind not in kinds.COMPOSITES:
                continue
            same_shape = candidates.setdefault(_shape(record), [])
            if type_id < self.first:
                same_shape.append(type_id)
                continue
            if type_id in self.kept:
                continue
            for candidate in same_shape:
                if self._equivalent(type_id, candidate):
                    self._merge()
                    self.kept[type_id] = candidate
                    break
            else:
                self.kept[type_id] = type_id
                same_shape.append(type_id)

    def _equivalent(self, new: int, kept: int) -> bool:
        """Whether two graphs are the same; ``pairs`` then has what corresponds: kept type to new type."""
        self.pairs = {}
        todo = [(new, kept)]
        while todo:
            mine, theirs = todo.pop()
            if self.resolve(mine) == self.resolve(theirs):
                continue
            if self.types[theirs].kind == kinds.BTF_KIND_FWD:
                theirs = self.resolve(theirs)
            known = self.pairs.get(theirs)
            if known is not None:
                # Compilers define equal arrays and structs more than once within one unit.
                if known != mine and not self._identical(known, mine):
                    return False
                continue
            self.pairs[theirs] = mine
            further = self._compare(mine, theirs)
            if further is None:
                return False
            todo += further
        return True

    def _compare(self, mine: int, theirs: int) -> list[tuple[int, int]] | None:
        """What else must be equal for these two to be; None when they differ in themselves."""
        one, other = self.types[mine], self.types[theirs]
        if one.name != other.name:
            return None
        if kinds.BTF_KIND_FWD in (one.kind, other.kind) and one.kind != other.kind:
            forward, defined = (one, other) if one.kind == kinds.BTF_KIND_FWD else (other, one)
            # A declaration in the base cannot be replaced by what is defined on top of it.
            if forward is other and theirs < self.first:
                return None
            return [] if defined.kind == _declared_kind(forward) else None
        if one.kind in kinds.ENUMS and other.kind in kinds.ENUMS:
            same = not one.enumerators or not other.enumerators or one == other
            return [] if same else None
        if self._bare(mine) != self._bare(theirs):
            return None
        return list(zip(references(one), references(other), strict=True))

    def _identical(self, one: int, other: int) -> bool:
        """Whether two types of one unit are copies of each other."""
        seen = set()
        todo = [(one, other)]
        while todo:
            pair = todo.pop()
            if pair[0] == pair[1] or pair in seen:
                continue
            seen.add(pair)
            if len(seen) > _MAX_PAIRS:
                return False
            if self._bare(pair[0]) != self._bare(pair[1]):
                return False
            todo += zip(references(self.types[pair[0]]), references(self.types[pair[1]]), strict=True)
        return True

    def _merge(self) -> None:
        """Keep what the comparison has shown besides: declarations resolved, inner structs equal."""
        for theirs, mine in self.pairs.items():
            target, canonical = self.resolve(mine), self.resolve(theirs)
            mine_kind, kind = self.types[target].kind, self.types[canonical].kind
            forward = kinds.BTF_KIND_FWD
            if mine_kind != forward and kind == forward:
                if canonical >= self.first:
                    self.kept[canonical] = target
            elif (mine_kind == forward and kind != forward) or (
                mine_kind in kinds.COMPOSITES
                and kind != forward
                and canonical in self.kept
                and target not in self.kept
            ):
                self.kept[target] = canonical

    def _forward_declarations(self) -> None:
        """Declarations that no comparison has met, of structs whose name only one definition has."""
        defined: dict[tuple[int, str], list[int]] = {}
        for type_id, record in self.types.items():
            if record.kind in kinds.COMPOSITES and self.resolve(type_id) == type_id:
                defined.setdefault((record.kind, record.name), []).append(type_id)
        for type_id, record in self.types.items():
            if record.kind == kinds.BTF_KIND_FWD and type_id >= self.first and self.kept[type_id] == type_id:
                found = defined.get((_declared_kind(record), record.name), [])
                if len(found) == 1:
                    self.kept[type_id] = found[0]

    # References.

    def _references(self) -> None:
        known: dict[Hashable, int] = {}
        settled: set[int] = {0}
        waiting: set[int] = set()
        for type_id in self.types:
            todo = [type_id]
            while todo:
                current = todo[-1]
                record = self.types[current]
                if current in settled:
                    todo.pop()
                    continue
                if record.kind in _LEAVES or record.kind in kinds.COMPOSITES or record.kind in _UNIQUE:
                    settled.add(current)
                    continue
                missing = [r for r in references(record) if r not in settled]
                if missing:
                    if current in waiting:
                        raise DecodeError(f"{self.btf.name}: type {current} refers to itself")
                    waiting.add(current)
                    todo += missing
                    continue
                mapped = with_references(record, self.resolve)
                self._keep(current, known.setdefault(mapped, current))
                settled.add(current)

    # Output.

    def _write(self) -> Deduplicated:
        builder = Builder(self.btf.order, self.btf.base)
        ids = {i: i for i in self.types if i < self.first}
        left = [i for i in self.types if i >= self.first and self.resolve(i) == i]
        ids.update(zip(left, range(self.first, self.first + len(left)), strict=True))
        final = {i: ids[self.resolve(i)] for i in self.types}
        for type_id in left:
            builder.add(with_references(self.types[type_id], final.__getitem__))
        return Deduplicated(builder.to_bytes(), final)


def _shape(record: Type) -> Hashable:
    """What two equal structs share at first sight."""
    members = tuple((m.name, m.bit_offset, m.bit_size) for m in record.members)
    return record.kind, record.name, record.size, members


def _declared_kind(forward: Type) -> int:
    return kinds.BTF_KIND_UNION if forward.flag else kinds.BTF_KIND_STRUCT


def _nothing(_: int) -> int:
    return 0
