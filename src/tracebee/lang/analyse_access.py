"""Types of what reaches into memory: fields, elements, pointers, casts, sizeof and offsetof."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.analyse import Analyser
from tracebee.lang.types import (
    AGGREGATIONS,
    INT8,
    INT64,
    NONE,
    UINT64,
    Type,
    TypeField,
    display,
    pointer,
    string,
    tuple_of,
)
from tracebee.lang.unify import UNKNOWN, is_number, is_scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.source import Span


def dereference(a: Analyser, node: ast.Node, t: Type) -> Type:
    """The type of ``*p``."""
    if t.kind == "int":
        # Old scripts read addresses that have no type: eight bytes.
        return UINT64 if t.size == 8 else a.error("an integer of less than 64 bits is no address", node.span)
    if t.kind != "pointer":
        return a.error(
            f"Can not dereference '{display(t)}': it is not a pointer",
            node.span,
            "cast it first: *(uint64 *)x",
        )
    element = t.element or NONE
    if element.kind == "none":
        return a.error("Can not dereference a void pointer", node.span, "cast it first: *(uint32 *)p")
    element = a.records.resolve(element)
    if element.kind == "record" and not element.size:
        return a.error(f"'{display(element)}' is declared but not defined", node.span)
    return element


def _field(a: Analyser, node: ast.Field) -> Type:
    if isinstance(node.base, ast.Builtin) and node.base.name == "args":
        return _argument(a, node, node.base)
    t = a.value(node.base)
    if t.kind == "unknown":
        return t
    if t.kind == "tuple":
        return _tuple_field(a, node, t)
    if t.kind == "pointer":
        inner = t.element or NONE
        space = t.name
    else:
        inner, space = t, ""
        if node.arrow and t.kind == "record":
            node_hint = "use a dot"
            return a.error(f"'{display(t)}' is not a pointer", node.span, node_hint)
    if inner.kind != "record":
        return a.error(
            f"Can not access field '{node.name}' on expression of type '{display(t)}'",
            node.span,
            "cast it to a pointer to a struct: ((struct name *)x)" if t.kind in ("int", "pointer") else None,
        )
    member = _member(a, a.records.resolve(inner), node)
    if member is None:
        return UNKNOWN
    return (
        member.type._replace(name=space) if member.type.kind == "pointer" and space == "user" else member.type
    )


def _argument(a: Analyser, node: ast.Field, base: ast.Builtin) -> Type:
    t = a.expr(base)
    if t.kind == "unknown":
        return t
    member = _member(a, t.element if t.kind == "pointer" and t.element else t, node)
    return UNKNOWN if member is None else member.type


def _member(a: Analyser, record: Type, node: ast.Field) -> TypeField | None:
    if not record.size and not record.fields:
        a.error(
            f"Unknown struct/union: '{display(record)}'"
            if record.name
            else "this struct has no known fields",
            node.span,
            "it needs the kernel's BTF, or a definition in the script",
        )
        return None
    member = a.records.member(record, node.name)
    if member is None:
        from tracebee.suggest import did_you_mean, nearest

        names = a.records.member_names(record)
        hint = did_you_mean(node.name, names)
        if hint is None and names and not nearest(node.name, names):
            hint = f"its fields: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"
        if isinstance(node.base, ast.Builtin) and node.base.name == "args":
            a.error(f"This probe has no argument named '{node.name}'", field_span(node), hint)
        else:
            a.error(
                f"Struct/union of type '{display(record)}' does not contain a field named '{node.name}'",
                field_span(node),
                hint,
            )
    return member


def field_span(node: ast.Field) -> Span:
    """The field's name within ``base.name``."""
    span = node.span
    return span._replace(line=span.end_line, column=max(1, span.end_column - len(node.name)))


