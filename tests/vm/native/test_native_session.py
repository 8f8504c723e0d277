"""Objects as native code give what the interpreter gives: context, maps, output, errors."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.cli import vm as cli
from tracebee.errors import ProgramFaultError, UsageError
from tracebee.isa.asm import assemble_functions
from tracebee.obj.model import Function, MapDef, Object, ProgramDef, Reloc
from tracebee.vm.native import NativeVm
from tracebee.vm.session import Vm

pytestmark = pytest.mark.needs("x86_64")

COUNTS = MapDef("counts", uapi.BPF_MAP_TYPE_HASH, 4, 8, 16)
SLOTS = MapDef("slots", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 4)


def program(text: str, *maps: MapDef, kind: int = uapi.BPF_PROG_TYPE_TRACEPOINT) -> Object:
    """An object of one program and the functions behind it in the text."""
    functions = [
        Function(
            code.name,
            code.insns,
            tuple(Reloc(symbol.at, symbol.kind, symbol.name, symbol.addend) for symbol in code.symbols),
        )
        for code in assemble_functions(text)
    ]
    return Object("o", "GPL", maps, (ProgramDef(functions[0], "tp", kind),), tuple(functions[1:]))


COUNT = """
    r6 = r1
    r1 = *(u32 *)(r6 +0)
    *(u32 *)(r10 -4) = r1
    r1 = map[counts]
    r2 = r10
    r2 += -4
    call map_lookup_elem
    if r0 == 0 goto first
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = *(u64 *)(r0 +0)
    *(u32 *)(r6 +0) = 77
    exit
first:
    r1 = 1
    *(u64 *)(r10 -16) = r1
    r1 = map[counts]
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call map_update_elem
    exit
"""


def test_context_and_maps() -> None:
    context = struct.pack("=II", 5, 0)
    with Vm(program(COUNT, COUNTS)) as interpreted, Vm(program(COUNT, COUNTS)) as vm, NativeVm(vm) as native:
        for _ in range(3):
            expected, found = interpreted.run(context=context), native.run(context=context)
            assert (found.value, found.context) == (expected.value, expected.context)
        assert vm.maps["counts"].items() == interpreted.maps["counts"].items()
        assert vm.maps["counts"].items() == [(struct.pack("=I", 5), struct.pack("=Q", 3))]


def test_many_runs() -> None:
    with Vm(program(COUNT, COUNTS)) as vm, NativeVm(vm) as native:
        native.run(context=bytes(8), repeat=1000)
        # The second run overwrites the context's key.
        assert sorted(vm.maps["counts"].items()) == [
            (struct.pack("=I", 0), struct.pack("=Q", 2)),
            (struct.pack("=I", 77), struct.pack("=Q", 998)),
        ]


def test_a_helper_without_native_code_is_pythons() -> None:
    text = """
        r1 = 0x0a6425203a72 ll
        *(u64 *)(r10 -8) = r1
        r1 = r10
        r1 += -8
        r2 = 7
        r3 = 42
        call trace_printk
        exit
    """
    with Vm(program(text)) as vm, NativeVm(vm) as native:
        assert native.run().value == vm.run().value == 6
        assert vm.environment.output == ["r: 42\n", "r: 42\n"]


def test_helpers_run_functions_of_the_program() -> None:
    text = """
        r1 = 10
        r2 = subprog[add]
        r3 = r10
        r3 += -8
        *(u64 *)(r10 -8) = 0
        r4 = 0
        call loop
        r0 = *(u64 *)(r10 -8)
        exit
    .func add
        r0 = *(u64 *)(r2 +0)
        r0 += r1
        *(u64 *)(r2 +0) = r0
        r0 = 0
        exit
    """
    with Vm(program(text)) as vm, NativeVm(vm) as native:
        assert native.run().value == vm.run().value == 45


def test_every_element_of_a_map() -> None:
    text = """
        r1 = map[slots]
        r2 = subprog[sum]
        r3 = r10
        r3 += -8
        *(u64 *)(r10 -8) = 0
        r4 = 0
        call for_each_map_elem
        r0 = *(u64 *)(r10 -8)
        exit
    .func sum
        r1 = *(u32 *)(r2 +0)
        r3 = *(u64 *)(r3 +0)
        r1 *= r3
        r0 = *(u64 *)(r4 +0)
        r0 += r1
        *(u64 *)(r4 +0) = r0
        r0 = 0
        exit
    """
    with Vm(program(text, SLOTS)) as vm, NativeVm(vm) as native:
        for n in range(4):
            vm.maps["slots"].update(struct.pack("=I", n), struct.pack("=Q", n * 10))
        assert native.run().value == vm.run().value == 10 + 40 + 90


def test_packets() -> None:
    text = """
        r2 = *(u32 *)(r1 +0)
        r3 = *(u32 *)(r1 +4)
        r4 = r2
        r4 += 14
        if r4 > r3 goto out
        r0 = *(u8 *)(r2 +13)
        *(u8 *)(r2 +0) = 255
        out:
        exit
    """
    packet = bytes(range(20))
    with Vm(program(text, kind=uapi.BPF_PROG_TYPE_XDP)) as vm, NativeVm(vm) as native:
        expected, found = vm.run(packet=packet), native.run(packet=packet)
        assert (found.value, found.packet) == (expected.value, expected.packet)
        assert found.packet[0] == 255


def test_an_error_in_a_helper_is_raised_after_the_run() -> None:
    obj = program("r1 = 5\n r2 = 6\n r3 = 0\n call get_stackid\n r0 = 0\n exit")
    with Vm(obj) as vm, NativeVm(vm) as native:
        with pytest.raises(ProgramFaultError, match="no map"):
            native.run()
        with pytest.raises(ProgramFaultError, match="no map"):
            native.run()


def test_kernel_functions_are_the_vms() -> None:
    def add(_: object, left: int, right: int, *rest: int) -> int:
        return left + right

    text = "r1 = 40\n r2 = 2\n call kfunc add\n exit"
    with Vm(program(text), kfuncs={"add": add}) as vm, NativeVm(vm) as native:
        assert native.run().value == vm.run().value == 42


def test_tail_calls_between_programs_of_an_object() -> None:
    array = MapDef("jumps", uapi.BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2, values=((1, "second"),))
    first = program("r2 = map[jumps]\n r3 = 1\n call tail_call\n r0 = 1\n exit", array)
    second = program("r0 = 42\n exit").programs[0]
    second = second._replace(function=second.function._replace(name="second"))
    with Vm(first._replace(programs=(*first.programs, second))) as vm, NativeVm(vm) as native:
        assert native.run("main").value == vm.run("main").value == 42


def test_vm_run_with_the_jit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "p.asm"
    source.write_text("r0 = *(u8 *)(r1 +1)\nr0 *= 2\nexit\n")
    assert cli.run(["run", "--jit", "--ctx", "0115", str(source)]) == 0
    assert capsys.readouterr().out == "r0 = 0x2a\n"
    with pytest.raises(UsageError, match="cannot be traced"):
        cli.run(["run", "--jit", "--trace", str(source)])
