"""From a program to machine code: functions found, each instruction translated, jumps placed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tracebee.errors import UnsupportedError
from tracebee.isa import insn as isa
from tracebee.isa.insn import Insn
from tracebee.vm.jit.target import Environment, Machine, Piece
from tracebee.vm.program import Program


class NativeCode(NamedTuple):
    """Machine code that runs at any address; it begins with the program's entry.

    :param functions: offset of each function, its prologue first, by its slot.
    :param slots: offset of each instruction's own code.
    """

    architecture: str
    code: bytes
    functions: Mapping[int, int]
    slots: Mapping[int, int]


def compile_program(
    program: Program, environment: Environment | None = None, architecture: str = ""
) -> NativeCode:
    """Translate a program. It runs without checks: let a verifier see it before.

    :param architecture: ``x86_64`` or ``aarch64``; this machine's by default.
    :raises UnsupportedError: another architecture, or an instruction or helper without native code.
    """
    architecture = architecture or os.uname().machine
    machine = machine_for(architecture)
    pieces, functions, starts = _translate(program, machine, environment or Environment())
    code, places = machine.place(pieces, functions, starts)
    return NativeCode(
        architecture,
        code,
        {slot: places[at] for slot, at in functions.items()},
        {slot: places[at] for slot, at in starts.items()},
    )


def _translate(
    program: Program, machine: Machine, environment: Environment
) -> tuple[list[Piece], dict[int, int], dict[int, int]]:
    slots = program.slots
    entries = function_starts(program)
    pieces: list[Piece] = []
    functions: dict[int, int] = {}
    starts: dict[int, int] = {}
    for begin, end in zip(entries, [*entries[1:], len(slots)], strict=True):
        body = [(slot, insn) for slot, insn in enumerate(slots[begin:end], begin) if insn is not None]
        function = machine.function(_registers(body), environment)
        functions[begin] = len(pieces)
        pieces.append(function.prologue())
        translate = function.instruction
        for slot, insn in body:
            starts[slot] = len(pieces)
            pieces.extend(translate(insn, slot))
    return pieces, functions, starts


def function_starts(program: Program) -> list[int]:
    """Slots at which functions begin, ascending: slot 0, what has a name, what is called or pointed to."""
    found = {0, *program.names}
    for slot, insn in enumerate(program.slots):
        if insn is None:
            continue
        if insn.is_wide:
            if insn.src == isa.BPF_PSEUDO_FUNC:
                found.add(slot + 1 + ((insn.imm & 0xFFFFFFFF ^ 0x80000000) - 0x80000000))
        elif insn.opcode == isa.BPF_JMP | isa.BPF_CALL and insn.src == isa.BPF_PSEUDO_CALL:
            found.add(slot + 1 + insn.imm)
    return sorted(found)


def _registers(body: list[tuple[int, Insn]]) -> frozenset[int]:
    used = {insn.dst for _, insn in body}
    used.update([insn.src for _, insn in body if insn.opcode & isa.BPF_X or insn.opcode & 7 != isa.BPF_ALU])
    return frozenset(used)


def machine_for(architecture: str) -> Machine:
    """The code generator for an architecture, by ``uname -m``.

    :raises UnsupportedError: there is none.
    """
    make = _MACHINES.get(architecture)
    if make is None:
        raise UnsupportedError(
            f"the JIT has no code generator for {architecture}", hint="the interpreter runs everywhere"
        )
    return make()


def _x86_64() -> Machine:
    from tracebee.vm.jit.x86_64 import X8664

    return X8664(bmi2=_has_bmi2())


def _aarch64() -> Machine:
    from tracebee.vm.jit.arm64 import Arm64

    return Arm64()


def _has_bmi2() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("flags"):
                    return " bmi2" in line
    except OSError:
        pass
    return False


_MACHINES: dict[str, Callable[[], Machine]] = {"x86_64": _x86_64, "aarch64": _aarch64}
