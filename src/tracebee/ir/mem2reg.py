"""Locals to SSA values, with phis only where a value is read past a meeting of paths.

After Braun et al., "Simple and Efficient Construction of Static Single Assignment Form" (2013), run
over finished blocks. Objects that are only read and written whole as scalars become locals first.
"""

from __future__ import annotations

from tracebee.ir.rewrite import rewrite
from tracebee.ir.types import I64
from tracebee.ir.value import Block, Function, Local, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def mem2reg(function: Function) -> None:
    """Replace every ``get``, ``set`` and scalar ``alloca``."""
    function.link()
    _scalars_to_locals(function)
    _Construction(function).run()


class _Construction:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.at_end: dict[Block, dict[Local, Value]] = {b: {} for b in function.blocks}
        self.at_start: dict[Block, dict[Local, Value]] = {b: {} for b in function.blocks}
        self.pending: list[tuple[Value, Block, Local]] = []
        self.replaced: dict[Value, Value] = {}

    def run(self) -> None:
        for block in self.function.blocks:
            defs = self.at_end[block]
            kept = []
            for insn in block.insns:
                if insn.op == "get":
                    value = defs.get(insn.aux)
                    self.replaced[insn] = self._start(block, insn.aux) if value is None else value
                elif insn.op == "set":
                    defs[insn.aux] = insn.args[0]
                else:
                    kept.append(insn)
            block.insns = kept
        phis: list[Value] = []
        while self.pending:
            phi, block, local = self.pending.pop()
            phi.args = [self._end(p, local) for p in block.preds]
            phi.aux = tuple(block.preds)
            phis.append(phi)
        for phi in self._without_trivial(phis):
            assert phi.block is not None
            phi.block.insns.insert(0, phi)
        rewrite(self.function, self.replaced)

    def _end(self, block: Block, local: Local) -> Value:
        value = self.at_end[block].get(local)
        return self._start(block, local) if value is None else value

    def _start(self, block: Block, local: Local) -> Value:
        """The local's value at the block's start, walking up while there is one way in."""
        path = []
        value = self.at_start[block].get(local)
        while value is None:
            path.append(block)
            if not block.preds:
                value = self.function.const(0)
            elif len(block.preds) == 1:
                block = block.preds[0]
                value = self.at_end[block].get(local)
                if value is None:
                    value = self.at_start[block].get(local)
            else:
                value = Value("phi", (), (), local.type or I64)
                value.block = block
                self.pending.append((value, block, local))
        for passed in path:
            self.at_start[passed][local] = value
        return value

    def _without_trivial(self, phis: Iterable[Value]) -> list[Value]:
        """The phis that are needed: one of a single value and itself is that value."""
        left = list(phis)
        while True:
            kept = []
            for phi in left:
                sources = {self._final(a) for a in phi.args} - {phi}
                if len(sources) == 1:
                    self.replaced[phi] = sources.pop()
                else:
                    kept.append(phi)
            if len(kept) == len(left):
                return kept
            left = kept

    def _final(self, value: Value) -> Value:
        while value in self.replaced:
            value = self.replaced[value]
        return value


def _scalars_to_locals(function: Function) -> None:
    """Objects of 8 bytes and less, only loaded and stored whole at offset 0, become locals."""
    sizes: dict[Value, int] = {}
    for block in function.blocks:
        for insn in block.insns:
            if insn.op == "alloca" and insn.aux[0] <= 8:
                sizes[insn] = insn.aux[0]
    if not sizes:
        return
    for block in function.blocks:
        for insn in block.insns:
            for number, arg in enumerate(insn.args):
                if arg in sizes and not _is_whole_access(insn, number, sizes[arg]):
                    del sizes[arg]
    if not sizes:
        return
    locals_ = {a: Local(a.aux[2], I64) for a in sizes}
    for block in function.blocks:
        kept: list[Value] = []
        for insn in block.insns:
            if insn.op == "load" and insn.args[0] in locals_:
                insn = _local_load(insn, locals_[insn.args[0]], kept)
            elif insn.op == "store" and insn.args[0] in locals_:
                local = locals_[insn.args[0]]
                insn = Value("set", (insn.args[1],), local, "void", insn.span)
                insn.block = block
            elif insn in locals_:
                continue
            kept.append(insn)
        block.insns = kept


def _is_whole_access(insn: Value, number: int, size: int) -> bool:
    if number or insn.op not in ("load", "store"):
        return False
    return insn.aux[0] == 0 and insn.aux[1] == size and insn.aux[-1] is None


def _local_load(load: Value, local: Local, kept: list[Value]) -> Value:
    """The load turned into a get, and for a narrow object the extension of it. Keeps its identity."""
    _, size, signed, _ = load.aux
    if size == 8:
        load.op, load.args, load.aux = "get", [], local
        return load
    got = Value("get", (), local, I64, load.span)
    got.block = load.block
    kept.append(got)
    load.op, load.args, load.aux = "extend", [got], (size * 8, signed)
    return load
