"""The same bytecode in the kernel's JIT and in tracebee's: nanoseconds of five loops.

Each program runs in the kernel by BPF_PROG_TEST_RUN, whose own clock gives the average, and here by a
native loop around the compiled program, in CPU time; the best of seven. Also printed:
the time to compile 10,000 instructions.

Run as root: ``.venv/bin/python bench/vm.py``.
"""

from __future__ import annotations

import random
import struct
import sys
import time

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.isa.insn import Insn
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program as KernelProgram
from tracebee.obj.model import MapDef
from tracebee.vm.jit import Environment, NativeProgram, compile_program
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.native import NativeHelpers
from tracebee.vm.program import Program

BYTES = 4096
KEYS = 256
RUNS = 7
DATA = MapDef("data", uapi.BPF_MAP_TYPE_ARRAY, 4, BYTES, 1)
TABLE = MapDef("table", uapi.BPF_MAP_TYPE_HASH, 4, 8, KEYS)

# What each does with r9, the address of BYTES bytes; `table` is a hash map of KEYS u32 keys.
LOOPS = {
    "arithmetic": """
        r0 = 1
        r6 = 2000
    again:
        r1 = r0
        r1 <<= 13
        r0 ^= r1
        r1 = r0
        r1 >>= 7
        r0 ^= r1
        r0 *= 1103515245
        r0 += 12345
        r6 -= 1
        if r6 != 0 goto again
        exit
    """,
    "memcpy": """
        r6 = 0
    again:
        r1 = r9
        r1 += r6
        r0 = *(u64 *)(r1 +0)
        *(u64 *)(r1 +2048) = r0
        r0 = *(u64 *)(r1 +8)
        *(u64 *)(r1 +2056) = r0
        r0 = *(u64 *)(r1 +16)
        *(u64 *)(r1 +2064) = r0
        r0 = *(u64 *)(r1 +24)
        *(u64 *)(r1 +2072) = r0
        r6 += 32
        if r6 < 2048 goto again
        exit
    """,
    "hash": """
        r0 = 2166136261 ll
        r6 = 0
    again:
        r1 = r9
        r1 += r6
        r2 = *(u8 *)(r1 +0)
        w0 ^= w2
        w0 *= 16777619
        r6 += 1
        if r6 < 2048 goto again
        exit
    """,
    "sieve": """
        r6 = 0
    clear:
        r1 = r9
        r1 += r6
        *(u64 *)(r1 +0) = 0
        r6 += 8
        if r6 < 1024 goto clear
        r0 = 0
        r6 = 2
    next:
        r1 = r9
        r1 += r6
        r2 = *(u8 *)(r1 +0)
        if r2 != 0 goto skip
        r0 += 1
        r3 = r6
    strike:
        r3 += r6
        if r3 >= 1024 goto skip
        r1 = r9
        r1 += r3
        *(u8 *)(r1 +0) = 1
        goto strike
    skip:
        r6 += 1
        if r6 < 1024 goto next
        exit
    """,
    "map lookups": """
        r7 = 0
        r6 = 0
    again:
        *(u32 *)(r10 -4) = r6
        r2 = r10
        r2 += -4
        r1 = map[table]
        call map_lookup_elem
        if r0 == 0 goto none
        r0 = *(u64 *)(r0 +0)
        r7 += r0
    none:
        r6 += 1
        if r6 < 256 goto again
        r0 = r7
        exit
    """,
}
EXPECTED = {"sieve": 172, "map lookups": KEYS * (KEYS - 1) // 2}


Figures = dict[str, tuple[float, int]]


def in_kernel() -> Figures:
    """Nanoseconds and result of each loop in the kernel."""
    figures = {}
    with Map.create(DATA) as data, Map.create(TABLE) as table:
        for key in range(KEYS):
            table.update(struct.pack("=I", key), struct.pack("=Q", key))
        for name, text in LOOPS.items():
            start = Insn(0x18, 9, isa.BPF_PSEUDO_MAP_VALUE, 0, data.fd)
            code = [start, *assemble(text, maps={"table": table.fd})]
            with KernelProgram.load(encode(code), uapi.BPF_PROG_TYPE_XDP) as program:
                runs = [program.test_run(data=bytes(64), repeat=2000) for _ in range(RUNS)]
                result = runs[0].retval & 0xFFFFFFFF
                figures[name] = min([float(run.duration) for run in runs]), result
    return figures


def in_vm() -> Figures:
    """Nanoseconds and result of each loop in the VM's JIT."""
    figures = {}
    space = MapSpace()
    data = space.create(DATA)
    table = space.create(TABLE)
    for key in range(KEYS):
        table.update(struct.pack("=I", key), struct.pack("=Q", key))
    with NativeHelpers(space) as helpers:
        for name, text in LOOPS.items():
            code = [
                insn._replace(src=0, imm=table.address) if insn.is_wide and insn.src == 1 else insn
                for insn in assemble(text, maps={"table": 1})
            ]
            start = Insn(0x18, 9, 0, 0, data.address + data.elements)
            native = compile_program(Program([start, *code]), Environment(helpers=helpers.table))
            with NativeProgram(native) as program:
                result = program.run() & 0xFFFFFFFF
                times = []
                for _ in range(RUNS):
                    began = time.thread_time_ns()
                    program.run(repeat=2000)
                    times.append((time.thread_time_ns() - began) / 2000)
            figures[name] = min(times), result
    space.close()
    return figures


def compile_time() -> float:
    """Milliseconds to compile 10,000 instructions of random arithmetic, memory accesses and jumps."""
    rng = random.Random(1)
    code = []
    for _ in range(9999):
        dst, src = rng.randrange(9), rng.randrange(9)
        code.append(
            rng.choice(
                [
                    Insn(isa.BPF_ALU64 | isa.BPF_X | rng.choice([0, 0x10, 0x40, 0x50, 0xA0, 0xB0]), dst, src),
                    Insn(
                        isa.BPF_ALU64 | rng.choice([0, 0x40, 0x50, 0xB0]), dst, 0, 0, rng.randrange(1 << 31)
                    ),
                    Insn(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, dst, isa.R10, -8 * rng.randrange(1, 64)),
                    Insn(isa.BPF_STX | isa.BPF_MEM | isa.BPF_W, isa.R10, src, -8 * rng.randrange(1, 64)),
                    Insn(isa.BPF_JMP | isa.BPF_X | isa.BPF_JEQ, dst, src, 0),
                ]
            )
        )
    program = Program([*code, Insn(isa.BPF_JMP | isa.BPF_EXIT)])
    times = []
    for _ in range(5):
        began = time.thread_time()
        compile_program(program)
        times.append(1000 * (time.thread_time() - began))
    return min(times)


def main() -> None:
    """Print the table."""
    kernel, vm = in_kernel(), in_vm()
    print(f"{'loop':<14}{'kernel ns':>12}{'tracebee ns':>14}{'ratio':>8}")
    for name in LOOPS:
        (theirs, wanted), (ours, result) = kernel[name], vm[name]
        if not wanted == result == EXPECTED.get(name, result):
            sys.exit(f"{name} gave {wanted} in the kernel and {result} here")
        print(f"{name:<14}{theirs:>12.0f}{ours:>14.0f}{ours / theirs:>8.2f}")
    print(f"compiling 10,000 instructions: {compile_time():.0f} ms")


if __name__ == "__main__":
    main()
