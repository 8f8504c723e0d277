"""Conditional jumps: which ways are open, and what holds on each.

Source: the kernel's ``check_cond_jmp_op``, ``mark_ptr_or_null_regs`` and ``find_good_pkt_pointers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.vm.verifier import arithmetic, comparison
from tracebee.vm.verifier.paths import Path
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    AT_END,
    BEYOND_END,
    BTF,
    MAP_VALUE,
    NULL,
    PACKET,
    PACKET_END,
    PACKET_META,
    SCALAR,
    SOCK,
    Reg,
    State,
    known,
)

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.vm.verifier.machine import Verifier

MAX_PACKET_OFFSET = 0xFFFF


def branch(v: Verifier, insn: Insn, op: int) -> bool:
    """Follow a conditional jump, one way or both.

    :raises RefusalError: without privileges, a comparison that tells something of an address.
    """
    state, slot = v.state, v.slot
    bits = 64 if insn.opcode & 7 == isa.BPF_JMP else 32
    by_register = bool(insn.opcode & isa.BPF_X)
    right = v.read(insn.src) if by_register else known(insn.imm)
    left = v.read(insn.dst)
    packets = by_register and _packet_pair(left, right)
    if not v.privileged and not packets:
        _refuse_leak(insn, op, left, right, by_register=by_register)
    target = slot + 1 + insn.off
    taken = _outcome(op, left, right, bits)
    if taken is not None:
        v.liveness.decide(slot)
        if v.privileged or taken:
            v.path.append(Path(slot, taken))
        v.slot = target if taken else slot + 1
        return True
    other = state.copy()
    null_check = left.null and not by_register and insn.imm == 0 and bits == 64
    if left.kind == SCALAR and right.kind == SCALAR:
        _refine(other, insn, op, left, right, bits)
        _refine(state, insn, comparison.REVERSE[op], left, right, bits)
    elif null_check and op in (isa.BPF_JEQ, isa.BPF_JNE):
        _decide_null(v, other, left, null=op == isa.BPF_JEQ)
        _decide_null(v, state, left, null=op == isa.BPF_JNE)
    elif packets and bits == 64:
        _compare_packet(state, other, insn, op, left, right)
    elif op in (isa.BPF_JEQ, isa.BPF_JNE) and by_register and bits == 64 and left.null != right.null:
        # Equal to an address that is not NULL: not NULL either.
        maybe, sure = (left, right) if left.null else (right, left)
        if sure.is_pointer and not sure.null and sure.kind != BTF and maybe.kind != BTF:
            _decide_null(v, other if op == isa.BPF_JEQ else state, maybe, null=False)
    v.fork(other, target, Path(slot, taken=True))
    v.path.append(Path(slot, taken=False))
    v.slot = slot + 1
    return True


def _refuse_leak(insn: Insn, op: int, left: Reg, right: Reg, *, by_register: bool) -> None:
    if by_register and right.is_pointer:
        raise RefusalError(f"R{insn.src} pointer comparison prohibited", register=insn.src)
    null_check = left.null and op in (isa.BPF_JEQ, isa.BPF_JNE) and not by_register and insn.imm == 0
    if left.is_pointer and not null_check:
        raise RefusalError(f"R{insn.dst} pointer comparison prohibited", register=insn.dst)


def _outcome(op: int, left: Reg, right: Reg, bits: int) -> bool | None:
    if left.kind == SCALAR and right.kind == SCALAR:
        return comparison.outcome(op, left, right, bits)
    if left.kind == PACKET and right.kind == PACKET_END:
        return _beyond(op, left)
    if left.kind == PACKET_END and right.kind == PACKET:
        return _beyond(comparison.FLIP[op], right) if op in comparison.FLIP else None
    if left.is_pointer and right.is_zero and bits == 64 and op in (isa.BPF_JEQ, isa.BPF_JNE):
        if left.null or left.kind in (BTF, PACKET_END):
            return None
        return op == isa.BPF_JNE
    return None


def _refine(state: State, insn: Insn, op: int, left: Reg, right: Reg, bits: int) -> None:
    a, b = left.copy(), right.copy()
    if insn.opcode & isa.BPF_X and insn.src == insn.dst:
        b = a
    comparison.refine(op, a, b, bits)
    a.sync()
    b.sync()
    regs = state.regs
    regs[insn.dst] = a
    if left.id:
        _spread(state, left.id, a)
    if insn.opcode & isa.BPF_X and insn.src != insn.dst:
        regs[insn.src] = b
        if right.id:
            _spread(state, right.id, b)


def _decide_null(v: Verifier, state: State, reg: Reg, *, null: bool) -> None:
    which = reg.id
    if null:
        if reg.ref:
            state.refs.pop(reg.ref, None)
        state.replace_all(lambda r: r.null and r.id == which, lambda _: NULL)
        return

    def present(r: Reg) -> Reg:
        new = r.copy()
        new.null = False
        if not (new.map is not None and v.lock_offset(new.map) is not None):
            new.id = 0
        if new.kind == MAP_VALUE and new.map is not None and new.map.type == uapi.BPF_MAP_TYPE_XSKMAP:
            new.kind = SOCK
        return new

    state.replace_all(lambda r: r.null and r.id == which, present)


def _compare_packet(state: State, other: State, insn: Insn, op: int, left: Reg, right: Reg) -> None:
    """``data + n > data_end`` and its kin tell how many bytes there are."""
    if op not in (isa.BPF_JGT, isa.BPF_JLT, isa.BPF_JGE, isa.BPF_JLE):
        return
    number = insn.dst
    if (
        right.kind in (PACKET, PACKET_META)
        and left.kind in (PACKET_END, PACKET)
        and (left.kind == PACKET_END or right.kind == PACKET_META)
    ):
        left, right, op, number = right, left, comparison.FLIP[op], insn.src
    if op in (isa.BPF_JGT, isa.BPF_JGE):
        inside, outside, open_range = state, other, op == isa.BPF_JGE
    else:
        inside, outside, open_range = other, state, op == isa.BPF_JLT
    _found_packet(inside, left, open_range=open_range)
    if left.kind == PACKET:
        reg = outside.regs[number].copy()
        reg.size = AT_END if open_range else BEYOND_END
        outside.regs[number] = reg


def _spread(state: State, which: int, source: Reg) -> None:
    """What was learnt of a number holds for its copies, and for those that are a constant more."""

    def learnt(reg: Reg) -> Reg:
        new = reg.copy()
        new.copy_number(source)
        if reg.off != source.off:
            arithmetic.apply(isa.BPF_ADD, new, known(reg.off - source.off), 64)
        return new

    state.replace_all(lambda reg: reg.id == which and reg.kind == SCALAR and reg is not source, learnt)


def _packet_pair(a: Reg, b: Reg) -> bool:
    kinds = (a.kind, b.kind)
    return kinds in ((PACKET, PACKET_END), (PACKET_END, PACKET)) or (PACKET_META in kinds and PACKET in kinds)


def _beyond(op: int, packet: Reg) -> bool | None:
    """What a comparison of a packet address with the packet's end gives, after an earlier one."""
    if packet.size >= 0:
        return None
    if op in (isa.BPF_JLE, isa.BPF_JGT):
        # pkt <= end, pkt > end
        if packet.size == BEYOND_END:
            return op == isa.BPF_JGT
        return None
    if op in (isa.BPF_JLT, isa.BPF_JGE):
        # pkt < end, pkt >= end: at or beyond it in both cases
        return op == isa.BPF_JGE
    return None


def _found_packet(state: State, reg: Reg, *, open_range: bool) -> None:
    if reg.off < 0 or (reg.off == 0 and open_range):
        return
    if reg.umax > MAX_PACKET_OFFSET or reg.umax + reg.off > MAX_PACKET_OFFSET:
        return
    size = reg.off + open_range

    def longer(other: Reg) -> Reg:
        if other.size >= size:
            return other
        new = other.copy()
        new.size = size
        return new

    state.replace_all(lambda r: r.kind == reg.kind and r.id == reg.id, longer)
