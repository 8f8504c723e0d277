"""Programs as x86-64 machine code: conformance cases, the interpreter's results, calls of all kinds."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import jit_programs
import pytest
from hypothesis import given, settings

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import decode
from tracebee.isa.insn import Insn
from tracebee.obj.model import MapDef
from tracebee.vm import conformance
from tracebee.vm.interpreter import Machine
from tracebee.vm.jit import Environment, NativeProgram, compile_program, compiler
from tracebee.vm.jit.x86_64 import X8664
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.maps.nested import ProgArrayMap
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program

pytestmark = pytest.mark.needs("x86_64")

# Refusing a program is the verifier's part: only cases with a result are the JIT's.
CASES = [
    path
    for path in sorted((Path(__file__).parents[1] / "conformance").glob("*.data"))
    if "-- result" in path.read_text()
]


@pytest.fixture(
    params=[pytest.param(False, id="plain"), pytest.param(True, id="bmi2", marks=pytest.mark.needs("bmi2"))]
)
def bmi2(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to shift, where the processor has both."""
    monkeypatch.setitem(compiler._MACHINES, "x86_64", lambda: X8664(bmi2=request.param))


def run(insns: list[Insn], memory: bytes = b"", environment: Environment | None = None) -> tuple[int, bytes]:
    """r0, and the memory afterwards."""
    buffer = ctypes.create_string_buffer(memory, max(len(memory), 1))
    address = ctypes.addressof(buffer) if memory else 0
    with NativeProgram(compile_program(Program(insns), environment)) as native:
        result = native.run(address, len(memory), packet=(ctypes.addressof(buffer), len(memory)))
    return result, buffer.raw[: len(memory)]


def text(source: str, environment: Environment | None = None) -> int:
    return run(assemble(source), environment=environment)[0]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_conformance(path: Path) -> None:
    case = conformance.parse(path.read_text(), path.name)
    assert run(decode(case.code), case.memory)[0] == case.result


def test_there_are_conformance_cases() -> None:
    assert len(CASES) > 300


@pytest.mark.usefixtures("bmi2")
@settings(max_examples=300, deadline=None)
@given(jit_programs.programs())
def test_the_interpreter_agrees(insns: list[Insn]) -> None:
    image = bytes(range(1, jit_programs.MEMORY + 1))
    space, buffer = Memory(), bytearray(image)
    region = space.add(Region("memory", buffer))
    machine = Machine(Program(insns), memory=space)
    machine.start(region.base, len(image))
    assert run(insns, image) == (machine.run(), bytes(buffer))


@settings(max_examples=30, deadline=None)
@given(jit_programs.programs())
def test_code_is_placed_as_the_table_says(insns: list[Insn]) -> None:
    native = compile_program(Program(insns))
    assert native.functions == {0: 0}
    assert list(native.slots.values()) == sorted(native.slots.values())
    assert len(native.slots) == len(insns)


def test_long_jumps() -> None:
    for filler in (10, 40, 200, 20_000):
        body = "r0 += 1\n" * filler
        assert text(f"r0 = 0\n if r1 == 0 goto end\n {body} end:\n r0 += 5\n exit") == 5
        assert text(f"r0 = 0\n if r1 != 0 goto end\n {body} end:\n r0 += 5\n exit") == filler + 5


def test_a_loop_to_the_first_instruction_runs_no_second_prologue() -> None:
    assert text("start:\n r0 = r6\n r6 += 1\n if r0 s< 100 goto start\n exit") == 100


def test_subprograms_keep_their_callers_registers_and_stack() -> None:
    source = """
        r6 = 100
        r7 = 20
        *(u64 *)(r10 -8) = 3
        r1 = 5
        call pc+5
        r0 += r6
        r0 += r7
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        exit
        r6 = r1
        r7 = 7
        *(u64 *)(r10 -8) = 1000
        r0 = r6
        r0 += r7
        exit
    """
    assert text(source) == 5 + 7 + 100 + 20 + 3


def test_recursion() -> None:
    source = """
        r1 = 10
        call pc+1
        exit
        if r1 > 1 goto more
        r0 = 1
        exit
        more:
        r6 = r1
        r1 -= 1
        call pc-6
        r0 *= r6
        exit
    """
    assert text(source) == 3628800


def test_helpers_get_five_arguments_and_keep_r6_to_r9() -> None:
    seen: list[tuple[int, ...]] = []

    def helper(*arguments: int) -> int:
        seen.append(arguments)
        return 1 << 63

    callback = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 5)(helper)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    insns = assemble(
        """
        r6 = 6
        r7 = 7
        r8 = 8
        r9 = 9
        r1 = 1
        r2 = 2
        r3 = 3
        r4 = 4
        r5 = -5
        call 7
        r0 >>= 60
        r0 += r6
        r0 += r7
        r0 += r8
        r0 += r9
        exit
        """
    )
    assert run(insns, environment=Environment(helpers={7: address}))[0] == 8 + 30
    assert seen == [(1, 2, 3, 4, (1 << 64) - 5)]


def test_a_helper_calls_a_function_of_the_program() -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 5)

    def twice(function: int, argument: int, *_: int) -> int:
        call = prototype(function)
        return int(call(argument, 0, 0, 0, 0)) + int(call(argument + 1, 0, 0, 0, 0))

    callback = prototype(twice)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    insns = [
        Insn(0x18, 1, 4, 0, 4),  # r1 = function at slot 5
        *assemble("r2 = 10\n call 1\n exit"),
        *assemble("r0 = r1\n r0 *= r0\n exit"),
    ]
    assert run(insns, environment=Environment(helpers={1: address}))[0] == 10 * 10 + 11 * 11


