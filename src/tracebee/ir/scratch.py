"""Scratch memory: the look-up of a program's element in the per-CPU array for large objects."""

from __future__ import annotations

from tracebee.ir.dominators import Dominators
from tracebee.ir.types import MAP, MAP_VALUE, STACK, VOID
from tracebee.ir.value import Block, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.frame import Frame
    from tracebee.ir.value import Function

# What a look-up may not come after: leaving on its failure would leak the reference.
_ACQUIRING = frozenset(("ringbuf_reserve", "ringbuf_reserve_dynptr", "spin_lock", "kptr_xchg"))


def add_scratch_lookup(function: Function, frame: Frame, map_name: str, index: int) -> None:
    """Look the element up before its first use, and return 0 where there is none (there always is)."""
    block, at = _place(function, frame)
    span = block.insns[at].span
    rest = Block(f"{block.name}.scratch")
    rest.insns = block.insns[at:]
    for insn in rest.insns:
        insn.block = rest
    for succ in block.succs:
        for phi in succ.phis():
            phi.aux = tuple(rest if p is block else p for p in phi.aux)
    fail = Block("no_scratch")
    key = Value("alloca", (), (4, 4, "scratch_key"), STACK, span)
    frame.stack_size += 8
    frame.stack[key] = 4 - frame.stack_size
    store = Value("store", (key, function.const(index)), (0, 4, None), VOID, span)
    found = Value("helper", (Value("map_ref", (), map_name, MAP), key), "map_lookup_elem", MAP_VALUE, span)
    is_found = Value("compare", (found, function.const(0)), "ne", span=span)
    branch = Value("br", (is_found,), (rest, fail), VOID, span)
    fail.insns = [Value("ret", (function.const(0),), None, VOID, span)]
    block.insns = [*block.insns[:at], key, store, found, is_found, branch]
    function.blocks += [rest, fail]
    frame.scratch_base = found
    function.link()


def _place(function: Function, frame: Frame) -> tuple[Block, int]:
    """The latest point that comes before every use of scratch memory, outside loops where possible."""
    users: list[Block] = []
    acquires = False
    for block in function.blocks:
        uses_scratch = False
        for insn in block.insns:
            if (insn.op == "helper" and insn.aux in _ACQUIRING) or insn.op == "kfunc":
                acquires = True
            if insn.op == "phi":
                users.extend(p for a, p in zip(insn.args, insn.aux, strict=True) if a in frame.scratch)
            elif not uses_scratch and any(a in frame.scratch for a in insn.args):
                uses_scratch = True
        if uses_scratch:
            users.append(block)
    entry = function.entry
    if acquires or not users:
        return entry, 0
    dominators = Dominators(function)
    block = dominators.common(users)
    while block is not entry and _in_loop(block):
        block = dominators.parent[block]
    last = len(block.insns) - 1
    if block not in users:
        return block, last
    uses = (n for n, i in enumerate(block.insns) if i.op != "phi" and any(a in frame.scratch for a in i.args))
    return block, next(uses, last)


def _in_loop(block: Block) -> bool:
    """Whether control can come back to the block."""
    seen: set[Block] = set()
    todo = list(block.succs)
    while todo:
        other = todo.pop()
        if other is block:
            return True
        if other not in seen:
            seen.add(other)
            todo.extend(other.succs)
    return False
