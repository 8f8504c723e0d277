"""Types of literals, operators, conditionals and names."""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.analyse import Analyser
from tracebee.lang.constants import parameter
from tracebee.lang.types import BOOL, INT64, NONE, UINT64, Type, display, string, tuple_of
from tracebee.lang.unify import COUNTABLE, FLEXIBLE, UNKNOWN, as_integer, is_number, join, same_sign, smallest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.lang.analyse import VariableState

COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
# Kinds that == and != compare byte by byte.
_BYTEWISE = frozenset(("array", "tuple", "inet", "mac", "buffer"))


def _integer(a: Analyser, node: ast.Integer) -> Type:
    if node.value > (1 << 64) - 1:
        return a.error(f"{node.text} does not fit in 64 bits", node.span)
    return smallest(node.value)


def _boolean(_: Analyser, __: ast.Boolean) -> Type:
    return BOOL


def _string(_: Analyser, node: ast.String) -> Type:
    return string(
        len(node.value.encode("latin-1", "surrogateescape")) + 1
        if node.value.isascii()
        else len(literal_bytes(node.value)) + 1
    )


def literal_bytes(text: str) -> bytes:
    """A string literal's bytes: each character below 256 is one byte, others are UTF-8."""
    return b"".join(c.encode("latin-1") if c < "\u0100" else c.encode() for c in text)


def _positional(a: Analyser, node: ast.Positional) -> Type:
    value = parameter(a, node.number)
    return smallest(value) if isinstance(value, int) else string(len(value.encode()) + 1)


def _identifier(a: Analyser, node: ast.Identifier) -> Type:
    found = a.records.constant(node.name)
    if found is not None:
        return found[1]
    from tracebee.lang.names import builtins
    from tracebee.suggest import did_you_mean

    return a.error(f"Unknown identifier: '{node.name}'", node.span, did_you_mean(node.name, builtins()))


def _builtin(a: Analyser, node: ast.Builtin) -> Type:
    from tracebee.lang import builtins

    row = builtins.find(node.name)
    if row is None:
        from tracebee.suggest import did_you_mean

        return a.error(
            f"Unknown builtin: '{node.name}'", node.span, did_you_mean(node.name, builtins.names())
        )
    try:
        return row.type(a, node.name)
    except Diagnostic as wrong:
        return a.error(wrong.message, node.span, wrong.hint)


def _variable(a: Analyser, node: ast.Variable) -> Type:
    state = a.lookup(node)
    if state is None:
        return a.error(
            f"Undefined or undeclared variable: ${node.name}", node.span, _like(node.name, a.scopes)
        )
    state.read = True
    return state.type


def _like(name: str, scopes: list[dict[str, VariableState]]) -> str | None:
    from tracebee.suggest import did_you_mean

    hint = did_you_mean(name, {n for scope in scopes for n in scope})
    return hint.replace("'", "'$", 1) if hint else None


def _map(a: Analyser, node: ast.Map | ast.MapAccess) -> Type:
    state = a.target(node)
    state.read = True
    if state.value.kind == "unknown":
        return a.undefined(state, node.span)
    return state.value


def _unary(a: Analyser, node: ast.Unary) -> Type:
    if node.op == "&":
        a.expr(node.operand)
        return a.error("the address of a variable or map is not to be had here", node.span)
    t = a.value(node.operand)
    if t.kind == "unknown":
        return t
    if node.op == "*":
        from tracebee.lang.analyse_access import dereference

        return dereference(a, node, t)
    if node.op == "!":
        if not is_number(t) and t.kind != "pointer":
            return a.error(f"The ! operator can not be used on expressions of type '{display(t)}'", node.span)
        return BOOL
    if not is_number(t):
        return a.error(
            f"The {node.op} operator can not be used on expressions of type '{display(t)}'", node.span
        )
    if node.op == "-":
        constant = a.constant(node)
        if isinstance(constant, int):
            return smallest(constant)
        return INT64
    return INT64 if as_integer(t).signed or isinstance(node.operand, ast.Integer) else UINT64


