"""What arithmetic, comparisons and byte swaps compute (RFC 9669, sections 4.1 to 4.3), on plain integers.

Register values are unsigned 64-bit integers. A 32-bit operation takes the low halves of its operands and
gives a result below 2**32. Division by zero gives 0, modulo by zero the dividend, and the one signed
overflow (the least number by -1) the dividend for division and 0 for modulo.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tracebee.isa import insn as isa

Binary = Callable[[int, int], int]
Test = Callable[[int, int], bool]

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1


def signed(value: int, bits: int) -> int:
    """The two's complement number in the low ``bits`` of a value."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def sign_extend(value: int, bits: int, to: int = 64) -> int:
    """The low ``bits`` of a value sign-extended to ``to`` bits, unsigned."""
    return signed(value, bits) & ((1 << to) - 1)


def _truncating_divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _arithmetic(bits: int) -> dict[int, Binary]:
    mask = (1 << bits) - 1
    shift = bits - 1
    return {
        isa.BPF_ADD: lambda a, b: (a + b) & mask,
        isa.BPF_SUB: lambda a, b: (a - b) & mask,
        isa.BPF_MUL: lambda a, b: (a * b) & mask,
        isa.BPF_DIV: lambda a, b: (a & mask) // (b & mask) if b & mask else 0,
        isa.BPF_MOD: lambda a, b: (a & mask) % (b & mask) if b & mask else a & mask,
        isa.BPF_OR: lambda a, b: (a | b) & mask,
        isa.BPF_AND: lambda a, b: a & b & mask,
        isa.BPF_XOR: lambda a, b: (a ^ b) & mask,
        isa.BPF_LSH: lambda a, b: (a << (b & shift)) & mask,
        isa.BPF_RSH: lambda a, b: (a & mask) >> (b & shift),
        isa.BPF_ARSH: lambda a, b: (signed(a, bits) >> (b & shift)) & mask,
        # Adding 0 makes an uninitialised register (None) fail here as everywhere else.
        isa.BPF_MOV: lambda _, b: (b + 0) & mask,
    }


def _signed_arithmetic(bits: int) -> dict[int, Binary]:
    mask = (1 << bits) - 1

    def sdiv(a: int, b: int) -> int:
        return _truncating_divide(signed(a, bits), signed(b, bits)) & mask if b & mask else 0

    def smod(a: int, b: int) -> int:
        if not b & mask:
            return a & mask
        dividend, divisor = signed(a, bits), signed(b, bits)
        return (dividend - _truncating_divide(dividend, divisor) * divisor) & mask

    return {isa.BPF_DIV: sdiv, isa.BPF_MOD: smod}


ALU32, ALU64 = _arithmetic(32), _arithmetic(64)
SIGNED_ALU32, SIGNED_ALU64 = _signed_arithmetic(32), _signed_arithmetic(64)


def _comparisons(bits: int) -> dict[int, Test]:
    mask = (1 << bits) - 1
    return {
        # Subtraction instead of == makes an uninitialised register (None) fail.
        isa.BPF_JEQ: lambda a, b: (a - b) & mask == 0,
        isa.BPF_JNE: lambda a, b: (a - b) & mask != 0,
        isa.BPF_JGT: lambda a, b: a & mask > b & mask,
        isa.BPF_JGE: lambda a, b: a & mask >= b & mask,
        isa.BPF_JLT: lambda a, b: a & mask < b & mask,
        isa.BPF_JLE: lambda a, b: a & mask <= b & mask,
        isa.BPF_JSET: lambda a, b: a & b & mask != 0,
        isa.BPF_JSGT: lambda a, b: signed(a, bits) > signed(b, bits),
        isa.BPF_JSGE: lambda a, b: signed(a, bits) >= signed(b, bits),
        isa.BPF_JSLT: lambda a, b: signed(a, bits) < signed(b, bits),
        isa.BPF_JSLE: lambda a, b: signed(a, bits) <= signed(b, bits),
    }


JUMP32, JUMP64 = _comparisons(32), _comparisons(64)


def byte_swap(value: int, bits: int) -> int:
    """The low ``bits`` of a value with their bytes reversed."""
    size = bits // 8
    return int.from_bytes((value & ((1 << bits) - 1)).to_bytes(size, "little"), "big")


def to_order(value: int, bits: int, order: str) -> int:
    """``be16``, ``le64`` and so on: truncated to ``bits``, and swapped where the host's order differs."""
    return byte_swap(value, bits) if order != sys.byteorder else value & ((1 << bits) - 1)


def atomic(operation: int, old: int, operand: int, expected: int) -> int:
    """What an atomic instruction stores, given its immediate, the old value, its operand and r0.

    The operands have the width of the access. Source: RFC 9669, section 5.3.
    """
    if operation == isa.BPF_XCHG:
        return operand
    if operation == isa.BPF_CMPXCHG:
        return operand if old == expected else old
    return ALU64[operation & ~isa.BPF_FETCH](old, operand)
