"""Linear scan register allocation with interval splitting.

After Wimmer and Mössenböck, "Optimized Interval Splitting in a Linear Scan Register Allocator"
(2005). r6 to r9 keep their values across calls, r0 to r5 do not. A spilled value is stored once,
where it is defined, and read back where it is needed.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left

from tracebee.ir.intervals import FAR, Interval, Numbering, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Block, Function, Value

REGISTERS = range(10)
CALLER_SAVED = range(6)
CALLEE_SAVED = range(6, 10)


class Allocation:
    """Where every value lies at every position. ``slots`` are the numbers of spill slots."""

    __slots__ = ("numbering", "slot_count", "slots")

    def __init__(self, numbering: Numbering, slots: dict[Value, int], slot_count: int) -> None:
        self.numbering = numbering
        self.slots = slots
        self.slot_count = slot_count

    def part(self, value: Value, position: int) -> Interval:
        """The part of the value's interval at a position: in ``reg``, or else in its spill slot."""
        return self.numbering.intervals[value].location_at(position)


def allocate(function: Function) -> Allocation:
    """Give every value of a legalized function its places."""
    numbering = build(function)
    _LinearScan(numbering).run()
    slots, count = _assign_slots(numbering.intervals)
    return Allocation(numbering, slots, count)


class _LinearScan:
    def __init__(self, numbering: Numbering) -> None:
        self.calls = numbering.calls
        self.r0_clobbers = sorted(numbering.calls + numbering.r0_only)
        self.order = 0
        self.unhandled: list[tuple[int, int, Interval]] = []
        for interval in numbering.intervals.values():
            self.push(interval)
        self.active: list[Interval] = []
        self.inactive: list[Interval] = []

    def push(self, interval: Interval) -> None:
        self.order += 1
        heapq.heappush(self.unhandled, (interval.start, self.order, interval))

    def run(self) -> None:
        while self.unhandled:
            position, _, current = heapq.heappop(self.unhandled)
            self.advance(position)
            if not current.uses and current.parts[0] is not current:
                # Nothing left needs it in a register: moves and calls read it from its slot.
                current.is_spilled = True
                continue
            if not self.allocate_free(current):
                self.allocate_blocked(current)
            if current.reg >= 0:
                self.active.append(current)

    def advance(self, position: int) -> None:
        """Sort active and inactive intervals by what they are at ``position``."""
        active: list[Interval] = []
        inactive: list[Interval] = []
        for interval in self.active + self.inactive:
            ranges, cursor = interval.ranges, interval.cursor
            while cursor < len(ranges) and ranges[cursor][1] <= position:
                cursor += 1
            interval.cursor = cursor
            if cursor == len(ranges):
                continue
            (active if ranges[cursor][0] <= position else inactive).append(interval)
        self.active, self.inactive = active, inactive

    def next_clobber(self, reg: int, current: Interval) -> int:
        """First position where a call destroys ``reg`` while ``current`` is alive."""
        if reg > 5:
            return FAR
        clobbers = self.calls if reg else self.r0_clobbers
        for start, end in current.ranges:
            at = bisect_left(clobbers, start)
            if at < len(clobbers) and clobbers[at] < end:
                return clobbers[at]
        return FAR

    def allocate_free(self, current: Interval) -> bool:
        free = [self.next_clobber(reg, current) if reg in (0, 1) else FAR for reg in REGISTERS]
        free[2:6] = [free[1]] * 4
        for other in self.active:
            free[other.reg] = 0
        for other in self.inactive:
            if free[other.reg] > current.start:
                at = other.intersection(current)
                if at >= 0:
                    free[other.reg] = min(free[other.reg], at)
        start, end = current.start, current.end
        for reg in self.preferred(current):
            if free[reg] >= end:
                current.reg = reg
                return True
        whole = [reg for reg in REGISTERS if free[reg] >= end]
        if whole:
            # The register that is free for the shortest time; among equals the lowest.
            current.reg = min(whole, key=lambda reg: free[reg])
            return True
        best = max(REGISTERS, key=lambda reg: free[reg])
        at = free[best] & ~1
        if at <= start or current.next_use(start) >= at:
            return False
        for reg in self.preferred(current):
            if free[reg] & ~1 == at:
                best = reg
                break
        current.reg = best
        self.push(current.split(at))
        return True

    def preferred(self, current: Interval) -> list[int]:
        """Registers hinted at, best first."""
        regs: list[int] = []
        for hint in current.hints:
            if isinstance(hint, int):
                regs.append(hint)
            else:
                part = hint.location_at(current.start)
                if part.reg >= 0:
                    regs.append(part.reg)
        # What those not yet placed would like: a register that outlives calls if they cross one.
        for hint in current.hints:
            if isinstance(hint, Interval) and hint.reg < 0 and not hint.is_spilled:
                if self.next_clobber(1, hint) != FAR:
                    regs += CALLEE_SAVED
                    continue
                for further in hint.hints:
                    if isinstance(further, int):
                        regs.append(further)
                    elif further.reg >= 0:
                        regs.append(further.reg)
        return regs

    def allocate_blocked(self, current: Interval) -> None:
        """No register is free long enough: the value next used last gives way."""
        start = current.start
        next_use = [FAR] * len(REGISTERS)
        blocked = [FAR] * len(REGISTERS)
        for reg in CALLER_SAVED:
            blocked[reg] = self.next_clobber(reg, current)
            next_use[reg] = blocked[reg]
        for other in self.active:
            next_use[other.reg] = min(next_use[other.reg], other.next_use(start))
            if other.start >= start:  # just placed at this very position
                next_use[other.reg] = blocked[other.reg] = 0
        for other in self.inactive:
            if other.intersection(current) >= 0:
                next_use[other.reg] = min(next_use[other.reg], other.next_use(start))
        best = max(REGISTERS, key=lambda reg: next_use[reg])
        first = current.next_use(start)
        if first >= next_use[best] and first > start + 1:
            # Everything else is needed sooner.
            self.spill(current, first)
            return
        assert next_use[best] > start, "more operands than registers"
        current.reg = best
        if blocked[best] < current.end:
            self.push(current.split(blocked[best] & ~1))
        self.evict(best, current)

    def evict(self, reg: int, current: Interval) -> None:
        """Take ``reg`` from the intervals that hold it while ``current`` is alive."""
        # A part that only moves to memory may end between an instruction's reads and its write.
        cut = current.start
        for other in list(self.active):
            if other.reg == reg:
                self.active.remove(other)
                if other.start < cut:
                    self.spill_rest(other.split(cut))
                else:
                    other.reg = -1
                    self.spill_rest(other)
        for other in list(self.inactive):
            if other.reg == reg and other.intersection(current) >= 0:
                self.inactive.remove(other)
                later = next(r[0] for r in other.ranges[other.cursor :])
                self.spill_rest(other.split(later))

    def spill_rest(self, rest: Interval) -> None:
        """A part that lost its register: in memory until next needed in one."""
        use = rest.next_use(rest.start)
        self.spill(rest, use)

    def spill(self, current: Interval, use: int) -> None:
        """Keep ``current`` in its slot up to the instruction at ``use``, and queue what follows."""
        current.is_spilled = True
        cut = use & ~1
        if cut < current.end:
            if cut > current.start:
                self.push(current.split(cut))
            else:
                current.is_spilled = False
                self.push(current)


