"""Conformance cases: one program, the memory it gets, and the result it must give or that it must be refused.

A case file is in the public BPF conformance suite's form::

    # What it is about.
    -- asm
    ldxb %r0, [%r1+1]
    exit
    -- mem
    aa bb cc
    -- result
    0xbb

``-- raw`` gives the program as 64-bit little-endian numbers instead, one an instruction slot; ``-- error``
instead of a result says that the program must not run to its end (its text is a remark). The program
gets the memory's address in r1 and its length in r2; one with packet loads gets a context, whose packet the
memory is, in r1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tracebee.errors import DecodeError, KernelError, ProgramFaultError
from tracebee.isa import asm_ubpf
from tracebee.isa import insn as isa
from tracebee.isa.codec import decode, encode
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import find
from tracebee.vm.interpreter import Machine
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program

# Runs bytecode on memory and gives r0; raises ProgramFaultError or KernelError when it will not.
Engine = Callable[[bytes, bytes], int]


class Case(NamedTuple):
    """One case. ``result`` is None when the program must be refused or stopped."""

    name: str
    code: bytes
    memory: bytes
    result: int | None
    remark: str = ""

    @property
    def groups(self) -> frozenset[str]:
        """The conformance groups of the program's instructions."""
        try:
            rows = [find(insn) for insn in decode(self.code)]
        except DecodeError:
            return frozenset()
        return frozenset(row.group for row in rows if row is not None)


class Verdict(NamedTuple):
    """How an engine did on a case: ``error`` is what it refused with, ``value`` its r0."""

    passed: bool
    value: int | None
    error: str | None


def parse(text: str, name: str) -> Case:
    """Read a case file.

    :raises DecodeError: a section is missing or unknown, or a number in it is none.
    :raises SourceError: the program cannot be assembled.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("--"):
            current = sections.setdefault(line[2:].strip(), [])
        elif current is not None:
            current.append(line)
    unknown = set(sections) - {"asm", "raw", "mem", "result", "error", "c", "no register offset"}
    if unknown:
        raise DecodeError(f"{name}: unknown section '{min(unknown)}'")
    if "asm" not in sections and "raw" not in sections:
        raise DecodeError(f"{name}: there is no program")
    try:
        memory = bytes.fromhex(" ".join(sections.get("mem", [])))
        if "raw" in sections:
            numbers = " ".join(sections["raw"]).split()
            code = b"".join(int(number, 0).to_bytes(8, "little") for number in numbers)
        else:
            code = encode(asm_ubpf.assemble("\n".join(sections["asm"]), source=name))
        wanted = " ".join(sections.get("result", [])).split()
        result = int(wanted[0], 0) & ((1 << 64) - 1) if wanted else None
    except ValueError as error:
        raise DecodeError(f"{name}: {error}") from error
    if result is None and "error" not in sections:
        raise DecodeError(f"{name}: there is neither a result nor an error")
    remark = " ".join(sections.get("error", [])).strip()
    return Case(name, code, memory, result, remark)


def check(case: Case, engine: Engine) -> Verdict:
    """Run a case on an engine."""
    try:
        value = engine(case.code, case.memory)
    except (ProgramFaultError, DecodeError, KernelError) as error:
        return Verdict(case.result is None, None, error.message)
    return Verdict(value == case.result, value, None)


def uses_packet(insns: list[Insn]) -> bool:
    """Whether a program has legacy packet loads."""
    return any(insn.opcode & 7 == isa.BPF_LD and not insn.is_wide for insn in insns)


def interpret(code: bytes, memory: bytes) -> int:
    """The interpreter in checked mode as an Engine, without helpers."""
    insns = decode(code)
    space, buffer = Memory(), bytearray(memory or 1)
    region = space.add(Region("memory", buffer)) if memory else None
    machine = Machine(Program(insns), memory=space)
    machine.start(region.base if region else 0, len(memory), packet=memory)
    return machine.run()


def run_native(code: bytes, memory: bytes) -> int:
    """The JIT as an Engine: machine code, which nothing stops from going wrong.

    :raises UnsupportedError: there is no compiler for this machine.
    """
    from tracebee.vm.jit import NativeProgram, compile_program

    buffer = bytearray(memory or 1)
    region = Region("memory", buffer)
    address = region.base if memory else 0
    with NativeProgram(compile_program(Program(decode(code)))) as program:
        return program.run(address, len(memory), packet=(region.base, len(memory)))


_SOCKET_FILTER, _XDP = 1, 6
_ETHERNET_HEADER = 14
_MIN_PACKET = 14


def run_in_kernel(code: bytes, memory: bytes) -> int:
    """The running kernel as an Engine: its verifier, its JIT, ``BPF_PROG_TEST_RUN`` on a packet.

    The program becomes a function, called with the packet's address and length once for each half of
    its 64-bit result, as the system call hands back 32 bits.

    :raises VerifierError: refused; KernelError: another failure.
    """
    from tracebee.kernel.program import Program as KernelProgram

    insns = decode(code)
    if uses_packet(insns):
        with KernelProgram.load(code, _SOCKET_FILTER) as program:
            return program.test_run(data=bytes(_ETHERNET_HEADER) + memory).retval & 0xFFFFFFFF
    halves = []
    for shift in (0, 32):
        with KernelProgram.load(encode(_wrapped(insns, len(memory), shift)), _XDP) as program:
            halves.append(program.test_run(data=memory.ljust(_MIN_PACKET, b"\0")).retval & 0xFFFFFFFF)
    return halves[0] | halves[1] << 32


def _wrapped(insns: list[Insn], length: int, shift: int) -> list[Insn]:
    """A program for XDP that calls another with the packet in r1 and r2, and returns half its result."""
    from tracebee.isa.asm import assemble

    return [
        *assemble(
            f"""
            r2 = *(u32 *)(r1 +4)    ; struct xdp_md: data_end
            r1 = *(u32 *)(r1 +0)    ; data
            r3 = r1
            r3 += {length}
            if r3 > r2 goto short
            r2 = {length}
            call pc+4
            r0 >>= {shift}
            exit
            short:
            r0 = 0
            exit
            """
        ),
        *insns,
    ]
