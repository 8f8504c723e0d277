"""The IR checker: what every pass may rely on and must leave true."""

from __future__ import annotations

from tracebee.ir.dominators import Dominators
from tracebee.ir.dump import Names
from tracebee.ir.types import POINTERS, READABLE, TYPES, VOID, WRITABLE
from tracebee.ir.value import (
    ATOMICS,
    BINARY,
    CALLS,
    CONDITIONS,
    FLOATING,
    TERMINATORS,
    UNARY,
    Block,
    Function,
    Value,
)

# Operand counts, where they are fixed.
_OPERANDS = {
    **dict.fromkeys(FLOATING | {"alloca", "get", "jump"}, 0),
    **dict.fromkeys(UNARY | {"extend", "set", "load", "memset", "br", "ret"}, 1),
    **dict.fromkeys(BINARY | {"compare", "store", "memcpy"}, 2),
    "select": 3,
}
_SIZES = (1, 2, 4, 8)


class IrError(AssertionError):
    """The IR breaks a rule: a mistake in a front end or a pass, never in a script."""


def check(function: Function) -> None:
    """Check blocks, dominance, phis, types and operands.

    :raises IrError: naming the block, the instruction and the rule.
    """
    _Checker(function).run()


class _Checker:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.names = Names(function)
        self.place: dict[Value, tuple[Block, int]] = {}

    def run(self) -> None:
        function = self.function
        if not function.blocks:
            raise IrError(f"{function.name}: no blocks")
        for block in function.blocks:
            self.shape(block)
            for number, insn in enumerate(block.insns):
                if insn in self.place:
                    self.fail(block, insn, "stands in two places")
                self.place[insn] = (block, number)
        function.link()
        if function.entry.preds:
            raise IrError(f"{function.name}: something jumps to the entry block")
        self.dominators = Dominators(function)
        for block in function.blocks:
            for insn in block.insns:
                self.operation(block, insn)
                if insn.op == "phi":
                    self.phi(block, insn)
                else:
                    self.operands(block, insn)

    def fail(self, block: Block, insn: Value, rule: str) -> None:
        raise IrError(f"{self.function.name}: {block.name}: {self.names.line(insn)}: {rule}")

    def shape(self, block: Block) -> None:
        """Phis first, one terminator last."""
        if block.terminator is None:
            raise IrError(f"{self.function.name}: {block.name}: does not end in a branch, jump or return")
        phis_over = False
        for insn in block.insns[:-1]:
            if insn.op in TERMINATORS:
                self.fail(block, insn, "is not last")
            phis_over = phis_over or insn.op != "phi"
            if insn.op == "phi" and phis_over:
                self.fail(block, insn, "stands after other instructions")

    def phi(self, block: Block, insn: Value) -> None:
        """One input for each predecessor, each available at that predecessor's end."""
        if len(insn.args) != len(insn.aux) or set(insn.aux) != set(block.preds):
            preds = ", ".join(p.name for p in block.preds)
            self.fail(block, insn, f"inputs do not match the predecessors ({preds})")
        if len(set(insn.aux)) != len(insn.aux):
            self.fail(block, insn, "has two inputs for one predecessor")
        for arg, pred in zip(insn.args, insn.aux, strict=True):
            self.available(block, insn, arg, pred, len(pred.insns))

    def operands(self, block: Block, insn: Value) -> None:
        at = self.place[insn][1]
        for arg in insn.args:
            self.available(block, insn, arg, block, at)

    def available(self, block: Block, insn: Value, arg: Value, where: Block, before: int) -> None:
        """``arg`` is defined on every way to position ``before`` of block ``where``."""
        if arg.type == VOID:
            self.fail(block, insn, "uses a value of an instruction that makes none")
        if arg.op in FLOATING:
            if arg.op == "param" and arg not in self.function.params:
                self.fail(block, insn, "uses another function's parameter")
            return
        place = self.place.get(arg)
        if place is None:
            self.fail(block, insn, f"uses {arg!r}, which stands nowhere in the function")
            return
        home, at = place
        if home is where:
            if at >= before:
                self.fail(block, insn, f"uses {self.names[arg]} before it is made")
        elif home not in self.dominators.number or not self.dominators.dominates(home, where):
            self.fail(block, insn, f"uses {self.names[arg]}, which is not made on every way here")

    def operation(self, block: Block, insn: Value) -> None:
        """Operand count, types, and what ``aux`` may be."""
        op, aux, args = insn.op, insn.aux, insn.args
        if insn.type not in TYPES:
            self.fail(block, insn, f"has the unknown type {insn.type!r}")
        if op in _OPERANDS and len(args) != _OPERANDS[op]:
            self.fail(block, insn, f"takes {_OPERANDS[op]} operands")
        if op in CALLS:
            if len(args) > 5:
                self.fail(block, insn, "takes at most 5 operands")
        elif op == "compare":
            if aux not in CONDITIONS:
                self.fail(block, insn, f"has no condition {aux!r}")
        elif op == "extend":
            if aux[0] not in (8, 16, 32):
                self.fail(block, insn, "extends from 8, 16 or 32 bits")
        elif op == "load":
            self.access(block, insn, args[0], aux[1], READABLE)
        elif op == "store":
            self.access(block, insn, args[0], aux[1], WRITABLE)
        elif op == "atomic":
            if aux[0] not in ATOMICS or aux[2] not in (4, 8):
                self.fail(block, insn, "is no atomic operation of 4 or 8 bytes")
            self.access(block, insn, args[0], aux[2], WRITABLE)
        elif op == "memset":
            self.access(block, insn, args[0], 1, WRITABLE)
        elif op == "memcpy":
            self.access(block, insn, args[0], 1, WRITABLE)
            self.access(block, insn, args[1], 1, READABLE)
        elif op in BINARY and op not in ("add", "sub") and any(a.type in POINTERS for a in args):
            self.fail(block, insn, "is not for pointers")

    def access(self, block: Block, insn: Value, pointer: Value, size: int, spaces: frozenset[str]) -> None:
        if pointer.type not in spaces:
            self.fail(block, insn, f"cannot access {pointer.type} memory so")
        if size not in _SIZES:
            self.fail(block, insn, "accesses 1, 2, 4 or 8 bytes")
