"""x86-64 instruction encodings, as far as BPF needs them (Intel SDM volume 2).

Every function returns the bytes of one instruction. Registers are numbers, as the encoding has them.
"""

from __future__ import annotations

import struct

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

# Operation numbers of the group that opcodes 81 and 83 (immediate) and 8 * n + 1 (register) share.
ADD, OR, AND, SUB, XOR, CMP = 0, 1, 4, 5, 6, 7
# Operation numbers of the shift group (opcodes C1, D1, D3).
SHL, SHR, SAR = 4, 5, 7
# Condition codes of Jcc.
BELOW, ABOVE_EQUAL, EQUAL, NOT_EQUAL, BELOW_EQUAL, ABOVE = 2, 3, 4, 5, 6, 7
LESS, GREATER_EQUAL, LESS_EQUAL, GREATER = 12, 13, 14, 15

LOCK = b"\xf0"
_WORD = b"\x66"


def _rex(wide: int, reg: int, rm: int, *, byte: bool = False) -> bytes:
    """The REX prefix, where one is needed: for the byte registers of rsp to rdi it always is."""
    value = 0x40 | wide << 3 | reg >> 3 << 2 | rm >> 3
    return bytes((value,)) if value != 0x40 or byte else b""


def registers(opcode: bytes, reg: int, rm: int, wide: int, *, byte: bool = False) -> bytes:
    """An instruction on two registers; ``reg`` may be an opcode extension."""
    return _rex(wide, reg, rm, byte=byte) + opcode + bytes((0xC0 | (reg & 7) << 3 | rm & 7,))


def memory(opcode: bytes, reg: int, base: int, disp: int, wide: int, *, byte: bool = False) -> bytes:
    """An instruction on a register and the memory at base + disp."""
    head = _rex(wide, reg, base, byte=byte and reg > RBX) + opcode
    middle, low = (reg & 7) << 3, base & 7
    # rsp and r12 as a base take a SIB byte; rbp and r13 cannot do without a displacement.
    sib = b"\x24" if low == RSP else b""
    if disp == 0 and low != RBP:
        return head + bytes((middle | low,)) + sib
    if -128 <= disp < 128:
        return head + bytes((0x40 | middle | low,)) + sib + struct.pack("<b", disp)
    return head + bytes((0x80 | middle | low,)) + sib + struct.pack("<i", disp)


def move(dst: int, src: int, wide: int) -> bytes:
    """``mov dst, src``; the 32-bit form clears the upper half."""
    return registers(b"\x89", src, dst, wide)


def move_immediate(dst: int, value: int) -> bytes:
    """The shortest way to put a 64-bit number (signed or unsigned) into a register."""
    value &= (1 << 64) - 1
    if value == 0:
        return registers(b"\x31", dst, dst, 0)
    if value < 1 << 32:
        return _rex(0, 0, dst) + bytes((0xB8 | dst & 7,)) + struct.pack("<I", value)
    if value >= (1 << 64) - (1 << 31):
        return registers(b"\xc7", 0, dst, 1) + struct.pack("<I", value & 0xFFFFFFFF)
    return _rex(1, 0, dst) + bytes((0xB8 | dst & 7,)) + struct.pack("<Q", value)


def arithmetic(operation: int, dst: int, src: int, wide: int) -> bytes:
    """``add``, ``or``, ``and``, ``sub``, ``xor`` or ``cmp`` of two registers."""
    return registers(bytes((operation << 3 | 1,)), src, dst, wide)


def arithmetic_immediate(operation: int, dst: int, value: int, wide: int) -> bytes:
    """The same with a sign-extended 32-bit immediate."""
    if -128 <= value < 128:
        return registers(b"\x83", operation, dst, wide) + struct.pack("<b", value)
    if dst == RAX:
        return _rex(wide, 0, 0) + bytes((operation << 3 | 5,)) + struct.pack("<i", value)
    return registers(b"\x81", operation, dst, wide) + struct.pack("<i", value)


def test(dst: int, src: int, wide: int) -> bytes:
    """``test dst, src``."""
    return registers(b"\x85", src, dst, wide)


def test_immediate(dst: int, value: int, wide: int) -> bytes:
    """``test dst, imm32``."""
    return registers(b"\xf7", 0, dst, wide) + struct.pack("<i", value)


def multiply(dst: int, src: int, wide: int) -> bytes:
    """``imul dst, src``."""
    return registers(b"\x0f\xaf", dst, src, wide)


def multiply_immediate(dst: int, value: int, wide: int) -> bytes:
    """``imul dst, dst, imm``."""
    if -128 <= value < 128:
        return registers(b"\x6b", dst, dst, wide) + struct.pack("<b", value)
    return registers(b"\x69", dst, dst, wide) + struct.pack("<i", value)


def negate(dst: int, wide: int) -> bytes:
    """``neg dst``."""
    return registers(b"\xf7", 3, dst, wide)


def divide(src: int, wide: int, *, signed: bool) -> bytes:
    """``div src`` or ``idiv src``: rdx:rax by src, quotient to rax, remainder to rdx."""
    return registers(b"\xf7", 7 if signed else 6, src, wide)


def sign_to_rdx(wide: int) -> bytes:
    """``cdq`` or ``cqo``: rdx becomes copies of rax's sign."""
    return _rex(wide, 0, 0) + b"\x99"


