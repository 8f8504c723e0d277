"""One BPF instruction and the numbers it is made of (RFC 9669, "Instruction Encoding")."""

from __future__ import annotations

from tracebee.typed import NamedTuple


class Insn(NamedTuple):
    """One instruction as the ISA names it: a wide load (``lddw``) is one Insn, though two slots.

    ``imm`` is signed 32 bits, except in a wide load, where it holds the whole 64 bits (unsigned):
    the low half is the first slot's immediate, the high half the second's.
    """

    opcode: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0

    @property
    def is_wide(self) -> bool:
        """Whether this is the two-slot 64-bit immediate load."""
        return self.opcode == BPF_LD | BPF_IMM | BPF_DW

    @property
    def slots(self) -> int:
        """8-byte slots this instruction takes: jump offsets and the kernel's indexes count slots."""
        return 2 if self.is_wide else 1


# Instruction classes (the low three bits).
BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_JMP32, BPF_ALU64 = range(8)

# Load and store sizes.
BPF_W, BPF_H, BPF_B, BPF_DW = 0x00, 0x08, 0x10, 0x18
# Load and store modes.
BPF_IMM, BPF_ABS, BPF_IND, BPF_MEM, BPF_MEMSX, BPF_ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0

# Source operand: an immediate or a register.
BPF_K, BPF_X = 0x00, 0x08

# Arithmetic operations.
BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH = range(0x00, 0x80, 0x10)
BPF_NEG, BPF_MOD, BPF_XOR, BPF_MOV, BPF_ARSH, BPF_END = range(0x80, 0xE0, 0x10)

# Jumps.
BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT, BPF_JSGE = range(0x00, 0x80, 0x10)
BPF_CALL, BPF_EXIT, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE, BPF_JCOND = range(0x80, 0xF0, 0x10)

# Atomic operations (the immediate of BPF_STX | BPF_ATOMIC).
BPF_FETCH = 0x01
BPF_XCHG = 0xE0 | BPF_FETCH
BPF_CMPXCHG = 0xF0 | BPF_FETCH
BPF_LOAD_ACQ = 0x100
BPF_STORE_REL = 0x110

# What the source register of a wide load says its immediate is.
BPF_PSEUDO_MAP_FD = 1
BPF_PSEUDO_MAP_VALUE = 2
BPF_PSEUDO_BTF_ID = 3
BPF_PSEUDO_FUNC = 4
BPF_PSEUDO_MAP_IDX = 5
BPF_PSEUDO_MAP_IDX_VALUE = 6

# What the source register of a call says its immediate is (0: a helper's number).
BPF_PSEUDO_CALL = 1
BPF_PSEUDO_KFUNC_CALL = 2

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)

MAX_STACK = 512