def _incdec(a: Analyser, node: ast.IncDec) -> Type:
    target = node.target
    if isinstance(target, (ast.Map, ast.MapAccess)):
        state = a.target(target)
        if state.value.kind == "unknown":
            a.store(state, FLEXIBLE, node)
        elif state.value.kind not in ("int", "pointer"):
            a.error(
                f"The {node.op} operator can not be used on a map of type '{display(state.value)}'", node.span
            )
        target.type = state.value
        return state.value
    if isinstance(target, ast.Variable):
        t = a.expr(target)
        variable = a.lookup(target)
        if t.kind == "unknown" or variable is None:
            return t
        if t.kind == "pointer":
            return t
        if not is_number(t):
            return a.error(
                f"The {node.op} operator can not be used on a variable of type '{display(t)}'", node.span
            )
        if not variable.fixed and t.size < 8:
            a.give(variable, INT64 if t.signed else UINT64, node)
        return variable.type
    a.expr(target)
    return a.error(f"The {node.op} operator must be applied to a map or variable", node.span)


def _binary(a: Analyser, node: ast.Binary) -> Type:
    return operation(a, node, node.op, node.left, a.value(node.left), node.right, a.value(node.right))


def operation(
    a: Analyser, node: ast.Node, op: str, left: ast.Node, x: Type, right: ast.Node, y: Type
) -> Type:
    """The type of ``left op right``, and bpftrace's warnings about signs."""
    if "unknown" in (x.kind, y.kind):
        return UNKNOWN
    if op in ("&&", "||"):
        for side, t in ((left, x), (right, y)):
            if not is_number(t) and t.kind != "pointer":
                a.error(f"The {op} operator can not be used on expressions of type '{display(t)}'", side.span)
        return BOOL
    if is_number(x) and is_number(y):
        return _arithmetic(a, node, op, as_integer(x), as_integer(y))
    if "pointer" in (x.kind, y.kind):
        return _pointers(a, node, op, x, y)
    if op in ("==", "!="):
        if x.kind == y.kind == "string":
            return BOOL
        if x.kind == y.kind and x.kind in _BYTEWISE and (x.size == y.size or join(x, y) is not None):
            return BOOL
        if {x.kind, y.kind} <= {"int", "username", "ksym", "strerror", "probe", "timestamp", "enum"}:
            return BOOL
    if x.kind != y.kind:
        hint = "string literals are compared with strings: str(pointer)" if y.kind == "string" else None
        return a.error(
            f"Type mismatch for '{op}': comparing {display(x)} with {display(y)}"
            if op in COMPARISONS
            else f"Type mismatch for '{op}': {display(x)} and {display(y)}",
            node.span,
            hint,
        )
    return a.error(f"The {op} operator can not be used on expressions of type '{display(x)}'", node.span)


def _arithmetic(a: Analyser, node: ast.Node, op: str, x: Type, y: Type) -> Type:
    """Numbers: a literal that is not negative has the other side's signedness."""
    folded = a.constant(node) if x.name and y.name and isinstance(node, ast.Binary) else None
    if isinstance(folded, int) and op not in COMPARISONS:
        return smallest(folded)
    if op not in ("<<", ">>"):
        x, y = same_sign(x, y)
    if x.signed != y.signed:
        if op in COMPARISONS:
            a.warn(
                f"comparison of integers of different signs: '{display(x)}' and '{display(y)}' "
                "can lead to undefined behavior",
                node.span,
            )
        elif op in ("+", "-", "*"):
            a.warn(
                f"arithmetic on integers of different signs: '{display(x)}' and '{display(y)}' "
                "can lead to undefined behavior",
                node.span,
            )
        elif op in ("/", "%"):
            a.warn(
                f"division of integers of different signs: '{display(x)}' and '{display(y)}' "
                "can lead to undefined behavior (cast one to silence this)",
                node.span,
            )
    if op in COMPARISONS:
        return BOOL
    if op in ("<<", ">>"):
        return INT64 if x.signed else UINT64
    return INT64 if x.signed and y.signed else UINT64


def signed_operation(left: ast.Node, right: ast.Node) -> bool:
    """Whether ``left op right`` compares and divides as signed; the types must have been analysed."""
    x, y = same_sign(as_integer(_number(left)), as_integer(_number(right)))
    return x.signed and y.signed


