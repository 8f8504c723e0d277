"""The functions: which module has each, and what all have in common. A row says all about one.

The modules are imported when a script calls one of their functions.
"""

from __future__ import annotations

from importlib import import_module

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.types import Type
from tracebee.lang.unify import is_scalar
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser
    from tracebee.lang.lower import Gen, Place

    Check = Callable[[Analyser, ast.Call], Type]


class Function(NamedTuple):
    """A function.

    :param least: fewest arguments; ``most``: most of them, -1 for any number.
    :param check: checks the arguments and gives the result's type.
    :param emit: writes a call whose result is a number, or nothing.
    :param into: writes a result that is no number to memory: (g, call, pointer, offset, type, pad).
    :param place: gives where the result lies instead.
    :param constant: the result when it is known while compiling.
    :param usage: how it is written, for the error about a wrong number of arguments.
    """

    name: str
    least: int
    most: int
    check: Check
    emit: Callable[[Gen, ast.Call], Value | None] | None = None
    into: Callable[[Gen, ast.Call, Value, int, Type, bool], None] | None = None
    place: Callable[[Gen, ast.Call], Place | None] | None = None
    constant: Callable[[Analyser, ast.Call], int | str | None] | None = None
    unsafe: bool = False
    usage: str = ""


_MODULES = {
    "aggregations": "count sum avg min max stats hist lhist tseries",
    "output": "printf errorf warnf print cat system join time exit fail assert static_assert",
    "map_functions": "clear zero delete has_key len find",
    "strings": "str buf strncmp strcontains strstr strlen strcap memcmp bswap",
    "addresses": "ksym usym kaddr uaddr reg ntop pton macaddr kptr uptr cgroupid cgroup_path strerror",
    "stack_keys": "kstack ustack",
    "process": "nsecs strftime pid tid signal signal_thread override path getopt socket_cookie",
    "reflection": "is_array is_integer is_literal is_ptr is_str is_unsigned_integer default_str_length"
    " kfunc_exist kfunc_allowed",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def names() -> list[str]:
    """The names of all functions."""
    return list(_MODULE_OF)


def find(name: str) -> Function | None:
    """The row of a function, None when there is no such."""
    module = _MODULE_OF.get(name)
    if module is None:
        return None
    rows: dict[str, Function] = import_module(f"tracebee.lang.{module}").FUNCTIONS
    return rows.get(name)


def table(*rows: Function) -> dict[str, Function]:
    """A module's rows by name."""
    return {row.name: row for row in rows}


def check(a: Analyser, node: ast.Call) -> Type:
    """The type of a call; what is wrong with it is reported."""
    row = find(node.name)
    if row is None:
        return _check_builtin(a, node)
    if row.unsafe and not a.options.unsafe:
        a.error(
            f"{node.name}() is an unsafe function being used in safe mode",
            node.span,
            "allow it with --unsafe",
        )
    count = len(node.arguments)
    if count < row.least or (row.most >= 0 and count > row.most):
        for argument in node.arguments:
            if isinstance(argument, ast.Expr) and not isinstance(argument, (ast.Identifier, ast.Map)):
                a.expr(argument)
        return a.error(_count_message(row, count), node.span, f"usage: {row.usage}" if row.usage else None)
    try:
        return row.check(a, node)
    except Diagnostic as wrong:
        return a.error(wrong.message, node.span, wrong.hint)


def _count_message(row: Function, count: int) -> str:
    if row.most == row.least:
        wanted = "no arguments" if not row.least else f"{row.least} argument{'s' * (row.least > 1)}"
        return (
            f"{row.name}() requires {'' if not row.least else 'exactly '}{wanted} ({count} provided)".replace(
                "requires no", "takes no"
            )
        )
    if count < row.least:
        return (
            f"{row.name}() requires at least {row.least} argument{'s' * (row.least > 1)} ({count} provided)"
        )
    return f"{row.name}() takes up to {row.most} argument{'s' * (row.most > 1)} ({count} provided)"


def _check_builtin(a: Analyser, node: ast.Call) -> Type:
    """``pid()`` is ``pid``; anything else with this name does not exist."""
    from tracebee.lang import builtins

    row = builtins.find(node.name)
    if row is None:
        from tracebee.suggest import did_you_mean

        for argument in node.arguments:
            if isinstance(argument, ast.Expr) and not isinstance(argument, ast.Map):
                a.expr(argument)
        from tracebee.lang.names import FUNCTIONS

        if node.name in FUNCTIONS:  # bpftrace has it
            return a.error(f"the function '{node.name}' is not supported", node.span)
        hint = did_you_mean(node.name, [*names(), *builtins.names()])
        return a.error(f"Unknown function: '{node.name}'", node.span, hint)
    if node.arguments:
        return a.error(f"{node.name} takes no arguments", node.span)
    try:
        return row.type(a, node.name)
    except Diagnostic as wrong:
        return a.error(wrong.message, node.span, wrong.hint)


def emit(g: Gen, node: ast.Call) -> Value:
    """A call whose result is a number (0 when it has none)."""
    row = find(node.name)
    if row is None:
        from tracebee.lang import builtins

        builtin = builtins.find(node.name)
        assert builtin is not None
        found = builtin.emit(g, node, None, 0)
    elif row.constant is not None and (constant := row.constant(g.analyser, node)) is not None:
        return g.b.const(constant if isinstance(constant, int) else 0)
    else:
        assert row.emit is not None, node.name
        found = row.emit(g, node)
    return g.b.const(0) if found is None else found


def emit_statement(g: Gen, node: ast.Call) -> None:
    """A call for its effect."""
    if node.type is not None and node.type.kind != "none" and not is_scalar(node.type):
        g.place(node)
        return
    emit(g, node)


def emit_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, *, pad: bool) -> bool:
    """A call whose result goes to memory; False when it lies somewhere already."""
    row = find(node.name)
    if row is None:
        from tracebee.lang import builtins

        builtin = builtins.find(node.name)
        assert builtin is not None
        builtin.emit(g, node, ptr, offset)
        return True
    if row.into is None:
        return False
    row.into(g, node, ptr, offset, t, pad)
    return True


def emit_place(g: Gen, node: ast.Call) -> Place | None:
    """Where a call's result lies, None when it has to be written somewhere."""
    row = find(node.name)
    return None if row is None or row.place is None else row.place(g, node)
