"""What still matters at a slot: registers, and whose exact number does.

Data-flow analyses over each function. A register is *live* when some path reads it before writing
it, and it or a stack slot is *exact* when its number can decide a check: it is compared, addresses
memory, goes to a call or is returned, or is part of such a number. States that differ in nothing else
are one to the verifier. This decides statically, and a little more cautiously, what the kernel finds
by backtracking (``mark_chain_precision``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.isa import insn as isa
from tracebee.isa.helpers import BY_NUMBER

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.vm.verifier.flow import Flow

_ARGUMENTS = 0b111110
_CALLER_SAVED = 0b111111
_ALU = (isa.BPF_ALU, isa.BPF_ALU64)
ALL_SLOTS = (1 << 64) - 1


class Needs(NamedTuple):
    """What matters before a slot, as bit masks: registers; stack slot -1 is bit 0, -2 bit 1, ..."""

    live: int = 0
    exact: int = 0
    slots: int = 0


class Liveness:
    """What matters before each slot, in ``needs``.

    A comparison makes its operands exact only once its outcome was decided by their ranges
    (``decide``): as long as both ways are looked at, other numbers would change nothing. What a
    checkpoint needs is asked for when all paths below it are done, so all that matters to it is
    known by then.
    """

    def __init__(self, flow: Flow, *, result_checked: bool) -> None:
        """``result_checked``: whether the program type limits what the program returns."""
        self._flow = flow
        self._result_checked = result_checked
        slots = flow.code.slots
        self.needs = [Needs()] * len(slots)
        self._decided: set[int] = set()
        self._stacky = _stack_pointers(flow)
        self._before: list[list[int]] = [[] for _ in slots]
        for slot, following in enumerate(flow.after):
            for other in following:
                self._before[other].append(slot)
        self._returns: dict[int, list[int]] = {}  # first slot of a function: slots it returns to
        self._called_back: set[int] = set()
        for call, target in flow.callees.items():
            self._before[target].append(call)
            insn = slots[call]
            if insn is None or insn.is_wide:
                self._called_back.add(target)
                continue
            self._returns.setdefault(target, []).append(call + 1)
            exits = [x for x in range(len(slots)) if flow.owner[x] == target and _is_exit(slots[x])]
            self._before[call + 1].extend(exits)
        self._spread([slot for slot, insn in enumerate(slots) if insn is not None])

    def decide(self, slot: int) -> None:
        """The operands at a slot decided a check: a comparison went one way for all values they may
        have, or a pointer was moved by a number.
        """
        if slot not in self._decided:
            self._decided.add(slot)
            self._spread([slot])

    def _spread(self, pending: list[int]) -> None:
        slots, needs = self._flow.code.slots, self.needs
        waiting = set(pending)
        while pending:
            slot = pending.pop()
            waiting.discard(slot)
            insn = slots[slot]
            if insn is None:
                continue
            live = exact = saved = 0
            for other in self._flow.after[slot]:
                after = needs[other]
                live, exact, saved = live | after.live, exact | after.exact, saved | after.slots
            new = self._transfer(insn, slot, Needs(live, exact, saved))
            if new != needs[slot]:
                needs[slot] = new
                for other in self._before[slot]:
                    if other not in waiting:
                        waiting.add(other)
                        pending.append(other)

    def _transfer(self, insn: Insn, slot: int, after: Needs) -> Needs:
        if insn.opcode & 7 not in (isa.BPF_JMP, isa.BPF_JMP32):
            new = _transfer(insn, after, self._stacky[slot])
            if slot in self._decided:  # a pointer was moved by a register
                new = new._replace(exact=new.exact | 1 << insn.dst | 1 << insn.src)
            return new
        live, exact, saved = after
        op = insn.opcode & 0xF0
        if op == isa.BPF_EXIT:
            return Needs(1, self._result_needed(slot), 0)
        if op in (isa.BPF_JA, isa.BPF_JCOND):
            return after
        if op == isa.BPF_CALL:
            return self._call(insn, slot, after)
        uses = 1 << insn.dst | (1 << insn.src if insn.opcode & isa.BPF_X else 0)
        return Needs(live | uses, exact | (uses if slot in self._decided else 0), saved)

    def _result_needed(self, slot: int) -> int:
        """Whether r0 must be exact at an exit, as a mask."""
        start = self._flow.owner[slot]
        if start == 0:
            return int(self._result_checked)
        if start in self._called_back:
            return 1
        exact = 0
        for back in self._returns.get(start, ()):
            exact |= self.needs[back].exact & 1
        return exact

    def _call(self, insn: Insn, slot: int, after: Needs) -> Needs:
        live, exact, saved = after
        reads = checks = _ARGUMENTS
        helper = BY_NUMBER.get(insn.imm) if insn.src == 0 else None
        if helper is not None:
            reads = ((1 << helper.arg_count) - 1) << 1
            checks = 0
            for number, kind in enumerate(helper.arg_kinds, 1):
                checks |= 0 if kind in ("ANYTHING", "DONTCARE") else 1 << number
            if slot in self._decided:  # a key on the stack told that there is a value
                saved = ALL_SLOTS
            if "PTR_TO_FUNC" in helper.args:
                checks, saved = reads, ALL_SLOTS
        elif slot in self._flow.callees:
            inside = self.needs[self._flow.callees[slot]]
            reads, checks, saved = inside.live & _ARGUMENTS, inside.exact & _ARGUMENTS, ALL_SLOTS
        else:
            saved = ALL_SLOTS
        return Needs(live & ~_CALLER_SAVED | reads, exact & ~_CALLER_SAVED | checks, saved)


def _is_exit(insn: Insn | None) -> bool:
    return insn is not None and insn.opcode == isa.BPF_JMP | isa.BPF_EXIT


def _stack_pointers(flow: Flow) -> list[int]:
    """Registers that may hold a stack address before each slot, as bit masks."""
    slots = flow.code.slots
    found = [0] * len(slots)
    seen = set(flow.subprograms)
    pending = []
    for start in flow.subprograms:
        # A function's arguments may point into its callers' frames.
        found[start] = 1 << isa.R10 | (_ARGUMENTS if start else 0)
        pending.append(start)
    while pending:
        slot = pending.pop()
        insn = slots[slot]
        assert insn is not None
        out = _spread(insn, found[slot])
        for other in flow.after[slot]:
            if other not in seen or out | found[other] != found[other]:
                seen.add(other)
                found[other] |= out
                pending.append(other)
    return found


def _spread(insn: Insn, stacky: int) -> int:
    klass, op = insn.opcode & 7, insn.opcode & 0xF0
    dst, src = 1 << insn.dst, 1 << insn.src
    if klass in _ALU:
        if op in (isa.BPF_END, isa.BPF_NEG) or not insn.opcode & isa.BPF_X:
            return stacky & ~dst if op == isa.BPF_MOV else stacky
        kept = 0 if op == isa.BPF_MOV else stacky & dst
        return stacky & ~dst | (dst if kept or stacky & src else 0)
    if klass == isa.BPF_LDX:  # a saved pointer may come back from the stack
        return stacky & ~dst | (dst if stacky & src else 0)
    if klass in (isa.BPF_JMP, isa.BPF_JMP32) and op == isa.BPF_CALL:
        return stacky & ~_CALLER_SAVED
    if klass == isa.BPF_LD:
        return stacky & ~dst
    return stacky


def _bit(insn: Insn) -> int:
    """The stack slot an access relative to r10 touches, as a mask; 0 when it is none."""
    return 1 << -(insn.off // 8) - 1 if -512 <= insn.off < 0 else 0


def _transfer(insn: Insn, after: Needs, stacky: int) -> Needs:
    live, exact, saved = after
    klass = insn.opcode & 7
    dst, src = 1 << insn.dst, 1 << insn.src
    if klass in _ALU:
        return _alu(insn, after)
    if klass == isa.BPF_LDX:
        if exact & dst and stacky & src:
            saved |= _bit(insn) if insn.src == isa.R10 else ALL_SLOTS
        return Needs(live & ~dst | src, exact & ~dst | src, saved)
    if klass == isa.BPF_ST:
        return Needs(live | dst, exact | dst, saved)
    if klass == isa.BPF_STX:
        return _store(insn, after, stacky)
    if insn.is_wide:
        return Needs(live & ~dst, exact & ~dst, saved)
    # Packet loads: r6 is the context, r0 the result.
    uses = 1 << 6 | (src if insn.opcode & 0xE0 == isa.BPF_IND else 0)
    return Needs(live & ~_CALLER_SAVED | uses, exact & ~_CALLER_SAVED | uses, saved)


def _alu(insn: Insn, after: Needs) -> Needs:
    live, exact, saved = after
    dst, src = 1 << insn.dst, 1 << insn.src
    op = insn.opcode & 0xF0
    uses = src if insn.opcode & isa.BPF_X and op not in (isa.BPF_END, isa.BPF_NEG) else 0
    needed = exact & dst
    if op == isa.BPF_MOV:
        live &= ~dst
        exact &= ~dst
    else:
        uses |= dst
    # Operands of a result nobody reads still must be readable.
    return Needs(live | uses, exact | (uses if needed else 0), saved)


def _store(insn: Insn, after: Needs, stacky: int) -> Needs:
    live, exact, saved = after
    dst, src = 1 << insn.dst, 1 << insn.src
    if insn.opcode & 0xE0 != isa.BPF_ATOMIC:
        flows = False
        if insn.dst == isa.R10:
            bit = _bit(insn)
            flows = bool(saved & bit)
            if insn.opcode & 0x18 == isa.BPF_DW:
                saved &= ~bit
        elif stacky & dst:
            flows = bool(saved)
        return Needs(live | dst | src, exact | dst | (src if flows else 0), saved)
    if insn.imm == isa.BPF_LOAD_ACQ:
        if exact & dst and stacky & src:
            saved = ALL_SLOTS
        return Needs(live & ~dst | src, exact & ~dst | src, saved)
    # What an atomic operation leaves in memory is unknown to the verifier, and so is what it fetches.
    uses = dst | src
    if insn.imm == isa.BPF_CMPXCHG:
        return Needs(live | uses | 1, exact & ~1 | dst, saved)
    flows = insn.imm == isa.BPF_STORE_REL and bool(saved) and bool(stacky & dst)
    if insn.imm & isa.BPF_FETCH and insn.imm < 0x100:
        return Needs(live | uses, exact & ~src | dst, saved)
    return Needs(live | uses, exact | dst | (src if flows else 0), saved)
