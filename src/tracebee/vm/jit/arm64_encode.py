"""arm64 instruction encodings, as far as BPF needs them (Arm ARM, chapter C6).

Every function returns one instruction as a 32-bit number. Register 31 is the zero register or the
stack pointer, as the instruction has it.
"""

from __future__ import annotations

import struct

ZERO = SP = 31
LINK, FRAME = 30, 29

# Condition codes of B.cond.
EQUAL, NOT_EQUAL, HIGHER_SAME, LOWER, HIGHER, LOWER_SAME = 0, 1, 2, 3, 8, 9
GREATER_EQUAL, LESS, GREATER, LESS_EQUAL = 10, 11, 12, 13

# Operations on two registers (shifted register form, 32 bits).
ADD, SUB, AND, OR, XOR = 0x0B000000, 0x4B000000, 0x0A000000, 0x2A000000, 0x4A000000
SUBS, ANDS = 0x6B000000, 0x6A000000
DIVIDE, DIVIDE_SIGNED = 0x1AC00800, 0x1AC00C00
SHIFT_LEFT, SHIFT_RIGHT, SHIFT_RIGHT_SIGNED = 0x1AC02000, 0x1AC02400, 0x1AC02800
# Operations with a 12-bit immediate.
ADD_IMMEDIATE, SUB_IMMEDIATE, ADDS_IMMEDIATE, SUBS_IMMEDIATE = 0x11000000, 0x51000000, 0x31000000, 0x71000000


def words(*instructions: int) -> bytes:
    """Instructions as they lie in memory: little-endian whatever the data's byte order."""
    return struct.pack(f"<{len(instructions)}I", *instructions)


def register(operation: int, dst: int, left: int, right: int, wide: int, shift: int = 0) -> int:
    """``operation dst, left, right`` (right shifted left by ``shift``, where the operation can)."""
    return operation | wide << 31 | right << 16 | shift << 10 | left << 5 | dst


def immediate(operation: int, dst: int, left: int, value: int, wide: int) -> int:
    """``add``, ``sub`` and friends with 0 <= value < 4096."""
    return operation | wide << 31 | value << 10 | left << 5 | dst


def move(dst: int, src: int, wide: int) -> int:
    """``mov dst, src``, of registers that are not sp."""
    return register(OR, dst, ZERO, src, wide)


