"""Control flow: functions, jump targets, unreachable code, and where paths can meet.

Source: the kernel's ``add_subprogs``, ``check_subprogs`` and ``check_cfg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.isa import insn as isa
from tracebee.vm.verifier.code import Code, Subprogram
from tracebee.vm.verifier.refusal import RefusalError

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn

JUMPS = (isa.BPF_JMP, isa.BPF_JMP32)


def signed32(value: int) -> int:
    """The low 32 bits as a signed number."""
    return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


class Flow:
    """The control-flow graph of a program.

    ``subprograms`` by first slot; ``after[slot]`` the slots that may run next within a function (a
    call's is the one behind it); ``joins`` the slots where paths meet or loops close.
    """

    def __init__(self, code: Code, *, privileged: bool = True) -> None:
        self.code = code
        self.privileged = privileged
        self.callees: dict[int, int] = {}  # slot of a call or function address: first slot of the function
        starts = {0}
        for slot, insn in enumerate(code.slots):
            if insn is None:
                continue
            target = _function(insn, slot)
            if target is not None:
                if not 0 <= target < len(code.slots) or code.slots[target] is None:
                    raise RefusalError(f"{slot}: call to slot {target}, which is no instruction")
                self.callees[slot] = target
                starts.add(target)
        ordered = sorted(starts)
        ends = [*ordered[1:], len(code.slots)]
        self.subprograms = {
            start: Subprogram(
                start, end, code.names.get(start, f"function at {start}"), start in code.globals
            )
            for start, end in zip(ordered, ends, strict=True)
        }
        if len(ordered) > 256:
            raise RefusalError("more than 256 functions")
        self.owner: list[int] = [0] * len(code.slots)
        for start, end in zip(ordered, ends, strict=True):
            self.owner[start:end] = [start] * (end - start)
        self.after: list[tuple[int, ...]] = [()] * len(code.slots)
        self.joins: set[int] = set()
        for sub in self.subprograms.values():
            self._link(sub)
        self._check_reachable()

    def _link(self, sub: Subprogram) -> None:
        last = sub.end - 1
        if self.code.slots[last] is None:
            last -= 1
        for slot in range(sub.start, sub.end):
            insn = self.code.slots[slot]
            if insn is None:
                continue
            following, target = successors(insn, slot)
            if target is not None:
                if not sub.start <= target < sub.end:
                    raise RefusalError(f"{slot}: jump out of range, to slot {target}")
                if self.code.slots[target] is None:
                    raise RefusalError(f"{slot}: jump into the middle of a wide load")
                self.joins.add(target)
                self.joins.add(slot)
            if slot == last and following is not None:
                raise RefusalError(f"{slot}: the last instruction of a function is neither exit nor a jump")
            self.after[slot] = tuple(s for s in (following, target) if s is not None)
            if slot in self.callees and following is not None:
                self.joins.add(slot)
                self.joins.add(following)

    def _check_reachable(self) -> None:
        seen: set[int] = set()
        reached_functions = [0]
        called = {0}
        while reached_functions:
            pending = [reached_functions.pop()]
            while pending:
                slot = pending.pop()
                if slot in seen:
                    continue
                seen.add(slot)
                if slot in self.callees and self.callees[slot] not in called:
                    called.add(self.callees[slot])
                    reached_functions.append(self.callees[slot])
                pending.extend(self.after[slot])
        for start, sub in self.subprograms.items():
            if sub.is_global and start not in called:
                called.add(start)
        for slot, insn in enumerate(self.code.slots):
            if insn is not None and slot not in seen:
                raise RefusalError(f"unreachable instruction {slot}", hint="remove the dead code")
        if not self.privileged:
            self._refuse_loops()

    def _refuse_loops(self) -> None:
        for start in self.subprograms:
            state = {start: 1}
            stack = [(start, iter(self.after[start]))]
            while stack:
                slot, rest = stack[-1]
                for following in rest:
                    if state.get(following) == 1:
                        raise RefusalError(f"back-edge from instruction {slot} to {following}")
                    if following not in state:
                        state[following] = 1
                        stack.append((following, iter(self.after[following])))
                        break
                else:
                    state[slot] = 2
                    stack.pop()


def successors(insn: Insn, slot: int) -> tuple[int | None, int | None]:
    """The slot that follows, and the slot jumped to; None where there is no such."""
    following = slot + insn.slots
    if insn.opcode & 7 not in JUMPS:
        return following, None
    op = insn.opcode & 0xF0
    if op == isa.BPF_EXIT:
        return None, None
    if op == isa.BPF_CALL:
        return following, None
    if op == isa.BPF_JA:
        distance = insn.imm if insn.opcode & 7 == isa.BPF_JMP32 else insn.off
        return None, slot + 1 + distance
    return following, slot + 1 + insn.off


def _function(insn: Insn, slot: int) -> int | None:
    if insn.is_wide and insn.src == isa.BPF_PSEUDO_FUNC:
        return slot + 1 + signed32(insn.imm)
    if insn.opcode & 0xF7 == isa.BPF_JMP | isa.BPF_CALL and insn.src == isa.BPF_PSEUDO_CALL:
        return slot + 1 + insn.imm
    return None