def _tuple_field(a: Analyser, node: ast.Field, t: Type) -> Type:
    for f in t.fields:
        if f.name == node.name:
            return f.type
    if node.name.isdecimal():
        return a.error(
            f"Invalid tuple index: {node.name}. Found {len(t.fields)} elements in tuple.", node.span
        )
    from tracebee.suggest import did_you_mean

    return a.error(
        f"'{display(t)}' has no field named '{node.name}'",
        field_span(node),
        did_you_mean(node.name, (f.name for f in t.fields)),
    )


def _index(a: Analyser, node: ast.Index) -> Type:
    t = a.value(node.base)
    index = a.integer(node.index, "an index")
    if "unknown" in (t.kind, index.kind):
        return UNKNOWN
    constant = a.constant(node.index)
    if t.kind == "array" and t.element is not None:
        if isinstance(constant, int) and t.number and not 0 <= constant < t.number:
            return a.error(
                f"the index {constant} is out of bounds for array of size {t.number}", node.index.span
            )
        return a.records.resolve(t.element)
    if t.kind == "string":
        return INT8
    if t.kind == "pointer":
        return dereference(a, node, t)
    if t.kind == "tuple" and isinstance(constant, int) and 0 <= constant < len(t.fields):
        return t.fields[constant].type
    return a.error(
        f"The array index operator [] can only be used on arrays and pointers, not '{display(t)}'", node.span
    )


def written_type(a: Analyser, node: ast.Node) -> Type:
    """The type that a TypeName, TypePointer or Typeof means; unknown and an error when there is none."""
    if isinstance(node, ast.Typeof):
        return measured(a, node.operand)
    if isinstance(node, ast.TypePointer):
        t = written_type(a, node.element)
        for _ in range(node.pointers):
            t = pointer(t, a.group.address_space)
        return t
    assert isinstance(node, ast.TypeName)
    t = _named(a, node)
    if t.kind == "unknown":
        return t
    for _ in range(node.pointers):
        t = pointer(t, a.group.address_space)
    if node.name in ("string", "buffer", "inet") and node.array:
        size = node.array[0] or a.options.max_strlen
        return string(size) if node.name == "string" else Type(node.name, size)
    for number in reversed(node.array):
        count = number or 0
        t = Type("array", t.size * count, element=t, number=count)
    return t


# Names of the language's own types.
_OWN: dict[str, Type] = {
    "string": string(0),
    "inet": Type("inet", 20),
    "macaddr_t": Type("mac", 6),
    "count_t": Type("count", 8),
    "sum_t": Type("sum", 8, signed=True),
    "usum_t": Type("sum", 8),
    "min_t": Type("min", 16, signed=True),
    "umin_t": Type("min", 16),
    "max_t": Type("max", 16, signed=True),
    "umax_t": Type("max", 16),
    "avg_t": Type("avg", 16, signed=True),
    "uavg_t": Type("avg", 16),
    "stats_t": Type("stats", 16, signed=True),
    "ustats_t": Type("stats", 16),
    "ksym_t": Type("ksym", 8),
    "usym_t": Type("usym", 16),
    "username": Type("username", 4),
    "timestamp": Type("timestamp", 8),
    "strerror_t": Type("strerror", 4),
}


def _named(a: Analyser, node: ast.TypeName) -> Type:
    own = _OWN.get(node.name)
    if own is not None:
        return string(a.options.max_strlen) if own == string(0) else own
    found = a.records.named(node.name)
    if found is not None:
        return found
    what = node.name.split(" ")[0]
    near = a.records.near(node.name)
    hint = f"did you mean {' or '.join(repr(n) for n in near[:3])}?" if near else None
    if what in ("struct", "union"):
        if node.pointers:
            # A pointer to a type nobody defined can still be printed and compared.
            return Type("record", 0, name=node.name)
        return a.error(f"Unknown struct/union: '{node.name}'", node.span, hint)
    return a.error(f"Unknown type: '{node.name}'", node.span, hint)


