"""The syntax tree of the bpftrace language, as the parser makes it.

Nodes are plain slotted objects made by keyword; every one has a ``span``. The analyser writes an
expression's type into ``type`` and changes nothing else, so that the tree always prints back as
the script. Names are those of bpftrace's language reference.
"""

from __future__ import annotations

from tracebee.source import NOWHERE, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, ClassVar

    from tracebee.lang.types import Type


class Node:
    """Base of all nodes. ``fields`` lists the attributes in source order, after ``span``."""

    __slots__ = ("span",)
    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, span: Span = NOWHERE, **values: Any) -> None:
        self.span = span
        for name in self.fields:
            setattr(self, name, values.pop(name))
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    def children(self) -> Iterator[Node]:
        """The node's direct child nodes, in source order."""
        for name in self.fields:
            value = getattr(self, name)
            if isinstance(value, Node):
                yield value
            elif isinstance(value, list):
                yield from (v for v in value if isinstance(v, Node))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__}({inner})"

    def __eq__(self, other: object) -> bool:
        """Structural equality that ignores spans and types (what a round trip must keep)."""
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in self.fields
        )

    __hash__ = None  # type: ignore[assignment]  # nodes are mutable


class Expr(Node):
    """An expression; ``type`` is None until the analyser has run."""

    __slots__ = ("type",)

    def __init__(self, span: Span = NOWHERE, **values: Any) -> None:
        super().__init__(span, **values)
        self.type: Type | None = None


# --- literals and names ---------------------------------------------------------------------------


class Integer(Expr):
    """``42``, ``0x2a``, ``1e6``, ``1_000u``, ``10ms`` (in nanoseconds). ``text`` is the source spelling."""

    __slots__ = fields = ("value", "text")
    value: int
    text: str


class Boolean(Expr):
    """``true`` or ``false``."""

    __slots__ = fields = ("value",)
    value: bool


class String(Expr):
    """A string literal with its escapes resolved; one character per byte, as in latin-1."""

    __slots__ = fields = ("value",)
    value: str


class Identifier(Expr):
    """A bare name that is no builtin: an enumerator, C macro constant, argument word, macro call."""

    __slots__ = fields = ("name",)
    name: str


class Builtin(Expr):
    """A builtin variable without ``()``: ``pid``, ``comm``, ``arg0``, ``args``, ``retval``, ``kstack``."""

    __slots__ = fields = ("name",)
    name: str


class Positional(Expr):
    """``$1``; number 0 stands for ``$#``, the count."""

    __slots__ = fields = ("number",)
    number: int


class Variable(Expr):
    """A scratch variable; ``name`` without the ``$``."""

    __slots__ = fields = ("name",)
    name: str


class Map(Expr):
    """A map without a key: a scalar map's value, or a whole map as an argument. Name without ``@``."""

    __slots__ = fields = ("name",)
    name: str


class MapAccess(Expr):
    """``@name[key]``; several keys ``@a[x, y]`` are one Tuple key."""

    __slots__ = fields = ("map", "key")
    map: Map
    key: Expr


# --- operators ------------------------------------------------------------------------------------


class Unary(Expr):
    """``op`` is one of ``! ~ - + * &``."""

    __slots__ = fields = ("op", "operand")
    op: str
    operand: Expr


class IncDec(Expr):
    """``++`` or ``--`` on a variable or map, before (``prefix``) or after it."""

    __slots__ = fields = ("op", "target", "prefix")
    op: str
    target: Expr
    prefix: bool


class Binary(Expr):
    """``op`` is one of ``+ - * / % & | ^ << >> == != < <= > >= && ||``."""

    __slots__ = fields = ("op", "left", "right")
    op: str
    left: Expr
    right: Expr


class Ternary(Expr):
    """``condition ? then : otherwise``."""

    __slots__ = fields = ("condition", "then", "otherwise")
    condition: Expr
    then: Expr
    otherwise: Expr


