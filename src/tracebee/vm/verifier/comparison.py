"""What comparisons tell of abstract numbers: which way a branch goes, and what holds on each side.

Source: the kernel's ``is_scalar_branch_taken`` and ``regs_refine_cond_op``.
"""

from __future__ import annotations

from tracebee.isa import insn as isa
from tracebee.vm.verifier import tnum
from tracebee.vm.verifier.bounds import Number, s32, s64
from tracebee.vm.verifier.tnum import M32, M64

NOT_SET = -1  # the reverse of JSET, which is no instruction

REVERSE = {
    isa.BPF_JEQ: isa.BPF_JNE,
    isa.BPF_JNE: isa.BPF_JEQ,
    isa.BPF_JSET: NOT_SET,
    isa.BPF_JGT: isa.BPF_JLE,
    isa.BPF_JLE: isa.BPF_JGT,
    isa.BPF_JGE: isa.BPF_JLT,
    isa.BPF_JLT: isa.BPF_JGE,
    isa.BPF_JSGT: isa.BPF_JSLE,
    isa.BPF_JSLE: isa.BPF_JSGT,
    isa.BPF_JSGE: isa.BPF_JSLT,
    isa.BPF_JSLT: isa.BPF_JSGE,
}
FLIP = {
    isa.BPF_JEQ: isa.BPF_JEQ,
    isa.BPF_JNE: isa.BPF_JNE,
    isa.BPF_JSET: isa.BPF_JSET,
    NOT_SET: NOT_SET,
    isa.BPF_JGT: isa.BPF_JLT,
    isa.BPF_JGE: isa.BPF_JLE,
    isa.BPF_JLT: isa.BPF_JGT,
    isa.BPF_JLE: isa.BPF_JGE,
    isa.BPF_JSGT: isa.BPF_JSLT,
    isa.BPF_JSGE: isa.BPF_JSLE,
    isa.BPF_JSLT: isa.BPF_JSGT,
    isa.BPF_JSLE: isa.BPF_JSGE,
}


def outcome(op: int, a: Number, b: Number, bits: int) -> bool | None:
    """Whether ``a op b`` holds for all values, for none, or (None) for some."""
    if op == isa.BPF_JEQ:
        return _equal(a, b, bits)
    if op == isa.BPF_JNE:
        equal = _equal(a, b, bits)
        return None if equal is None else not equal
    if op == isa.BPF_JSET:
        return _set(a, b, bits)
    if op in (isa.BPF_JLT, isa.BPF_JLE, isa.BPF_JSLT, isa.BPF_JSLE):
        return outcome(FLIP[op], b, a, bits)
    signed = op in (isa.BPF_JSGT, isa.BPF_JSGE)
    amin, amax = _range(a, bits, signed=signed)
    bmin, bmax = _range(b, bits, signed=signed)
    if op in (isa.BPF_JGT, isa.BPF_JSGT):
        return True if amin > bmax else False if amax <= bmin else None
    return True if amin >= bmax else False if amax < bmin else None


def _range(x: Number, bits: int, *, signed: bool) -> tuple[int, int]:
    if bits == 64:
        return (x.smin, x.smax) if signed else (x.umin, x.umax)
    return (x.smin32, x.smax32) if signed else (x.umin32, x.umax32)


def _equal(a: Number, b: Number, bits: int) -> bool | None:
    abits, bbits = (a.bits, b.bits) if bits == 64 else (tnum.subreg(a.bits), tnum.subreg(b.bits))
    if abits[1] == 0 and bbits[1] == 0:
        return abits[0] == bbits[0]
    if not tnum.overlap(abits, bbits):
        return False
    for width in (64, 32) if bits == 64 else (32,):
        for signed in (False, True):
            amin, amax = _range(a, width, signed=signed)
            bmin, bmax = _range(b, width, signed=signed)
            if amin > bmax or amax < bmin:
                return False
    return None


