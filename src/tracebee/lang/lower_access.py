"""Lowering what reaches into memory: fields, elements, pointers and casts."""

from __future__ import annotations

from tracebee.btf.core_kinds import (
    BPF_CORE_FIELD_BYTE_SIZE,
    BPF_CORE_FIELD_LSHIFT_U64,
    BPF_CORE_FIELD_RSHIFT_U64,
)
from tracebee.ir import CTX, KERNEL
from tracebee.lang import ast
from tracebee.lang.analyse_access import measured
from tracebee.lang.constants import evaluate
from tracebee.lang.lower import Gen, Place, type_of
from tracebee.lang.lower_expressions import bytes_of, plain, string_into, times
from tracebee.lang.types import INT8, Type, display
from tracebee.lang.unify import is_scalar
from tracebee.obj.model import CoreReloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value


def pointed(g: Gen, node: ast.Node) -> Place:
    """The place that a pointer expression points at."""
    t = type_of(node)
    space = t.name or g.group.address_space
    if space == "kernel":
        known = trusted(g, node)
        if known is not None:
            return Place(known)
    return Place(g.value(node), 0, space)


def trusted(g: Gen, node: ast.Node) -> Value | None:
    """A pointer that the verifier knows the type of: reading through it takes no helper.

    None where the expression is no such pointer, and nothing has been written then. A wild or null
    one reads as 0, as with the helper.
    """
    if isinstance(node, (ast.Builtin, ast.Call)) and node.name == "curtask":
        return g.b.helper("get_current_task_btf")
    if isinstance(node, ast.Cast):
        target, source = type_of(node), type_of(node.operand)
        same = target.kind == source.kind == "pointer" and target.element and source.element
        return trusted(g, node.operand) if same and target.element.name == source.element.name else None  # type: ignore[union-attr]
    if not isinstance(node, ast.Field) or type_of(node).kind != "pointer":
        return None
    base = node.base
    if isinstance(base, ast.Builtin) and base.name == "args":
        held = g.group.emit_args(g.b, g.ctx, node.name)
        return held if held is not None and held.type == KERNEL else None
    outer = type_of(base)
    if outer.kind != "pointer" or outer.element is None or outer.name == "user":
        return None
    record = g.analyser.records.resolve(outer.element)
    if not g.analyser.records.leads_to_struct(record, node.name):
        return None
    pointer = trusted(g, base)
    if pointer is None:
        return None
    place = _kernel_member(Place(pointer), record, node.name, 0)
    return g.load(place, type_of(node), as_type=KERNEL)


def _field(g: Gen, node: ast.Field) -> Value:
    if isinstance(node.base, ast.Builtin) and node.base.name == "args":
        held = g.group.emit_args(g.b, g.ctx, node.name)
        if held is not None:
            return held
    pair = _pair(g, node.base)
    if pair is not None and node.name == "1" and pair[2] is not None:
        return pair[2]
    place, bits = _member(g, node)
    t = type_of(node)
    if bits is None:
        return g.load(place, t)
    return _bit_field(g, place, t, *bits)


def _member(g: Gen, node: ast.Field) -> tuple[Place, tuple[int, int] | None]:
    """Where a member lies, and its first bit there and width when it is a bit-field."""
    base = node.base
    t = type_of(base)
    records = g.analyser.records
    pair = _pair(g, base)
    if pair is not None:
        return pair[int(node.name)], None  # type: ignore[return-value]  # numbers went another way
    if isinstance(base, ast.Builtin) and base.name == "args":
        pointer = g.group.emit_args_pointer(g.b, g.ctx)
        record = t.element if t.kind == "pointer" and t.element is not None else t
        place = Place(pointer, 0, "" if pointer.type != "i64" else g.group.address_space)
        known = g.group.args_member(node.name)
        if known is not None:
            return place._replace(core=known), None
    elif t.kind == "pointer":
        assert t.element is not None
        record, place = t.element, pointed(g, base)
    else:
        record, place = t, g.place(base)
    if record.kind == "tuple":
        f = next(f for f in record.fields if f.name == node.name)
        return place._replace(offset=place.offset + f.offset), None
    record = records.resolve(record)
    member = records.member(record, node.name)
    assert member is not None
    bits = None
    offset = member.offset
    if member.bit_size:
        # Read the aligned word of the declared type's size that holds the field.
        size = member.type.size or 4
        offset = member.bit_offset // (8 * size) * size
        bits = (member.bit_offset - 8 * offset, member.bit_size)
    # A record in the program's own memory lies there as it does in this kernel's types.
    if records.is_kernel(record) and not place.is_own:
        return _kernel_member(place, record, node.name, offset), bits
    return place._replace(offset=place.offset + offset), bits