def shift_immediate(operation: int, dst: int, count: int, wide: int) -> bytes:
    """``shl``, ``shr`` or ``sar`` by a constant."""
    if count == 1:
        return registers(b"\xd1", operation, dst, wide)
    return registers(b"\xc1", operation, dst, wide) + bytes((count,))


def shift_by_cl(operation: int, dst: int, wide: int) -> bytes:
    """A shift by cl."""
    return registers(b"\xd3", operation, dst, wide)


_VEX_PREFIX = {SHL: 1, SHR: 3, SAR: 2}


def shift_by_register(operation: int, dst: int, count: int, wide: int) -> bytes:
    """``shlx``, ``shrx`` or ``sarx dst, dst, count`` (BMI2)."""
    high = (dst >> 3 ^ 1) << 7 | 1 << 6 | (dst >> 3 ^ 1) << 5 | 2
    low = wide << 7 | (count ^ 15) << 3 | _VEX_PREFIX[operation]
    return bytes((0xC4, high, low, 0xF7, 0xC0 | (dst & 7) << 3 | dst & 7))


def byte_swap(dst: int, wide: int) -> bytes:
    """``bswap dst``."""
    return _rex(wide, 0, dst) + bytes((0x0F, 0xC8 | dst & 7))


def rotate_word(dst: int) -> bytes:
    """``ror dst16, 8``: swaps the two low bytes."""
    return _WORD + _rex(0, 0, dst) + bytes((0xC1, 0xC8 | dst & 7, 8))


_ZERO_EXTENDING = {8: b"\x0f\xb6", 16: b"\x0f\xb7"}
_SIGN_EXTENDING = {8: b"\x0f\xbe", 16: b"\x0f\xbf", 32: b"\x63"}


def zero_extend(dst: int, src: int, bits: int) -> bytes:
    """The low 8, 16 or 32 bits of a register into a whole one."""
    if bits == 32:
        return move(dst, src, 0)
    return registers(_ZERO_EXTENDING[bits], dst, src, 0, byte=bits == 8 and src > RBX)


def sign_extend(dst: int, src: int, bits: int, wide: int) -> bytes:
    """The low 8, 16 or 32 bits of a register, sign-extended to 32 or 64."""
    return registers(_SIGN_EXTENDING[bits], dst, src, wide, byte=bits == 8 and src > RBX)


def load(dst: int, base: int, disp: int, bits: int) -> bytes:
    """A zero-extending load."""
    if bits < 32:
        return memory(_ZERO_EXTENDING[bits], dst, base, disp, 0)
    return memory(b"\x8b", dst, base, disp, bits == 64)


def load_signed(dst: int, base: int, disp: int, bits: int) -> bytes:
    """A load sign-extended to 64 bits."""
    return memory(_SIGN_EXTENDING[bits], dst, base, disp, 1)


def store(base: int, disp: int, src: int, bits: int) -> bytes:
    """Store the low bits of a register."""
    if bits == 8:
        return memory(b"\x88", src, base, disp, 0, byte=True)
    prefix = _WORD if bits == 16 else b""
    return prefix + memory(b"\x89", src, base, disp, bits == 64)


def store_immediate(base: int, disp: int, value: int, bits: int) -> bytes:
    """Store a constant, sign-extended from 32 bits to 64."""
    if bits == 8:
        return memory(b"\xc6", 0, base, disp, 0) + struct.pack("<B", value & 0xFF)
    if bits == 16:
        return _WORD + memory(b"\xc7", 0, base, disp, 0) + struct.pack("<H", value & 0xFFFF)
    return memory(b"\xc7", 0, base, disp, bits == 64) + struct.pack("<I", value & 0xFFFFFFFF)


def arithmetic_memory(operation: int, base: int, disp: int, src: int, wide: int) -> bytes:
    """``add [base + disp], src`` and the like."""
    return memory(bytes((operation << 3 | 1,)), src, base, disp, wide)


def exchange_add(base: int, disp: int, src: int, wide: int) -> bytes:
    """``lock xadd [base + disp], src``."""
    return LOCK + memory(b"\x0f\xc1", src, base, disp, wide)


def exchange(base: int, disp: int, src: int, wide: int) -> bytes:
    """``xchg [base + disp], src``, which locks by itself."""
    return memory(b"\x87", src, base, disp, wide)


def compare_exchange(base: int, disp: int, src: int, wide: int) -> bytes:
    """``lock cmpxchg [base + disp], src``: rax is the expected value and becomes the old one."""
    return LOCK + memory(b"\x0f\xb1", src, base, disp, wide)


def push(register: int) -> bytes:
    """``push register``."""
    return _rex(0, 0, register) + bytes((0x50 | register & 7,))


def pop(register: int) -> bytes:
    """``pop register``."""
    return _rex(0, 0, register) + bytes((0x58 | register & 7,))


def call_register(register: int) -> bytes:
    """``call register``."""
    return registers(b"\xff", 2, register, 0)


def jump_register(register: int) -> bytes:
    """``jmp register``."""
    return registers(b"\xff", 4, register, 0)


def skip_if(condition: int, over: bytes) -> bytes:
    """``over``, jumped over when the condition holds."""
    return bytes((0x70 | condition, len(over))) + over


RETURN = b"\xc3"
LEAVE = b"\xc9"
