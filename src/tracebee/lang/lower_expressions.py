"""Lowering literals, names, operators and conditionals."""

from __future__ import annotations

from tracebee.ir import CTX, KERNEL
from tracebee.lang import ast
from tracebee.lang.analyse_expressions import COMPARISONS, literal_bytes, signed_operation
from tracebee.lang.constants import evaluate
from tracebee.lang.lower import Gen, Place, type_of
from tracebee.lang.script import RODATA
from tracebee.lang.types import Type
from tracebee.lang.unify import is_number, is_scalar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Block, Value

# op: unsigned and signed IR operation.
_ARITHMETIC = {
    "+": ("add", "add"),
    "-": ("sub", "sub"),
    "*": ("mul", "mul"),
    "/": ("udiv", "sdiv"),
    "%": ("umod", "smod"),
    "&": ("and", "and"),
    "|": ("or", "or"),
    "^": ("xor", "xor"),
    "<<": ("shl", "shl"),
    ">>": ("lshr", "ashr"),
}
_COMPARE = {
    "==": ("eq", "eq"),
    "!=": ("ne", "ne"),
    "<": ("ult", "slt"),
    "<=": ("ule", "sle"),
    ">": ("ugt", "sgt"),
    ">=": ("uge", "sge"),
}


def constant(g: Gen, node: ast.Node) -> Value:
    """A value known while compiling."""
    found = evaluate(g.analyser, node)
    return g.b.const(found if isinstance(found, int) else 0)


def _kernel_constant(g: Gen, node: ast.Node) -> Value:
    """The same for what differs between kernels."""
    if g.analyser.options.portable:
        from tracebee.lang.lower_portable import looked_up

        found = looked_up(g, node)
        if found is not None:
            return found
    return constant(g, node)