def move_immediate(dst: int, value: int) -> list[int]:
    """The fewest instructions that put a 64-bit number into a register."""
    value &= (1 << 64) - 1
    parts = [(value >> shift & 0xFFFF, shift // 16) for shift in range(0, 64, 16)]
    if sum(part == 0xFFFF for part, _ in parts) > sum(part == 0 for part, _ in parts):
        kept = [(part, place) for part, place in parts if part != 0xFFFF] or [(0xFFFF, 0)]
        first = 0x92800000 | kept[0][1] << 21 | (kept[0][0] ^ 0xFFFF) << 5 | dst  # movn
    else:
        kept = [(part, place) for part, place in parts if part] or [(0, 0)]
        first = 0xD2800000 | kept[0][1] << 21 | kept[0][0] << 5 | dst  # movz
    return [first, *[0xF2800000 | place << 21 | part << 5 | dst for part, place in kept[1:]]]  # movk


def multiply(dst: int, left: int, right: int, wide: int) -> int:
    """``mul dst, left, right``."""
    return 0x1B007C00 | wide << 31 | right << 16 | left << 5 | dst


def multiply_subtract(dst: int, left: int, right: int, start: int, wide: int) -> int:
    """``msub``: start - left * right."""
    return 0x1B008000 | wide << 31 | right << 16 | start << 10 | left << 5 | dst


def _bit_field(signed: bool, dst: int, src: int, rotate: int, top: int, wide: int) -> int:
    base = 0x13000000 if signed else 0x53000000
    return base | wide << 31 | wide << 22 | rotate << 16 | top << 10 | src << 5 | dst


def shift_immediate(operation: int, dst: int, src: int, count: int, wide: int) -> int:
    """A shift by a constant; ``operation`` as for registers."""
    top = 63 if wide else 31
    if operation == SHIFT_LEFT:
        return _bit_field(False, dst, src, -count & top, top - count, wide)
    return _bit_field(operation == SHIFT_RIGHT_SIGNED, dst, src, count, top, wide)


def extend(dst: int, src: int, bits: int, wide: int, *, signed: bool) -> int:
    """The low 8, 16 or 32 bits, sign- or zero-extended."""
    if not signed:
        return move(dst, src, 0) if bits == 32 else _bit_field(False, dst, src, 0, bits - 1, 0)
    return _bit_field(True, dst, src, 0, bits - 1, wide)


def reverse(dst: int, src: int, bits: int) -> int:
    """Reverse the bytes of 64 or 32 bits, or of each 16 bits of 32."""
    return {64: 0xDAC00C00, 32: 0x5AC00800, 16: 0x5AC00400}[bits] | src << 5 | dst


_SIZES = {8: 0, 16: 1, 32: 2, 64: 3}
# Loads and stores: with a scaled 12-bit offset, a signed 9-bit one, a register.
_SCALED, _UNSCALED, _INDEXED = 0x39000000, 0x38000000, 0x38206800
STORE, LOAD, LOAD_SIGNED = 0 << 22, 1 << 22, 2 << 22


def access(kind: int, register: int, base: int, offset: int, bits: int) -> int | None:
    """A load (LOAD_SIGNED: to 64 bits) or store at base + offset; None when the offset does not fit."""
    size = _SIZES[bits] << 30
    if offset >= 0 and offset % (bits // 8) == 0 and offset < bits // 8 << 12:
        return size | _SCALED | kind | offset // (bits // 8) << 10 | base << 5 | register
    if -256 <= offset < 256:
        return size | _UNSCALED | kind | (offset & 0x1FF) << 12 | base << 5 | register
    return None


def access_indexed(kind: int, register: int, base: int, index: int, bits: int) -> int:
    """A load or store at base + index."""
    return _SIZES[bits] << 30 | _INDEXED | kind | index << 16 | base << 5 | register


def load_exclusive(register: int, base: int, bits: int, *, acquire: bool) -> int:
    """``ldxr`` or ``ldaxr``."""
    return _SIZES[bits] << 30 | (0x085FFC00 if acquire else 0x085F7C00) | base << 5 | register


def store_exclusive(status: int, register: int, base: int, bits: int, *, release: bool) -> int:
    """``stxr`` or ``stlxr``: status becomes 0 when it stored."""
    return _SIZES[bits] << 30 | (0x0800FC00 if release else 0x08007C00) | status << 16 | base << 5 | register


def load_acquire(register: int, base: int, bits: int) -> int:
    """``ldar``."""
    return _SIZES[bits] << 30 | 0x08DFFC00 | base << 5 | register


def store_release(register: int, base: int, bits: int) -> int:
    """``stlr``."""
    return _SIZES[bits] << 30 | 0x089FFC00 | base << 5 | register


def push(first: int, second: int) -> int:
    """``stp first, second, [sp, #-16]!``."""
    return 0xA9BF0000 | second << 10 | SP << 5 | first


def pop(first: int, second: int) -> int:
    """``ldp first, second, [sp], #16``."""
    return 0xA8C10000 | second << 10 | SP << 5 | first


def branch(distance: int) -> int:
    """``b``, distance in bytes from this instruction."""
    return 0x14000000 | distance >> 2 & 0x3FFFFFF


def branch_link(distance: int) -> int:
    """``bl``."""
    return 0x94000000 | distance >> 2 & 0x3FFFFFF


def branch_if(condition: int, distance: int) -> int:
    """``b.cond``, within a megabyte."""
    return 0x54000000 | (distance >> 2 & 0x7FFFF) << 5 | condition


def branch_if_zero(register: int, distance: int, wide: int) -> int:
    """``cbz``."""
    return 0x34000000 | wide << 31 | (distance >> 2 & 0x7FFFF) << 5 | register


def branch_if_not_zero(register: int, distance: int, wide: int) -> int:
    """``cbnz``."""
    return branch_if_zero(register, distance, wide) | 1 << 24


def branch_register(register: int) -> int:
    """``br``."""
    return 0xD61F0000 | register << 5


def call_register(register: int) -> int:
    """``blr``."""
    return 0xD63F0000 | register << 5


def here(dst: int) -> int:
    """``adr dst, .``: the address of this instruction."""
    return 0x10000000 | dst


def add_signed_word(dst: int, left: int, right: int) -> int:
    """``add dst, left, right, sxtw``: right is 32 bits."""
    return 0x8B20C000 | right << 16 | left << 5 | dst


RETURN = 0xD65F03C0
BARRIER = 0xD5033BBF  # dmb ish
