"""Programs as arm64 machine code, run by an emulator; encodings against a disassembler of record."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import capstone
import jit_programs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracebee.isa.asm import assemble
from tracebee.isa.codec import decode
from tracebee.isa.insn import Insn
from tracebee.vm import conformance
from tracebee.vm.interpreter import Machine
from tracebee.vm.jit import Environment, compile_program
from tracebee.vm.jit import arm64_encode as arm
from tracebee.vm.jit.arm64 import Arm64
from tracebee.vm.maps import layout
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program

CASES = [
    path
    for path in sorted((Path(__file__).parents[1] / "conformance").glob("*.data"))
    if "-- result" in path.read_text()
]


class Emulator:
    """The loader under qemu."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            ["qemu-aarch64", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.mix, self.programs = struct.unpack("<QQ", self._read(16))
        code = Arm64().invoker()
        self._write(struct.pack("<II", len(code), 0) + code)

    def _read(self, size: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(size)
        assert len(data) == size, f"the emulator ended with {self.process.wait()}"
        return data

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def run(self, insns: list[Insn], memory: bytes = b"") -> tuple[int, bytes]:
        """r0, and the memory afterwards."""
        native = compile_program(
            Program(insns), Environment({7: self.mix}, programs=self.programs), "aarch64"
        )
        self._write(struct.pack("<II", len(native.code), len(memory)) + native.code + memory)
        (result,) = struct.unpack("<Q", self._read(8))
        return result, self._read(len(memory))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    program = tmp_path_factory.mktemp("arm64") / "loader"
    source = Path(__file__).with_name("arm64_loader.c")
    subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", "-o", program, source], check=True)
    emulator = Emulator(program)
    yield emulator
    emulator.close()


@pytest.mark.needs("qemu_aarch64")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_conformance(path: Path, emulator: Emulator) -> None:
    case = conformance.parse(path.read_text(), path.name)
    assert emulator.run(decode(case.code), case.memory)[0] == case.result


@pytest.mark.needs("qemu_aarch64")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(insns=jit_programs.programs())
def test_the_interpreter_agrees(emulator: Emulator, insns: list[Insn]) -> None:
    image = bytes(range(1, jit_programs.MEMORY + 1))
    space, buffer = Memory(), bytearray(image)
    region = space.add(Region("memory", buffer))
    machine = Machine(Program(insns), memory=space)
    machine.start(region.base, len(image))
    assert emulator.run(insns, image) == (machine.run(), bytes(buffer))


@pytest.mark.needs("qemu_aarch64")
def test_calls_and_frames(emulator: Emulator) -> None:
    factorial = """
        r1 = 10
        call pc+1
        exit
        if r1 > 1 goto more
        r0 = 1
        exit
        more:
        r6 = r1
        *(u64 *)(r10 -8) = r6
        r1 -= 1
        call pc-7
        r1 = *(u64 *)(r10 -8)
        r0 *= r1
        exit
    """
    assert emulator.run(assemble(factorial))[0] == 3628800
    helper = "r9 = 9\n r1 = 1\n r2 = 2\n r3 = 3\n r4 = 4\n r5 = 5\n call 7\n r0 *= 10\n r0 += r9\n exit"
    assert emulator.run(assemble(helper))[0] == 543219


@pytest.mark.needs("qemu_aarch64")
def test_a_function_of_the_program_by_its_address(emulator: Emulator) -> None:
    # The address of a function lies after the function that asks: their difference is what is checked.
    insns = [
        Insn(0x18, 1, 4, 0, 8),
        Insn(0x18, 2, 4, 0, 8),
        *assemble("r0 = r2\n r0 -= r1\n call pc+2\n call pc+1\n exit\n r0 = r0\n exit\n r0 = 5\n exit"),
    ]
    functions = compile_program(Program(insns), architecture="aarch64").functions
    first, second = sorted(functions)[1:3]
    assert emulator.run(insns)[0] == functions[second] - functions[first]


@pytest.mark.needs("qemu_aarch64")
@pytest.mark.parametrize("filler", [10, 400_000])
def test_far_jumps(emulator: Emulator, filler: int) -> None:
    insns = [
        *assemble("r0 = 0"),
        Insn(0x56, 1, 0, 1, 1),  # if w1 != 1 goto +1
        Insn(0x06, 0, 0, 0, filler),  # gotol over the filler
        *assemble("r0 += 1") * filler,
        *assemble("r0 += 5\n exit"),
    ]
    assert emulator.run(insns, b"x")[0] == filler + 5


@pytest.mark.needs("qemu_aarch64")
def test_packet_loads(emulator: Emulator) -> None:
    packet = bytes(range(1, 9))
    for size, bits in ((1, 8), (2, 16), (4, 32)):
        source = f"r6 = r1\n r0 = *(u{bits} *)skb[3]\n exit"
        assert emulator.run(assemble(source), packet)[0] == int.from_bytes(packet[3 : 3 + size], "big")
        for offset in (9 - size, 100, -1):
            source = f"r6 = r1\n r7 = 5\n r0 = *(u{bits} *)skb[{offset}]\n r0 = 9\n exit"
            assert emulator.run(assemble(source), packet)[0] == 0


@pytest.mark.needs("qemu_aarch64")
def test_may_goto_ends_a_loop(emulator: Emulator) -> None:
    insns = [*assemble("r0 = 0"), Insn(0xE5, 0, 0, 2), *assemble("r0 += 1\n goto pc-3\n exit")]
    assert emulator.run(insns)[0] == 8 << 20


@pytest.mark.needs("qemu_aarch64")
def test_33_tail_calls_and_no_more(emulator: Emulator) -> None:
    # The program puts its own address into the table of programs, and its number is in the prog array
    # that lies in its memory; the word at 256 counts its runs.
    insns = [
        *assemble("r6 = r1\n r0 = *(u64 *)(r6 +256)\n r0 += 1\n *(u64 *)(r6 +256) = r0"),
        Insn(0x18, 4, 4, 0, -5 & 0xFFFFFFFF),
        Insn(0x18, 5, 0, 0, emulator.programs),
        *assemble("*(u64 *)(r5 +24) = r4\n r2 = r1\n r3 = 1\n call 12\n r0 = *(u64 *)(r6 +256)\n exit"),
    ]
    header = bytearray(264)
    struct.pack_into("<I", header, layout.MAX_ENTRIES, 2)
    struct.pack_into("<I", header, layout.ELEMENT_STEP, 8)
    struct.pack_into("<Q", header, layout.ELEMENTS, 128)
    struct.pack_into("<I", header, 128 + 8, 3)
    assert emulator.run(insns, bytes(header))[0] == 34


def text(code: int) -> str:
    (instruction,) = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM).disasm(arm.words(code), 0)
    return f"{instruction.mnemonic} {instruction.op_str}".strip()