def _cast(a: Analyser, node: ast.Cast) -> Type:
    target = written_type(a, node.target)
    t = a.expr(node.operand)
    if "unknown" in (target.kind, t.kind):
        return UNKNOWN
    named = isinstance(node.target, ast.TypeName)
    if named and target.kind == "array" and not target.number and target.element is not None:
        target = _sized_array(target, t)
    if _castable(target, t):
        if target.kind == "pointer" and t.kind == "pointer" and t.name:
            return target._replace(name=t.name)
        return target
    hint = None
    if target.kind == "record":
        hint = f"cast to a pointer instead: ({target.name} *)"
    return a.error(f"Cannot cast from '{display(t)}' to '{display(target)}'", node.span, hint)


def _sized_array(target: Type, t: Type) -> Type:
    """``(uint8[])x``: as many elements as x has bytes for."""
    element = target.element
    assert element is not None
    count = t.size // element.size if element.size else 0
    return target._replace(size=count * element.size, number=count)


def _castable(target: Type, t: Type) -> bool:
    kind = target.kind
    if t.kind in AGGREGATIONS:
        return is_number(t) and kind in ("int", "bool", "enum")
    if kind in ("int", "enum", "bool"):
        if t.kind in ("array", "string"):
            return t.size <= 8
        return is_scalar(t)
    if kind == "pointer":
        return t.kind in ("int", "pointer", "enum", "array", "string", "ksym")
    if kind == "array":
        return (is_number(t) or t.kind == "array") and target.size <= max(8, t.size)
    if kind == "string":
        return t.kind == "string"
    if kind == "tuple":
        return t.kind == "tuple" and len(t.fields) == len(target.fields)
    return kind == t.kind and target.size == t.size


def measured(a: Analyser, operand: ast.Node) -> Type:
    """The type that sizeof, offsetof and typeof ask about: of a type's name or an expression."""
    if isinstance(operand, (ast.TypeName, ast.TypePointer, ast.Typeof)):
        return written_type(a, operand)
    if isinstance(operand, ast.Identifier):
        # A bare word may be a typedef.
        found = a.records.named(operand.name)
        if found is not None:
            operand.type = found
            return found
    return a.expr(operand)


def _sizeof(a: Analyser, node: ast.Sizeof) -> Type:
    t = measured(a, node.operand)
    return UNKNOWN if t.kind == "unknown" else UINT64


def offset_of(a: Analyser, node: ast.Offsetof) -> int | None:
    """The byte offset that ``offsetof`` gives, None when there is no such member."""
    t = getattr(node.operand, "type", None) or measured(a, node.operand)
    if t.kind == "pointer" and t.element is not None:
        t = t.element
    at = 0
    for name in node.path:
        member = a.records.member(a.records.resolve(t), name) if t.kind == "record" else None
        if member is None:
            return None
        at += member.offset
        t = member.type
    return at


def _offsetof(a: Analyser, node: ast.Offsetof) -> Type:
    t = measured(a, node.operand)
    if t.kind == "unknown":
        return t
    if offset_of(a, node) is None:
        if t.kind == "pointer" and t.element is not None:
            t = t.element
        return a.error(
            f"Struct/union of type '{display(t)}' does not contain a field named '{'.'.join(node.path)}'",
            node.span,
        )
    return UINT64


def _typeinfo(a: Analyser, node: ast.Typeinfo) -> Type:
    t = measured(a, node.operand)
    if t.kind == "unknown":
        return t
    return tuple_of(
        [INT64, string(len(t.kind) + 1), string(len(display(t)) + 1)], ("btf_id", "kind", "full_type")
    )


Analyser.EXPRESSIONS.update(
    {
        ast.Field: _field,
        ast.Index: _index,
        ast.Cast: _cast,
        ast.Sizeof: _sizeof,
        ast.Offsetof: _offsetof,
        ast.Typeinfo: _typeinfo,
    }
)
