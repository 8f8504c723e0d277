"""Lowering for scripts that other kernels are to run: what else differs between kernels than members' places.

Sizes of kernel records, values of enumerators, offsets: the loader fills them in. A record as a whole is
copied member by member, into the layout it has on the kernel that the script was compiled for.
"""

from __future__ import annotations

from tracebee.btf.core_kinds import (
    BPF_CORE_ENUMVAL_VALUE,
    BPF_CORE_FIELD_BYTE_OFFSET,
    BPF_CORE_TYPE_SIZE,
)
from tracebee.btf.kinds import BTF_KIND_STRUCT
from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.analyse_access import measured
from tracebee.lang.lower import Gen, Place
from tracebee.lang.types import Type, TypeField, display
from tracebee.lang.unify import is_scalar
from tracebee.obj.model import CoreReloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.ir import Value

# Reads of one record: each takes some ten instructions, and a record of more members is seldom meant whole.
_MOST_MEMBERS = 64


def size_of(g: Gen, t: Type) -> Value | None:
    """The size of a kernel record; None for what has one size everywhere."""
    t = g.analyser.records.resolve(t)
    if not g.analyser.records.is_kernel(t) or not t.name or not t.number:
        return None
    return g.b.core(CoreReloc(BPF_CORE_TYPE_SIZE, t.name, ""))


def looked_up(g: Gen, node: ast.Node) -> Value | None:
    """An enumerator, ``sizeof`` or ``offsetof`` of the kernel's; None for what is the same everywhere."""
    if isinstance(node, ast.Sizeof):
        return size_of(g, getattr(node.operand, "type", None) or measured(g.analyser, node.operand))
    if isinstance(node, ast.Offsetof):
        return _offset_of(g, node)
    return _enumerator(g, node.name) if isinstance(node, ast.Identifier) else None


def _offset_of(g: Gen, node: ast.Offsetof) -> Value | None:
    records = g.analyser.records
    t = getattr(node.operand, "type", None) or measured(g.analyser, node.operand)
    if t.kind == "pointer" and t.element is not None:
        t = t.element
    t = records.resolve(t)
    if not records.is_kernel(t) or not t.name or not t.number:
        return None
    return g.b.core(CoreReloc(BPF_CORE_FIELD_BYTE_OFFSET, t.name, ".".join(node.path)))


def _enumerator(g: Gen, name: str) -> Value | None:
    found = g.analyser.records.constant(name)
    if found is None:
        return None
    value, t = found
    # Of values that do not fit 31 bits, the kinds of BTF disagree about the upper half.
    if t.kind != "enum" or not t.name or not t.number or value >> 31:
        return None
    return g.b.core(CoreReloc(BPF_CORE_ENUMVAL_VALUE, t.name, name))


def number(g: Gen, place: Place, t: Type) -> Value | None:
    """A member that is a number, which may have another width; None where that cannot be asked.

    What the program loads itself, loaders adjust: this is for what a helper reads.
    """
    from tracebee.lang.lower_access import kernel_bits

    if place.core is None or place.offset or place.core[1].endswith("]"):
        return None
    return kernel_bits(g, place, t)


def copy_whole(g: Gen, place: Place, source: Type, ptr: Value, offset: int) -> None:
    """Copy a kernel record, or an array of them, to the program's memory.

    :raises Diagnostic: it has too many members.
    """
    records = g.analyser.records
    whole = records.complete(source if source.kind == "array" else records.resolve(source))
    leaves = list(_leaves(g, place, TypeField("", whole, 0)))
    if len(leaves) > _MOST_MEMBERS:
        raise Diagnostic(
            f"'{display(source)}' has {len(leaves)} members: too many to look up on another kernel",
            g.b.here,
            hint=f"name the members that are wanted: at most {_MOST_MEMBERS} are copied",
        )
    if any(f.bit_size for _, f in leaves):
        g.zero(ptr, offset, whole.size)
    for member, f in leaves:
        at = offset + f.offset
        if f.bit_size:
            _add_bits(g, member, f, ptr, offset)
        elif is_scalar(f.type):
            g.b.store(ptr, at, f.type.size, g.load(member, f.type))
        else:
            g.read(member, ptr, at, f.type.size)


def _leaves(g: Gen, place: Place, f: TypeField) -> Iterator[tuple[Place, TypeField]]:
    """What is not made of members itself: where the loader finds it, and where it goes."""
    t = f.type
    element = t.element
    if _is_struct(g, t) and (place.core is not None or t.name):
        for inner in t.fields:
            bits = (8 * f.offset + inner.bit_offset, inner.bit_size) if inner.bit_size else (0, 0)
            moved = TypeField(inner.name, inner.type, f.offset + inner.offset, *bits)
            yield from _leaves(g, _member(place, t, inner), moved)
    elif t.kind == "array" and element is not None and _is_struct(g, element):
        for number in range(t.number):
            at = f.offset + number * element.size
            inside = place._replace(offset=place.offset + number * element.size)
            if place.core is not None:
                inside = place._replace(core=(place.core[0], f"{place.core[1]}[{number}]"))
            yield from _leaves(g, inside, TypeField("", element, at))
    else:
        yield place, f


def _is_struct(g: Gen, t: Type) -> bool:
    """Whether a type has members beside each other, which may move apart."""
    if t.kind != "record" or not t.fields or not t.number:
        return False
    return g.analyser.records.btf.type(t.number).kind == BTF_KIND_STRUCT


def _member(place: Place, record: Type, member: TypeField) -> Place:
    if place.core is not None:
        return place._replace(core=(place.core[0], f"{place.core[1]}.{member.name}"))
    return place._replace(core=(record.name, member.name))


def _add_bits(g: Gen, member: Place, f: TypeField, ptr: Value, offset: int) -> None:
    """Put a bit-field where the layout has it; what is there is 0."""
    from tracebee.lang.lower_access import kernel_bits

    b = g.b
    at, shift = offset + f.bit_offset // 8, f.bit_offset % 8
    bits = b.binary("and", kernel_bits(g, member, f.type), (1 << f.bit_size) - 1)
    for number in range((shift + f.bit_size + 7) // 8):  # byte by byte: the word need not be aligned
        left = shift - 8 * number
        part = b.binary("shl", bits, left) if left >= 0 else b.binary("lshr", bits, -left)
        b.store(ptr, at + number, 1, b.binary("or", b.load(ptr, at + number, 1), part))