def _pair(g: Gen, node: ast.Node) -> tuple[Place, Place, Value | None] | None:
    """Key and value when a node is the variable of a loop over a map."""
    return g.pairs.get(id(g.variable(node))) if g.pairs and isinstance(node, ast.Variable) else None


def _kernel_member(place: Place, record: Type, name: str, offset: int) -> Place:
    """A member whose offset the loader looks up, by the path from the outermost named record."""
    if place.core is not None:
        root, path = place.core
        return place._replace(core=(root, f"{path}.{name}"))
    if not record.name:
        return place._replace(offset=place.offset + offset)
    return place._replace(core=(record.name, name))


def _bit_field(g: Gen, place: Place, t: Type, first: int, width: int) -> Value:
    """The bits of a bit-field, extended as its type says (bits count from the low end)."""
    if place.core is not None:
        return kernel_bits(g, place, t)
    word = g.load(place, Type("int", t.size or 4))
    b = g.b
    if t.signed:
        up = b.binary("shl", word, 64 - first - width)
        return b.binary("ashr", up, 64 - width)
    down = b.binary("lshr", word, first) if first else word
    return b.binary("and", down, (1 << width) - 1)


def kernel_bits(g: Gen, place: Place, t: Type) -> Value:
    """A kernel record's bit-field or number: the loader says which word holds it, how wide, and where in it.

    The field's bits are shifted to the top of 64 and down again, which also drops whatever else was read.
    """
    b = g.b
    assert place.core is not None
    size, up, down = (
        b.core(CoreReloc(kind, *place.core))
        for kind in (BPF_CORE_FIELD_BYTE_SIZE, BPF_CORE_FIELD_LSHIFT_U64, BPF_CORE_FIELD_RSHIFT_U64)
    )
    if place.space:
        word = _word(g, place, size)
    else:
        # The verifier allows loads here; their width is in the code, so it is checked against the loader's.
        have = t.size or 4
        found = b.local("bits")
        same, other, done = b.block("same"), b.block("other"), b.block("done")
        b.branch(b.compare("eq", size, have), same, other)
        b.at(same)
        b.set(found, g.load(place, Type("int", have)))
        b.jump(done)
        b.at(other)
        b.set(found, _word(g, place, size))
        b.jump(done)
        b.at(done)
        word = b.get(found)
    return b.binary("ashr" if t.signed else "lshr", b.binary("shl", word, up), down)


def _word(g: Gen, place: Place, size: Value) -> Value:
    """So many bytes, at most 8, as the low end of a number."""
    slot = g.b.alloca(8)
    g.b.store(slot, 0, 8, 0)
    g.b.helper(f"probe_read_{place.space or 'kernel'}", slot, size, g.address(place))
    return g.b.load(slot, 0, 8)


def _field_place(g: Gen, node: ast.Field) -> Place | None:
    return None if is_scalar(type_of(node)) else _member(g, node)[0]


