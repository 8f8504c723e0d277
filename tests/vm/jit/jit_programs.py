"""Random programs for comparing engines: any arithmetic, memory in bounds, jumps forward only."""

from __future__ import annotations

from hypothesis import strategies as st

from tracebee.isa import insn as isa
from tracebee.isa.insn import Insn

MEMORY = 64
_ALU = [isa.BPF_ADD, isa.BPF_SUB, isa.BPF_MUL, isa.BPF_DIV, isa.BPF_OR, isa.BPF_AND, isa.BPF_LSH, isa.BPF_RSH,
        isa.BPF_MOD, isa.BPF_XOR, isa.BPF_MOV, isa.BPF_ARSH]  # fmt: skip
_JUMPS = [isa.BPF_JEQ, isa.BPF_JGT, isa.BPF_JGE, isa.BPF_JSET, isa.BPF_JNE, isa.BPF_JSGT, isa.BPF_JSGE,
          isa.BPF_JLT, isa.BPF_JLE, isa.BPF_JSLT, isa.BPF_JSLE]  # fmt: skip
_SIZES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}
POINTER = 9  # the register that keeps the memory's address

# Numbers at the edges of what instructions tell apart.
_VALUES = st.one_of(
    st.sampled_from([0, 1, 2, -1, -2, 31, 32, 63, 64, 127, 128, 255, 256, 0x7FFFFFFF, -0x80000000]),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
_WIDE = st.one_of(_VALUES, st.integers(-(1 << 63), (1 << 64) - 1), st.just(1 << 63)).map(
    lambda n: n & (1 << 64) - 1
)
_REGISTER = st.integers(0, 8)
_CLASS = st.sampled_from([isa.BPF_ALU, isa.BPF_ALU64])


@st.composite
def _arithmetic(draw: st.DrawFn) -> Insn:
    klass, op = draw(_CLASS), draw(st.sampled_from(_ALU))
    dst, src = draw(_REGISTER), draw(_REGISTER)
    signed = int(op in (isa.BPF_DIV, isa.BPF_MOD) and draw(st.booleans()))
    if draw(st.booleans()):
        if op == isa.BPF_MOV:
            widths = [0, 8, 16] if klass == isa.BPF_ALU else [0, 8, 16, 32]
            return Insn(klass | op | isa.BPF_X, dst, src, draw(st.sampled_from(widths)))
        return Insn(klass | op | isa.BPF_X, dst, src, signed)
    imm = draw(_VALUES)
    if op in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH):
        imm &= 31 if klass == isa.BPF_ALU else 63
    return Insn(klass | op, dst, 0, signed, imm)


@st.composite
def _unary(draw: st.DrawFn) -> Insn:
    dst = draw(_REGISTER)
    kind = draw(st.sampled_from(["neg", "end", "swap", "wide"]))
    if kind == "neg":
        return Insn(draw(_CLASS) | isa.BPF_NEG, dst)
    if kind == "wide":
        return Insn(isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW, dst, 0, 0, draw(_WIDE))
    bits = draw(st.sampled_from([16, 32, 64]))
    if kind == "swap":
        return Insn(isa.BPF_ALU64 | isa.BPF_END, dst, 0, 0, bits)
    return Insn(isa.BPF_ALU | isa.BPF_END | draw(st.sampled_from([isa.BPF_K, isa.BPF_X])), dst, 0, 0, bits)


@st.composite
def _memory(draw: st.DrawFn) -> Insn:
    size = draw(st.sampled_from(list(_SIZES)))
    register = draw(_REGISTER)
    stack = draw(st.booleans())
    base = isa.R10 if stack else POINTER
    low, high = (-MEMORY, 0) if stack else (0, MEMORY)
    off = draw(st.integers(low, high - _SIZES[size]))
    kind = draw(st.sampled_from(["load", "signed", "store", "immediate"]))
    if kind == "load":
        return Insn(isa.BPF_LDX | isa.BPF_MEM | size, register, base, off)
    if kind == "signed" and size != isa.BPF_DW:
        return Insn(isa.BPF_LDX | isa.BPF_MEMSX | size, register, base, off)
    if kind == "store":
        return Insn(isa.BPF_STX | isa.BPF_MEM | size, base, register, off)
    return Insn(isa.BPF_ST | isa.BPF_MEM | size, base, 0, off, draw(_VALUES))


@st.composite
def _atomic(draw: st.DrawFn) -> Insn:
    size = draw(st.sampled_from([isa.BPF_W, isa.BPF_DW]))
    operations = [isa.BPF_ADD, isa.BPF_OR, isa.BPF_AND, isa.BPF_XOR]
    operation = draw(
        st.sampled_from(
            [*operations, *[o | isa.BPF_FETCH for o in operations], isa.BPF_XCHG, isa.BPF_CMPXCHG]
        )
    )
    off = _SIZES[size] * draw(st.integers(0, MEMORY // _SIZES[size] - 1))
    return Insn(isa.BPF_STX | isa.BPF_ATOMIC | size, POINTER, draw(_REGISTER), off, operation)


@st.composite
def programs(draw: st.DrawFn) -> list[Insn]:
    """A program that keeps r1, the address of MEMORY bytes, in r9, and ends with r0 made of all registers."""
    start = [Insn(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, POINTER, 1)]
    start += [
        Insn(isa.BPF_ST | isa.BPF_DW | isa.BPF_MEM, isa.R10, 0, at, at * 77) for at in range(-MEMORY, 0, 8)
    ]
    start += [Insn(isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW, n, 0, 0, draw(_WIDE)) for n in range(POINTER)]
    body = draw(st.lists(st.one_of(_arithmetic(), _unary(), _memory(), _atomic()), min_size=1, max_size=30))
    code = list(body)
    # Jumps go forward over whole instructions: from the back, so that distances stay true.
    for at in sorted(draw(st.lists(st.integers(0, len(body) - 1), max_size=4)), reverse=True):
        rest = code[at:]
        over = sum(i.slots for i in rest[: draw(st.integers(0, len(rest)))])
        klass = draw(st.sampled_from([isa.BPF_JMP, isa.BPF_JMP32]))
        op, register = draw(st.sampled_from(_JUMPS)), draw(_REGISTER)
        if draw(st.booleans()):
            code.insert(at, Insn(klass | op | isa.BPF_X, register, draw(_REGISTER), over))
        else:
            code.insert(at, Insn(klass | op, register, 0, over, draw(_VALUES)))
    end = [
        insn
        for register in range(1, POINTER)
        for insn in (
            Insn(isa.BPF_ALU64 | isa.BPF_MUL, 0, 0, 0, 31),
            Insn(isa.BPF_ALU64 | isa.BPF_XOR | isa.BPF_X, 0, register),
        )
    ]
    return [*start, *code, *end, Insn(isa.BPF_JMP | isa.BPF_EXIT)]
