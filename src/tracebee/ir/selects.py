"""Branches around nothing: where the two sides only bring a phi different values, a select does."""

from __future__ import annotations

from tracebee.ir.branches import simplify_branches
from tracebee.ir.types import I64
from tracebee.ir.value import Block, Function, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def make_selects(function: Function) -> None:
    """Turn such branches into selects, when one phi is all that depends on them."""
    function.link()
    changed = False
    for block in function.blocks:
        for empty, target in _around_nothing(block):
            if _convert(block, empty, target):
                changed = True
                break
    if changed:
        simplify_branches(function)


def _around_nothing(block: Block) -> Iterator[tuple[Block, Block]]:
    """(empty side, where both sides go) of the block's branch."""
    last = block.insns[-1]
    if last.op == "br":
        then, else_ = last.aux
        for empty, target in ((then, else_), (else_, then)):
            only = empty.insns[0]
            if only.op == "jump" and only.aux is target and len(empty.preds) == 1 and target is not block:
                yield empty, target


def _convert(block: Block, empty: Block, target: Block) -> bool:
    different: list[tuple[Value, Value, Value]] = []
    for phi in target.phis():
        direct, around = phi.args[phi.aux.index(block)], phi.args[phi.aux.index(empty)]
        if direct is not around:
            different.append((phi, direct, around))
    if len(different) != 1:
        return False
    phi, direct, around = different[0]
    if phi.type != I64:
        return False
    last = block.insns[-1]
    sides = (around, direct) if last.aux[0] is empty else (direct, around)
    select = Value("select", (last.args[0], *sides), None, I64, last.span)
    select.block = block
    block.insns.insert(len(block.insns) - 1, select)
    phi.args[phi.aux.index(block)] = select
    last.op, last.args, last.aux = "jump", [], target
    target.preds.remove(empty)
    for other in target.phis():
        at = other.aux.index(empty)
        del other.args[at]
        other.aux = other.aux[:at] + other.aux[at + 1 :]
    return True
