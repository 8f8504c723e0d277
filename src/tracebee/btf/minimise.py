"""BTF with no more than some objects' CO-RE relocations need of a kernel's (``bpftool gen min_core_btf``).

Structs keep their size and the members that are accessed, at their offsets; pointers to what is not kept
become ``void *``. Shipped with an object, it makes up for a kernel without BTF of its own.
"""

from __future__ import annotations

from tracebee.btf import core_kinds as ck
from tracebee.btf import kinds
from tracebee.btf.builder import Builder
from tracebee.btf.core import Relocation, Resolver
from tracebee.btf.references import references, with_references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.core_spec import Spec
    from tracebee.btf.reader import Btf

_MAX_DEPTH = 64


def minimise(target: Btf, objects: Iterable[tuple[Btf | None, Iterable[Relocation]]]) -> bytes:
    """The part of ``target`` that the relocations of ``objects`` are resolved by.

    :param objects: each object's own types, and its relocations.
    :raises DecodeError: a relocation does not fit its own types.
    """
    needed = _Needed(target)
    for local, relocs in objects:
        resolver = Resolver(local, target)
        for reloc in relocs:
            for match in resolver.matches(reloc):
                needed.add(reloc.kind, match)
    return needed.write()


class _Needed:
    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.members: dict[int, set[int]] = {}  # by id of the struct
        self.types: set[int] = set()

    def add(self, kind: int, spec: Spec) -> None:
        """What one access needs."""
        if kind == ck.BPF_CORE_TYPE_MATCHES:
            self._whole(spec.root_id, behind_pointer=False)
        elif kind in ck.FIELD_KINDS:
            self._path(spec)
        else:
            self._type(spec.root_id, follow_pointers=kind in ck.TYPE_KINDS)

    def _path(self, spec: Spec) -> None:
        self._type(spec.root_id, follow_pointers=False)
        current = spec.root_id
        for index in spec.indices[1:]:
            current = self.btf.resolve(current)
            record = self.btf.type(current)
            if record.kind == kinds.BTF_KIND_ARRAY:
                current = record.type_id
            else:
                self.members.setdefault(current, set()).add(index)
                current = record.members[index].type_id
            self._type(current, follow_pointers=False)

    def _type(self, type_id: int, *, follow_pointers: bool) -> None:
        """A type and what it is made of, but not the members of structs."""
        todo = [type_id]
        while todo:
            current = todo.pop()
            if not current or current in self.types:
                continue
            record = self.btf.type(current)
            if record.kind == kinds.BTF_KIND_PTR and not follow_pointers:
                # Its own id, so that a use that does follow it still can.
                self.members.setdefault(current, set())
                continue
            self.types.add(current)
            if record.kind not in kinds.COMPOSITES:
                todo += references(record)

    def _whole(self, type_id: int, *, behind_pointer: bool) -> None:
        """A type with all members, as matching types looks at them."""
        todo = [(type_id, behind_pointer)]
        seen = set()
        while todo:
            current, behind = todo.pop()
            if not current or (current, behind) in seen:
                continue
            seen.add((current, behind))
            self.types.add(current)
            record = self.btf.type(current)
            if record.kind in kinds.COMPOSITES:
                if not behind:
                    self.members.setdefault(current, set()).update(range(len(record.members)))
                    todo += [(m.type_id, False) for m in record.members]
                continue
            behind = behind or record.kind == kinds.BTF_KIND_PTR
            todo += [(r, behind) for r in references(record)]

    def write(self) -> bytes:
        """The blob."""
        kept = sorted(self.types | self.members.keys())
        ids = {old: new for new, old in enumerate(kept, 1)}
        builder = Builder(self.btf.order)
        for type_id in kept:
            record = self.btf.type(type_id)
            if record.kind in kinds.COMPOSITES:
                wanted = sorted(self.members.get(type_id, ()))
                members = tuple(record.members[i] for i in wanted)
                record = record._replace(members=members, flag=any(m.bit_size for m in members))
            builder.add(with_references(record, lambda i: ids.get(i, 0)))
        return builder.to_bytes()