def string_into(g: Gen, data: bytes, ptr: Value, offset: int, size: int, *, pad: bool) -> None:
    """Write a constant string with its NUL, zeros after it where they are asked for."""
    data = data[: size - 1] + b"\0"
    if pad:
        data = data.ljust(min(size, -(-len(data) // 8) * 8), b"\0")
    g.bytes_into(data, ptr, offset)
    if pad and size > len(data):
        g.zero(ptr, offset + len(data), size - len(data))


def _string_into(g: Gen, node: ast.String, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    string_into(g, literal_bytes(node.value), ptr, offset, t.size, pad=pad)
    return True


def _positional_into(g: Gen, node: ast.Positional, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    found = evaluate(g.analyser, node)
    string_into(g, str(found).encode("utf-8", "surrogateescape"), ptr, offset, t.size, pad=pad)
    return True


def _string_place(g: Gen, node: ast.String) -> Place:
    """A literal as memory: helpers read it in place."""
    data = literal_bytes(node.value) + b"\0"
    return Place(g.b.data_ref(RODATA, g.unit.constant(data, 8)))


def _variable(g: Gen, node: ast.Variable) -> Value:
    state = g.variable(node)
    if id(state) in g.frame_slots:
        return g.load(g.variable_place(state), _held(state.type))
    return g.b.get(g.local(state))


def _held(t: Type) -> Type:
    """A number in a variable is kept as 64 bits."""
    return t._replace(size=8)


def _variable_place(g: Gen, node: ast.Variable) -> Place | None:
    return None if is_scalar(type_of(node)) else g.variable_place(g.variable(node))


def _unary(g: Gen, node: ast.Unary) -> Value:
    b = g.b
    if node.op == "*":
        return g.load(g.place(node), type_of(node))
    if isinstance(node.operand, ast.Integer) and node.op != "!":
        return constant(g, node)
    x = g.value(node.operand)
    if node.op == "!":
        return b.compare("eq", x, 0)
    if node.op == "-":
        return b.unary("neg", x)
    return b.unary("not", x) if node.op == "~" else x


def _unary_place(g: Gen, node: ast.Unary) -> Place | None:
    if node.op != "*":
        return None
    from tracebee.lang.lower_access import dereference

    return dereference(g, node)


def _binary(g: Gen, node: ast.Binary) -> Value:
    if node.op in ("&&", "||"):
        return _logical(g, node)
    x = type_of(node.left)
    if not is_scalar(x) and not is_number(x):
        from tracebee.lang.strings import compare_memory

        return compare_memory(g, node)
    if isinstance(node.left, ast.Integer) and isinstance(node.right, ast.Integer):
        return constant(g, node)
    return operate(g, node.op, node.left, g.value(node.left), node.right, g.value(node.right))


def operate(g: Gen, op: str, left: ast.Node, x: Value, right: ast.Node, y: Value) -> Value:
    """``x op y`` with the signedness that the nodes' types give it."""
    b = g.b
    signed = signed_operation(left, right)
    if op in COMPARISONS:
        return b.compare(_COMPARE[op][signed], x, y)
    xt, yt = type_of(left), type_of(right)
    if x.type in (CTX, KERNEL) and not (op in "+-" and y.op == "const"):
        x = plain(g, x)
    if y.type in (CTX, KERNEL) and not (op == "+" and x.op == "const"):
        y = plain(g, y)
    if xt.kind == "pointer" and yt.kind != "pointer":
        y = scaled(g, y, xt)
    elif yt.kind == "pointer" and xt.kind != "pointer":
        x = scaled(g, x, yt)
    if op == ">>":
        signed = xt.kind == "int" and xt.signed
    result = b.binary(_ARITHMETIC[op][signed], x, y)
    if xt.kind == yt.kind == "pointer":
        size = element_size(g, xt)
        return result if size == 1 else b.binary("sdiv", result, size)
    return result


def plain(g: Gen, pointer: Value) -> Value:
    """A pointer that the verifier knows as a number that may be anything: it lets nobody calculate with such
    a pointer, or step out of what it points at. It knows nothing of what has been brought into another
    byte order.
    """
    return g.b.unary("be64", g.b.unary("be64", pointer))


def element_size(g: Gen, t: Type) -> int | Value:
    """Bytes of what a pointer points at, 1 for void."""
    return bytes_of(g, t.element) if t.element is not None else 1


def bytes_of(g: Gen, t: Type) -> int | Value:
    """Bytes that a value of a type takes where it lies, at least 1."""
    if g.analyser.options.portable:
        from tracebee.lang.lower_portable import size_of

        found = size_of(g, t)
        if found is not None:
            return found
    return max(1, g.analyser.records.resolve(t).size)


def scaled(g: Gen, count: Value, t: Type) -> Value:
    """A number of elements as bytes."""
    return times(g, count, element_size(g, t))


def times(g: Gen, count: Value, size: int | Value) -> Value:
    """A number of things of one size, in bytes."""
    return count if size == 1 else g.b.binary("mul", count, size)


def _logical(g: Gen, node: ast.Binary) -> Value:
    """``&&`` and ``||``: the right side is evaluated only when it decides."""
    b = g.b
    result = b.local("logical")
    more, done = b.block("more"), b.block("done")
    left = g.value(node.left)
    b.set(result, b.const(0) if node.op == "&&" else b.const(1))
    if node.op == "&&":
        b.branch(left, more, done)
    else:
        b.branch(left, done, more)
    b.at(more)
    b.set(result, b.compare("ne", g.value(node.right), 0))
    b.jump(done)
    b.at(done)
    return b.get(result)


def branch(g: Gen, node: ast.Node, then: Block, otherwise: Block) -> None:
    """Go where a condition says, without making a 0 or 1 of it first."""
    b = g.b
    if isinstance(node, ast.Binary) and node.op in ("==", "!=") and not is_scalar(type_of(node.left)):
        from tracebee.lang.strings import branch_memory

        if not is_number(type_of(node.left)):
            with b.span(node.span):
                branch_memory(g, node, then, otherwise)
            return
    if isinstance(node, ast.Binary) and node.op in ("&&", "||"):
        with b.span(node.span):
            more = b.block("more")
            if node.op == "&&":
                branch(g, node.left, more, otherwise)
            else:
                branch(g, node.left, then, more)
            b.at(more)
            branch(g, node.right, then, otherwise)
    elif isinstance(node, ast.Unary) and node.op == "!":
        branch(g, node.operand, otherwise, then)
    else:
        condition = g.value(node)
        with b.span(node.span):
            b.branch(condition, then, otherwise)


def _ternary(g: Gen, node: ast.Ternary) -> Value:
    b = g.b
    result = b.local("ternary")
    then, otherwise, done = b.block("then"), b.block("otherwise"), b.block("done")
    branch(g, node.condition, then, otherwise)
    for block, side in ((then, node.then), (otherwise, node.otherwise)):
        b.at(block)
        b.set(result, g.value(side))
        b.jump(done)
    b.at(done)
    return b.get(result)


def _ternary_into(g: Gen, node: ast.Ternary, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    b = g.b
    then, otherwise, done = b.block("then"), b.block("otherwise"), b.block("done")
    branch(g, node.condition, then, otherwise)
    for block, side in ((then, node.then), (otherwise, node.otherwise)):
        b.at(block)
        g.into(side, ptr, offset, t, pad=pad)
        b.jump(done)
    b.at(done)
    return True


def _block_expr(g: Gen, node: ast.BlockExpr) -> Value:
    g.statements(node.statements)
    return g.b.const(0) if node.value is None else g.value(node.value)


def _block_expr_into(g: Gen, node: ast.BlockExpr, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    g.statements(node.statements)
    assert node.value is not None
    g.into(node.value, ptr, offset, t, pad=pad)
    return True


def _if_expr(g: Gen, node: ast.IfExpr) -> Value:
    b = g.b
    result = b.local("if")
    then, otherwise, done = b.block("then"), b.block("otherwise"), b.block("done")
    branch(g, node.condition, then, otherwise)
    for block, side in ((then, node.then), (otherwise, node.otherwise)):
        b.at(block)
        if side is not None:
            b.set(result, g.value(side))
        b.jump(done)
    b.at(done)
    return b.get(result)


def _if_expr_into(g: Gen, node: ast.IfExpr, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    b = g.b
    then, otherwise, done = b.block("then"), b.block("otherwise"), b.block("done")
    branch(g, node.condition, then, otherwise)
    for block, side in ((then, node.then), (otherwise, node.otherwise)):
        b.at(block)
        assert side is not None
        g.into(side, ptr, offset, t, pad=pad)
        b.jump(done)
    b.at(done)
    return True


def _tuple_into(
    g: Gen,
    node: ast.Tuple | ast.Record,
    ptr: Value,
    offset: int,
    t: Type,
    pad: bool,
) -> bool:
    if pad:
        g.gaps(ptr, offset, t)
    for item, f in zip(node.items, t.fields, strict=True):
        g.into(item, ptr, offset + f.offset, f.type, pad=pad)
    return True


def _builtin(g: Gen, node: ast.Builtin) -> Value:
    from tracebee.lang import builtins

    row = builtins.find(node.name)
    assert row is not None
    found = row.emit(g, node, None, 0)
    assert found is not None
    return found


def _builtin_into(g: Gen, node: ast.Builtin, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    from tracebee.lang import builtins

    row = builtins.find(node.name)
    assert row is not None
    if row.place is not None:
        return False
    row.emit(g, node, ptr, offset)
    made = type_of(node).size
    if t.size > made and pad:
        g.zero(ptr, offset + made, t.size - made)
    return True


def _builtin_place(g: Gen, node: ast.Builtin) -> Place | None:
    from tracebee.lang import builtins

    row = builtins.find(node.name)
    return None if row is None or row.place is None else row.place(g, node)


def _call(g: Gen, node: ast.Call) -> Value:
    from tracebee.lang import functions

    return functions.emit(g, node)


def _call_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, pad: bool) -> bool:
    from tracebee.lang import functions

    return functions.emit_into(g, node, ptr, offset, t, pad=pad)


def _call_place(g: Gen, node: ast.Call) -> Place | None:
    from tracebee.lang import functions

    return functions.emit_place(g, node)


Gen.VALUES.update(
    {
        **dict.fromkeys(
            (
                ast.Integer,
                ast.Boolean,
                ast.Positional,
                ast.Comptime,
            ),
            constant,
        ),
        **dict.fromkeys((ast.Identifier, ast.Sizeof, ast.Offsetof), _kernel_constant),
        ast.Variable: _variable,
        ast.Unary: _unary,
        ast.Binary: _binary,
        ast.Ternary: _ternary,
        ast.BlockExpr: _block_expr,
        ast.IfExpr: _if_expr,
        ast.Builtin: _builtin,
        ast.Call: _call,
    }
)
Gen.INTO.update(
    {
        ast.String: _string_into,
        ast.Positional: _positional_into,
        ast.Ternary: _ternary_into,
        ast.BlockExpr: _block_expr_into,
        ast.IfExpr: _if_expr_into,
        ast.Tuple: _tuple_into,
        ast.Record: _tuple_into,
        ast.Builtin: _builtin_into,
        ast.Call: _call_into,
    }
)
Gen.PLACES.update(
    {
        ast.String: _string_place,
        ast.Unary: _unary_place,
        ast.Variable: _variable_place,
        ast.Builtin: _builtin_place,
        ast.Call: _call_place,
    }
)