class Field(Expr):
    """``base.name`` or ``base->name`` (``arrow``); a tuple's field is its number as text."""

    __slots__ = fields = ("base", "name", "arrow")
    base: Expr
    name: str
    arrow: bool


class Index(Expr):
    """``base[index]`` on an array, pointer or tuple."""

    __slots__ = fields = ("base", "index")
    base: Expr
    index: Expr


class Tuple(Expr):
    """``(a, b)``, ``(a,)``, ``()``."""

    __slots__ = fields = ("items",)
    items: list[Expr]


class Record(Expr):
    """``(name = value, ...)``: a tuple with named fields; ``names`` and ``items`` run in parallel."""

    __slots__ = fields = ("names", "items")
    names: list[str]
    items: list[Expr]


class TypeName(Node):
    """A type as written: ``name`` (``uint64``, ``struct task_struct``, ``enum e``, ``string``),
    ``pointers`` stars, ``array`` sizes left to right (None for ``[]``).
    """

    __slots__ = fields = ("name", "pointers", "array")
    name: str
    pointers: int
    array: list[int | None]


class TypePointer(Node):
    """A pointer to what TypeName cannot say: to an array (``int8[4] *``) or to a Typeof."""

    __slots__ = fields = ("element", "pointers")
    element: Node
    pointers: int


class Cast(Expr):
    """``(type)operand``; ``target`` is a TypeName, TypePointer or Typeof, ``operand`` may be a Tuple."""

    __slots__ = fields = ("target", "operand")
    target: Node
    operand: Expr


class Sizeof(Expr):
    """``sizeof(type)`` or ``sizeof(expression)``."""

    __slots__ = fields = ("operand",)
    operand: Node


class Offsetof(Expr):
    """``offsetof(type or expression, a.b)``; ``path`` holds the member names."""

    __slots__ = fields = ("operand", "path")
    operand: Node
    path: list[str]


class Typeof(Node):
    """``typeof(expression or type)`` where a type stands."""

    __slots__ = fields = ("operand",)
    operand: Node


class Typeinfo(Expr):
    """``typeinfo(expression or type)``."""

    __slots__ = fields = ("operand",)
    operand: Node


class Comptime(Expr):
    """``comptime expression``: evaluated while compiling."""

    __slots__ = fields = ("operand",)
    operand: Expr


class Call(Expr):
    """A function or macro call; an argument may be a TypeName."""

    __slots__ = fields = ("name", "arguments")
    name: str
    arguments: list[Node]


class BlockExpr(Expr):
    """``{ statements; value }`` as an expression; ``value`` is None when the block ends in a statement."""

    __slots__ = fields = ("statements", "value")
    statements: list[Node]
    value: Expr | None


class IfExpr(Expr):
    """``if c { a } else { b }`` used as an expression; ``otherwise`` may be another IfExpr."""

    __slots__ = fields = ("condition", "then", "otherwise")
    condition: Expr
    then: BlockExpr
    otherwise: Expr | None


# --- statements -----------------------------------------------------------------------------------


class ExprStatement(Node):
    """An expression for its effect: ``print(@x)``, ``$i++``."""

    __slots__ = fields = ("expr",)
    expr: Expr


class Discard(Node):
    """``_ = expression``."""

    __slots__ = fields = ("expr",)
    expr: Expr


class Let(Node):
    """``let $x``, ``let $x : type``, ``let $x = value``."""

    __slots__ = fields = ("variable", "annotation", "value")
    variable: Variable
    annotation: Node | None
    value: Expr | None


class Assign(Node):
    """``target op value``; ``op`` is ``=`` or a compound such as ``+=``. Target: Variable, Map, MapAccess."""

    __slots__ = fields = ("target", "op", "value")
    target: Expr
    op: str
    value: Expr


class Block(Node):
    """``{ ... }`` as a statement."""

    __slots__ = fields = ("statements",)
    statements: list[Node]


