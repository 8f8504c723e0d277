"""Returns in place of jumps to a block that only returns."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Block, Function, Value


def duplicate_returns(function: Function) -> None:
    """End blocks that jump to a shared return with a return of their own, saving the jump.

    The block that stands right before the shared one falls into it and is left alone.
    """
    function.link()
    _share(function)
    blocks = function.blocks
    before = dict(zip(blocks[1:], blocks, strict=False))
    for block in blocks:
        last = block.insns[-1]
        if last.op != "ret" or any(i.op != "phi" for i in block.insns[:-1]):
            continue
        for pred in block.preds:
            jump = pred.insns[-1]
            if jump.op == "jump" and before.get(block) is not pred:
                result = last.args[0]
                if result in block.insns:
                    result = result.args[result.aux.index(pred)]
                jump.op, jump.args, jump.aux = "ret", [result], None
    function.link()


def _share(function: Function) -> None:
    """What goes to blocks that return one and the same value goes to the last such block."""
    returns: dict[Value, Block] = {}
    for block in function.blocks[1:]:
        if len(block.insns) == 1 and block.insns[0].op == "ret":
            returns[block.insns[0].args[0]] = block

    def shared(block: Block) -> Block:
        if len(block.insns) == 1 and block.insns[0].op == "ret":
            return returns.get(block.insns[0].args[0], block)
        return block

    for block in function.blocks:
        last = block.insns[-1]
        if last.op == "jump":
            last.aux = shared(last.aux)
        elif last.op == "br":
            then, else_ = (shared(b) for b in last.aux)
            last.aux = (then, else_)
            if then is else_:
                last.op, last.args, last.aux = "jump", [], then
    function.link()