REG = st.integers(0, 28)
WIDE = st.integers(0, 1)


def reg(number: int, wide: int) -> str:
    return f"{'x' if wide else 'w'}{number}"


@given(REG, REG, REG, WIDE)
def test_register_encodings(d: int, n: int, m: int, wide: int) -> None:
    triple = f"{reg(d, wide)}, {reg(n, wide)}, {reg(m, wide)}"
    names = {"add": arm.ADD, "sub": arm.SUB, "and": arm.AND, "orr": arm.OR, "eor": arm.XOR, "subs": arm.SUBS,
             "ands": arm.ANDS, "udiv": arm.DIVIDE, "sdiv": arm.DIVIDE_SIGNED, "lsl": arm.SHIFT_LEFT,
             "lsr": arm.SHIFT_RIGHT, "asr": arm.SHIFT_RIGHT_SIGNED}  # fmt: skip
    for name, operation in names.items():
        assert text(arm.register(operation, d, n, m, wide)) == f"{name} {triple}"
    assert text(arm.multiply(d, n, m, wide)) == f"mul {triple}"
    assert text(arm.multiply_subtract(d, n, m, 9, wide)) == f"msub {triple}, {reg(9, wide)}"
    assert text(arm.move(d, n, wide)) == f"mov {reg(d, wide)}, {reg(n, wide)}"
    assert text(arm.add_signed_word(d, n, m)) == f"add x{d}, x{n}, w{m}, sxtw"
    assert text(arm.register(arm.ADD, d, n, m, 1, 3)) == f"add x{d}, x{n}, x{m}, lsl #3"


@given(REG, REG, WIDE, st.integers(1, 4095), st.integers(1, 31))
def test_immediate_encodings(d: int, n: int, wide: int, value: int, count: int) -> None:
    pair = f"{reg(d, wide)}, {reg(n, wide)}"
    for name, operation in {"add": arm.ADD_IMMEDIATE, "sub": arm.SUB_IMMEDIATE, "adds": arm.ADDS_IMMEDIATE,
                            "subs": arm.SUBS_IMMEDIATE}.items():  # fmt: skip
        assert text(arm.immediate(operation, d, n, value, wide)).split(" ", 1) == [
            name, f"{pair}, #{value if value < 10 else hex(value)}"
        ]  # fmt: skip
    for name, operation in {
        "lsl": arm.SHIFT_LEFT,
        "lsr": arm.SHIFT_RIGHT,
        "asr": arm.SHIFT_RIGHT_SIGNED,
    }.items():
        shown = text(arm.shift_immediate(operation, d, n, count, wide))
        assert shown == f"{name} {pair}, #{count if count < 10 else hex(count)}"


@given(REG, st.integers(0, (1 << 64) - 1), st.integers(-300, 300))
def test_move_immediate(d: int, value: int, small: int) -> None:
    for wanted in (value, small & (1 << 64) - 1, value & 0xFFFF0000FFFF, value | 0xFFFF0000FFFF0000):
        got = 0
        code = arm.move_immediate(d, wanted)
        for instruction in code:
            kind, part = instruction >> 23 & 0x1FF, instruction >> 5 & 0xFFFF
            shift = (instruction >> 21 & 3) * 16
            assert instruction & 31 == d
            if kind == 0x1A5:  # movz
                got = part << shift
            elif kind == 0x125:  # movn
                got = ~(part << shift) & (1 << 64) - 1
            else:
                assert kind == 0x1E5  # movk
                got = got & ~(0xFFFF << shift) | part << shift
        assert got == wanted
        halves = [wanted >> s & 0xFFFF for s in (0, 16, 32, 48)]
        assert len(code) == max(1, 4 - max(halves.count(0), halves.count(0xFFFF)))