class If(Node):
    """``if (c) { } else ...``; ``otherwise`` is a Block, another If, or None."""

    __slots__ = fields = ("condition", "then", "otherwise")
    condition: Expr
    then: Block
    otherwise: Node | None


class While(Node):
    """``while (c) { }``."""

    __slots__ = fields = ("condition", "body")
    condition: Expr
    body: Block


class Unroll(Node):
    """``unroll (n) { }``."""

    __slots__ = fields = ("count", "body")
    count: Expr
    body: Block


class Range(Node):
    """``start..end`` of a for loop, end exclusive."""

    __slots__ = fields = ("start", "end")
    start: Expr
    end: Expr


class For(Node):
    """``for $x : iterable { }``; iterable is a Range, or a Map (the variable is then ``(key, value)``)."""

    __slots__ = fields = ("variable", "iterable", "body")
    variable: Variable
    iterable: Node
    body: Block


class Break(Node):
    """``break``."""

    __slots__ = ()


class Continue(Node):
    """``continue``."""

    __slots__ = ()


class Return(Node):
    """``return`` with an optional value."""

    __slots__ = fields = ("value",)
    value: Expr | None


# --- top level ------------------------------------------------------------------------------------


class AttachPoint(Node):
    """One probe as written, ``kprobe:vfs_read+8``: split at ``:`` outside quotes, quotes removed.

    ``parts[0]`` is the provider as spelled; positional parameters are already put in.
    """

    __slots__ = fields = ("parts", "text")
    parts: list[str]
    text: str


class Probe(Node):
    """``[name =] points /predicate/ { body }``."""

    __slots__ = fields = ("name", "points", "predicate", "body")
    name: str | None
    points: list[AttachPoint]
    predicate: Expr | None
    body: Block


class Subprogram(Node):
    """``fn name($a : type, ...) : type { }``; ``parameters`` are Let nodes without a value."""

    __slots__ = fields = ("name", "parameters", "returns", "body")
    name: str
    parameters: list[Let]
    returns: Node | None
    body: Block


class Macro(Node):
    """``macro name($a, b, @c) { }``; parameters are Variable, Identifier or Map nodes."""

    __slots__ = fields = ("name", "parameters", "body")
    name: str
    parameters: list[Expr]
    body: BlockExpr


class Config(Node):
    """``config = { name = value; ... }``: (name, value, span) in source order; names are the plain
    lower-case ones, values those of ``lang.config.SETTINGS``.
    """

    __slots__ = fields = ("settings",)
    settings: list[tuple[str, int | str | bool, Span]]

    def __eq__(self, other: object) -> bool:
        """Equality that ignores the settings' spans."""
        return isinstance(other, Config) and [s[:2] for s in self.settings] == [s[:2] for s in other.settings]

    __hash__ = None  # nodes are mutable


class Import(Node):
    """``import "path"``, at the top of a script or as a statement."""

    __slots__ = fields = ("path",)
    path: str


class CDefinition(Node):
    """A C declaration of the preamble, as text: ``kind`` is ``struct``, ``union``, ``enum``, ``typedef``,
    ``include``, ``define`` or another preprocessor directive; ``inactive`` where an ``#if`` switched
    it off. ``lang.cdefs`` reads them.
    """

    __slots__ = fields = ("kind", "text")
    kind: str
    text: str


class MapDecl(Node):
    """``let @name = type(entries);``"""

    __slots__ = fields = ("map", "kind", "entries")
    map: Map
    kind: str
    entries: int


class Program(Node):
    """A whole script. ``items`` keeps the source order; the properties select from it."""

    __slots__ = fields = ("items",)
    items: list[Node]

    def of(self, kind: type[Node]) -> Sequence[Any]:
        """The top-level items of one node class, in source order."""
        return [item for item in self.items if isinstance(item, kind)]
