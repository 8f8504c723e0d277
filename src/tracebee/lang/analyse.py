"""The analyser: gives every expression its type, infers maps and variables, reports what is wrong.

The whole script is walked until no type of a map or variable that was read has changed since; a
script without forward references is walked once. Diagnostics are those of the last walk. The rules
for expressions are in ``analyse_expressions`` and ``analyse_access``, those of functions and
builtins in the tables of ``functions`` and ``builtins``.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.types import AGGREGATIONS, INT64, UINT64, Type, display, tuple_of
from tracebee.lang.unify import (
    COUNTABLE,
    UNKNOWN,
    as_integer,
    is_number,
    join,
    kept,
    stored_key,
    stored_value,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import ClassVar

    from tracebee.lang.options import Options
    from tracebee.lang.probe_api import ProbeGroup
    from tracebee.lang.records import Records
    from tracebee.source import Span


class MapState:
    """What is known of a map of the script. ``key`` is None for a map without one."""

    __slots__ = ("declared", "deleted", "iterated", "key", "keyed", "name", "read", "span", "value")

    def __init__(self, name: str, span: Span) -> None:
        self.name = name
        self.span = span
        self.keyed: bool | None = None  # None: not used yet
        self.key: Type = UNKNOWN
        self.value: Type = UNKNOWN
        self.read = False  # some expression's type depends on it
        self.deleted = False  # entries are deleted somewhere
        self.iterated = False
        self.declared: ast.MapDecl | None = None


class VariableState:
    """What is known of a scratch variable. ``memory``: a callback needs its address."""

    __slots__ = ("depth", "early", "fixed", "memory", "name", "read", "span", "type")

    def __init__(self, name: str, span: Span, depth: int) -> None:
        self.name = name
        self.span = span
        self.depth = depth  # callbacks around its declaration
        self.type: Type = UNKNOWN
        self.fixed = False  # its type was written down
        self.read = False
        self.memory = False
        self.early = False  # it may be read on a path that has not given it a value


class Analyser:
    """Walks probes. After ``run``, ``maps`` and ``bindings`` say what lowering needs.

    :param records: where C types are found.
    :param options: the script's settings and parameters.
    """

    def __init__(self, records: Records, options: Options) -> None:
        self.records = records
        self.options = options
        self.maps: dict[str, MapState] = {}
        self.bindings: dict[int, VariableState] = {}  # id of a Variable node -> its variable
        self.variables: dict[Hashable, VariableState] = {}  # (group, id of the declaring node)
        self.diagnostics: list[Diagnostic] = []
        self.strings: list[str] = []  # Script.strings: formats and patterns that types refer to
        self.group: ProbeGroup
        self.probe: ast.Probe
        self.scopes: list[dict[str, VariableState]] = []
        self.closed: dict[str, list[VariableState]] = {}
        self.depth = 0  # callbacks around the place that is looked at
        self.loops = 0
        self.dirty = False
        self._signature: Hashable = 0

    # Diagnostics.

    def error(self, message: str, span: Span, hint: str | None = None) -> Type:
        """Report an error; the result is the type of an expression that went wrong."""
        self.diagnostics.append(Diagnostic(message, span, hint=hint))
        return UNKNOWN

    def warn(self, message: str, span: Span, hint: str | None = None) -> None:
        """Report a warning."""
        self.diagnostics.append(Diagnostic(message, span, hint=hint, severity="warning"))

    def text(self, text: str) -> int:
        """The index of a string in ``Script.strings``."""
        if text not in self.strings:
            self.strings.append(text)
        return self.strings.index(text)

    # Walking.

    def run(self, work: Sequence[tuple[ast.Probe, Sequence[ProbeGroup]]]) -> None:
        """Analyse every probe for each of its groups until the types of maps are settled."""
        for _ in range(10):
            self.dirty = False
            self.diagnostics.clear()
            for probe, groups in work:
                seen: set[Hashable] = set()
                for group in groups:
                    signature = signature_of(group)
                    if signature not in seen:
                        seen.add(signature)
                        self.probe_for(probe, group)
            if not self.dirty:
                return

    def probe_for(self, probe: ast.Probe, group: ProbeGroup) -> None:
        """Analyse one probe as the program of one group."""
        self.probe, self.group = probe, group
        self._signature = (id(probe), signature_of(group))
        self.scopes, self.closed, self.depth, self.loops = [{}], {}, 0, 0
        if probe.predicate is not None:
            self.condition(probe.predicate, "predicate")
        self.block(probe.body)

    def expr(self, node: ast.Node) -> Type:
        """The type of an expression, written into the node."""
        rule = self.EXPRESSIONS.get(type(node))
        if rule is None:
            from tracebee.lang import analyse_access  # noqa: F401 - most short scripts need none of its rules

            rule = self.EXPRESSIONS.get(type(node))
        t = self.error("this is not an expression", node.span) if rule is None else rule(self, node)
        node.type = t  # type: ignore[attr-defined]  # every node with a rule is an Expr
        return t

    def value(self, node: ast.Node) -> Type:
        """The type of an expression whose value is wanted: an aggregation is read as its number."""
        t = self.expr(node)
        if t.kind == "none":
            return self.error("this gives no value", node.span)
        return as_integer(t) if t.kind in COUNTABLE else t

    def integer(self, node: ast.Node, what: str) -> Type:
        """The type of an expression that has to be an integer."""
        t = self.value(node)
        if t.kind != "unknown" and not is_number(t):
            return self.error(f"{what} must be an integer, not {display(t)}", node.span)
        return t

    def condition(self, node: ast.Expr, where: str) -> None:
        """Check an expression that decides."""
        t = self.value(node)
        if t.kind not in ("unknown", "pointer") and not is_number(t):
            self.error(f"Invalid condition in {where}: {display(t)}", node.span, "compare it with something")

    # Statements.

    def block(self, block: ast.Block) -> None:
        """A block with its own scope."""
        self.scopes.append({})
        self.statements(block.statements)
        self.leave_scope()

    def leave_scope(self) -> None:
        """End the innermost scope; its variables stay known for scripts of older versions."""
        for name, state in self.scopes.pop().items():
            self.closed.setdefault(name, []).append(state)

    def statements(self, nodes: Sequence[ast.Node]) -> None:
        """Statements in order."""
        for node in nodes:
            rule = self.STATEMENTS.get(type(node))
            if rule is None:
                self.error(f"{type(node).__name__.lower()} is not a statement", node.span)
            else:
                rule(self, node)

    def _expression_statement(self, node: ast.ExprStatement) -> None:
        expr = node.expr
        t = self.expr(expr)
        if t.kind in ("none", "unknown") or isinstance(
            expr, (ast.IncDec, ast.Call, ast.BlockExpr, ast.IfExpr)
        ):
            return
        if isinstance(expr, ast.Ternary):
            return
        self.warn("Return value discarded", expr.span, "write _ = ... when that is meant")

    def _discard(self, node: ast.Discard) -> None:
        self.expr(node.expr)

    def _let(self, node: ast.Let) -> None:
        given = None if node.annotation is None else self.written_type(node.annotation)
        value = None if node.value is None else self.value(node.value)
        name = node.variable.name
        if name in self.scopes[-1]:
            self.error(f"Variable ${name} was already declared in this block", node.variable.span)
        state = self.declare(node.variable)
        if given is not None:
            state.fixed = True
            state.type = given
        if value is not None:
            self.give(state, value, node.value or node)
        node.variable.type = state.type

    def _assign(self, node: ast.Assign) -> None:
        target = node.target
        if isinstance(target, ast.Variable):
            self._assign_variable(node, target)
        elif isinstance(target, (ast.Map, ast.MapAccess)):
            self._assign_map(node, target)
        elif isinstance(target, ast.Field) or (isinstance(target, ast.Unary) and target.op == "*"):
            self.error("memory of the traced program or kernel cannot be written", target.span)
        else:
            self.error("this cannot be assigned to", target.span)

    def _assign_variable(self, node: ast.Assign, target: ast.Variable) -> None:
        if node.op == "=":
            if isinstance(node.value, ast.Call) and node.value.name in AGGREGATIONS:
                self.expr(node.value)
                return
            value = self.value(node.value)
            state = self.lookup(target) or self.declare(target)
        else:
            old = self.expr(target)
            value = self.operation(node, node.op[:-1], target, old, node.value, self.value(node.value))
            found = self.lookup(target)
            if found is None:
                return
            state = found
        self.give(state, value, node.value)
        target.type = state.type

    def _assign_map(self, node: ast.Assign, target: ast.Map | ast.MapAccess) -> None:
        state = self.target(target)
        call = node.value
        if node.op == "=" and isinstance(call, ast.Call) and call.name in AGGREGATIONS:
            value = self.aggregation(call)
        elif node.op == "=":
            value = self.value(node.value)
        else:
            old = as_integer(state.value) if state.value.kind in COUNTABLE else state.value
            right = self.value(node.value)
            if old.kind == "unknown" and is_number(right):
                old = as_integer(right)  # 0 of the same kind
            value = self.operation(node, node.op[:-1], target, old, node.value, right)
        self.store(state, value, node)
        target.type = state.value

    def aggregation(self, call: ast.Call) -> Type:
        """The type of ``count()`` and its like where a map is assigned."""
        from tracebee.lang import functions

        call.type = functions.check(self, call)
        return call.type

    def give(self, state: VariableState, value: Type, node: ast.Node) -> None:
        """A variable gets a value of this type."""
        if value.kind == "unknown":
            return
        if value.kind in AGGREGATIONS:
            self.error(f"{display(value)} cannot be kept in a variable", node.span)
            return
        joined = join(state.type, kept(value))
        if state.fixed and joined is not None and joined != state.type and joined.kind != "int":
            joined = None
        if joined is None:
            self.error(
                f"Type mismatch for ${state.name}: trying to assign value of type '{display(value)}' "
                f"when variable already has a type '{display(state.type)}'",
                node.span,
            )
        elif joined != state.type and not state.fixed:
            self.dirty |= state.read
            state.type = joined

    def store(self, state: MapState, value: Type, node: ast.Node) -> None:
        """A map gets a value of this type."""
        if value.kind == "unknown":
            return
        value = stored_value(value)
        if value.kind == "none":
            self.error("this gives no value to store", node.span)
            return
        joined = join(state.value, value)
        if joined is None:
            self.error(
                f"Type mismatch for @{state.name}: trying to assign value of type '{display(value)}' "
                f"when map already has a type '{display(state.value)}'",
                node.span,
                _mixed_hint(state.value, value),
            )
        elif joined != state.value:
            self.dirty |= state.read
            state.value = joined

    def target(self, node: ast.Map | ast.MapAccess) -> MapState:
        """The map that an access names, its key's type taken in."""
        if isinstance(node, ast.Map):
            state = self.map(node)
            if state.keyed:
                self.error(
                    f"@{state.name} used as a map without an explicit key (scalar map), "
                    f"previously used with an explicit key (non-scalar map)",
                    node.span,
                )
            state.keyed = bool(state.keyed)
            return state
        state = self.map(node.map)
        self.key(state, node.key)
        return state

    def map(self, node: ast.Map) -> MapState:
        """The state of a map by its node."""
        state = self.maps.get(node.name)
        if state is None:
            state = self.maps[node.name] = MapState(node.name, node.span)
        return state

    def undefined(self, state: MapState, span: Span) -> Type:
        """Report a map that is read and never written."""
        from tracebee.suggest import did_you_mean

        state.read = True
        hint = did_you_mean(state.name, (n for n, s in self.maps.items() if s.value.kind != "unknown"))
        return self.error(f"Undefined map: @{state.name}", span, hint and hint.replace("'", "'@", 1))

    def key(self, state: MapState, node: ast.Expr) -> None:
        """The map is accessed with this key."""
        t = self.value(node)
        if state.keyed is False:
            self.error(
                f"@{state.name} used as a map with an explicit key (non-scalar map), "
                f"previously used without an explicit key (scalar map)",
                node.span,
            )
            return
        state.keyed = True
        if t.kind == "unknown":
            return
        if t.kind in AGGREGATIONS:
            self.error(f"{display(t)} cannot be a map's key", node.span)
            return
        joined = join(state.key, stored_key(t))
        if joined is None:
            self.error(
                f"Argument mismatch for @{state.name}: trying to access with arguments: '{display(t)}' "
                f"when map expects arguments: '{display(state.key)}'",
                node.span,
            )
        elif joined != state.key:
            self.dirty |= state.read
            state.key = joined

    def _if(self, node: ast.If) -> None:
        self.condition(node.condition, "if()")
        self.block(node.then)
        if isinstance(node.otherwise, ast.Block):
            self.block(node.otherwise)
        elif node.otherwise is not None:
            self.statements([node.otherwise])

    def _while(self, node: ast.While) -> None:
        self.condition(node.condition, "while()")
        self._loop_body(node.body)

    def _loop_body(self, body: ast.Block) -> None:
        self.loops += 1
        self.block(body)
        self.loops -= 1

    def _unroll(self, node: ast.Unroll) -> None:
        self.integer(node.count, "the count of unroll")
        number = self.constant(node.count)
        if not isinstance(number, int):
            self.error("unroll needs a count that is known while compiling", node.count.span)
        elif number < 1:
            self.error("unroll minimum value is 1", node.count.span)
        elif number > 100:
            self.error("unroll maximum value is 100", node.count.span, "use a for loop: for $i : 0..n { }")
        self._loop_body(node.body)

    def _for(self, node: ast.For) -> None:
        self.scopes.append({})
        if isinstance(node.iterable, ast.Range):
            start = self.integer(node.iterable.start, "the start of a range")
            end = self.integer(node.iterable.end, "the end of a range")
            state = self.declare(node.variable)
            self.give(state, join(as_integer_or_unknown(start), as_integer_or_unknown(end)) or INT64, node)
            self._loop_body(node.body)
        elif isinstance(node.iterable, ast.Map):
            self._for_map(node, node.iterable)
        else:
            self.error("a for loop goes over a map or a range", node.iterable.span)
        self.leave_scope()

    def _for_map(self, node: ast.For, over: ast.Map) -> None:
        state = self.map(over)
        state.read = state.iterated = True
        if state.keyed is False:
            self.error(
                f"@{state.name} has no explicit keys (scalar map), and cannot be looped over", over.span
            )
            return
        if state.value.kind == "unknown":
            self.undefined(state, over.span)
        value = as_integer(state.value) if state.value.kind in COUNTABLE else state.value
        if value.kind in AGGREGATIONS:
            self.error(f"Loop expression does not support type: {display(state.value)}", over.span)
            return
        self.depth += 1
        variable = self.declare(node.variable)
        if state.value.kind != "unknown":
            variable.type = tuple_of([state.key, value])
        self._loop_body(node.body)
        self.depth -= 1

    def _jump(self, node: ast.Break | ast.Continue) -> None:
        if not self.loops:
            self.error(f"{type(node).__name__.lower()} is only allowed in a loop", node.span)

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.integer(node.value, "a returned value")

    # Variables.

    def declare(self, node: ast.Variable) -> VariableState:
        """A new variable in the innermost scope."""
        key = (self._signature, id(node))
        state = self.variables.get(key)
        if state is None:
            state = self.variables[key] = VariableState(node.name, node.span, self.depth)
        self.scopes[-1][node.name] = state
        self.bindings[id(node)] = state
        return state

    def lookup(self, node: ast.Variable) -> VariableState | None:
        """The variable that a name means here.

        One first assigned in an inner block that has ended is found too, as older versions of the
        language have it; zero where that block did not run.
        """
        state = next((s[node.name] for s in reversed(self.scopes) if node.name in s), None)
        if state is None:
            earlier = self.closed.get(node.name)
            if not earlier:
                return None
            state = earlier[-1]
            state.early = True
            self.scopes[0][node.name] = state
        if state.depth < self.depth:
            state.memory = True
        self.bindings[id(node)] = state
        return state

    # Filled in by the modules with the rules.

    EXPRESSIONS: ClassVar[dict[type, Callable[..., Type]]] = {}
    STATEMENTS: ClassVar[dict[type, Callable[..., None]]] = {
        ast.ExprStatement: _expression_statement,
        ast.Discard: _discard,
        ast.Let: _let,
        ast.Assign: _assign,
        ast.Block: block,
        ast.If: _if,
        ast.While: _while,
        ast.Unroll: _unroll,
        ast.For: _for,
        ast.Break: _jump,
        ast.Continue: _jump,
        ast.Return: _return,
    }

    def operation(self, node: ast.Node, op: str, left: ast.Node, a: Type, right: ast.Node, b: Type) -> Type:
        """The type of ``left op right``."""
        from tracebee.lang.analyse_expressions import operation

        return operation(self, node, op, left, a, right, b)

    def written_type(self, node: ast.Node) -> Type:
        """The type that a type's name in the script means."""
        from tracebee.lang.analyse_access import written_type

        return written_type(self, node)

    def constant(self, node: ast.Node) -> int | str | None:
        """What an expression is known to be while compiling, None when it is not."""
        from tracebee.lang.constants import evaluate

        return evaluate(self, node)


def signature_of(group: ProbeGroup) -> Hashable:
    """What of a group types depend on: groups with one signature share their analysis."""
    return (group.kind, group.address_space, group.args_type(), group.retval_type())


def as_integer_or_unknown(t: Type) -> Type:
    """An integer for a number, anything else unchanged."""
    return as_integer(t) if is_number(t) else t


def _mixed_hint(old: Type, new: Type) -> str | None:
    if {old.kind, new.kind} & COUNTABLE:
        return "a map holds either an aggregation such as count() or plain values"
    if old.kind == new.kind == "int" and {old, new} == {INT64, UINT64}:
        return "cast one to the other's type: (int64) or (uint64)"
    return None