def _assign_slots(intervals: dict[Value, Interval]) -> tuple[dict[Value, int], int]:
    """Spill slots for the values that have a part in memory; values never alive together share."""
    slots: dict[Value, int] = {}
    ends: list[int] = []  # by slot, where its last user ends
    for value, interval in intervals.items():
        if any(p.is_spilled for p in interval.parts):
            start, end = interval.parts[0].start, interval.parts[-1].end
            free = [n for n, taken_until in enumerate(ends) if taken_until <= start]
            number = free[0] if free else len(ends)
            ends[number : number + 1] = [end]
            slots[value] = number
    return slots, len(ends)


def moves_inside(allocation: Allocation) -> dict[int, list[tuple[Interval, Interval]]]:
    """For each position inside a block where a value changes place: (from, to) pairs."""
    starts = set(allocation.numbering.block_start.values())
    moves: dict[int, list[tuple[Interval, Interval]]] = {}
    for interval in allocation.numbering.intervals.values():
        parts = interval.parts
        for before, after in zip(parts, parts[1:], strict=False):  # noqa: RUF007 - no itertools on the start path
            # A hole between the parts, or a block's start, is bridged by the edges' moves.
            is_bridged = after.start in starts or before.end != after.start
            if after.reg >= 0 and after.reg != before.reg and not is_bridged:
                moves.setdefault(after.start, []).append((before, after))
    return moves


def moves_on_edge(
    allocation: Allocation, pred: Block, succ: Block
) -> list[tuple[Value, Interval | None, Interval]]:
    """(value, its place at pred's end or None when it has none, its place in succ) where they differ."""
    numbering = allocation.numbering
    end, start = numbering.block_end[pred] - 1, numbering.block_start[succ]
    moves: list[tuple[Value, Interval | None, Interval]] = []
    for value in numbering.live_in[succ]:
        interval = numbering.intervals[value]
        if len(interval.parts) == 1:
            continue
        before, after = interval.location_at(end), interval.location_at(start)
        if after.reg >= 0 and before.reg != after.reg:
            moves.append((value, before, after))
    for phi in succ.phis():
        source = phi.args[phi.aux.index(pred)]
        target = numbering.intervals[phi].location_at(start)
        have = numbering.intervals.get(source)
        moves.append((source, None if have is None else have.location_at(end), target))
    return moves
