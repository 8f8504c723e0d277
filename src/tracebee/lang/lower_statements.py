"""Lowering statements and loops over ranges; loops over maps are in ``lower_for_map``."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.constants import evaluate
from tracebee.lang.lower import Gen, type_of
from tracebee.lang.lower_expressions import branch, operate
from tracebee.lang.lower_maps import add, assign_variable, mentions, step, store, store_value
from tracebee.lang.unify import is_scalar
from tracebee.lang.unit import is_aggregation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value

# A range of at most this many steps, known while compiling, is a plain loop that the verifier
# walks; longer or unknown ones use the kernel's number iterator, which it walks once.
_PLAIN_STEPS = 64


def _expression(g: Gen, node: ast.ExprStatement) -> None:
    expr = node.expr
    if isinstance(expr, ast.IncDec):
        step(g, expr, used=False)
    elif isinstance(expr, ast.Call):
        from tracebee.lang import functions

        functions.emit_statement(g, expr)
    elif isinstance(expr, ast.Ternary):
        b = g.b
        then, otherwise, done = b.block("then"), b.block("otherwise"), b.block("done")
        branch(g, expr.condition, then, otherwise)
        for block, side in ((then, expr.then), (otherwise, expr.otherwise)):
            b.at(block)
            _expression(g, ast.ExprStatement(side.span, expr=side))
            b.jump(done)
        b.at(done)
    elif isinstance(expr, ast.BlockExpr):
        g.statements(expr.statements)
        if expr.value is not None:
            _expression(g, ast.ExprStatement(expr.value.span, expr=expr.value))
    else:
        g.value(expr)


def _discard(g: Gen, node: ast.Discard) -> None:
    if isinstance(node.expr, ast.Call):
        from tracebee.lang import functions

        functions.emit_statement(g, node.expr)
        return
    g.value(node.expr)


def _let(g: Gen, node: ast.Let) -> None:
    if node.value is not None:
        _set_variable(g, node.variable, node.value)
        return
    state = g.variable(node.variable)
    if is_scalar(state.type) or state.type.kind == "unknown":
        if id(state) in g.frame_slots:
            place = g.variable_place(state)
            g.b.store(place.ptr, place.offset, 8, 0)
        else:
            g.b.set(g.local(state), 0)
    else:
        place = g.variable_place(state)
        g.zero(place.ptr, place.offset, state.type.size)


def _set_variable(g: Gen, target: ast.Variable, value: ast.Expr) -> None:
    state = g.variable(target)
    if is_scalar(state.type):
        assign_variable(g, target, g.value(value))
        return
    place = g.variable_place(state)
    if mentions(value, target.name):
        # The new value is made from the old one: it must not be overwritten while it is read.
        made = g.b.alloca(state.type.size, 8)
        g.into(value, made, 0, state.type)
        g.b.memcpy(place.ptr, place.offset, made, 0, state.type.size)
    else:
        g.into(value, place.ptr, place.offset, state.type)


def _assign(g: Gen, node: ast.Assign) -> None:
    target = node.target
    if node.op != "=":
        _compound(g, node)
    elif isinstance(target, ast.Variable):
        _set_variable(g, target, node.value)
    else:
        assert isinstance(target, (ast.Map, ast.MapAccess))
        if is_aggregation(g.map_state(target)):
            from tracebee.lang.aggregations import update

            assert isinstance(node.value, ast.Call)
            update(g, target, node.value)
        else:
            store(g, target, node.value)


def _compound(g: Gen, node: ast.Assign) -> None:
    target, op = node.target, node.op[:-1]
    b = g.b
    if isinstance(target, ast.Variable):
        value = operate(g, op, target, g.value(target), node.value, g.value(node.value))
        assign_variable(g, target, value)
        return
    assert isinstance(target, (ast.Map, ast.MapAccess))
    if op in ("+", "-") and type_of(target).kind == "int":
        amount = g.value(node.value)
        add(g, target, b.unary("neg", amount) if op == "-" else amount, fetch=False)
        return
    value = operate(g, op, target, g.value(target), node.value, g.value(node.value))
    store_value(g, target, value)


def _if(g: Gen, node: ast.If) -> None:
    b = g.b
    then, done = b.block("then"), b.block("done")
    otherwise = done if node.otherwise is None else b.block("else")
    branch(g, node.condition, then, otherwise)
    b.at(then)
    g.statements(node.then.statements)
    b.jump(done)
    if node.otherwise is not None:
        b.at(otherwise)
        g.statements([node.otherwise])
        b.jump(done)
    b.at(done)


def _block(g: Gen, node: ast.Block) -> None:
    g.statements(node.statements)


def _while(g: Gen, node: ast.While) -> None:
    g.known.clear()  # a later round may come after a write that is not yet seen here
    b = g.b
    head, body, done = b.block("while"), b.block("body"), b.block("done")
    b.jump(head)
    b.at(head)
    branch(g, node.condition, body, done)
    b.at(body)
    g.loops.append((head, done))
    g.statements(node.body.statements)
    g.loops.pop()
    b.jump(head)
    b.at(done)


def _unroll(g: Gen, node: ast.Unroll) -> None:
    g.known.clear()  # a later round may come after a write that is not yet seen here
    count = evaluate(g.analyser, node.count)
    assert isinstance(count, int)
    b = g.b
    done = b.block("unrolled")
    for _ in range(count):
        after = b.block("next")
        g.loops.append((after, done))
        g.statements(node.body.statements)
        g.loops.pop()
        b.jump(after)
        b.at(after)
    b.jump(done)
    b.at(done)


def _for(g: Gen, node: ast.For) -> None:
    g.known.clear()  # a later round may come after a write that is not yet seen here
    if isinstance(node.iterable, ast.Map):
        from tracebee.lang.lower_for_map import for_map

        for_map(g, node, node.iterable)
        return
    assert isinstance(node.iterable, ast.Range)
    start, end = evaluate(g.analyser, node.iterable.start), evaluate(g.analyser, node.iterable.end)
    if isinstance(start, int) and isinstance(end, int) and end - start <= _PLAIN_STEPS:
        _count(g, node, g.b.const(start), g.b.const(end))
    else:
        _iterate(g, node, g.value(node.iterable.start), g.value(node.iterable.end))


def _count(g: Gen, node: ast.For, start: Value, end: Value) -> None:
    """A plain loop with a counter of its own, as the script may change the variable."""
    b = g.b
    counter = b.local("counter")
    head, body, after, done = b.block("for"), b.block("body"), b.block("next"), b.block("done")
    b.set(counter, start)
    b.jump(head)
    b.at(head)
    b.branch(b.compare("slt", b.get(counter), end), body, done)
    b.at(body)
    assign_variable(g, node.variable, b.get(counter))
    g.loops.append((after, done))
    g.statements(node.body.statements)
    g.loops.pop()
    b.jump(after)
    b.at(after)
    b.set(counter, b.binary("add", b.get(counter), 1))
    b.jump(head)
    b.at(done)


def _iterate(g: Gen, node: ast.For, start: Value, end: Value) -> None:
    """The kernel's number iterator (Linux 6.4): 32-bit numbers, at most 8 million steps."""
    b = g.b
    iterator = b.alloca(8, 8, "iterator")
    head, body, done = b.block("for"), b.block("body"), b.block("done")
    b.kfunc("bpf_iter_num_new", iterator, start, end)
    b.jump(head)
    b.at(head)
    item = b.kfunc("bpf_iter_num_next", iterator)
    b.branch(item, body, done)
    b.at(body)
    assign_variable(g, node.variable, b.load(item, 0, 4, signed=True))
    g.loops.append((head, done))
    g.iterators.append(iterator)
    g.statements(node.body.statements)
    g.iterators.pop()
    g.loops.pop()
    b.jump(head)
    b.at(done)
    b.kfunc("bpf_iter_num_destroy", iterator)


def _break(g: Gen, _: ast.Break) -> None:
    g.b.jump(g.loops[-1][1])


def _continue(g: Gen, _: ast.Continue) -> None:
    g.b.jump(g.loops[-1][0])


def _return(g: Gen, node: ast.Return) -> None:
    if node.value is not None:
        g.value(node.value)
    g.leave()


Gen.STATEMENTS.update(
    {
        ast.ExprStatement: _expression,
        ast.Discard: _discard,
        ast.Let: _let,
        ast.Assign: _assign,
        ast.Block: _block,
        ast.If: _if,
        ast.While: _while,
        ast.Unroll: _unroll,
        ast.For: _for,
        ast.Break: _break,
        ast.Continue: _continue,
        ast.Return: _return,
    }
)
