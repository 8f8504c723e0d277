"""Classic instructions, their table, and the rules a program keeps.

A program has an accumulator A, an index register X (32 bits each) and 16 words of memory M. Source:
``struct sock_filter`` of ``linux/filter.h``, ``bpf_check_classic`` in ``net/core/filter.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from tracebee.errors import DecodeError

MAX_INSNS = 4096  # BPF_MAXINSNS
MEMORY_WORDS = 16  # BPF_MEMWORDS

# Classes, sizes, modes and operations have eBPF's values where both have them; these are classic only.
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
K, X, A = 0x00, 0x08, 0x10
TAX, TXA = 0x00, 0x80
JA, JEQ, JGT, JGE, JSET = 0x00, 0x10, 0x20, 0x30, 0x40
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0x00, 0xB0, 0x10)


class ClassicInsn(NamedTuple):
    """``struct sock_filter``: jumps are counts of instructions to skip."""

    code: int
    jt: int = 0
    jf: int = 0
    k: int = 0


class ClassicOpcode(NamedTuple):
    """One instruction form: ``operand`` as tcpdump prints it, with ``{k}`` for the number."""

    code: int
    mnemonic: str
    operand: str


def _rows() -> tuple[ClassicOpcode, ...]:
    loads = [
        row
        for size, name in ((W, "ld"), (H, "ldh"), (B, "ldb"))
        for row in (
            ClassicOpcode(LD | size | ABS, name, "[{k}]"),
            ClassicOpcode(LD | size | IND, name, "[x + {k}]"),
        )
    ]
    arithmetic = [
        row
        for op, name, number in (
            (ADD, "add", "#{k}"),
            (SUB, "sub", "#{k}"),
            (MUL, "mul", "#{k}"),
            (DIV, "div", "#{k}"),
            (MOD, "mod", "#{k}"),
            (AND, "and", "#0x{k:x}"),
            (OR, "or", "#0x{k:x}"),
            (XOR, "xor", "#0x{k:x}"),
            (LSH, "lsh", "#{k}"),
            (RSH, "rsh", "#{k}"),
        )
        for row in (ClassicOpcode(ALU | op | K, name, number), ClassicOpcode(ALU | op | X, name, "x"))
    ]
    jumps = [
        row
        for op, name in ((JEQ, "jeq"), (JGT, "jgt"), (JGE, "jge"), (JSET, "jset"))
        for row in (ClassicOpcode(JMP | op | K, name, "#0x{k:x}"), ClassicOpcode(JMP | op | X, name, "x"))
    ]
    return (
        *loads,
        ClassicOpcode(LD | W | LEN, "ld", "#pktlen"),
        ClassicOpcode(LD | IMM, "ld", "#0x{k:x}"),
        ClassicOpcode(LD | MEM, "ld", "M[{k}]"),
        ClassicOpcode(LDX | IMM, "ldx", "#0x{k:x}"),
        ClassicOpcode(LDX | MEM, "ldx", "M[{k}]"),
        ClassicOpcode(LDX | W | LEN, "ldx", "#pktlen"),
        ClassicOpcode(LDX | B | MSH, "ldxb", "4*([{k}]&0xf)"),
        ClassicOpcode(ST, "st", "M[{k}]"),
        ClassicOpcode(STX, "stx", "M[{k}]"),
        *arithmetic,
        ClassicOpcode(ALU | NEG, "neg", ""),
        ClassicOpcode(JMP | JA, "ja", "{k}"),
        *jumps,
        ClassicOpcode(RET | K, "ret", "#{k}"),
        ClassicOpcode(RET | A, "ret", ""),
        ClassicOpcode(MISC | TAX, "tax", ""),
        ClassicOpcode(MISC | TXA, "txa", ""),
    )


OPCODES = _rows()
BY_CODE = {row.code: row for row in OPCODES}


def parse(text: str) -> list[ClassicInsn]:
    """Read what ``tcpdump -ddd`` prints: a count, then ``code jt jf k`` a line (or between commas).

    :raises DecodeError: it is not that, or breaks a rule (see ``check``).
    """
    lines = [line for line in text.replace(",", "\n").split("\n") if line.strip()]
    try:
        rows = [[int(number, 0) for number in line.split()] for line in lines]
    except ValueError as error:
        raise DecodeError(f"not a classic BPF program in numbers: {error}") from error
    if not rows or len(rows[0]) != 1 or rows[0][0] != len(rows) - 1:
        raise DecodeError("expected the number of instructions, then as many lines of code jt jf k")
    for number, row in enumerate(rows[1:]):
        limits = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)
        if len(row) != 4 or any(not 0 <= value <= limit for value, limit in zip(row, limits, strict=True)):
            raise DecodeError(f"instruction {number}: expected code jt jf k, found '{lines[number + 1]}'")
    program = [ClassicInsn(*row) for row in rows[1:]]
    check(program)
    return program


def encode(program: Sequence[ClassicInsn]) -> bytes:
    """The program as an array of ``struct sock_filter`` in the host's byte order."""
    return b"".join(struct.pack("=HBBI", *insn) for insn in program)


