"""Which variables are live where: backward data flow over blocks, to a fixpoint."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Block, Function, Value

    # What one block does to the variables: those it reads before it defines them, those it defines
    # (phis included), those that phis of its successors read at its end.
    Facts = tuple[set[Value], set[Value], set[Value]]


def live_out(function: Function, facts: dict[Block, Facts]) -> dict[Block, set[Value]]:
    """The variables live at the end of each block. The function's ``preds`` must be linked."""
    live_in: dict[Block, set[Value]] = {b: set(facts[b][0]) for b in function.blocks}
    result: dict[Block, set[Value]] = {}
    changed = True
    while changed:
        changed = False
        for block in reversed(function.blocks):
            read_first, defined, read_at_end = facts[block]
            out = set(read_at_end)
            for succ in block.succs:
                out |= live_in[succ]
            before = result.get(block)
            if before is not None and len(before) == len(out):
                continue
            result[block] = out
            into = (out - defined) | read_first
            if len(into) != len(live_in[block]):
                live_in[block] = into
                changed = True
    return result
