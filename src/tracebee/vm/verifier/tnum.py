"""Tristate numbers: which bits of a 64-bit value are known.

A tnum is ``(value, mask)``: bits of ``mask`` are unknown, the others are those of ``value``, which is
0 where ``mask`` is 1. Source: the kernel's ``include/linux/tnum.h``, and "Sound, Precise, and Fast
Abstract Interpretation with Tristate Numbers" (CGO 2022).
"""

from __future__ import annotations

Tnum = tuple[int, int]

M64 = (1 << 64) - 1
M32 = (1 << 32) - 1
UNKNOWN: Tnum = (0, M64)


def const(value: int) -> Tnum:
    """All bits known."""
    return value & M64, 0


def in_range(low: int, high: int) -> Tnum:
    """The tnum of an unsigned range: the common leading bits are known."""
    bits = (low ^ high).bit_length()
    if bits > 63:
        return UNKNOWN
    delta = (1 << bits) - 1
    return low & ~delta, delta


def add(a: Tnum, b: Tnum) -> Tnum:
    """Sum, modulo 2**64."""
    sm = a[1] + b[1]
    sv = a[0] + b[0]
    mu = ((sm + sv) ^ sv | a[1] | b[1]) & M64
    return sv & ~mu & M64, mu


def sub(a: Tnum, b: Tnum) -> Tnum:
    """Difference, modulo 2**64."""
    dv = a[0] - b[0]
    mu = ((dv + a[1]) ^ (dv - b[1]) | a[1] | b[1]) & M64
    return dv & ~mu & M64, mu


def and_(a: Tnum, b: Tnum) -> Tnum:
    """Bitwise and."""
    v = a[0] & b[0]
    return v, (a[0] | a[1]) & (b[0] | b[1]) & ~v


def or_(a: Tnum, b: Tnum) -> Tnum:
    """Bitwise or."""
    v = a[0] | b[0]
    return v, (a[1] | b[1]) & ~v


def xor(a: Tnum, b: Tnum) -> Tnum:
    """Bitwise exclusive or."""
    mu = a[1] | b[1]
    return (a[0] ^ b[0]) & ~mu, mu


def union(a: Tnum, b: Tnum) -> Tnum:
    """The least tnum that holds the values of both."""
    mu = (a[0] ^ b[0]) | a[1] | b[1]
    return a[0] & b[0] & ~mu, mu


def mul(a: Tnum, b: Tnum) -> Tnum:
    """Product, modulo 2**64: the shifted multiplicand is added for each bit that is or may be 1."""
    total: Tnum = (0, 0)
    while a[0] or a[1]:
        if a[0] & 1:
            total = add(total, b)
        elif a[1] & 1:
            total = union(total, add(total, b))
        a = a[0] >> 1, a[1] >> 1
        b = b[0] << 1 & M64, b[1] << 1 & M64
    return total


def lshift(a: Tnum, shift: int) -> Tnum:
    """Shift to the left by a known number."""
    return a[0] << shift & M64, a[1] << shift & M64


def rshift(a: Tnum, shift: int) -> Tnum:
    """Logical shift to the right by a known number."""
    return a[0] >> shift, a[1] >> shift


def arshift(a: Tnum, shift: int, bits: int) -> Tnum:
    """Arithmetic shift to the right of the low ``bits``; an unknown sign stays unknown."""
    mask = (1 << bits) - 1

    def shifted(x: int) -> int:
        x &= mask
        return (x - (1 << bits) if x >> (bits - 1) else x) >> shift & mask

    return shifted(a[0]), shifted(a[1])


def intersect(a: Tnum, b: Tnum) -> Tnum:
    """What is known when both hold (they must not contradict each other)."""
    mu = a[1] & b[1]
    return (a[0] | b[0]) & ~mu, mu


def overlap(a: Tnum, b: Tnum) -> bool:
    """Whether some number is in both."""
    return (a[0] ^ b[0]) & ~(a[1] | b[1]) & M64 == 0


def contains(a: Tnum, b: Tnum) -> bool:
    """Whether every number of ``b`` is in ``a``."""
    return b[1] & ~a[1] == 0 and b[0] & ~a[1] == a[0]


def cast(a: Tnum, size: int) -> Tnum:
    """The low ``size`` bytes, zero-extended."""
    keep = (1 << size * 8) - 1
    return a[0] & keep, a[1] & keep


def subreg(a: Tnum) -> Tnum:
    """The low 32 bits."""
    return a[0] & M32, a[1] & M32


def with_subreg(a: Tnum, low: Tnum) -> Tnum:
    """The upper half of ``a`` with the lower half ``low``."""
    return a[0] & ~M32 | low[0] & M32, a[1] & ~M32 | low[1] & M32


def is_aligned(a: Tnum, size: int) -> bool:
    """Whether all its numbers are multiples of ``size`` (a power of two)."""
    return not (a[0] | a[1]) & (size - 1)


def text(a: Tnum) -> str:
    """As the kernel's log writes it: ``(0x0; 0xff)``."""
    return f"({a[0]:#x}; {a[1]:#x})"
