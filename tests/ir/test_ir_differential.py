"""Random programs compute what a direct reading of their IR says: in the kernel, and in the interpreter."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_evaluator import Evaluator
from ir_programs import CONTEXT_WORDS, Generator

from tracebee import uapi
from tracebee.ir import Compiled, compile_module
from tracebee.ir.check import check
from tracebee.isa.codec import encode
from tracebee.isa.helpers import BY_NAME
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.obj.model import MapDef
from tracebee.vm.interpreter import Helper, Machine
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program as VmProgram

WORDS = st.lists(
    st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, 5, (1 << 64) - 1, 1 << 63])),
    min_size=CONTEXT_WORDS,
    max_size=CONTEXT_WORDS,
)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("cpu_version", [3, 4])
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1 << 32), statements=st.integers(1, 40), words=WORDS)
def test_kernel_agrees(cpu_version: int, seed: int, statements: int, words: list[int]) -> None:
    module = Generator(Random(seed), statements).program()
    function = module.functions[0]
    check(function)
    expected = Evaluator(function, words).run() & 0xFFFFFFFF
    compiled = compile_module(module, cpu_version=cpu_version, after_pass=lambda _name, f: check(f))
    assert run(compiled, words) == expected


def run(compiled: Compiled, words: list[int]) -> int:
    """The first function's result in the kernel, which may need scratch memory."""
    insns = list(compiled.functions[0].insns)
    size = max(8, compiled.scratch_size)
    with Map.create(MapDef("scratch", uapi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, size, 1)) as scratch:
        for reloc in compiled.functions[0].relocs:
            assert (reloc.kind, reloc.symbol) == ("map", "scratch")
            insns[reloc.at] = insns[reloc.at]._replace(imm=scratch.fd)
        with Program.load(encode(insns), uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program:
            result = program.test_run(ctx=struct.pack(f"<{CONTEXT_WORDS}Q", *words))
    return result.retval & 0xFFFFFFFF


@pytest.mark.parametrize("cpu_version", [3, 4])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32), statements=st.integers(1, 40), words=WORDS)
def test_interpreter_agrees(cpu_version: int, seed: int, statements: int, words: list[int]) -> None:
    module = Generator(Random(seed), statements).program()
    expected = Evaluator(module.functions[0], words).run() & 0xFFFFFFFF
    compiled = compile_module(module, cpu_version=cpu_version)
    insns = list(compiled.functions[0].insns)
    for reloc in compiled.functions[0].relocs:
        insns[reloc.at] = insns[reloc.at]._replace(src=0)
    memory = Memory()
    scratch = memory.add(Region("scratch", bytearray(max(8, compiled.scratch_size)), track=True))
    context = memory.add(Region("context", bytearray(struct.pack(f"<{CONTEXT_WORDS}Q", *words))))
    helpers: dict[int, Helper] = {
        BY_NAME["get_prandom_u32"].number: lambda _machine, *_: 0x5EED5EED,
        BY_NAME["map_lookup_elem"].number: lambda _machine, *_: scratch.base,
    }
    machine = Machine(VmProgram(insns), helpers=helpers, memory=memory)
    machine.start(context.base)
    assert machine.run() & 0xFFFFFFFF == expected
