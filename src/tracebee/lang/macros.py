"""Expansion of the language's macros: hygienic, on the tree.

A macro's variables are its own (renamed at every use), its ``$x`` and ``@m`` parameters are the
caller's variables and maps, and its other parameters are the caller's expressions. Maps it was not
given are out of its reach. Source: bpftrace's language reference, "Macros".
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.parse_statements import as_statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: dict[type[ast.Expr], str] = {
    ast.Variable: "a scratch variable",
    ast.Map: "a map",
    ast.Identifier: "an expression",
}
_MAX_NESTING = 64
# Nodes after which a script has grown beyond reason.
_MAX_NODES = 200_000


def expand(program: ast.Program) -> tuple[ast.Program, list[Diagnostic]]:
    """The script without macros: every use replaced by the macro's block. Returns it and the errors."""
    macros: dict[str, list[ast.Macro]] = {}
    expander = _Expander(macros)
    for macro in program.of(ast.Macro):
        expander.declare(macro)
    if not macros:
        return program, expander.errors
    items = [expander.transform(item) for item in program.items if not isinstance(item, ast.Macro)]
    return ast.Program(program.span, items=items), expander.errors


class _Expander:
    def __init__(self, macros: dict[str, list[ast.Macro]]) -> None:
        self.macros = macros
        self.errors: list[Diagnostic] = []
        self.active: list[str] = []
        self.uses = 0
        self.nodes = 0

    def declare(self, macro: ast.Macro) -> None:
        signature = [type(p) for p in macro.parameters]
        same = self.macros.setdefault(macro.name, [])
        if any([type(p) for p in other.parameters] == signature for other in same):
            self.errors.append(Diagnostic(f"the macro '{macro.name}' is defined twice", macro.span))
        names = [(type(p), p.name) for p in macro.parameters]  # type: ignore[attr-defined]
        for index, (_, name) in enumerate(names):
            if names[index] in names[:index]:
                self.errors.append(
                    Diagnostic(f"the macro '{macro.name}' has the parameter '{name}' twice", macro.span)
                )
        same.append(macro)

    def transform(
        self, node: ast.Node, leaf: Callable[[ast.Node], ast.Node | None] | None = None
    ) -> ast.Node:
        """A copy of ``node`` with uses of macros expanded; ``leaf`` may replace names."""
        self.nodes += 1
        replaced = leaf(node) if leaf is not None else None
        if replaced is not None:
            return replaced
        if isinstance(node, ast.Call) and node.name in self.macros:
            arguments = [self.transform(a, leaf) for a in node.arguments]
            return self._use(node.name, arguments, node)
        if isinstance(node, ast.Identifier) and node.name in self.macros:
            return self._use(node.name, [], node)
        if isinstance(node, ast.ExprStatement):
            expr = self.transform(node.expr, leaf)
            assert isinstance(expr, ast.Expr)
            if isinstance(expr, ast.BlockExpr | ast.IfExpr):
                return as_statement(expr)
            return ast.ExprStatement(node.span, expr=expr)
        values = {}
        for name in node.fields:
            value = getattr(node, name)
            if isinstance(value, ast.Node):
                value = self.transform(value, leaf)
            elif isinstance(value, list):
                value = [self.transform(v, leaf) if isinstance(v, ast.Node) else v for v in value]
            values[name] = value
        return type(node)(node.span, **values)

    def _use(self, name: str, arguments: list[ast.Node], use: ast.Expr) -> ast.Expr:
        try:
            return self._expanded(name, arguments, use)
        except Diagnostic as error:
            self.errors.append(error)
            return ast.Integer(use.span, value=0, text="0")

    def _expanded(self, name: str, arguments: list[ast.Node], use: ast.Expr) -> ast.Expr:
        if name in self.active:
            chain = " uses ".join(f"'{n}'" for n in [*self.active[self.active.index(name) :], name])
            raise Diagnostic(f"the macro '{name}' uses itself", use.span, hint=chain)
        if len(self.active) >= _MAX_NESTING or self.nodes > _MAX_NODES:
            raise Diagnostic("macros expand to too much code", use.span)
        macro = self._choose(name, arguments, use)
        self.uses += 1
        leaf = _Body(macro, arguments, self.uses)
        self.active.append(name)
        body = self.transform(macro.body, leaf.replace)
        self.active.pop()
        self.errors.extend(leaf.errors)
        assert isinstance(body, ast.BlockExpr)
        body.span = use.span
        return body

    def _choose(self, name: str, arguments: list[ast.Node], use: ast.Expr) -> ast.Macro:
        """The macro of that name whose parameters take the arguments; the most particular first."""
        candidates = self.macros[name]
        fitting = [m for m in candidates if len(m.parameters) == len(arguments)]
        if not fitting:
            counts = " or ".join(str(n) for n in sorted({len(m.parameters) for m in candidates}))
            plural = "" if counts == "1" else "s"
            raise Diagnostic(
                f"the macro '{name}' takes {counts} argument{plural}, not {len(arguments)}", use.span
            )
        exact = sorted(
            (m for m in fitting if all(map(_takes, m.parameters, arguments))),
            key=lambda m: sum(isinstance(p, ast.Identifier) for p in m.parameters),
        )
        if exact:
            return exact[0]
        parameter, argument = next(
            (p, a) for p, a in zip(fitting[0].parameters, arguments, strict=True) if not _takes(p, a)
        )
        raise Diagnostic(
            f"the macro '{name}' expects {_KINDS[type(parameter)]} here, not {_describe(argument)}",
            argument.span,
            hint=f"its parameter is '{_sigil(parameter)}'",
        )


class _Body:
    """Replaces the names in one copy of a macro's body."""

    def __init__(self, macro: ast.Macro, arguments: list[ast.Node], number: int) -> None:
        self.macro = macro
        self.number = number
        self.errors: list[Diagnostic] = []
        self.given = {
            (type(p), p.name): a  # type: ignore[attr-defined]
            for p, a in zip(macro.parameters, arguments, strict=True)
        }

    def replace(self, node: ast.Node) -> ast.Node | None:
        """The caller's node for a parameter, a renamed variable, or None for any other node."""
        if isinstance(node, ast.Variable):
            given = self.given.get((ast.Variable, node.name))
            if given is not None:
                return given
            return ast.Variable(node.span, name=f"{self.macro.name}__{node.name}__{self.number}")
        if isinstance(node, ast.Map):
            given = self.given.get((ast.Map, node.name))
            if given is None:
                self.errors.append(
                    Diagnostic(
                        f"the macro '{self.macro.name}' cannot reach the map '@{node.name}'",
                        node.span,
                        hint=f"pass it: macro {self.macro.name}(..., @{node.name})",
                    )
                )
            return given
        if isinstance(node, ast.Identifier):
            return self.given.get((ast.Identifier, node.name))
        return None


def _takes(parameter: ast.Expr, argument: ast.Node) -> bool:
    return isinstance(parameter, ast.Identifier) or type(parameter) is type(argument)


def _sigil(parameter: ast.Expr) -> str:
    name = str(getattr(parameter, "name", ""))
    return f"${name}" if isinstance(parameter, ast.Variable) else f"@{name}"


def _describe(node: ast.Node) -> str:
    if isinstance(node, ast.MapAccess):
        return "an element of a map"
    return _KINDS.get(type(node), "an expression") if isinstance(node, ast.Expr) else "a type"
