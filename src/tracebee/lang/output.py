"""Functions that print, and others that user space carries out in order: they travel as events."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.events import check_format
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen, Place, type_of
from tracebee.lang.script import SCALARS
from tracebee.lang.types import AGGREGATIONS, NONE, UINT8, UINT64, Type, display, string
from tracebee.lang.unify import COUNTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser

_MAX_JOIN = 16  # strings that join() takes from an array


def _check_printf(a: Analyser, node: ast.Call) -> Type:
    check_format(a, node.name, node.arguments[0], node.arguments[1:])
    return NONE


def _emit_printf(g: Gen, node: ast.Call) -> None:
    text = node.arguments[0]
    assert isinstance(text, ast.String)
    g.send(node.name, node.arguments[1:], text.value, node.span if node.name in ("errorf", "warnf") else None)


def _check_fail(a: Analyser, node: ast.Call) -> Type:
    """``fail`` that the analyser reaches ends compiling."""
    text = node.arguments[0]
    check_format(a, "fail", text, node.arguments[1:])
    values = [a.constant(argument) for argument in node.arguments[1:]]
    message = text.value if isinstance(text, ast.String) else ""
    if None not in values:
        try:
            message = message % tuple(values)
        except (TypeError, ValueError):
            pass
    return a.error(message.rstrip("\n"), node.span)


def _check_static_assert(a: Analyser, node: ast.Call) -> Type:
    a.condition(node.arguments[0], "static_assert()")  # type: ignore[arg-type]  # arguments are expressions
    found = a.constant(node.arguments[0])
    if found is None:
        return a.error("static_assert() needs a condition that is known while compiling", node.span)
    if not found:
        message = a.constant(node.arguments[1]) if len(node.arguments) > 1 else None
        return a.error(f"static assertion failed: {message or 'condition is false'}", node.span)
    return NONE


def _check_assert(a: Analyser, node: ast.Call) -> Type:
    a.condition(node.arguments[0], "assert()")  # type: ignore[arg-type]
    if not isinstance(node.arguments[1], ast.String):
        return a.error("assert() expects a string literal as its message", node.arguments[1].span)
    return NONE


def _emit_assert(g: Gen, node: ast.Call) -> None:
    b = g.b
    failed, done = b.block("failed"), b.block("done")
    b.branch(g.value(node.arguments[0]), done, failed)
    b.at(failed)
    message = node.arguments[1]
    assert isinstance(message, ast.String)
    g.send("errorf", [], message.value.replace("%", "%%"), node.span)
    _send_exit(g, b.const(1))
    g.leave()
    b.at(done)


def _check_print(a: Analyser, node: ast.Call) -> Type:
    first = node.arguments[0]
    for extra, what in zip(node.arguments[1:], ("top", "div"), strict=False):
        a.integer(extra, f"print()'s {what}")
        number = a.constant(extra)
        if not isinstance(number, int):
            a.error(f"print(): {what} must be a literal", extra.span)
        elif number < 0:
            a.error(f"print(): {what} must not be negative", extra.span)
    if isinstance(first, ast.Map):
        state = a.map(first)
        first.type = state.value
        if state.value.kind == "unknown":
            return a.undefined(state, first.span)
        return NONE
    t = a.expr(first)
    if t.kind == "unknown":
        return t
    if len(node.arguments) > 1:
        return a.error("Single-value (i.e. indexed) map prints cannot take additional arguments", node.span)
    if t.kind == "none":
        return a.error("print() needs a value", first.span)
    if t.kind in AGGREGATIONS and t.kind not in COUNTABLE:
        return a.error(
            f"print() of one entry of type {display(t)} is not possible", first.span, "print the map"
        )
    return NONE


def _emit_print(g: Gen, node: ast.Call) -> None:
    first = node.arguments[0]
    if isinstance(first, ast.Map):
        top, div = (g.analyser.constant(node.arguments[i]) if len(node.arguments) > i else 0 for i in (1, 2))
        number, layout = g.unit.action("print_map", (), map=f"@{first.name}", top=top, div=div)
        g.event(number, layout.size, lambda _: None)
    elif isinstance(first, ast.MapAccess):
        state = g.map_state(first)
        types = [g.sent(state.key), g.sent(type_of(first))]
        number, layout = g.unit.action("print_key", types, map=f"@{state.name}")

        def fill(record: Value) -> None:
            key, value = layout.fields
            g.into(first.key, record, 8 + key.offset, key.type, pad=False)
            g.into(first, record, 8 + value.offset, value.type, pad=False)

        g.event(number, layout.size, fill)
    else:
        g.send("print_value", [first])


def _check_exit(a: Analyser, node: ast.Call) -> Type:
    if node.arguments:
        a.integer(node.arguments[0], "exit()'s code")
    return NONE


def _send_exit(g: Gen, code: Value) -> None:
    number, layout = g.unit.action("exit", [UINT8])
    if g.unit.stop_offset >= 0:
        code = g.b.extend(code, 8, False)
        g.b.store(g.b.data_ref(SCALARS, g.unit.stop_offset), 0, 8, g.b.binary("add", code, 1))
    g.event(number, layout.size, lambda record: g.b.store(record, 8, 1, code))


def _emit_exit(g: Gen, node: ast.Call) -> None:
    _send_exit(g, g.value(node.arguments[0]) if node.arguments else g.b.const(0))
    g.leave()


def _check_time(a: Analyser, node: ast.Call) -> Type:
    if node.arguments and not isinstance(node.arguments[0], ast.String):
        return a.error("time() expects a format string, a literal", node.arguments[0].span)
    return NONE


def _emit_time(g: Gen, node: ast.Call) -> None:
    text = node.arguments[0] if node.arguments else None
    # Without a format, time() prints this one.
    form = text.value if isinstance(text, ast.String) else "%H:%M:%S\n"
    if not g.analyser.options.lasting:
        g.send("time", [], form)
        return
    number, layout = g.unit.action("time", [UINT64], form)
    g.event(number, layout.size, lambda record: g.b.store(record, 8, 8, g.b.helper("ktime_get_boot_ns")))


def _check_join(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind not in ("unknown", "int", "pointer", "array"):
        a.error(
            f"join() only supports int and pointer arguments ({display(t)} provided)", node.arguments[0].span
        )
    if t.kind == "array" and t.element is not None and t.element.size != 8:
        a.error(f"join() needs an array of pointers, not {display(t)}", node.arguments[0].span)
    if len(node.arguments) > 1 and not isinstance(node.arguments[1], ast.String):
        a.error("join() expects a string literal as its separator", node.arguments[1].span)
    return NONE


def _emit_join(g: Gen, node: ast.Call) -> None:
    """Copy the strings that an array of pointers, ended by a null, points at."""
    b = g.b
    argument = node.arguments[0]
    separator = node.arguments[1].value if len(node.arguments) > 1 else " "  # type: ignore[attr-defined]
    element = string(min(g.analyser.options.max_strlen, 1024))
    array = Type("array", element.size * _MAX_JOIN, element=element, number=_MAX_JOIN)
    number, layout = g.unit.action("join", [UINT64, array], sep=separator)
    t = type_of(argument)
    space = t.name if t.kind == "pointer" and t.name else g.group.address_space
    base = g.address(g.place(argument)) if t.kind == "array" else g.value(argument)

    def fill(record: Value) -> None:
        count = b.local("count")
        b.set(count, b.const(0))
        done = b.block("joined")
        for i in range(min(_MAX_JOIN, t.number) if t.kind == "array" else _MAX_JOIN):
            pointer = g.load(Place(base, 8 * i, space), UINT64)
            more = b.block("string")
            b.branch(pointer, more, done)
            b.at(more)
            at = 8 + layout.fields[1].offset + i * element.size
            b.helper(f"probe_read_{space}_str", b.binary("add", record, at), element.size, pointer)
            b.set(count, b.const(i + 1))
        b.jump(done)
        b.at(done)
        b.store(record, 8, 8, b.get(count))

    g.event(number, layout.size, fill)


FUNCTIONS = table(
    Function("printf", 1, -1, _check_printf, _emit_printf, usage='printf("format", values...)'),
    Function("errorf", 1, -1, _check_printf, _emit_printf, usage='errorf("format", values...)'),
    Function("warnf", 1, -1, _check_printf, _emit_printf, usage='warnf("format", values...)'),
    Function("cat", 1, -1, _check_printf, _emit_printf, usage='cat("path format", values...)'),
    Function(
        "system", 1, -1, _check_printf, _emit_printf, unsafe=True, usage='system("command format", values...)'
    ),
    Function("fail", 1, -1, _check_fail, lambda *_: None, usage='fail("format", values...)'),
    Function(
        "static_assert",
        1,
        2,
        _check_static_assert,
        lambda *_: None,
        usage="static_assert(condition, message)",
    ),
    Function("assert", 2, 2, _check_assert, _emit_assert, usage="assert(condition, message)"),
    Function("print", 1, 3, _check_print, _emit_print, usage="print(value) or print(@map[, top[, div]])"),
    Function("exit", 0, 1, _check_exit, _emit_exit, usage="exit([code])"),
    Function("time", 0, 1, _check_time, _emit_time, usage='time(["format"])'),
    Function("join", 1, 2, _check_join, _emit_join, usage='join(array[, "separator"])'),
)
