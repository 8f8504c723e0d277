"""Integer constant expressions of C, for ``#if`` lines, array lengths and enumerators."""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.parse_expressions import ExpressionParser
from tracebee.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def evaluate(
    text: str,
    names: Callable[[str], int | None],
    sizeof: Callable[[ast.Node], int | None] = lambda _: None,
    defines: Mapping[str, str] | None = None,
) -> int:
    """The value of a constant expression, in Python's unbounded integers.

    :param names: value of an identifier, None when unknown.
    :param sizeof: size in bytes of what ``sizeof`` names, None when unknown.
    :param defines: object macros.
    :raises ValueError: not a constant expression, an unknown name, a division by zero.
    """
    parser = ExpressionParser(Source("", text))
    parser.defines.update(defines or {})
    try:
        node = parser.parse_expression()
    except Diagnostic as error:
        raise ValueError(error.message.replace("the end of the script", "its end")) from None
    if parser.kind != "end":
        raise ValueError(f"unexpected '{parser.text}'")
    return _value(node, names, sizeof)


def _value(
    node: ast.Expr, names: Callable[[str], int | None], sizeof: Callable[[ast.Node], int | None]
) -> int:
    if isinstance(node, ast.Integer):
        return node.value
    found: int | None
    if isinstance(node, ast.Identifier | ast.Builtin):
        found = names(node.name)
        if found is None:
            raise ValueError(f"'{node.name}' is not known")
        return found
    if isinstance(node, ast.Sizeof):
        found = sizeof(node.operand)
        if found is None:
            raise ValueError("the size is not known")
        return found
    if isinstance(node, ast.Unary) and node.op in _UNARY:
        return _UNARY[node.op](_value(node.operand, names, sizeof))
    if isinstance(node, ast.Cast):
        return _value(node.operand, names, sizeof)
    if isinstance(node, ast.Ternary):
        chosen = node.then if _value(node.condition, names, sizeof) else node.otherwise
        return _value(chosen, names, sizeof)
    if isinstance(node, ast.Binary):
        left = _value(node.left, names, sizeof)
        if node.op in ("&&", "||") and bool(left) == (node.op == "||"):
            return int(bool(left))
        return _binary(node.op, left, _value(node.right, names, sizeof))
    raise ValueError("not a constant")


def _binary(op: str, left: int, right: int) -> int:
    if op in ("<<", ">>") and not 0 <= right < 64:
        raise ValueError("the shift is out of range")
    if op in ("/", "%"):
        if right == 0:
            raise ValueError("division by zero")
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if op == "/" else left - right * quotient
    return int(_BINARY[op](left, right))


_UNARY: dict[str, Callable[[int], int]] = {
    "-": lambda x: -x,
    "+": lambda x: x,
    "~": lambda x: ~x,
    "!": lambda x: int(not x),
}
_BINARY: dict[str, Callable[[int, int], int | bool]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
    "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
    "<": lambda x, y: x < y,
    ">": lambda x, y: x > y,
    "<=": lambda x, y: x <= y,
    ">=": lambda x, y: x >= y,
    "&&": lambda _, y: bool(y),
    "||": lambda _, y: bool(y),
}
