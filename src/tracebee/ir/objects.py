"""Objects with equal contents become one: a key built twice is built once.

An object qualifies when all its writers stand in one block, before anything reads it, and everything
else only reads. Two such objects whose writers write the same values hold the same bytes wherever
the first's writers dominate the second's, because SSA values do not change.
"""

from __future__ import annotations

from tracebee.ir.dominators import Dominators
from tracebee.ir.gvn import operand_key
from tracebee.ir.rewrite import rewrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from tracebee.ir.value import Block, Function, Value

# Helpers that fill their first argument, and give the same bytes each time within a run.
_FILLERS = frozenset(("get_current_comm",))


class _Object:
    """What is known of an alloca."""

    __slots__ = ("is_read", "value", "writers")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.writers: list[tuple[Block, int, Value]] = []
        self.is_read = False


def merge_objects(function: Function) -> None:
    """Use the first of several equal objects in place of the others."""
    function.link()
    objects = _candidates(function)
    if len(objects) < 2:
        return
    dominators = Dominators(function)
    objects.sort(key=lambda o: (dominators.span(o.writers[0][0]), o.writers[0][1]))
    # Walking down the tree, those above the place at hand, by contents; the nearest last.
    above: dict[Hashable, list[_Object]] = {}
    replaced: dict[Value, Value] = {}
    dropped: set[Value] = set()
    for candidate in objects:
        same = above.setdefault(_contents(candidate), [])
        block, at, _ = candidate.writers[0]
        while same and not dominators.dominates(same[-1].writers[-1][0], block):
            same.pop()
        if same and (same[-1].writers[-1][0] is not block or same[-1].writers[-1][1] < at):
            replaced[candidate.value] = same[-1].value
            dropped.add(candidate.value)
            dropped.update(w for _, _, w in candidate.writers)
        else:
            same.append(candidate)
    if not replaced:
        return
    for block in function.blocks:
        block.insns = [i for i in block.insns if i not in dropped]
    rewrite(function, replaced)


def _candidates(function: Function) -> list[_Object]:
    """Objects that qualify."""
    objects: dict[Value, _Object] = {}
    results: set[Value] = set()  # of filling calls
    for block in function.blocks:
        for at, insn in enumerate(block.insns):
            if insn.op == "alloca":
                objects[insn] = _Object(insn)
                continue
            for number, arg in enumerate(insn.args):
                found = objects.get(arg)
                if found is not None and not _note_use(found, block, at, insn, number):
                    del objects[arg]
            if insn.op == "helper" and insn.aux in _FILLERS:
                results.add(insn)
    for block in function.blocks:
        for insn in block.insns:
            for arg in insn.args:
                if arg in results and arg.args[0] in objects:
                    del objects[arg.args[0]]
    return [o for o in objects.values() if o.writers and o.is_read]


def _note_use(found: _Object, block: Block, at: int, insn: Value, number: int) -> bool:
    """Note that operand ``number`` of an instruction is the object. Whether it still qualifies."""
    op = insn.op
    is_writer = number == 0 and (
        op in ("store", "memset") or (op == "helper" and insn.aux in _FILLERS and len(insn.args) == 2)
    )
    if is_writer:
        if found.is_read or (found.writers and found.writers[-1][0] is not block):
            return False
        found.writers.append((block, at, insn))
        return True
    found.is_read = True
    if op == "load":
        return True
    if op == "memcpy":
        return number == 1
    return op == "helper" and _is_read_only(insn.aux, number)


def _is_read_only(helper: str, number: int) -> bool:
    """Whether a helper only reads what this argument points to."""
    from tracebee.isa.helpers import BY_NAME

    row = BY_NAME.get(helper)
    kinds = row.arg_kinds if row is not None else ()
    if number >= len(kinds):
        return False
    flags = kinds[number].split("|")
    return "MEM_RDONLY" in flags or flags in (["PTR_TO_MAP_KEY"], ["PTR_TO_MAP_VALUE"])


def _contents(candidate: _Object) -> Hashable:
    size, align, _ = candidate.value.aux
    writers = [(w.op, w.aux, *map(operand_key, w.args[1:])) for _, _, w in candidate.writers]
    return (size, align, *writers)