def _set(a: Number, b: Number, bits: int) -> bool | None:
    mask = M64 if bits == 64 else M32
    if b.bits[1] & mask:
        a, b = b, a
    if b.bits[1] & mask:
        return None
    value = b.bits[0] & mask
    if a.bits[0] & value:
        return True
    return None if (a.bits[0] | a.bits[1]) & value else False


def refine(op: int, a: Number, b: Number, bits: int) -> None:
    """Make ``a`` and ``b`` what they can be when ``a op b`` holds; call ``sync`` on both afterwards."""
    if op in (isa.BPF_JGT, isa.BPF_JGE, isa.BPF_JSGT, isa.BPF_JSGE):
        refine(FLIP[op], b, a, bits)
    elif op == isa.BPF_JEQ:
        (_refine_equal if bits == 64 else _refine_equal32)(a, b)
    elif op == isa.BPF_JNE:
        _refine_unequal(a, b, bits)
    elif op in (isa.BPF_JSET, NOT_SET):
        _refine_set(op, a, b, bits)
    else:
        _refine_order(op, a, b, bits)


def _refine_equal(a: Number, b: Number) -> None:
    a.umin = b.umin = max(a.umin, b.umin)
    a.umax = b.umax = min(a.umax, b.umax)
    a.smin = b.smin = max(a.smin, b.smin)
    a.smax = b.smax = min(a.smax, b.smax)
    a.bits = b.bits = tnum.intersect(a.bits, b.bits)


def _refine_equal32(a: Number, b: Number) -> None:
    a.umin32 = b.umin32 = max(a.umin32, b.umin32)
    a.umax32 = b.umax32 = min(a.umax32, b.umax32)
    a.smin32 = b.smin32 = max(a.smin32, b.smin32)
    a.smax32 = b.smax32 = min(a.smax32, b.smax32)
    both = tnum.intersect(tnum.subreg(a.bits), tnum.subreg(b.bits))
    a.bits = tnum.with_subreg(a.bits, both)
    b.bits = tnum.with_subreg(b.bits, both)


def _refine_unequal(a: Number, b: Number, bits: int) -> None:
    """A constant at the very end of the other's range shortens the range."""
    mask = M64 if bits == 64 else M32
    if b.bits[1] & mask:
        a, b = b, a
    if b.bits[1] & mask:
        return
    value = b.bits[0] & mask
    if bits == 64:
        a.umin += a.umin == value
        a.umax -= a.umax == value
        a.smin += a.smin == s64(value)
        a.smax -= a.smax == s64(value)
    else:
        a.umin32 += a.umin32 == value
        a.umax32 -= a.umax32 == value
        a.smin32 += a.smin32 == s32(value)
        a.smax32 -= a.smax32 == s32(value)


def _refine_set(op: int, a: Number, b: Number, bits: int) -> None:
    mask = M64 if bits == 64 else M32
    if b.bits[1] & mask:
        a, b = b, a
    if b.bits[1] & mask:
        return
    value = b.bits[0] & mask
    if op == NOT_SET:
        a.set_unbounded()
        a.bits = tnum.and_(a.bits, (~value & M64, 0))
    elif value and value & (value - 1) == 0:  # one bit alone says something
        a.bits = tnum.or_(a.bits, (value, 0))


def _refine_order(op: int, a: Number, b: Number, bits: int) -> None:
    strict = op in (isa.BPF_JLT, isa.BPF_JSLT)
    if op in (isa.BPF_JLT, isa.BPF_JLE):
        if bits == 64:
            a.umax, b.umin = min(a.umax, b.umax - strict), max(b.umin, a.umin + strict)
        else:
            a.umax32, b.umin32 = min(a.umax32, b.umax32 - strict), max(b.umin32, a.umin32 + strict)
    elif bits == 64:
        a.smax, b.smin = min(a.smax, b.smax - strict), max(b.smin, a.smin + strict)
    else:
        a.smax32, b.smin32 = min(a.smax32, b.smax32 - strict), max(b.smin32, a.smin32 + strict)
