"""What arithmetic does to abstract numbers. Source: the kernel's ``adjust_scalar_min_max_vals``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.isa import insn as isa
from tracebee.vm.verifier import tnum
from tracebee.vm.verifier.bounds import S32_MAX, S32_MIN, S64_MAX, S64_MIN, Number, s64
from tracebee.vm.verifier.tnum import M32, M64

if TYPE_CHECKING:
    from collections.abc import Callable

_SHIFTS = (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH)


def apply(op: int, dst: Number, src: Number, bits: int) -> None:
    """``dst = dst op src`` on 64 or 32 bits; a 32-bit result is zero-extended."""
    if op in (isa.BPF_DIV, isa.BPF_MOD):
        dst.set_unknown()
        return
    if op in _SHIFTS:
        known = src.is_const if bits == 64 else src.is_const32
        if not known or src.umax >= bits:
            dst.set_unknown()
            return
        _SHIFT[op, bits](dst, src.umin if bits == 64 else src.umin32)
    elif op == isa.BPF_NEG:
        operand = Number()
        operand.copy_number(dst)
        dst.set_known(0)
        _sub(dst, operand)
    else:
        _OPERATIONS[op](dst, src)
    if bits == 32:
        dst.zero_extend32()
    else:
        dst.sync()


def swap_bytes(dst: Number, bits: int, *, swap: bool) -> None:
    """The low ``bits`` in the other byte order (or as they are), zero-extended."""
    size = bits // 8

    def swapped(x: int) -> int:
        x &= (1 << bits) - 1
        return int.from_bytes(x.to_bytes(size, "little"), "big") if swap else x

    found = (swapped(dst.bits[0]), swapped(dst.bits[1]))
    dst.set_unbounded()
    dst.bits = found
    dst.sync()


def _signed(dst: Number, low: int, high: int) -> None:
    dst.smin, dst.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)


def _signed32(dst: Number, low: int, high: int) -> None:
    dst.smin32, dst.smax32 = (low, high) if low >= S32_MIN and high <= S32_MAX else (S32_MIN, S32_MAX)


def _add(dst: Number, src: Number) -> None:
    _signed32(dst, dst.smin32 + src.smin32, dst.smax32 + src.smax32)
    dst.umin32, dst.umax32 = _wrapped(dst.umin32 + src.umin32, dst.umax32 + src.umax32, M32)
    _signed(dst, dst.smin + src.smin, dst.smax + src.smax)
    dst.umin, dst.umax = _wrapped(dst.umin + src.umin, dst.umax + src.umax, M64)
    dst.bits = tnum.add(dst.bits, src.bits)


def _sub(dst: Number, src: Number) -> None:
    _signed32(dst, dst.smin32 - src.smax32, dst.smax32 - src.smin32)
    dst.umin32, dst.umax32 = _wrapped(dst.umin32 - src.umax32, dst.umax32 - src.umin32, M32)
    _signed(dst, dst.smin - src.smax, dst.smax - src.smin)
    dst.umin, dst.umax = _wrapped(dst.umin - src.umax, dst.umax - src.umin, M64)
    dst.bits = tnum.sub(dst.bits, src.bits)


def _wrapped(low: int, high: int, mask: int) -> tuple[int, int]:
    """An unsigned range after an operation: valid when all results wrap around, or none does."""
    if (low < 0) == (high < 0) and (low > mask) == (high > mask):
        return low & mask, high & mask
    return 0, mask


def _mul(dst: Number, src: Number) -> None:
    products = [a * b for a in (dst.smin32, dst.smax32) for b in (src.smin32, src.smax32)]
    _signed32(dst, min(products), max(products))
    high = dst.umax32 * src.umax32
    dst.umin32, dst.umax32 = (dst.umin32 * src.umin32, high) if high <= M32 else (0, M32)
    products = [a * b for a in (dst.smin, dst.smax) for b in (src.smin, src.smax)]
    _signed(dst, min(products), max(products))
    high = dst.umax * src.umax
    dst.umin, dst.umax = (dst.umin * src.umin, high) if high <= M64 else (0, M64)
    dst.bits = tnum.mul(dst.bits, src.bits)


def _from_unsigned(dst: Number) -> None:
    """Signed bounds of a bitwise result: those of the unsigned range, where it crosses no sign."""
    crosses32 = dst.umin32 >> 31 != dst.umax32 >> 31
    low32, high32 = dst.umin32, dst.umax32
    if crosses32:
        dst.smin32, dst.smax32 = S32_MIN, S32_MAX
    else:
        wrap = 1 << 32 if low32 >> 31 else 0
        dst.smin32, dst.smax32 = low32 - wrap, high32 - wrap
    if dst.umin >> 63 != dst.umax >> 63:
        dst.smin, dst.smax = S64_MIN, S64_MAX
    else:
        dst.smin, dst.smax = s64(dst.umin), s64(dst.umax)


def _and(dst: Number, src: Number) -> None:
    dst.bits = tnum.and_(dst.bits, src.bits)
    dst.umin32, dst.umax32 = dst.bits[0] & M32, min(dst.umax32, src.umax32)
    dst.umin, dst.umax = dst.bits[0], min(dst.umax, src.umax)
    _from_unsigned(dst)


def _or(dst: Number, src: Number) -> None:
    dst.bits = tnum.or_(dst.bits, src.bits)
    dst.umin32, dst.umax32 = max(dst.umin32, src.umin32), (dst.bits[0] | dst.bits[1]) & M32
    dst.umin, dst.umax = max(dst.umin, src.umin), dst.bits[0] | dst.bits[1]
    _from_unsigned(dst)


def _xor(dst: Number, src: Number) -> None:
    dst.bits = tnum.xor(dst.bits, src.bits)
    dst.umin32, dst.umax32 = dst.bits[0] & M32, (dst.bits[0] | dst.bits[1]) & M32
    dst.umin, dst.umax = dst.bits[0], dst.bits[0] | dst.bits[1]
    _from_unsigned(dst)


def _lsh_low(dst: Number, shift: int) -> None:
    dst.smin32, dst.smax32 = S32_MIN, S32_MAX
    if shift > 31 or dst.umax32 > 1 << 31 - shift:
        dst.umin32, dst.umax32 = 0, M32
    else:
        dst.umin32, dst.umax32 = dst.umin32 << shift & M32, dst.umax32 << shift & M32
        if dst.umin32 > dst.umax32:
            dst.umin32, dst.umax32 = 0, M32


def _lsh32(dst: Number, shift: int) -> None:
    _lsh_low(dst, shift)
    dst.bits = tnum.subreg(tnum.lshift(tnum.subreg(dst.bits), shift))
    dst.unbound64()
    dst.learn_from_bits32()


def _lsh64(dst: Number, shift: int) -> None:
    if shift == 32:  # half of a sign extension: << 32, s>> 32
        dst.smin, dst.smax = dst.smin32 << 32, dst.smax32 << 32
    else:
        dst.smin, dst.smax = S64_MIN, S64_MAX
    if dst.umax > 1 << 63 - shift:
        dst.umin, dst.umax = 0, M64
    else:
        dst.umin, dst.umax = dst.umin << shift & M64, dst.umax << shift & M64
        if dst.umin > dst.umax:
            dst.umin, dst.umax = 0, M64
    _lsh_low(dst, shift)
    dst.bits = tnum.lshift(dst.bits, shift)
    dst.learn_from_bits()


def _rsh32(dst: Number, shift: int) -> None:
    dst.smin32, dst.smax32 = S32_MIN, S32_MAX
    dst.umin32, dst.umax32 = dst.umin32 >> shift, dst.umax32 >> shift
    dst.bits = tnum.rshift(tnum.subreg(dst.bits), shift)
    dst.unbound64()
    dst.learn_from_bits32()


def _rsh64(dst: Number, shift: int) -> None:
    dst.smin, dst.smax = S64_MIN, S64_MAX
    dst.umin, dst.umax = dst.umin >> shift, dst.umax >> shift
    dst.bits = tnum.rshift(dst.bits, shift)
    dst.unbound32()
    dst.learn_from_bits()


def _arsh32(dst: Number, shift: int) -> None:
    dst.smin32, dst.smax32 = dst.smin32 >> shift, dst.smax32 >> shift
    dst.bits = tnum.arshift(tnum.subreg(dst.bits), shift, 32)
    dst.umin32, dst.umax32 = 0, M32
    dst.unbound64()
    dst.learn_from_bits32()


def _arsh64(dst: Number, shift: int) -> None:
    dst.smin, dst.smax = dst.smin >> shift, dst.smax >> shift
    dst.bits = tnum.arshift(dst.bits, shift, 64)
    dst.umin, dst.umax = 0, M64
    dst.unbound32()
    dst.learn_from_bits()


_OPERATIONS: dict[int, Callable[[Number, Number], None]] = {
    isa.BPF_ADD: _add,
    isa.BPF_SUB: _sub,
    isa.BPF_MUL: _mul,
    isa.BPF_AND: _and,
    isa.BPF_OR: _or,
    isa.BPF_XOR: _xor,
}
_SHIFT: dict[tuple[int, int], Callable[[Number, int], None]] = {
    (isa.BPF_LSH, 64): _lsh64,
    (isa.BPF_LSH, 32): _lsh32,
    (isa.BPF_RSH, 64): _rsh64,
    (isa.BPF_RSH, 32): _rsh32,
    (isa.BPF_ARSH, 64): _arsh64,
    (isa.BPF_ARSH, 32): _arsh32,
}
