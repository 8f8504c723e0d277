"""What the parts of the JIT agree on: machine code with holes for jumps, and what it is compiled against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tracebee.isa.insn import Insn


class Branch(NamedTuple):
    """A jump whose length depends on where its target lands.

    ``kind`` is JUMP, CALL, ADDRESS (of a function, into ``register``) or a condition code of the
    target machine. ``target`` is a slot of the program.
    """

    kind: int
    target: int
    register: int = 0


JUMP, CALL, ADDRESS = -1, -2, -3

Piece = bytes | Branch


class Context(NamedTuple):
    """Byte offsets in the block of memory that a running program's code keeps a pointer to."""

    tail_calls: int = 0  # u64: tail calls made so far
    gotos: int = 8  # u64: may_goto instructions that may still fall through
    packet: int = 16  # u64: address of the packet of LD_ABS and LD_IND
    packet_length: int = 24  # u64
    # What the invoker keeps for itself, as every register is the program's
    entry: int = 32
    r1: int = 40
    r2: int = 48
    repeat: int = 56
    size: int = 64


CONTEXT = Context()
MAX_TAIL_CALLS = 33  # MAX_TAIL_CALL_CNT
MAX_GOTOS = 8 << 20  # BPF_MAX_LOOPS


class Environment(NamedTuple):
    """Native addresses that a program's code calls.

    :param helpers: of each helper by its number: functions of five u64 that return a u64, in the
        machine's C calling convention.
    :param kfuncs: the same by the number in the call's immediate; they get 0 as a sixth argument.
    :param programs: of the table of compiled programs for tail calls, u64 addresses by the numbers that
        are in prog arrays (``maps.nested.Registry.table``); 0 when there are none.
    """

    helpers: Mapping[int, int] = {}
    kfuncs: Mapping[int, int] = {}
    programs: int = 0


class Machine(Protocol):
    """A target architecture."""

    def function(self, uses: frozenset[int], environment: Environment) -> FunctionCode:
        """Code for a function that uses these BPF registers."""

    def place(
        self, pieces: list[Piece], functions: Mapping[int, int], slots: Mapping[int, int]
    ) -> tuple[bytes, list[int]]:
        """Lay pieces out and fill in the jumps.

        :param functions: the piece that a function, by its slot, starts with.
        :param slots: the piece that an instruction's own code starts with, the target of jumps.
        :returns: the code, and each piece's offset.
        """

    def invoker(self) -> bytes:
        """A C function ``u64 (entry, r1, r2, repeat, packet, packet length)`` that makes a context, runs
        a program ``repeat`` times and returns its last r0. Every register but r1, r2 and r10 is zero when
        the program begins.
        """


class FunctionCode(Protocol):
    """Generates one function's code."""

    def prologue(self) -> bytes:
        """What runs when the function is called."""

    def instruction(self, insn: Insn, slot: int) -> list[Piece]:
        """One instruction's code.

        :raises UnsupportedError: the JIT or the environment has not what it asks for.
        """
