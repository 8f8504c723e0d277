"""Lifetime intervals: for every value that needs a register, the positions where it is alive.

Each instruction has an even position, at which it reads; it writes at the odd one after. The head
of a block has a position of its own, at which its phis are written. Built as in Wimmer and Franz,
"Linear Scan Register Allocation on SSA Form" (2010).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from tracebee.ir.liveness import live_out
from tracebee.ir.types import VOID
from tracebee.ir.value import BINARY, CALLS, COMMUTATIVE, FLOATING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.liveness import Facts
    from tracebee.ir.value import Block, Function, Value

CALL_RESULT = 0  # r0
NOWHERE = -1
FAR = 1 << 60
_MOST_HINTS = 6


class Interval:
    """Where a value, or after splitting a part of its life, is alive, and where that part lies.

    ``ranges`` are half-open ``[start, end]`` pairs in order; ``uses`` the positions that read the
    value from a register (calls' arguments and phi inputs are read from anywhere).
    """

    __slots__ = ("cursor", "hints", "is_spilled", "parts", "ranges", "reg", "starts", "uses", "value")

    def __init__(self, value: Value, ranges: list[list[int]], uses: list[int]) -> None:
        self.value = value
        self.ranges = ranges
        self.uses = uses
        self.cursor = 0  # ranges before this one have passed
        self.reg = NOWHERE
        self.is_spilled = False
        self.hints: list[int | Interval] = []  # registers, and intervals whose register to prefer
        self.parts: list[Interval] = [self]  # of the whole value, in order; shared by all parts
        self.starts = [ranges[0][0]]  # where the parts start

    @property
    def start(self) -> int:
        """First position alive."""
        return self.ranges[0][0]

    @property
    def end(self) -> int:
        """First position after the last alive."""
        return self.ranges[-1][1]

    def next_use(self, position: int) -> int:
        """The first position from ``position`` on that needs a register; far away if none."""
        at = bisect_left(self.uses, position)
        return self.uses[at] if at < len(self.uses) else FAR

    def split(self, position: int) -> Interval:
        """Cut off and return the part from ``position`` on. Both parts are not empty."""
        ranges = self.ranges
        at = bisect_right(ranges, [position, FAR])
        tail = ranges[at:]
        if at and ranges[at - 1][1] > position:
            last = ranges[at - 1]
            at -= 1
            head = ranges[:at]
            if last[0] < position:
                head.append([last[0], position])
            tail.insert(0, [position, last[1]])
        else:
            head = ranges[:at]
        cut = bisect_left(self.uses, position)
        rest = Interval(self.value, tail, self.uses[cut:])
        self.ranges = head
        self.uses = self.uses[:cut]
        rest.hints = [self, *self.hints]
        rest.parts, rest.starts = self.parts, self.starts
        number = len(self.parts)
        while self.parts[number - 1] is not self:
            number -= 1
        self.parts.insert(number, rest)
        self.starts.insert(number, tail[0][0])
        return rest

    def intersection(self, other: Interval) -> int:
        """First position where both are alive, or -1."""
        a, b = self.ranges, other.ranges
        i, j = self.cursor, other.cursor
        while i < len(a) and j < len(b):
            if a[i][1] <= b[j][0]:
                i += 1
            elif b[j][1] <= a[i][0]:
                j += 1
            else:
                return max(a[i][0], b[j][0])
        return -1

    def location_at(self, position: int) -> Interval:
        """The part that covers ``position``."""
        parts = self.parts
        if len(parts) == 1:
            return self
        return parts[bisect_right(self.starts, position) - 1]


class Numbering:
    """Positions of a function's code, and what calls destroy."""

    __slots__ = ("block_end", "block_start", "calls", "intervals", "live_in", "r0_only")

    def __init__(self) -> None:
        self.block_start: dict[Block, int] = {}
        self.block_end: dict[Block, int] = {}
        self.intervals: dict[Value, Interval] = {}  # by value, in order of start
        self.calls: list[int] = []  # positions that destroy r0 to r5
        self.r0_only: list[int] = []  # positions that destroy r0: cmpxchg
        self.live_in: dict[Block, set[Value]] = {}


def needs_register(value: Value) -> bool:
    """Whether the value lies in a register, rather than being made where it is used."""
    return value.op == "param" or (value.op not in FLOATING and value.op not in ("alloca", "address"))


def build(function: Function) -> Numbering:
    """Number the instructions of a legalized function and build its intervals."""
    facts = {b: _block_facts(b) for b in function.blocks}
    out = live_out(function, facts)
    numbering = Numbering()
    block_start, block_end, live_in = numbering.block_start, numbering.block_end, numbering.live_in
    position = 0
    for block in function.blocks:
        block_start[block] = position
        position += 2 * (1 + sum(1 for i in block.insns if i.op != "phi"))
        block_end[block] = position
    ranges: dict[Value, list[list[int]]] = {}
    uses: dict[Value, list[int]] = {}

    def extend(value: Value, start: int, end: int) -> None:
        have = ranges.get(value)
        if have is None:
            ranges[value] = [[start, end]]
            uses[value] = []
        elif have[-1][0] <= end:
            # Ranges are kept last first while building backwards.
            have[-1][0] = min(have[-1][0], start)
            have[-1][1] = max(have[-1][1], end)
        else:
            have.append([start, end])

    for block in reversed(function.blocks):
        start, position = block_start[block], block_end[block]
        read_first, defined, _ = facts[block]
        live_in[block] = (out[block] - defined) | read_first
        for value in out[block]:
            extend(value, start, position)
        for insn in reversed(block.insns):
            if insn.op == "phi":
                if insn in ranges:
                    ranges[insn][-1][0] = start
                else:
                    extend(insn, start, start + 2)
                continue
            position -= 2
            if insn.op in CALLS:
                numbering.calls.append(position)
            elif insn.op == "atomic" and insn.aux[0] == "cmpxchg":
                numbering.r0_only.append(position)
            if insn in ranges:
                ranges[insn][-1][0] = position + 1
                uses[insn].append(position + 1)
            elif insn.type != VOID and insn.op not in CALLS and insn.op != "alloca":
                extend(insn, position + 1, position + 2)
                uses[insn].append(position + 1)
            for number, arg in enumerate(insn.args):
                if needs_register(arg):
                    length = _read_until(insn, number)
                    extend(arg, start, position + length)
                    uses[arg] += (position + 1, position)[2 - length :]
    for param in function.params:
        if param in ranges:
            ranges[param][-1][0] = 0
    numbering.calls.reverse()
    numbering.r0_only.reverse()
    intervals = numbering.intervals
    for value, have in sorted(ranges.items(), key=lambda item: item[1][-1][0]):
        have.reverse()
        uses[value].sort()  # from last to first so far, but for an instruction that reads it twice
        intervals[value] = Interval(value, have, uses[value])
    _add_hints(function, intervals)
    return numbering


def _read_until(insn: Value, number: int) -> int:
    """How long from its position on an instruction needs an operand.

    0 where the operand is moved away first, 1 where it is read in place, 2 where it must not share
    the register of the result, which is written first.
    """
    op = insn.op
    if op in CALLS or op == "ret":
        return 0
    if op in BINARY:
        return 2 if number == 1 and insn.args[0] is not insn.args[1] and op not in COMMUTATIVE else 1
    if op == "compare":
        return 2
    if op == "atomic":
        if insn.aux[0] == "cmpxchg":
            return 0 if number == 2 else 2
        return 2 if insn.aux[3] and (number == 0 or insn.args[0] is insn.args[1]) else 1
    if op == "select":
        return 1 if insn.args[number] is insn.args[2] else 2
    return 1


def _block_facts(block: Block) -> Facts:
    read_first: set[Value] = set()
    defined: set[Value] = set()
    at_end: set[Value] = set()
    for insn in block.insns:
        if insn.op != "phi":
            for arg in insn.args:
                if arg not in defined and needs_register(arg):
                    read_first.add(arg)
        if insn.type != VOID and insn.op != "alloca":
            defined.add(insn)
    for succ in block.succs:
        for phi in succ.phis():
            for arg, pred in zip(phi.args, phi.aux, strict=True):
                if pred is block and needs_register(arg):
                    at_end.add(arg)
    return read_first, defined, at_end


def _add_hints(function: Function, intervals: dict[Value, Interval]) -> None:
    """Registers that would save a move: calls' arguments and results, two-address results, phis."""

    def hint(value: Value, wish: int | Interval) -> None:
        interval = intervals.get(value)
        if interval is not None and len(interval.hints) < _MOST_HINTS:
            interval.hints.append(wish)

    for param in function.params:
        hint(param, 1 + param.aux)
    for block in function.blocks:
        for insn in block.insns:
            op = insn.op
            own = intervals.get(insn)
            if op in CALLS:
                for number, arg in enumerate(insn.args):
                    hint(arg, 1 + number)
                hint(insn, CALL_RESULT)
            elif op == "ret":
                hint(insn.args[0], CALL_RESULT)
            elif op == "atomic" and insn.aux[0] == "cmpxchg":
                hint(insn.args[2], CALL_RESULT)
                hint(insn, CALL_RESULT)
            elif own is not None:
                for arg in _same_place(insn):
                    other = intervals.get(arg)
                    if other is not None:
                        hint(insn, other)
                        hint(arg, own)


def _same_place(insn: Value) -> list[Value]:
    """Operands whose register the result would best have."""
    op = insn.op
    if op == "phi":
        return insn.args
    if op == "select":
        return insn.args[2:3]
    if op == "atomic":
        return insn.args[1:2]
    if op in ("load", "compare"):
        return []
    return insn.args[:2] if op in COMMUTATIVE else insn.args[:1]
