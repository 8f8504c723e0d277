"""Functions about types, known while compiling."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import type_of
from tracebee.lang.types import BOOL, UINT64, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.analyse import Analyser

_LITERALS = (ast.Integer, ast.Boolean, ast.String)


def _check(a: Analyser, node: ast.Call) -> Type:
    a.expr(node.arguments[0])
    return BOOL


def _asks(name: str, test: Callable[[ast.Node, Type], bool]) -> Function:
    """A row that asks something of its argument's node or type."""

    def constant(_: Analyser, node: ast.Call) -> int:
        first = node.arguments[0]
        return int(test(first, type_of(first)))

    return Function(name, 1, 1, _check, constant=constant, usage=f"{name}(expression)")


def _check_length(_: Analyser, __: ast.Call) -> Type:
    return UINT64


def _check_kfunc(a: Analyser, node: ast.Call) -> Type:
    if not isinstance(node.arguments[0], ast.String):
        return a.error(f"{node.name}() expects a string literal", node.arguments[0].span)
    return BOOL


def _kfunc(a: Analyser, node: ast.Call) -> int:
    from tracebee.btf import kinds
    from tracebee.errors import UnsupportedError

    name = node.arguments[0]
    assert isinstance(name, ast.String)
    try:
        return int(bool(a.records.btf.find_all(name.value, kinds.BTF_KIND_FUNC)))
    except UnsupportedError:
        return 0


FUNCTIONS = table(
    _asks("is_array", lambda _, t: t.kind == "array"),
    _asks("is_integer", lambda _, t: t.kind == "int"),
    _asks("is_literal", lambda node, _: isinstance(node, _LITERALS)),
    _asks("is_ptr", lambda _, t: t.kind == "pointer"),
    _asks("is_str", lambda _, t: t.kind == "string"),
    _asks("is_unsigned_integer", lambda _, t: t.kind == "int" and not t.signed),
    Function("default_str_length", 0, 0, _check_length, constant=lambda a, _: a.options.max_strlen),
    Function("kfunc_exist", 1, 1, _check_kfunc, constant=_kfunc, usage='kfunc_exist("name")'),
    Function("kfunc_allowed", 1, 1, _check_kfunc, constant=_kfunc, usage='kfunc_allowed("name")'),
)