def decode(data: bytes) -> list[ClassicInsn]:
    """The opposite of ``encode``.

    :raises DecodeError: the length is not a multiple of 8, or a rule is broken.
    """
    if len(data) % 8:
        raise DecodeError(f"classic BPF takes 8 bytes an instruction, {len(data)} is no multiple")
    program = [ClassicInsn(*row) for row in struct.iter_unpack("=HBBI", data)]
    check(program)
    return program


def check(program: Sequence[ClassicInsn]) -> None:
    """Apply the kernel's rules: known opcodes, jumps inside, an end, no division by 0, M written before read.

    :raises DecodeError: with the number of the instruction that breaks one.
    """
    if not 0 < len(program) <= MAX_INSNS:
        raise DecodeError(f"a classic program has 1 to {MAX_INSNS} instructions, not {len(program)}")
    for at, insn in enumerate(program):
        wrong = _broken_rule(insn, len(program) - at - 1)
        if wrong:
            raise DecodeError(f"instruction {at}: {wrong}")
    if program[-1].code & 7 != RET:
        raise DecodeError(f"instruction {len(program) - 1}: the last instruction must return")
    _check_memory(program)


def _broken_rule(insn: ClassicInsn, following: int) -> str | None:
    code, jt, jf, k = insn
    if code not in BY_CODE:
        return f"there is no classic opcode {code:#x}"
    klass, op = code & 7, code & 0xF0
    if klass == ALU and not code & X:
        if op in (DIV, MOD) and k == 0:
            return "division by zero"
        if op in (LSH, RSH) and k >= 32:
            return f"shift by {k}, which is more than a word has bits"
    uses_memory = klass in (ST, STX) or (klass in (LD, LDX) and code & 0xE0 == MEM)
    if uses_memory and k >= MEMORY_WORDS:
        return f"M[{k}], where there are {MEMORY_WORDS} words"
    if klass == JMP:
        farthest = k if op == JA else max(jt, jf)
        if farthest >= following:
            return f"jump over {farthest} instructions, where {following} follow"
    return None


def _check_memory(program: Sequence[ClassicInsn]) -> None:
    """Every word of M that is read was written on every way there."""
    everything = (1 << MEMORY_WORDS) - 1
    # Words surely written before each instruction. Jumps go forward, so one pass sees all ways.
    written = [everything] * (len(program) + 1)
    written[0] = 0
    for at, (code, jt, jf, k) in enumerate(program):
        now, klass = written[at], code & 7
        if klass in (LD, LDX) and code & 0xE0 == MEM and not now >> k & 1:
            raise DecodeError(f"instruction {at}: M[{k}] is read, but not written on every way here")
        if klass in (ST, STX):
            now |= 1 << k
        if klass == RET:
            continue
        if klass == JMP:
            targets = (at + 1 + k,) if code & 0xF0 == JA else (at + 1 + jt, at + 1 + jf)
        else:
            targets = (at + 1,)
        for target in targets:
            written[target] &= now
