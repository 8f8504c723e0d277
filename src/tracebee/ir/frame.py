"""Where a function's objects lie: on the BPF stack, or, when large, in per-CPU scratch memory.

An object's life is that of the pointers to it; objects that do not live at the same time share bytes.
"""

from __future__ import annotations

from tracebee.ir.liveness import live_out
from tracebee.ir.types import CTX, STACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.ir.liveness import Facts
    from tracebee.ir.value import Block, Function, Value

LARGE = 128  # bytes: objects above this go to scratch memory

# Values that point to where one of their operands points.
_DERIVING = frozenset(("add", "sub", "phi", "select", "or", "and"))


class Frame:
    """Offsets of objects: ``stack`` from r10 (negative), ``scratch`` from ``scratch_base``."""

    __slots__ = (
        "scratch",
        "scratch_base",
        "scratch_size",
        "spill_size",
        "stack",
        "stack_size",
    )

    def __init__(self) -> None:
        self.stack: dict[Value, int] = {}
        self.scratch: dict[Value, int] = {}
        self.scratch_base: Value | None = None
        self.stack_size = 0  # of objects
        self.spill_size = 0
        self.scratch_size = 0

    def alignment(self, pointer: Value, offset: int) -> int:
        """Bytes, up to 8, that ``pointer + offset`` is known, or need not be known, to be aligned to.

        Only the stack and the context must be accessed aligned (kernel: check_ptr_alignment).
        """
        if pointer in self.stack:
            offset += self.stack[pointer]
        elif pointer.type == STACK:
            offset |= _alignment(pointer)
        elif pointer.type != CTX:
            return 8
        low = offset & -offset
        return min(low, 8) if low else 8


def place_objects(function: Function, stack_limit: int) -> Frame:
    """Lay out the function's objects; what does not fit ``stack_limit`` bytes goes to scratch."""
    frame = Frame()
    lives = _lifetimes(function)
    if not lives:
        return frame
    large = {o for o in lives if o.aux[0] > LARGE}
    small = [o for o in lives if o not in large]
    while True:
        offsets, size = _pack(small, lives)
        if size <= stack_limit or not small:
            break
        largest = max(small, key=lambda o: o.aux[0])
        large.add(largest)
        small.remove(largest)
    frame.stack_size = size
    for value, offset in offsets.items():
        # Stack memory grows down: offset 0 of the packing lies just under r10.
        frame.stack[value] = -offset - _padded(value)
    frame.scratch, frame.scratch_size = _pack([o for o in lives if o in large], lives)
    return frame


def _alignment(pointer: Value) -> int:
    """The alignment of a computed pointer to the stack, from the steps of the offsets added up."""
    if pointer.op == "const":
        return int(pointer.aux & -int(pointer.aux)) or 8
    if pointer.op == "alloca":
        return min(8, int(pointer.aux[1]))
    if pointer.op in ("add", "sub"):
        return min(_alignment(a) for a in pointer.args)
    if pointer.op == "shl" and pointer.args[1].op == "const":
        return min(1 << int(pointer.args[1].aux), 8)
    if pointer.op == "mul" and pointer.args[1].op == "const":
        return _alignment(pointer.args[1])
    return 1


def _padded(value: Value) -> int:
    size: int = value.aux[0]
    align: int = max(value.aux[1], 1)
    return -(-size // align) * align


def _pack(objects: Iterable[Value], lives: dict[Value, tuple[int, int]]) -> tuple[dict[Value, int], int]:
    """First fit in the order of birth. Returns offsets (the end aligned as the object asks), total size."""
    offsets: dict[Value, int] = {}
    total = 0
    active: list[tuple[int, int, int]] = []  # (offset, end offset, death), by offset
    for value in sorted(objects, key=lambda o: lives[o][0]):
        born, dies = lives[value]
        active = [a for a in active if a[2] > born]
        size, align = _padded(value), min(max(value.aux[1], 1), 8)
        at = 0
        for start, end, _ in active:
            if at + size <= start:
                break
            at = max(at, -(-end // align) * align)
        offsets[value] = at
        active.append((at, at + size, dies))
        active.sort()
        total = max(total, at + size)
    return offsets, -(-total // 8) * 8


def _lifetimes(function: Function) -> dict[Value, tuple[int, int]]:
    """For each object that is used, the range of positions in which a pointer to it may be used."""
    roots, escaped = _pointers(function)
    if not roots:
        return {}
    facts = {b: _block_facts(b, roots) for b in function.blocks}
    out = live_out(function, facts)
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    position = 0

    def touch(objects: Iterable[Value], at: int) -> None:
        for value in objects:
            first.setdefault(value, at)
            last[value] = at

    for block in function.blocks:
        start = position
        for insn in block.insns:
            position += 1
            if insn.op == "alloca":
                continue
            for arg in insn.args:
                if arg in roots:
                    touch(roots[arg], position)
        position += 1
        alive = out[block]
        touch(alive, position)
        read_first, defined, _ = facts[block]
        for value in (alive - defined) | read_first:
            first[value] = min(first.get(value, start), start)
    for value in escaped:
        first[value], last[value] = 0, position + 1
    return {o: (first[o], last[o] + 1) for o in last}


def _block_facts(block: Block, roots: dict[Value, tuple[Value, ...]]) -> Facts:
    read_first: set[Value] = set()
    defined: set[Value] = set()
    read_at_end: set[Value] = set()
    for insn in block.insns:
        if insn.op == "alloca":
            defined.add(insn)
        elif insn.op != "phi":
            for arg in insn.args:
                for root in roots.get(arg, ()):
                    if root not in defined:
                        read_first.add(root)
    for succ in block.succs:
        for phi in succ.phis():
            for arg, pred in zip(phi.args, phi.aux, strict=True):
                if pred is block:
                    read_at_end.update(roots.get(arg, ()))
    return read_first, defined, read_at_end


def _pointers(function: Function) -> tuple[dict[Value, tuple[Value, ...]], set[Value]]:
    """For each pointer, the objects it may point into; and the objects whose address is stored away."""
    roots: dict[Value, tuple[Value, ...]] = {}
    changed = True
    has_back_edges = False
    while changed:
        changed = False
        for block in function.blocks:
            for insn in block.insns:
                if insn.op == "alloca":
                    roots[insn] = (insn,)
                elif insn.op in _DERIVING:
                    found = {r for a in insn.args for r in roots.get(a, ())}
                    if found and len(found) != len(roots.get(insn, ())):
                        roots[insn] = tuple(found)
                        changed = changed or has_back_edges or insn.op == "phi"
        has_back_edges = True
    escaped: set[Value] = set()
    for block in function.blocks:
        for insn in block.insns:
            stored = (
                insn.args[1:] if insn.op in ("store", "atomic") else insn.args if insn.op == "ret" else ()
            )
            for arg in stored:
                escaped.update(roots.get(arg, ()))
    return roots, escaped