@given(REG, REG, st.integers(-4096, 40000), st.sampled_from([8, 16, 32, 64]))
def test_access_encodings(t: int, n: int, offset: int, bits: int) -> None:
    suffix = {8: "b", 16: "h", 32: "", 64: ""}[bits]
    register = reg(t, int(bits == 64))
    for kind, name in ((arm.LOAD, "ldr"), (arm.STORE, "str")):
        code = arm.access(kind, t, n, offset, bits)
        if code is None:
            assert offset < -256 or offset >= 256
            continue
        scaled = offset >= 0 and offset % (bits // 8) == 0
        name = name if scaled else name.replace("r", "ur", 1) if name == "ldr" else "stur"
        shown = "" if offset == 0 else f", #{offset if abs(offset) < 10 else hex(offset)}"
        assert text(code) == f"{name.replace('ldur', 'ldur')}{suffix} {register}, [x{n}{shown}]"
    assert text(arm.access_indexed(arm.LOAD, t, n, 9, bits)) == f"ldr{suffix} {register}, [x{n}, x9]"
    if bits < 64:
        signed = f"ldrs{suffix or 'w'}"
        assert text(arm.access_indexed(arm.LOAD_SIGNED, t, n, 9, bits)) == f"{signed} x{t}, [x{n}, x9]"


@given(REG, REG, REG)
def test_atomic_encodings(t: int, n: int, s: int) -> None:
    for bits in (32, 64):
        r = reg(t, int(bits == 64))
        assert text(arm.load_exclusive(t, n, bits, acquire=True)) == f"ldaxr {r}, [x{n}]"
        assert text(arm.load_exclusive(t, n, bits, acquire=False)) == f"ldxr {r}, [x{n}]"
        assert text(arm.store_exclusive(s, t, n, bits, release=True)) == f"stlxr w{s}, {r}, [x{n}]"
        assert text(arm.store_exclusive(s, t, n, bits, release=False)) == f"stxr w{s}, {r}, [x{n}]"
    for bits, suffix in ((8, "b"), (16, "h"), (32, ""), (64, "")):
        r = reg(t, int(bits == 64))
        assert text(arm.load_acquire(t, n, bits)) == f"ldar{suffix} {r}, [x{n}]"
        assert text(arm.store_release(t, n, bits)) == f"stlr{suffix} {r}, [x{n}]"


@given(REG, REG)
def test_other_encodings(d: int, n: int) -> None:
    assert text(arm.extend(d, n, 8, 1, signed=True)) == f"sxtb x{d}, w{n}"
    assert text(arm.extend(d, n, 16, 0, signed=True)) == f"sxth w{d}, w{n}"
    assert text(arm.extend(d, n, 32, 1, signed=True)) == f"sxtw x{d}, w{n}"
    assert text(arm.extend(d, n, 8, 0, signed=False)) == f"uxtb w{d}, w{n}"
    assert text(arm.extend(d, n, 16, 0, signed=False)) == f"uxth w{d}, w{n}"
    assert text(arm.reverse(d, n, 64)) == f"rev x{d}, x{n}"
    assert text(arm.reverse(d, n, 32)) == f"rev w{d}, w{n}"
    assert text(arm.reverse(d, n, 16)) == f"rev16 w{d}, w{n}"
    assert text(arm.branch_register(n)) == f"br x{n}"
    assert text(arm.call_register(n)) == f"blr x{n}"
    assert text(arm.here(d)) == f"adr x{d}, #0"
    if d != n:
        assert text(arm.push(d, n)) == f"stp x{d}, x{n}, [sp, #-0x10]!"
        assert text(arm.pop(d, n)) == f"ldp x{d}, x{n}, [sp], #0x10"
    assert text(arm.branch_if_zero(n, 0x20, 1)) == f"cbz x{n}, #0x20"
    assert text(arm.branch_if_not_zero(n, 0x20, 0)) == f"cbnz w{n}, #0x20"


def test_branches() -> None:
    assert text(arm.branch(0x100)) == "b #0x100"
    assert text(arm.branch_link(0x100)) == "bl #0x100"
    names = {"eq": arm.EQUAL, "ne": arm.NOT_EQUAL, "hs": arm.HIGHER_SAME, "lo": arm.LOWER, "hi": arm.HIGHER,
             "ls": arm.LOWER_SAME, "ge": arm.GREATER_EQUAL, "lt": arm.LESS, "gt": arm.GREATER,
             "le": arm.LESS_EQUAL}  # fmt: skip
    for name, condition in names.items():
        assert text(arm.branch_if(condition, 0x40)) == f"b.{name} #0x40"
    assert text(arm.RETURN) == "ret"
    assert text(arm.BARRIER) == "dmb ish"