def test_what_has_no_native_code_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="helper 5"):
        compile_program(Program(assemble("call 5\n exit")))
    with pytest.raises(UnsupportedError, match="maps are addresses"):
        compile_program(Program([Insn(0x18, 1, 1, 0, 3), *assemble("exit")]))
    with pytest.raises(UnsupportedError, match="s390x"):
        compile_program(Program(assemble("exit")), architecture="s390x")


class TailCalls:
    """A prog array of a VM's, and programs in it."""

    def __init__(self, entries: int) -> None:
        self.space = MapSpace()
        self.array = self.space.create(MapDef("programs", uapi.BPF_MAP_TYPE_PROG_ARRAY, 4, 4, entries))
        self.environment = Environment(programs=self.space.programs.table)

    def compile(self, insns: list[Insn], index: int = -1) -> NativeProgram:
        """Native code of a program, put into the array."""
        program = Program(insns)
        native = NativeProgram(compile_program(program, self.environment))
        if index >= 0:
            assert isinstance(self.array, ProgArrayMap)
            self.array.put(index, program)
            self.space.programs.enter(program, native.address)
        return native

    def __enter__(self) -> TailCalls:
        return self

    def __exit__(self, *exc: object) -> None:
        self.space.close()

    def call(self, index: int, before: str = "", after: str = "r0 = 1") -> list[Insn]:
        """A program that calls the one at an index."""
        return [
            *assemble(before or "r6 = r6"),
            Insn(0x18, 2, 0, 0, self.array.address),
            *assemble(f"r3 = {index}\n call 12\n {after}\n exit"),
        ]


def test_tail_calls() -> None:
    with TailCalls(3) as calls, calls.compile(assemble("r0 = r1\n r0 += 40\n exit"), 2):
        for index, expected in ((2, 42), (1, 1), (3, 1), (-1, 1)):
            with calls.compile(calls.call(index)) as caller:
                assert caller.run(2) == expected


def test_a_tail_call_from_a_subprogram_returns_to_its_caller() -> None:
    with TailCalls(1) as calls, calls.compile(assemble("r6 = 9\n r0 = 40\n exit"), 0):
        caller = [*assemble("r6 = 2\n call pc+2\n r0 += r6\n exit"), *calls.call(0, "r6 = 7")]
        with calls.compile(caller) as native:
            assert native.run() == 42


def test_33_tail_calls_and_no_more() -> None:
    memory = ctypes.c_uint64()
    count = "r0 = *(u64 *)(r1 +0)\n r0 += 1\n *(u64 *)(r1 +0) = r0"
    with TailCalls(1) as calls, calls.compile(calls.call(0, count, "r0 = 7"), 0) as native:
        for _ in range(2):  # every run begins at 0
            memory.value = 0
            assert native.run(ctypes.addressof(memory)) == 7
            assert memory.value == 34


def test_may_goto_ends_a_loop() -> None:
    # r0 counts the rounds: the budget is BPF_MAX_LOOPS for a whole run.
    insns = [*assemble("r0 = 0"), Insn(0xE5, 0, 0, 2), *assemble("r0 += 1\n goto pc-3\n exit")]
    assert run(insns)[0] == 8 << 20


def test_registers_are_zero_at_first() -> None:
    insns = assemble("\n".join(f"r0 |= r{n}" for n in range(3, 10)) + "\n r3 = r1\n r4 = 5\n r9 = 6\n exit")
    with NativeProgram(compile_program(Program(insns))) as native:
        assert native.run(1 << 63, 7, repeat=3) == 0


def test_many_runs() -> None:
    memory = ctypes.c_uint64()
    insns = assemble("r0 = *(u64 *)(r1 +0)\n r0 += 1\n *(u64 *)(r1 +0) = r0\n exit")
    with NativeProgram(compile_program(Program(insns))) as native:
        assert native.run(ctypes.addressof(memory), repeat=1000) == 1000


def test_no_memory_is_writable_and_executable() -> None:
    with NativeProgram(compile_program(Program(assemble("r0 = 0\n exit")))) as native:
        with open("/proc/self/maps") as maps:
            rights = [
                line.split()[1]
                for line in maps
                if int(line.split("-")[0], 16) <= native.address < int(line.split("-")[1].split()[0], 16)
            ]
        assert rights == ["r-xp"]


def test_packet_loads_are_big_endian_and_end_the_program_beyond_the_end() -> None:
    packet = bytes(range(1, 9))
    for size, bits in ((1, 8), (2, 16), (4, 32)):
        source = f"r6 = r1\n r0 = *(u{bits} *)skb[3]\n exit"
        assert run(assemble(source), packet)[0] == int.from_bytes(packet[3 : 3 + size], "big")
        for offset in (9 - size, 100, -1):
            source = f"r6 = r1\n r7 = 5\n r0 = *(u{bits} *)skb[{offset}]\n r0 = 9\n exit"
            assert run(assemble(source), packet)[0] == 0
    assert (
        run(assemble("r6 = r1\n r7 = 2\n r0 = *(u16 *)skb[r7 + 1]\n exit"), packet)[0]
        == struct.unpack(">H", packet[3:5])[0]
    )


def test_a_store_across_the_stacks_end_ends_nobody() -> None:
    # No verifier lets this pass, but a conformance suite in the field has it.
    text = "call pc+1\n exit\n *(u64 *)(r10 -4) = 7\n r0 = *(u32 *)(r10 -4)\n exit"
    with NativeProgram(compile_program(Program(assemble(text)))) as program:
        assert [program.run() for _ in range(3)] == [7, 7, 7]
