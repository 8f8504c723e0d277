"""Functions on whole maps and their entries."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen, type_of
from tracebee.lang.lower_maps import forget, key_of, lookup
from tracebee.lang.script import SCALARS
from tracebee.lang.types import BOOL, NONE, UINT64, Type, display
from tracebee.lang.unit import is_aggregation, map_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser, MapState


def _map_argument(a: Analyser, node: ast.Call) -> MapState | None:
    """The map that the first argument names; reported when it is none."""
    first = node.arguments[0]
    if not isinstance(first, ast.Map):
        a.error(f"{node.name}() expects a map to be provided", first.span, f"{node.name}(@name)")
        return None
    state = a.map(first)
    first.type = state.value
    if state.value.kind == "unknown":
        a.undefined(state, first.span)
        return None
    return state


def _check_whole(a: Analyser, node: ast.Call) -> Type:
    _map_argument(a, node)
    return NONE


def _emit_whole(g: Gen, node: ast.Call) -> None:
    first = node.arguments[0]
    assert isinstance(first, ast.Map)
    number, layout = g.unit.action(node.name, (), map=f"@{first.name}")
    g.event(number, layout.size, lambda _: None)


def _delete_target(node: ast.Call) -> tuple[ast.Map, ast.Expr | None]:
    """The map and key of either way to write it: ``delete(@m, key)``, ``delete(@m[key])``."""
    first = node.arguments[0]
    if isinstance(first, ast.MapAccess):
        return first.map, first.key
    assert isinstance(first, ast.Map)
    second = node.arguments[1] if len(node.arguments) > 1 else None
    return first, second  # type: ignore[return-value]  # arguments are expressions


def _check_delete(a: Analyser, node: ast.Call) -> Type:
    first = node.arguments[0]
    if not isinstance(first, (ast.Map, ast.MapAccess)):
        return a.error("delete() expects a map argument", first.span, "delete(@name, key)")
    over, key = _delete_target(node)
    state = a.map(over)
    over.type = state.value
    state.deleted = True
    if key is not None:
        a.key(state, key)
    elif state.keyed:
        return a.error(
            f"delete() of @{state.name} needs a key",
            node.span,
            f"delete(@{state.name}, key) deletes an entry, clear(@{state.name}) all of them",
        )
    if state.value.kind == "unknown":
        return a.undefined(state, first.span)
    return BOOL


def _emit_delete(g: Gen, node: ast.Call) -> Value:
    b = g.b
    over, key = _delete_target(node)
    state = g.map_state(over)
    if key is not None:
        forget(g, state.name)
        failed = b.helper("map_delete_elem", b.map_ref(map_name(state.name)), key_of(g, state, key))
        return b.compare("eq", failed, 0)
    if is_aggregation(state):
        # One element per CPU, which only user space can reach together.
        number, layout = g.unit.action("clear", (), map=f"@{state.name}")
        g.event(number, layout.size, lambda _: None)
        return b.const(1)
    mark = b.data_ref(SCALARS, g.unit.slot(state) - 8)
    was = b.load(mark, 0, 8)
    b.store(mark, 0, 8, 0)
    place = b.data_ref(SCALARS, g.unit.slot(state))
    g.zero(place, 0, state.value.size)
    return b.compare("ne", was, 0)


def _check_has_key(a: Analyser, node: ast.Call) -> Type:
    state = _map_argument(a, node)
    if state is None:
        return BOOL
    if state.keyed is False:
        return a.error(
            f"{node.name}() only accepts maps that have keys, @{state.name} is a scalar map", node.span
        )
    a.key(state, node.arguments[1])  # type: ignore[arg-type]
    return BOOL


def _emit_has_key(g: Gen, node: ast.Call) -> Value:
    first, key = node.arguments
    assert isinstance(first, ast.Map)
    state = g.map_state(first)
    return g.b.compare("ne", lookup(g, state, key_of(g, state, key)), 0)  # type: ignore[arg-type]


def _check_find(a: Analyser, node: ast.Call) -> Type:
    t = _check_has_key(a, node)
    result = node.arguments[2]
    if not isinstance(result, ast.Variable):
        return a.error("find() puts the value in a variable", result.span, "declare it before: let $value;")
    state = a.lookup(result) or a.declare(result)
    first = node.arguments[0]
    if isinstance(first, ast.Map):
        found = a.map(first)
        found.read = True
        if found.value.kind != "unknown":
            a.give(state, found.value, result)
    result.type = state.type
    return t


def _emit_find(g: Gen, node: ast.Call) -> Value:
    from tracebee.lang.lower import Place
    from tracebee.lang.lower_maps import assign_variable
    from tracebee.lang.unify import is_scalar

    b = g.b
    first, key, result = node.arguments
    assert isinstance(first, ast.Map)
    assert isinstance(result, ast.Variable)
    state = g.map_state(first)
    entry = lookup(g, state, key_of(g, state, key))  # type: ignore[arg-type]
    have, done = b.block("found"), b.block("done")
    answer = b.local("answer")
    b.set(answer, b.const(0))
    b.branch(entry, have, done)
    b.at(have)
    variable = g.variable(result)
    if is_scalar(state.value):
        assign_variable(g, result, g.load(Place(entry), state.value))
    else:
        place = g.variable_place(variable)
        g.copy(Place(entry), state.value, place.ptr, place.offset, variable.type)
    b.set(answer, b.const(1))
    b.jump(done)
    b.at(done)
    return b.get(answer)


def _check_len(a: Analyser, node: ast.Call) -> Type:
    first = node.arguments[0]
    if isinstance(first, ast.Map) and a.map(first).value.kind not in ("kstack", "ustack"):
        state = _map_argument(a, node)
        if state is not None and state.keyed is False:
            return a.error(f"len() expects a map with keys, @{state.name} is a scalar map", first.span)
        if state is not None:
            state.iterated = True
        return UINT64
    t = a.value(first)
    if t.kind not in ("kstack", "ustack", "unknown"):
        return a.error(f"len() expects a map or stack to be provided ({display(t)} provided)", first.span)
    return UINT64


def _emit_len(g: Gen, node: ast.Call) -> Value:
    b = g.b
    first = node.arguments[0]
    if isinstance(first, ast.Map) and type_of(first).kind not in ("kstack", "ustack"):
        from tracebee.lang.lower_for_map import count_entries

        return b.helper(
            "for_each_map_elem",
            b.map_ref(map_name(first.name)),
            b.func_ref(count_entries(g.unit)),
            b.alloca(8),
            0,
        )
    from tracebee.lang.stack_keys import depth

    return depth(g, first)


FUNCTIONS = table(
    Function("clear", 1, 1, _check_whole, _emit_whole, usage="clear(@map)"),
    Function("zero", 1, 1, _check_whole, _emit_whole, usage="zero(@map)"),
    Function("delete", 1, 2, _check_delete, _emit_delete, usage="delete(@map, key) or delete(@map)"),
    Function("has_key", 2, 2, _check_has_key, _emit_has_key, usage="has_key(@map, key)"),
    Function("find", 3, 3, _check_find, _emit_find, usage="find(@map, key, $value)"),
    Function("len", 1, 1, _check_len, _emit_len, usage="len(@map) or len(stack)"),
)
