"""Which registers an instruction reads and writes."""

from __future__ import annotations

from tracebee.isa import insn as isa
from tracebee.isa.helpers import BY_NUMBER
from tracebee.isa.insn import Insn


def reads(insn: Insn) -> tuple[int, ...]:
    """Registers whose value the instruction uses.

    Of a call these are the arguments: as many as a known helper has, r1 to r5 for other calls, which
    may be more than the callee uses.
    """
    code, dst, src, _, imm = insn
    klass, op = code & 7, code & 0xF0
    if klass in (isa.BPF_ALU, isa.BPF_ALU64):
        if op in (isa.BPF_NEG, isa.BPF_END):
            return (dst,)
        used = () if op == isa.BPF_MOV else (dst,)
        return (*used, src) if code & isa.BPF_X else used
    if klass in (isa.BPF_JMP, isa.BPF_JMP32):
        if op == isa.BPF_CALL:
            known = BY_NUMBER.get(imm) if src == 0 else None
            return tuple(range(1, 1 + (known.arg_count if known else 5)))
        if op == isa.BPF_EXIT:
            return (isa.R0,)
        if op == isa.BPF_JA:
            return (dst,) if code & isa.BPF_X else ()
        if op == isa.BPF_JCOND:
            return ()
        return (dst, src) if code & isa.BPF_X else (dst,)
    if klass == isa.BPF_LDX:
        return (src,)
    if klass == isa.BPF_ST:
        return (dst,)
    if klass == isa.BPF_STX:
        if code & 0xE0 == isa.BPF_ATOMIC:
            if imm == isa.BPF_LOAD_ACQ:
                return (src,)
            if imm == isa.BPF_CMPXCHG:
                return (dst, src, isa.R0)
        return (dst, src)
    # Legacy packet loads take the packet from r6.
    mode = code & 0xE0
    return {isa.BPF_ABS: (isa.R6,), isa.BPF_IND: (isa.R6, src)}.get(mode, ())


def writes(insn: Insn) -> tuple[int, ...]:
    """Registers that hold something else afterwards; a call's arguments and a packet load's r1-r5 too."""
    code, dst, src, _, imm = insn
    klass, op = code & 7, code & 0xF0
    if klass in (isa.BPF_ALU, isa.BPF_ALU64, isa.BPF_LDX):
        return (dst,)
    if klass in (isa.BPF_JMP, isa.BPF_JMP32):
        return tuple(range(6)) if op == isa.BPF_CALL else ()
    if klass == isa.BPF_STX and code & 0xE0 == isa.BPF_ATOMIC:
        if imm == isa.BPF_LOAD_ACQ:
            return (dst,)
        if imm == isa.BPF_CMPXCHG:
            return (isa.R0,)
        return (src,) if imm & isa.BPF_FETCH else ()
    if klass == isa.BPF_LD:
        return (dst,) if code & 0xE0 == isa.BPF_IMM else tuple(range(6))
    return ()
