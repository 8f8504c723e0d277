"""Prints a tree as a script (``format_program``), and as an indented dump (``dump``).

The script is canonical: one statement a line, tabs, only the parentheses that precedence asks for.
Parsing it gives an equal tree. Comments are not in the tree.
"""

from __future__ import annotations

import re

from tracebee.lang import ast
from tracebee.lang.literals import quote
from tracebee.lang.parse_expressions import PRECEDENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TERNARY = 0
_UNARY = 11
_POSTFIX = 12
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\Z")


def format_program(program: ast.Program) -> str:
    """The script of a tree."""
    parts = []
    previous: ast.Node | None = None
    for item in program.items:
        if previous is not None and not _belong_together(previous, item):
            parts.append("")
        parts.append("\n".join(_item(item)))
        previous = item
    return "\n".join(parts) + "\n" if parts else ""


def format_expression(node: ast.Node) -> str:
    """The text of one expression or type."""
    return _expression(node, _TERNARY)


def _belong_together(a: ast.Node, b: ast.Node) -> bool:
    lines = (ast.CDefinition, ast.Import, ast.MapDecl)
    return type(a) is type(b) and isinstance(a, lines) and "\n" not in getattr(a, "text", "")


# --- top level ------------------------------------------------------------------------------------


def _item(node: ast.Node) -> Iterator[str]:
    if isinstance(node, ast.CDefinition):
        yield node.text
    elif isinstance(node, ast.Import):
        yield f"import {quote(node.path)};"
    elif isinstance(node, ast.MapDecl):
        yield f"let @{node.map.name} = {node.kind}({node.entries});"
    elif isinstance(node, ast.Config):
        yield "config = {"
        for name, value, _ in node.settings:
            yield f"\t{name} = {_setting(value)};"
        yield "}"
    elif isinstance(node, ast.Macro):
        parameters = ", ".join(_expression(p, _TERNARY) for p in node.parameters)
        yield from _headed(f"macro {node.name}({parameters}) ", _braced(node.body))
    elif isinstance(node, ast.Subprogram):
        parameters = ", ".join(
            f"${p.variable.name} : {format_expression(p.annotation)}"
            for p in node.parameters
            if p.annotation is not None
        )
        returns = "" if node.returns is None else f" : {format_expression(node.returns)}"
        yield from _headed(f"fn {node.name}({parameters}){returns} ", _braced(node.body))
    elif isinstance(node, ast.Probe):
        yield from _probe(node)
    else:
        raise TypeError(f"no top-level item: {type(node).__name__}")


