"""How types of values meet: one type for a map or variable that is given values of several."""

from __future__ import annotations

from tracebee.lang.types import (
    INT64,
    UINT64,
    Type,
    string,
    tuple_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Not known yet (a map read before any pass has seen it written), or wrong and already reported.
UNKNOWN = Type("unknown")

# Kinds whose values are one 64-bit number while a program computes with them.
SCALARS = frozenset(
    {"int", "bool", "enum", "pointer", "ksym", "username", "probe", "timestamp", "cgroup_path", "strerror"}
)
# Aggregations that stand for an integer when an expression reads them.
COUNTABLE = frozenset({"count", "sum", "avg", "min", "max"})


def is_scalar(t: Type) -> bool:
    """Whether a value of the type is held as one number, not in memory."""
    return t.kind in SCALARS


def is_number(t: Type) -> bool:
    """Whether arithmetic works on it: integers, booleans, enumerators, aggregations that are numbers."""
    return t.kind in ("int", "bool", "enum") or t.kind in COUNTABLE


def as_integer(t: Type) -> Type:
    """The integer type a number takes part in arithmetic as."""
    if t.kind == "int":
        return t
    if t.kind == "enum":
        return Type("int", t.size or 4, signed=t.signed)
    if t.kind == "bool":
        return Type("int", 1)
    return INT64 if t.signed or t.kind == "avg" else UINT64


# Literals carry a mark in ``name``: a number that is not negative takes on the signedness of what it
# meets; kept in a variable or map it has 64 bits, and still meets either.
LITERAL, NEGATIVE = "literal", "negative"
FLEXIBLE = Type("int", 8, signed=True, name=LITERAL)


def smallest(number: int) -> Type:
    """The smallest integer type that holds a literal: unsigned unless negative."""
    size = next((n for n in (1, 2, 4) if -1 << (8 * n - 1) <= number < 1 << 8 * n), 8)
    return Type("int", size, signed=number < 0, name=NEGATIVE if number < 0 else LITERAL)


def kept(t: Type) -> Type:
    """The type of a variable that is given a value: a literal's is as wide as can be."""
    if t.name == LITERAL and t.kind == "int":
        return FLEXIBLE
    return INT64 if t.name == NEGATIVE and t.kind == "int" else t


def same_sign(x: Type, y: Type) -> tuple[Type, Type]:
    """Two integers with one signedness, where that can be had without changing a value."""
    if LITERAL in (x.name, y.name):
        signed = True if x.name == y.name else (y if x.name == LITERAL else x).signed
        return x._replace(signed=signed), y._replace(signed=signed)
    if x.signed != y.signed and (y if x.signed else x).size < 8:
        return x._replace(signed=True), y._replace(signed=True)
    return x, y


def join_integers(a: Type, b: Type) -> Type | None:
    """The smallest integer type that holds all values of both, None when there is none."""
    if a.name == b.name == LITERAL:
        return a if a.size >= b.size else b
    for literal, other in ((a, b), (b, a)):
        if literal == FLEXIBLE:
            return INT64 if other.signed else UINT64
        if literal.name == LITERAL and (other.size == 8 or literal.size < other.size):
            return other._replace(name="")
    if a.signed == b.signed:
        return (a if a.size >= b.size else b)._replace(name="")
    signed, unsigned = (a, b) if a.signed else (b, a)
    if unsigned.size < signed.size:
        return signed._replace(name="")
    return None if unsigned.size == 8 else Type("int", unsigned.size * 2, signed=True)


def join(a: Type, b: Type) -> Type | None:
    """The type that values of both can be stored as; None when they do not fit one."""
    if a == b or b.kind == "unknown":
        return a
    if a.kind == "unknown":
        return b
    if a.kind in ("int", "bool", "enum") and b.kind in ("int", "bool", "enum"):
        return join_integers(as_integer(a), as_integer(b))
    if a.kind != b.kind:
        return _join_castable(a, b)
    rule = _SAME_KIND.get(a.kind)
    return None if rule is None else rule(a, b)


def _join_castable(a: Type, b: Type) -> Type | None:
    """An integer beside an aggregation it can be read as: the aggregation stays what the map holds."""
    if a.kind == "pointer" and b.kind == "int" and not b.signed and b.size == 1:
        return a  # NULL
    if b.kind == "pointer" and a.kind == "int" and not a.signed and a.size == 1:
        return b
    return None


def _join_sized(a: Type, b: Type) -> Type:
    return a if a.size >= b.size else b


def _join_pointers(a: Type, b: Type) -> Type | None:
    if a.element is None or a.element.kind == "none":
        return b
    if b.element is None or b.element.kind == "none":
        return a
    if a.name != b.name and a.name and b.name:
        return None
    inner = a.element if (a.element.kind, a.element.name) == (b.element.kind, b.element.name) else None
    if inner is None or (inner.kind == "int" and a.element.size != b.element.size):
        return None
    return a if a.name else b


def _join_tuples(a: Type, b: Type) -> Type | None:
    if [f.name for f in a.fields] != [f.name for f in b.fields]:
        return None
    members = [join(x.type, y.type) for x, y in zip(a.fields, b.fields, strict=True)]
    known = [m for m in members if m is not None]
    if len(known) != len(members):
        return None
    named = bool(a.fields) and a.fields[0].name != "0"
    return tuple_of(known, [f.name for f in a.fields] if named else None)


def _join_records(a: Type, b: Type) -> Type | None:
    return a if a.name == b.name and a.size == b.size else None


def _join_sums(a: Type, b: Type) -> Type:
    return a if a.signed else b


_SAME_KIND: dict[str, Callable[[Type, Type], Type | None]] = {
    "string": _join_sized,
    "buffer": _join_sized,
    "pointer": _join_pointers,
    "tuple": _join_tuples,
    "record": _join_records,
    "sum": _join_sums,
    "min": _join_sums,
    "max": _join_sums,
    "avg": _join_sums,
    "stats": _join_sums,
}


def stored_key(t: Type) -> Type:
    """The type a key (or a member of one) has in a map: integers of at least 4 bytes.

    One or two bytes more cost nothing in a hash and spare the padding between members.
    """
    t = kept(t)
    if t.kind == "int" and t.size < 4:
        return Type("int", 4, signed=t.signed)
    if t.kind == "tuple":
        named = bool(t.fields) and t.fields[0].name != "0"
        return tuple_of([stored_key(f.type) for f in t.fields], [f.name for f in t.fields] if named else None)
    return t


def stored_value(t: Type) -> Type:
    """The type a value has in a map: integers take 8 bytes."""
    if t.kind == "int":
        return kept(t) if t.name else INT64 if t.signed else UINT64
    if t.kind == "string":
        return string(-(-t.size // 8) * 8)
    return t
