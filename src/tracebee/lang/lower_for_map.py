"""Loops over maps: the body is a callback of ``bpf_for_each_map_elem``.

What the body shares with the program around it (variables of either, the context, whether the
probe has ended) lies in the program's frame, whose address is the callback's argument.
"""

from __future__ import annotations

from tracebee.ir import CTX, MAP, MAP_VALUE, STACK, Builder
from tracebee.lang import ast
from tracebee.lang.lower import Gen, Place
from tracebee.lang.unify import is_scalar
from tracebee.lang.unit import is_aggregation, map_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.ir import Function, Value
    from tracebee.lang.analyse import MapState, VariableState
    from tracebee.lang.unit import Unit

# The frame: the context, whether the probe has ended, then variables.
_CTX, _ENDED, _VARIABLES = 0, 8, 16


def open_frame(g: Gen, probe: ast.Probe) -> None:
    """Make the frame of a probe that loops over maps."""
    if not any(isinstance(n, ast.For) and isinstance(n.iterable, ast.Map) for n in _nodes(probe.body)):
        return
    size = _VARIABLES
    for node in _nodes(probe):
        state = g.analyser.bindings.get(id(node)) if isinstance(node, ast.Variable) else None
        if state is not None and state.memory and id(state) not in g.frame_slots:
            g.frame_slots[id(state)] = size
            size += -(-max(8, state.type.size) // 8) * 8
    b = g.b
    g.frame = b.alloca(size, 8, "frame")
    b.store(g.frame, _CTX, 8, g.ctx)
    g.zero(g.frame, _ENDED, size - _ENDED)


def _nodes(root: ast.Node) -> Iterator[ast.Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children())


def for_map(g: Gen, node: ast.For, over: ast.Map) -> None:
    """Write the loop, and its body as a function of its own."""
    b = g.b
    state = g.map_state(over)
    number = g.unit.callbacks = g.unit.callbacks + 1
    function = g.unit.module.function(f"for_each_{number}", (MAP, MAP_VALUE, MAP_VALUE, STACK))
    inner = Gen(g.unit, g.analyser, g.group, function, g)
    _body(inner, node, over, state)
    assert g.frame is not None
    b.helper("for_each_map_elem", b.map_ref(map_name(state.name)), b.func_ref(function), g.frame, 0)
    if any(_leaves(n) for n in _nodes(node.body)):
        ended, on = b.block("ended"), b.block("on")
        b.branch(b.load(g.frame, _ENDED, 8), ended, on)
        b.at(ended)
        g.leave()
        b.at(on)


def _leaves(node: ast.Node) -> bool:
    return isinstance(node, ast.Return) or (isinstance(node, ast.Call) and node.name in ("exit", "assert"))


def _body(g: Gen, node: ast.For, over: ast.Map, state: MapState) -> None:
    b = g.b
    key, value = b.param(1), b.param(2)
    g.frame = b.param(3)
    g.ctx = b.load(g.frame, _CTX, 8, type=CTX)
    _bind(g, g.variable(node.variable), over, state, key, value)
    on, stop = b.block("on"), b.block("stop")
    g.loops.append((on, stop))
    g.statements(node.body.statements)
    g.loops.pop()
    b.jump(on)
    b.at(on)
    b.ret(0)
    b.at(stop)
    b.ret(1)


def _bind(g: Gen, variable: VariableState, over: ast.Map, state: MapState, key: Value, value: Value) -> None:
    """Make the loop variable: the pair of key and value, read where they lie unless the pair is needed."""
    reduced = None
    if is_aggregation(state):
        from tracebee.lang.aggregations import reduce_entry

        reduced = reduce_entry(g, over, key)
    if not variable.memory:
        g.pairs[id(variable)] = (Place(key), Place(value), reduced)
        return
    place = g.variable_place(variable)
    write_pair(g, variable, (Place(key), Place(value), reduced), place)


def write_pair(
    g: Gen, variable: VariableState, pair: tuple[Place, Place, Value | None], place: Place
) -> None:
    """Write key and value as one tuple."""
    t = variable.type
    first, second = t.fields
    g.gaps(place.ptr, place.offset, t)
    for f, source, number in ((first, pair[0], None), (second, pair[1], pair[2])):
        at = place.offset + f.offset
        if number is not None:
            g.b.store(place.ptr, at, f.type.size, number)
        elif is_scalar(f.type):
            g.b.store(place.ptr, at, f.type.size, g.load(source, f.type))
        else:
            g.copy(source, f.type, place.ptr, at, f.type)


def count_entries(unit: Unit) -> Function:
    """A callback that does nothing: for_each_map_elem's result is how often it was called."""
    known = unit.subprograms.get("count_entries")
    if known is None:
        known = unit.subprograms["count_entries"] = unit.module.function(
            "count_entries", (MAP, MAP_VALUE, MAP_VALUE, STACK)
        )
        Builder(known).ret(0)
    return known
