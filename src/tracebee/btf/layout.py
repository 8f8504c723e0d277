"""Sizes, alignments and members: how a type lies in memory."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.types import Field, Layout, Member, Type
from tracebee.errors import DecodeError, SymbolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.btf.reader import Btf

# Nested composites and arrays deeper than this are a loop; a struct of more members than this is none of
# any program: a few types that hold one another twice would have millions of millions.
_MAX_DEPTH = 64
_MAX_FIELDS = 1 << 20
_SIZED = frozenset(
    {
        kinds.BTF_KIND_INT,
        kinds.BTF_KIND_STRUCT,
        kinds.BTF_KIND_UNION,
        kinds.BTF_KIND_ENUM,
        kinds.BTF_KIND_ENUM64,
        kinds.BTF_KIND_FLOAT,
        kinds.BTF_KIND_DATASEC,
    }
)
_LONG_NAMES = frozenset(("long unsigned int", "unsigned long", "long int", "long"))


def pointer_size(btf: Btf) -> int:
    """What ``long`` or ``unsigned long`` has; 8 where the types name neither (BPF's own size)."""
    # One of the first types there are, as a rule: sooner met than looked for by its name.
    for type_id in btf.ids(kinds.BTF_KIND_INT):
        record = btf.type(type_id)
        if record.name in _LONG_NAMES:
            return record.size
    return 8


def size_of(btf: Btf, type_id: int) -> int:
    """``sizeof`` a type in bytes."""
    count = 1
    for _ in range(_MAX_DEPTH):
        record = btf.type(btf.resolve(type_id))
        if record.kind in _SIZED:
            return count * record.size
        if record.kind == kinds.BTF_KIND_PTR:
            return count * btf.pointer_size
        if record.kind == kinds.BTF_KIND_ARRAY:
            count *= record.nelems
        elif record.kind != kinds.BTF_KIND_VAR:
            return 0
        type_id = record.type_id
    raise DecodeError(f"{btf.name}: type {type_id} contains itself")


def align_of(btf: Btf, type_id: int, known: dict[int, int], depth: int = 0) -> int:
    """Alignment in bytes; that of a struct is its members' largest, 1 when its layout shows packing.

    :param known: alignments already found, by resolved id.
    """
    type_id = btf.resolve(type_id)
    found = known.get(type_id)
    if found is not None:
        return found
    # Stands while the members are looked at: valid types never come back here.
    known[type_id] = 1
    if depth > _MAX_DEPTH:
        raise DecodeError(f"{btf.name}: type {type_id} is nested too deeply")
    record = btf.type(type_id)
    if record.kind in (kinds.BTF_KIND_ARRAY, kinds.BTF_KIND_VAR):
        align = align_of(btf, record.type_id, known, depth + 1)
    elif record.kind == kinds.BTF_KIND_PTR:
        align = btf.pointer_size
    elif record.kind in kinds.COMPOSITES:
        align = _composite_align(btf, record, known, depth + 1)
    else:
        align = min(record.size, btf.pointer_size) or 1
    known[type_id] = align
    return align


def _composite_align(btf: Btf, record: Type, known: dict[int, int], depth: int) -> int:
    largest = 1
    for raw in record.members:
        member = real_member(btf, raw)
        align = align_of(btf, member.type_id, known, depth)
        if member.bit_size:
            # A bit-field stays within one unit of its type, except in a packed struct.
            unit = 8 * btf.size(member.type_id) or 8
            last = member.bit_offset + member.bit_size - 1
            if member.bit_offset // unit != last // unit:
                return 1
        elif member.bit_offset % (8 * align):
            return 1
        largest = max(largest, align)
    return 1 if record.size % largest else largest


def is_packed(btf: Btf, type_id: int) -> bool:
    """Whether a struct's or union's members or size are less aligned than their types ask for."""
    members = btf.type(type_id).members
    return btf.align(type_id) == 1 and any(btf.align(m.type_id) > 1 for m in members)


def layout_of(btf: Btf, name: str | int) -> Layout:
    """A struct's or union's layout by C name or id."""
    type_id = btf.resolve(btf.find(name) if isinstance(name, str) else name)
    record = btf.type(type_id)
    if record.kind == kinds.BTF_KIND_FWD:
        raise SymbolError(f"{btf.name_of(type_id)} is declared but not defined in {btf.name}")
    if record.kind not in kinds.COMPOSITES:
        raise SymbolError(f"{btf.name_of(type_id)} is not a struct or union")
    return Layout(
        type_id, record.kind, record.name, record.size, tuple(real_member(btf, m) for m in record.members)
    )


def real_member(btf: Btf, member: Member) -> Member:
    """The member with its bit-field taken from an integer of odd width, as old compilers wrote it."""
    if member.bit_size:
        return member
    record = btf.type(btf.resolve(member.type_id))
    if record.kind == kinds.BTF_KIND_INT and record.bits and record.bits != 8 * record.size:
        return Member(member.name, member.type_id, member.bit_offset + record.bit_offset, record.bits)
    return member


def fields_of(btf: Btf, struct_id: int) -> tuple[Field, ...]:
    """Named members, those of anonymous members in their place."""
    found: list[Field] = []
    _flatten(btf, layout_of(btf, struct_id), 0, (0,), found, iter(range(_MAX_FIELDS)))
    return tuple(found)


def _flatten(
    btf: Btf, layout: Layout, bits: int, indices: tuple[int, ...], found: list[Field], steps: Iterator[int]
) -> None:
    if len(indices) > _MAX_DEPTH:
        raise DecodeError(f"{btf.name}: type {layout.id} contains itself")
    for number, member in enumerate(layout.members):
        if next(steps, None) is None:
            raise DecodeError(f"{btf.name}: type {layout.id} is part of a struct of too many members")
        here = (*indices, number)
        if member.name:
            found.append(Field(member.name, member.type_id, bits + member.bit_offset, member.bit_size, here))
        elif btf.type(btf.resolve(member.type_id)).kind in kinds.COMPOSITES:
            inner = layout_of(btf, member.type_id)
            _flatten(btf, inner, bits + member.bit_offset, here, found, steps)


def member_at(btf: Btf, struct_id: int, path: str) -> Field:
    """The member at a dotted path with constant array subscripts."""
    place = Field("", struct_id, 0, 0, (0,))
    for step in path.replace("[", ".[").split("."):
        place = _element(btf, place, step) if step.startswith("[") else _member(btf, place, step)
    return place


def _member(btf: Btf, place: Field, name: str) -> Field:
    record = btf.type(btf.resolve(place.type_id))
    if record.kind not in kinds.COMPOSITES:
        what = f"'{place.name}' is {btf.name_of(place.type_id)}" if place.name else btf.name_of(place.type_id)
        raise SymbolError(f"{what}, which has no members (asked for '{name}')")
    found = _search(btf, place.type_id, name, place.bit_offset, place.indices, set())
    if found is None:
        from tracebee.suggest import nearest

        names = [f.name for f in fields_of(btf, place.type_id)]
        raise SymbolError(f"{btf.name_of(place.type_id)} has no field '{name}'", nearest(name, names))
    return found


def _search(
    btf: Btf, type_id: int, name: str, bits: int, indices: tuple[int, ...], without: set[int]
) -> Field | None:
    """The member called ``name``, direct ones before those of anonymous members.

    :param without: types that do not have it, so that none is searched twice.
    """
    if len(indices) > _MAX_DEPTH:
        raise DecodeError(f"{btf.name}: type {type_id} contains itself")
    if type_id in without:
        return None
    members = btf.type(btf.resolve(type_id)).members
    for number, member in enumerate(members):
        if member.name == name:
            real = real_member(btf, member)
            return Field(name, real.type_id, bits + real.bit_offset, real.bit_size, (*indices, number))
    for number, member in enumerate(members):
        if not member.name:
            found = _search(btf, member.type_id, name, bits + member.bit_offset, (*indices, number), without)
            if found is not None:
                return found
    without.add(type_id)
    return None


def _element(btf: Btf, place: Field, step: str) -> Field:
    text = step[1:-1]
    if not (step.endswith("]") and text.isdecimal()):
        raise SymbolError(f"'{step}' is not a constant subscript")
    record = btf.type(btf.resolve(place.type_id))
    if record.kind != kinds.BTF_KIND_ARRAY:
        raise SymbolError(f"'{place.name}' is {btf.name_of(place.type_id)}, not an array")
    number = int(text)
    # A last member of zero elements has as many as there is memory.
    if record.nelems and number >= record.nelems:
        raise SymbolError(f"'{place.name}' has {record.nelems} elements, number {number} is not one of them")
    bits = place.bit_offset + number * 8 * btf.size(record.type_id)
    return Field(f"{place.name}{step}", record.type_id, bits, 0, (*place.indices, number))