def _index_place(g: Gen, node: ast.Index) -> Place:
    t = type_of(node.base)
    if t.kind == "tuple":
        number = evaluate(g.analyser, node.index)
        assert isinstance(number, int)
        place = g.place(node.base)
        return place._replace(offset=place.offset + t.fields[number].offset)
    place = pointed(g, node.base) if t.kind == "pointer" else g.place(node.base)
    element = g.analyser.records.resolve(t.element) if t.element is not None else INT8
    known = place.ptr.type in (CTX, KERNEL)
    size = bytes_of(g, element) if place.space or known else element.size or 1
    number = evaluate(g.analyser, node.index)
    if isinstance(number, int):
        if place.core is not None and number >= 0:
            root, path = place.core
            return place._replace(core=(root, f"{path}[{number}]"))
        if not number or (isinstance(size, int) and not (known and t.kind == "pointer")):
            return place._replace(offset=place.offset + number * (element.size or 1))
    index = g.value(node.index)
    b = g.b
    if place.space or known:
        address = plain(g, g.address(place)) if known else g.address(place)
        return Place(b.binary("add", address, times(g, index, size)), 0, place.space or "kernel")
    # The program's own memory: the verifier wants to see that the index stays inside.
    count = t.number or t.size or 1
    safe = b.select(b.compare("ult", index, count), index, count - 1)
    return Place(b.binary("add", g.address(place), times(g, safe, size)), 0, "")


def _index(g: Gen, node: ast.Index) -> Value:
    return g.load(_index_place(g, node), type_of(node))


def dereference(g: Gen, node: ast.Unary) -> Place:
    """The place ``*p`` names."""
    operand = type_of(node.operand)
    if operand.kind == "int":
        return Place(g.value(node.operand), 0, g.group.address_space)
    return pointed(g, node.operand)


def _cast(g: Gen, node: ast.Cast) -> Value:
    t, source = type_of(node), type_of(node.operand)
    b = g.b
    if source.kind in ("array", "string", "record"):
        if t.kind == "pointer":
            return g.address(g.place(node.operand))
        # The bytes of an array as one integer.
        slot = b.alloca(8)
        b.store(slot, 0, 8, 0)
        g.read(g.place(node.operand), slot, 0, min(source.size, 8))
        return b.load(slot, 0, t.size, t.signed and t.size < 8)
    value = g.value(node.operand)
    if t.kind == "bool":
        return b.compare("ne", value, 0)
    if value.type != "i64":
        value = plain(g, value)
    if t.kind in ("int", "enum") and t.size < 8:
        return b.extend(value, 8 * t.size, t.signed)
    return value


def _cast_into(g: Gen, node: ast.Cast, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    source = type_of(node.operand)
    if t.kind == "array" and is_scalar(source):
        value = g.value(node.operand)
        slot = g.b.alloca(8)
        g.b.store(slot, 0, 8, value)
        g.b.memcpy(ptr, offset, slot, 0, min(8, t.size))
        return True
    if t.kind == "tuple" and isinstance(node.operand, (ast.Tuple, ast.Record)):
        if pad:
            g.gaps(ptr, offset, t)
        for item, f in zip(node.operand.items, t.fields, strict=True):
            g.into(item, ptr, offset + f.offset, f.type, pad=pad)
        return True
    g.into(node.operand, ptr, offset, t, pad=pad)
    return True


def _typeinfo_into(g: Gen, node: ast.Typeinfo, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    """``typeinfo``: the BTF id (0 where there is none), the kind and the whole name of a type."""
    known = getattr(node.operand, "type", None) or measured(g.analyser, node.operand)
    if pad:
        g.gaps(ptr, offset, t)
    number, kind, name = t.fields
    g.b.store(ptr, offset + number.offset, 8, known.number if known.kind in ("record", "enum") else 0)
    for f, text in ((kind, known.kind), (name, display(known))):
        string_into(g, text.encode(), ptr, offset + f.offset, f.type.size, pad=pad)
    return True


Gen.VALUES.update({ast.Field: _field, ast.Index: _index, ast.Cast: _cast})
Gen.PLACES.update({ast.Field: _field_place, ast.Index: _index_place})
Gen.INTO.update({ast.Cast: _cast_into, ast.Typeinfo: _typeinfo_into})
