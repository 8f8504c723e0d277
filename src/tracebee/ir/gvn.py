"""Equal computations become one: value numbering down the dominator tree, simplifying on the way.

What a branch has decided is known below it: a condition tested again is a constant there.
"""

from __future__ import annotations

from tracebee.ir.dominators import Dominators
from tracebee.ir.fold import simplify
from tracebee.ir.types import CTX
from tracebee.ir.value import BINARY, COMMUTATIVE, FLOATING, UNARY, Block, Function, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

_COMPUTED = BINARY | UNARY | {"extend", "compare", "select"}


def number_values(function: Function) -> None:
    """Simplify instructions and drop those whose value is already there."""
    function.link()
    _Numbering(function).run()


class _Numbering:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.known: dict[Hashable, Value] = {}
        self.replaced: dict[Value, Value] = {}
        self.phis: list[Value] = []
        self.is_context_fixed = _is_context_fixed(function)

    def run(self) -> None:
        children = Dominators(self.function).children()
        entry = self.function.entry
        # Each frame: the block's children still to visit, and what to forget on leaving it.
        undo: list[tuple[Hashable, Value | None]] = []
        self.visit(entry, undo)
        stack = [(iter(children[entry]), undo)]
        while stack:
            rest, undo = stack[-1]
            block = next(rest, None)
            if block is None:
                for key, before in reversed(undo):
                    if before is None:
                        del self.known[key]
                    else:
                        self.known[key] = before
                stack.pop()
                continue
            undo = []
            self.visit(block, undo)
            stack.append((iter(children[block]), undo))
        for phi in self.phis:
            phi.args = [self.final(a) for a in phi.args]

    def final(self, value: Value) -> Value:
        while value in self.replaced:
            value = self.replaced[value]
        return value

    def learn(self, key: Hashable, value: Value, undo: list[tuple[Hashable, Value | None]]) -> None:
        undo.append((key, self.known.get(key)))
        self.known[key] = value

    def visit(self, block: Block, undo: list[tuple[Hashable, Value | None]]) -> None:
        if len(block.preds) == 1:
            self.learn_branch(block.preds[0], block, undo)
        replaced = self.replaced
        known = self.known
        kept: list[Value] = []
        for insn in block.insns:
            if insn.op == "phi":
                sources = {self.final(a) for a in insn.args} - {insn}
                if len(sources) == 1:
                    replaced[insn] = sources.pop()
                else:
                    self.phis.append(insn)
                    kept.append(insn)
                continue
            args = insn.args
            for number, arg in enumerate(args):
                if arg in replaced:
                    args[number] = self.final(arg)
            if args and insn.op in ("br", "select"):
                args[0] = known.get((args[0],), args[0])
            value = simplify(self.function, insn)
            if value is None:
                key = _key(insn)
                if key is not None and (insn.op != "load" or self.is_context_fixed):
                    value = known.get(key)
                    if value is None:
                        self.learn(key, insn, undo)
            if value is None:
                kept.append(insn)
            else:
                replaced[insn] = self.final(value)
        block.insns = kept

    def learn_branch(self, pred: Block, block: Block, undo: list[tuple[Hashable, Value | None]]) -> None:
        """In the only successor on one side of a branch its condition has one value."""
        last = pred.insns[-1]
        if last.op != "br" or last.aux[0] is last.aux[1]:
            return
        condition = last.args[0]
        if condition.op == "compare":
            outcome = self.function.const(1 if block is last.aux[0] else 0)
            key = _key(condition)
            assert key is not None
            self.learn(key, outcome, undo)
            self.learn((condition,), outcome, undo)


def _key(insn: Value) -> Hashable | None:
    """What two instructions must share to make the same value; None for those that never do."""
    op = insn.op
    if op in COMMUTATIVE:
        a, b = insn.args
        first, second = (a, b) if id(a) < id(b) else (b, a)
        return (op, operand_key(first), operand_key(second))
    if op in _COMPUTED or (op == "load" and insn.args[0].type == CTX) or (op == "helper" and is_pure(insn)):
        return (op, insn.aux, *map(operand_key, insn.args))
    return None


def operand_key(value: Value) -> Hashable:
    """What tells operands apart: values that need no place by what they are, others by identity."""
    return (value.op, value.aux) if value.op in FLOATING else value


# Helpers that are given the context without changing it or what it points to.
_READERS = frozenset(
    (
        "perf_event_output",
        "get_stackid",
        "get_stack",
        "skb_output",
        "xdp_output",
        "perf_prog_read_value",
        "get_socket_cookie",
        "snprintf",
        "override_return",
    )
)


def _is_context_fixed(function: Function) -> bool:
    """Whether nothing in the function changes the context, or moves the packet it points to."""
    for block in function.blocks:
        for insn in block.insns:
            if not any(a.type == CTX for a in insn.args) or insn.op == "load":
                continue
            if insn.op in ("store", "atomic", "memset", "call", "kfunc"):
                return False
            if insn.op == "helper" and insn.aux not in _READERS and not is_pure(insn):
                return False
    return True


def is_pure(helper: Value) -> bool:
    """Whether a call of a helper only makes a value, the same one each time."""
    from tracebee.isa.helpers import BY_NAME

    row = BY_NAME.get(helper.aux)
    return row is not None and row.pure