def _setting(value: int | str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if _WORD.match(value) and value not in ("true", "false") else quote(value)


def _probe(node: ast.Probe) -> Iterator[str]:
    head = "" if node.name is None else f"{node.name} = "
    head += ",\n".join(point.text for point in node.points)
    if node.predicate is not None:
        head += f"\n/{_predicate(node.predicate)}/\n"
    else:
        head += " "
    yield from _headed(head, _braced(node.body))


def _predicate(node: ast.Expr) -> str:
    text = format_expression(node)
    # A "/" before "{" would end the predicate, and one at either end makes a comment of the slash.
    if re.search(r"/\s*\{", text) or text.startswith(("/", "*")) or text.endswith("/"):
        return f"({text})"
    return text


# --- statements -----------------------------------------------------------------------------------


def _braced(node: ast.Block | ast.BlockExpr) -> list[str]:
    lines = ["{"]
    for statement in node.statements:
        lines.extend("\t" + line for line in _statement(statement))
    if isinstance(node, ast.BlockExpr) and node.value is not None:
        lines.extend("\t" + line for line in _standing(node.value).split("\n"))
    if len(lines) == 1:
        return ["{}"]
    return [*lines, "}"]


def _headed(head: str, block: list[str]) -> Iterator[str]:
    lines = head.split("\n")
    yield from lines[:-1]
    yield lines[-1] + block[0]
    yield from block[1:]


def _statement(node: ast.Node) -> list[str]:
    return list(_STATEMENTS[type(node)](node))


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _if(node: ast.If) -> Iterator[str]:
    head = "if "
    while True:
        block = _braced(node.then)
        lines = list(_headed(f"{head}({_expression(node.condition, _TERNARY)}) ", block))
        otherwise = node.otherwise
        if otherwise is None:
            yield from lines
            return
        yield from lines[:-1]
        head = lines[-1] + " else "
        if isinstance(otherwise, ast.If):
            node = otherwise
            head += "if "
            continue
        assert isinstance(otherwise, ast.Block)
        yield from _headed(head, _braced(otherwise))
        return


def _let(node: ast.Let) -> str:
    text = f"let ${node.variable.name}"
    if node.annotation is not None:
        text += f" : {format_expression(node.annotation)}"
    if node.value is not None:
        text += f" = {format_expression(node.value)}"
    return text + ";"


def _for(node: ast.For) -> Iterator[str]:
    if isinstance(node.iterable, ast.Range):
        start = _expression(node.iterable.start, _UNARY)
        over = f"{start}..{_expression(node.iterable.end, _UNARY)}"
    else:
        over = format_expression(node.iterable)
    return _headed(f"for (${node.variable.name} : {over}) ", _braced(node.body))


def _return(node: ast.Return) -> str:
    return "return;" if node.value is None else f"return {format_expression(node.value)};"


def _standing(node: ast.Expr) -> str:
    """An expression that starts a statement: one that starts with a block would end behind it."""
    text = format_expression(node)
    starts = text.startswith(("{", "if "))
    return f"({text})" if starts and not isinstance(node, ast.BlockExpr | ast.IfExpr) else text


_STATEMENTS: dict[type[ast.Node], Callable[..., Iterator[str] | list[str]]] = {
    ast.ExprStatement: lambda n: _lines(_standing(n.expr) + ";"),
    ast.Discard: lambda n: _lines(f"_ = {format_expression(n.expr)};"),
    ast.Let: lambda n: _lines(_let(n)),
    ast.Assign: lambda n: _lines(f"{format_expression(n.target)} {n.op} {format_expression(n.value)};"),
    ast.Block: _braced,
    ast.If: _if,
    ast.While: lambda n: _headed(f"while ({format_expression(n.condition)}) ", _braced(n.body)),
    ast.Unroll: lambda n: _headed(f"unroll ({format_expression(n.count)}) ", _braced(n.body)),
    ast.For: _for,
    ast.Break: lambda _: ["break;"],
    ast.Continue: lambda _: ["continue;"],
    ast.Return: lambda n: _lines(_return(n)),
    ast.Import: lambda n: [f"import {quote(n.path)};"],
}


# --- expressions ----------------------------------------------------------------------------------


def _expression(node: ast.Node, lowest: int) -> str:
    """The text of ``node``, parenthesised when it binds less than ``lowest``."""
    text, precedence = _EXPRESSIONS[type(node)](node)
    return f"({text})" if precedence < lowest else text


def _binary(node: ast.Binary) -> tuple[str, int]:
    # A chain to the left is walked in a loop: it may be long.
    precedence = PRECEDENCE[node.op]
    parts = []
    left: ast.Expr = node
    while isinstance(left, ast.Binary) and PRECEDENCE[left.op] == precedence:
        parts.append(f" {left.op} {_expression(left.right, precedence + 1)}")
        left = left.left
    parts.append(_expression(left, precedence))
    return "".join(reversed(parts)), precedence


def _ternary(node: ast.Ternary) -> tuple[str, int]:
    condition = _expression(node.condition, 1)
    return f"{condition} ? {format_expression(node.then)} : {format_expression(node.otherwise)}", _TERNARY


def _unary(node: ast.Unary) -> tuple[str, int]:
    operand = _expression(node.operand, _UNARY)
    # "- -x" and "& &x" must not run together into another operator.
    gap = " " if operand[:1] == node.op and node.op in "-+&" else ""
    return f"{node.op}{gap}{operand}", _UNARY


def _inc_dec(node: ast.IncDec) -> tuple[str, int]:
    target = format_expression(node.target)
    return (f"{node.op}{target}", _UNARY) if node.prefix else (f"{target}{node.op}", _POSTFIX)


def _field(node: ast.Field) -> tuple[str, int]:
    base = _expression(node.base, _POSTFIX)
    return f"{base}{'->' if node.arrow else '.'}{node.name}", _POSTFIX


def _index(node: ast.Index) -> tuple[str, int]:
    base = _expression(node.base, _POSTFIX)
    if isinstance(node.base, ast.Map):  # @m[k] is an access of the map; (@m)[k] indexes its value
        base = f"({base})"
    return f"{base}[{format_expression(node.index)}]", _POSTFIX


def _tuple(node: ast.Tuple) -> tuple[str, int]:
    items = ", ".join(format_expression(item) for item in node.items)
    return f"({items},)" if len(node.items) == 1 else f"({items})", _POSTFIX


def _record(node: ast.Record) -> tuple[str, int]:
    pairs = zip(node.names, node.items, strict=True)
    return "(" + ", ".join(f"{name} = {format_expression(item)}" for name, item in pairs) + ")", _POSTFIX


def _map_access(node: ast.MapAccess) -> tuple[str, int]:
    key = node.key
    if isinstance(key, ast.Tuple) and len(key.items) > 1:
        inner = ", ".join(format_expression(item) for item in key.items)
    else:
        inner = format_expression(key)
    return f"@{node.map.name}[{inner}]", _POSTFIX


def _type_name(node: ast.TypeName) -> tuple[str, int]:
    stars = " " + "*" * node.pointers if node.pointers else ""
    sizes = "".join("[]" if size is None else f"[{size}]" for size in node.array)
    return node.name + stars + sizes, _POSTFIX


def _call(node: ast.Call) -> tuple[str, int]:
    return f"{node.name}({', '.join(format_expression(a) for a in node.arguments)})", _POSTFIX


def _if_expression(node: ast.IfExpr) -> tuple[str, int]:
    parts = []
    current: ast.Expr | None = node
    while isinstance(current, ast.IfExpr):
        block = "\n".join(_braced(current.then))
        parts.append(f"if ({format_expression(current.condition)}) {block}")
        current = current.otherwise
    if current is not None:
        assert isinstance(current, ast.BlockExpr)
        parts.append("\n".join(_braced(current)))
    return " else ".join(parts), _POSTFIX


_EXPRESSIONS: dict[type[ast.Node], Callable[..., tuple[str, int]]] = {
    ast.Integer: lambda n: (n.text, _POSTFIX),
    ast.Boolean: lambda n: ("true" if n.value else "false", _POSTFIX),
    ast.String: lambda n: (quote(n.value), _POSTFIX),
    ast.Identifier: lambda n: (n.name, _POSTFIX),
    ast.Builtin: lambda n: (n.name, _POSTFIX),
    ast.Positional: lambda n: (f"${n.number or '#'}", _POSTFIX),
    ast.Variable: lambda n: (f"${n.name}", _POSTFIX),
    ast.Map: lambda n: (f"@{n.name}", _POSTFIX),
    ast.MapAccess: _map_access,
    ast.Unary: _unary,
    ast.IncDec: _inc_dec,
    ast.Binary: _binary,
    ast.Ternary: _ternary,
    ast.Field: _field,
    ast.Index: _index,
    ast.Tuple: _tuple,
    ast.Record: _record,
    ast.TypeName: _type_name,
    ast.TypePointer: lambda n: (f"{format_expression(n.element)} {'*' * n.pointers}", _POSTFIX),
    ast.Typeof: lambda n: (f"typeof({format_expression(n.operand)})", _POSTFIX),
    ast.Cast: lambda n: (f"({format_expression(n.target)}){_expression(n.operand, _UNARY)}", _UNARY),
    ast.Sizeof: lambda n: (f"sizeof({format_expression(n.operand)})", _POSTFIX),
    ast.Offsetof: lambda n: (f"offsetof({format_expression(n.operand)}, {'.'.join(n.path)})", _POSTFIX),
    ast.Typeinfo: lambda n: (f"typeinfo({format_expression(n.operand)})", _POSTFIX),
    ast.Comptime: lambda n: (f"comptime {_expression(n.operand, _UNARY)}", _UNARY),
    ast.Call: _call,
    ast.BlockExpr: lambda n: ("\n".join(_braced(n)), _POSTFIX),
    ast.IfExpr: _if_expression,
}


# --- dump -----------------------------------------------------------------------------------------


def dump(node: ast.Node) -> str:
    """The tree with one node a line, indented, with its own values, type and place."""
    lines: list[str] = []
    pending: list[tuple[ast.Node, int]] = [(node, 0)]
    while pending:
        current, depth = pending.pop()
        values = [
            f" {name}={value!r}"
            for name in current.fields
            if (value := getattr(current, name)) is not None and not isinstance(value, ast.Node | list)
        ]
        words = [v for v in current.fields if isinstance(getattr(current, v), list)]
        for name in words:
            plain = [v for v in getattr(current, name) if not isinstance(v, ast.Node)]
            if plain:
                values.append(f" {name}={plain!r}")
        kind = getattr(current, "type", None)
        if kind is not None:
            values.append(f" :: {kind.kind}")
        place = f"  [{current.span.line}:{current.span.column}]" if current.span.line else ""
        lines.append("  " * depth + type(current).__name__ + "".join(values) + place)
        pending.extend((child, depth + 1) for child in reversed(list(current.children())))
    return "\n".join(lines) + "\n"
