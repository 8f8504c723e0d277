"""Which registers are known to hold the same value, so that a move between them can be left out."""

from __future__ import annotations

from tracebee.isa.insn import (
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_FETCH,
    BPF_JMP,
    BPF_JMP32,
    BPF_MOV,
    BPF_ST,
    BPF_STX,
    BPF_X,
)


class Contents:
    """Follows straight-line code. Every register's content has a number; equal ones are equal."""

    __slots__ = ("_numbers", "_used")

    def __init__(self) -> None:
        self._numbers = list(range(11))
        self._used = 11

    def same(self, a: int, b: int) -> bool:
        """Whether two registers hold the same value."""
        return self._numbers[a] == self._numbers[b]

    def forget(self) -> None:
        """Control may come from elsewhere: nothing is known."""
        self._numbers = list(range(self._used, self._used + 11))
        self._used += 11

    def note(self, opcode: int, dst: int, src: int, off: int, imm: int) -> None:
        """Take in one instruction's writes."""
        kind = opcode & 7
        if kind in (BPF_JMP, BPF_JMP32):
            if opcode & 0xF0 == BPF_CALL:
                for reg in range(6):
                    self.write(reg)
        elif kind == BPF_STX:
            if opcode & 0xE0 == BPF_ATOMIC and imm & BPF_FETCH:
                self.write(0 if imm == BPF_CMPXCHG else src)
        elif opcode == BPF_ALU64 | BPF_MOV | BPF_X and not off:
            self._numbers[dst] = self._numbers[src]
        elif kind != BPF_ST:
            self.write(dst)

    def write(self, reg: int) -> None:
        """A register holds something new."""
        self._numbers[reg] = self._used
        self._used += 1
