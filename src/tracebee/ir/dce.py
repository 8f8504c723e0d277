"""Dead code: instructions without effect whose value nobody needs."""

from __future__ import annotations

from tracebee.ir.gvn import is_pure
from tracebee.ir.value import TERMINATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Function, Value

_EFFECTS = TERMINATORS | {"store", "memset", "memcpy", "atomic", "call", "kfunc", "set"}


def eliminate_dead(function: Function) -> None:
    """Keep what has an effect, and what that needs."""
    function.link()
    todo = [
        insn
        for block in function.blocks
        for insn in block.insns
        if insn.op in _EFFECTS or (insn.op == "helper" and not is_pure(insn))
    ]
    live: set[Value] = set(todo)
    while todo:
        for arg in todo.pop().args:
            if arg not in live:
                live.add(arg)
                todo.append(arg)
    for block in function.blocks:
        block.insns = [i for i in block.insns if i in live]
