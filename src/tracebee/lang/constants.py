"""Evaluating while compiling: literals, positional parameters, enumerators and arithmetic on them."""

from __future__ import annotations

from tracebee.lang import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.analyse import Analyser

MASK = (1 << 64) - 1


def signed(number: int) -> int:
    """The number as a signed 64-bit integer."""
    number &= MASK
    return number - (1 << 64) if number >> 63 else number


def _divide(x: int, y: int) -> int:
    """C's division: toward zero, and 0 by 0 as BPF has it."""
    if not y:
        return 0
    return abs(x) // abs(y) * (-1 if (x < 0) != (y < 0) else 1)


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": _divide,
    "%": lambda x, y: x - y * _divide(x, y) if y else x,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
    "<<": lambda x, y: x << (y & 63),
    ">>": lambda x, y: x >> (y & 63),
    "==": lambda x, y: int(x == y),
    "!=": lambda x, y: int(x != y),
    "<": lambda x, y: int(x < y),
    "<=": lambda x, y: int(x <= y),
    ">": lambda x, y: int(x > y),
    ">=": lambda x, y: int(x >= y),
    "&&": lambda x, y: int(bool(x) and bool(y)),
    "||": lambda x, y: int(bool(x) or bool(y)),
}


def parameter(a: Analyser, number: int) -> int | str:
    """A positional parameter: an integer when it reads as one, 0 when it was not given."""
    if number == 0:
        return len(a.options.parameters)
    if number > len(a.options.parameters):
        return 0
    text = a.options.parameters[number - 1]
    try:
        return int(text, 0)
    except ValueError:
        return int(text) if text.lstrip("-").isdecimal() else text


def evaluate(a: Analyser, node: ast.Node) -> int | str | None:
    """An expression's value, None when it is not known while compiling.

    Wraps as 64 bits do. The tree must have been analysed for sizeof of expressions to be known.
    """
    rule = _RULES.get(type(node))
    return None if rule is None else rule(a, node)


def _identifier(a: Analyser, node: ast.Identifier) -> int | str | None:
    found = a.records.constant(node.name)
    return None if found is None else found[0]


def _unary(a: Analyser, node: ast.Unary) -> int | str | None:
    x = evaluate(a, node.operand)
    if not isinstance(x, int) or node.op not in ("-", "~", "!", "+"):
        return None
    return {"-": signed(-x), "~": signed(~x), "!": int(not x), "+": x}[node.op]


def _binary(a: Analyser, node: ast.Binary) -> int | str | None:
    x = evaluate(a, node.left)
    if x is None:
        return None
    y = evaluate(a, node.right)
    if isinstance(x, str) and isinstance(y, str) and node.op in ("==", "!="):
        return int((x == y) == (node.op == "=="))
    if not isinstance(x, int) or not isinstance(y, int):
        return None
    result = OPERATIONS[node.op](x, y)
    # A literal above the signed range stays what it is; results wrap to what 64 bits hold.
    return result if -(1 << 63) <= result <= MASK else signed(result)


def _ternary(a: Analyser, node: ast.Ternary) -> int | str | None:
    c = evaluate(a, node.condition)
    return None if c is None else evaluate(a, node.then if c else node.otherwise)


def _builtin(a: Analyser, node: ast.Builtin) -> int | None:
    if a.options.portable:
        return None  # known where the script runs
    if node.name == "ncpus":
        return a.options.ncpus
    if node.name == "has_cpid":
        return int(a.options.cpid is not None)
    return a.options.cpid if node.name == "cpid" else None


def _call(a: Analyser, node: ast.Call) -> int | str | None:
    from tracebee.lang import functions

    row = functions.find(node.name)
    return None if row is None or row.constant is None else row.constant(a, node)


def _sizeof(a: Analyser, node: ast.Sizeof) -> int | None:
    from tracebee.lang.analyse_access import measured

    known = getattr(node.operand, "type", None)
    return (known or measured(a, node.operand)).size


def _offsetof(a: Analyser, node: ast.Offsetof) -> int | None:
    from tracebee.lang.analyse_access import offset_of

    return offset_of(a, node)


_RULES: dict[type, Callable[..., int | str | None]] = {
    ast.Integer: lambda _, node: node.value,
    ast.Boolean: lambda _, node: int(node.value),
    ast.String: lambda _, node: node.value,
    ast.Positional: lambda a, node: parameter(a, node.number),
    ast.Comptime: lambda a, node: evaluate(a, node.operand),
    ast.Identifier: _identifier,
    ast.Unary: _unary,
    ast.Binary: _binary,
    ast.Ternary: _ternary,
    ast.Builtin: _builtin,
    ast.Call: _call,
    ast.Sizeof: _sizeof,
    ast.Offsetof: _offsetof,
}
