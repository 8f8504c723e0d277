"""Subprograms: every argument arrives, in the kernel and in the interpreter."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee import uapi
from tracebee.ir import CTX, I64, STACK, Builder, Function, Module, compile_module
from tracebee.isa.codec import encode
from tracebee.kernel.program import Program
from tracebee.obj.image import build_image
from tracebee.obj.model import Object, ProgramDef
from tracebee.vm.interpreter import Machine
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program as VmProgram

WORDS = (3, 5, 7, 11, 13)


def _mixer(module: Module) -> Function:
    """f(a, b, c, d, e) = a + 2b + 4c + 8d + 16e, the parameters used in the order e to a."""
    function = module.function("mixer", (I64,) * 5)
    b = Builder(function)
    total = b.const(0)
    for index in reversed(range(5)):
        total = b.binary("add", b.binary("mul", total, 2), b.param(index))
    b.ret(total)
    return function


def _image(module: Module) -> list[object]:
    compiled = compile_module(module)
    main = next(f for f in compiled.functions if f.name == "main")
    program = ProgramDef(main, "raw_tp", uapi.BPF_PROG_TYPE_RAW_TRACEPOINT)
    obj = Object("t", "GPL", (), (program,), tuple(f for f in compiled.functions if f is not main))
    return list(build_image(obj, program).insns)


def _run_in_kernel(module: Module) -> int:
    with Program.load(encode(_image(module)), uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program:  # type: ignore[arg-type]
        return program.test_run(ctx=struct.pack("<5Q", *WORDS)).retval


def _run_in_vm(module: Module) -> int:
    memory = Memory()
    context = memory.add(Region("context", bytearray(struct.pack("<5Q", *WORDS))))
    machine = Machine(VmProgram(_image(module)), memory=memory)  # type: ignore[arg-type]
    machine.start(context.base)
    return machine.run()


RUNNERS = [
    pytest.param(_run_in_kernel, marks=pytest.mark.needs("bpf"), id="kernel"),
    pytest.param(_run_in_vm, id="interpreter"),
]


@pytest.mark.parametrize("run", RUNNERS)
@settings(max_examples=30, deadline=None)
@given(order=st.lists(st.integers(0, 4), min_size=5, max_size=5), keep=st.booleans())
def test_arguments(run, order: list[int], keep: bool) -> None:  # type: ignore[no-untyped-def]
    """Any arrangement of values as arguments, repeated ones included; ``keep`` uses them again after."""
    module = Module()
    mixer = _mixer(module)
    b = Builder(module.function("main", (CTX,)))
    words = [b.load(b.param(0), 8 * n, 8) for n in range(5)]
    result = b.call(mixer, *(words[n] for n in order))
    expected = sum(WORDS[n] << place for place, n in enumerate(order))
    if keep:
        for word in words:
            result = b.binary("add", result, word)
        expected += sum(WORDS)
    b.ret(result)
    assert run(module) == expected


@pytest.mark.parametrize("run", RUNNERS)
def test_parameters_passed_on_in_another_order(run) -> None:  # type: ignore[no-untyped-def]
    """The registers of the parameters are those of the arguments: they must change places."""
    module = Module()
    mixer = _mixer(module)
    turn = module.function("turn", (I64,) * 5)
    inner = Builder(turn)
    inner.ret(inner.call(mixer, *(inner.param(n) for n in (4, 3, 1, 0, 2))))
    b = Builder(module.function("main", (CTX,)))
    b.ret(b.call(turn, *(b.load(b.param(0), 8 * n, 8) for n in range(5))))
    assert run(module) == 13 + 2 * 11 + 4 * 5 + 8 * 3 + 16 * 7


@pytest.mark.parametrize("run", RUNNERS)
def test_an_object_of_the_caller(run) -> None:  # type: ignore[no-untyped-def]
    module = Module()
    callee = module.function("bump", (STACK,))
    inner = Builder(callee)
    inner.store(inner.param(0), 8, 8, inner.binary("add", inner.load(inner.param(0), 0, 8), 1))
    inner.ret(0)
    b = Builder(module.function("main", (CTX,)))
    slot = b.alloca(16)
    b.store(slot, 0, 8, b.load(b.param(0), 0, 8))
    b.store(slot, 8, 8, 0)
    b.call(callee, slot)
    b.ret(b.load(slot, 8, 8))
    assert run(module) == 4