def _number(node: ast.Node) -> Type:
    t = getattr(node, "type", None) or UINT64
    return t if is_number(t) else UINT64


def _pointers(a: Analyser, node: ast.Node, op: str, x: Type, y: Type) -> Type:
    if op in COMPARISONS and {x.kind, y.kind} <= {"pointer", "int", "bool"}:
        return BOOL
    if op in ("+", "-") and x.kind == "pointer" and is_number(y):
        return x
    if op == "+" and y.kind == "pointer" and is_number(x):
        return y
    if op == "-" and x.kind == y.kind == "pointer":
        return INT64
    if is_number(x) or is_number(y) or x.kind == y.kind:
        return a.error(
            f"The {op} operator can not be used on a pointer",
            node.span,
            "pointers can be added to, subtracted from and compared; cast to (uint64) for the rest",
        )
    return a.error(f"Type mismatch for '{op}': {display(x)} and {display(y)}", node.span)


def _ternary(a: Analyser, node: ast.Ternary) -> Type:
    a.condition(node.condition, "?: operator")
    x, y = a.expr(node.then), a.expr(node.otherwise)
    return _either(a, node, x, y, "Ternary operator")


def _either(a: Analyser, node: ast.Node, x: Type, y: Type, what: str) -> Type:
    if "unknown" in (x.kind, y.kind):
        return UNKNOWN
    if x.kind in COUNTABLE:
        x = as_integer(x)
    if y.kind in COUNTABLE:
        y = as_integer(y)
    joined = join(x, y)
    if joined is None and is_number(x) and is_number(y):
        joined = INT64
    if joined is None:
        return a.error(f"{what} must return the same type: have '{display(x)}' and '{display(y)}'", node.span)
    return joined


def _tuple(a: Analyser, node: ast.Tuple) -> Type:
    types = [a.value(item) for item in node.items]
    return UNKNOWN if any(t.kind == "unknown" for t in types) else tuple_of(types)


def _record(a: Analyser, node: ast.Record) -> Type:
    types = [a.value(item) for item in node.items]
    if len(set(node.names)) != len(node.names):
        return a.error("two fields of the record have one name", node.span)
    return UNKNOWN if any(t.kind == "unknown" for t in types) else tuple_of(types, node.names)


def _comptime(a: Analyser, node: ast.Comptime) -> Type:
    t = a.value(node.operand)
    if t.kind != "unknown" and a.constant(node.operand) is None:
        return a.error("this is not known while compiling", node.span)
    return t


def _block_expr(a: Analyser, node: ast.BlockExpr) -> Type:
    a.scopes.append({})
    a.statements(node.statements)
    t = NONE if node.value is None else a.expr(node.value)
    a.leave_scope()
    return t


def _if_expr(a: Analyser, node: ast.IfExpr) -> Type:
    a.condition(node.condition, "if()")
    x = a.expr(node.then)
    y = NONE if node.otherwise is None else a.expr(node.otherwise)
    return NONE if "none" in (x.kind, y.kind) else _either(a, node, x, y, "if/else")


def _call(a: Analyser, node: ast.Call) -> Type:
    from tracebee.lang import functions
    from tracebee.lang.types import AGGREGATIONS

    if node.name in AGGREGATIONS:
        return a.error(
            f"{node.name}() should be assigned to a map", node.span, f"write @name = {node.name}(...)"
        )
    return functions.check(a, node)


Analyser.EXPRESSIONS.update(
    {
        ast.Integer: _integer,
        ast.Boolean: _boolean,
        ast.String: _string,
        ast.Positional: _positional,
        ast.Identifier: _identifier,
        ast.Builtin: _builtin,
        ast.Variable: _variable,
        ast.Map: _map,
        ast.MapAccess: _map,
        ast.Unary: _unary,
        ast.IncDec: _incdec,
        ast.Binary: _binary,
        ast.Ternary: _ternary,
        ast.Tuple: _tuple,
        ast.Record: _record,
        ast.Comptime: _comptime,
        ast.BlockExpr: _block_expr,
        ast.IfExpr: _if_expr,
        ast.Call: _call,
    }
)
