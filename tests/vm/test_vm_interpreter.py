"""What the interpreter refuses, and how calls, callbacks, tail calls and traces behave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import ProgramFaultError
from tracebee.isa.asm import assemble
from tracebee.isa.insn import Insn
from tracebee.vm.interpreter import Callback, Machine, TailCall
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program


def machine(text: str, *arguments: int, **options) -> Machine:
    made = Machine(Program(assemble(text)), **options)
    made.start(*arguments)
    return made


FAULTS = [
    ("r0 = r3\nexit", 0, "r3 is read, but nothing was written to it"),
    ("r1 += 1\nexit", 0, "r1 is read"),
    ("if r2 == 0 goto +0\nexit", 0, "r2 is read"),
    ("w4 = -w4\nexit", 0, "r4 is read"),
    ("r5 = bswap16 r5\nexit", 0, "r5 is read"),
    ("*(u8 *)(r10 -1) = r3\nexit", 0, "r3 is read"),
    ("exit", 0, "r0 is returned, but nothing was written to it"),
    ("r0 = *(u8 *)(r10 -3)\nexit", 0, "read of byte -3 of stack frame 0, which nobody wrote"),
    ("*(u32 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -8)\nexit", 1, "read of byte -4 of stack frame 0"),
    ("*(u64 *)(r10 -4) = 1\nexit", 0, "write of 8 bytes at offset 508 of stack frame 0, which has 512 bytes"),
    ("*(u8 *)(r10 +0) = 1\nexit", 0, "0 bytes after the end of stack frame 0"),
    ("*(u8 *)(r10 -513) = 1\nexit", 0, "1 bytes before stack frame 0"),
    ("r1 = 8\nr0 = *(u64 *)(r1 +0)\nexit", 1, "read of 8 bytes at 0x8: a null pointer"),
    ("r1 = -64\nr0 = *(u64 *)(r1 +0)\nexit", 1, "which is no memory of the program"),
    ("r0 = 1", 1, "the program ran past its last instruction"),
    ("goto -1", 0, "the program ran 1000 instructions without ending"),
    ("call 1\nexit", 0, "bpf_map_lookup_elem is not offered here"),
    ("call 9999\nexit", 0, "helper 9999 is not offered here"),
    ("call kernel-function#5\nexit", 0, "kernel function 5 is not offered here"),
    ("r0 = *(u8 *)skb[0]\nexit", 0, "r6 is read"),
    ("r6 = 1\nr0 = *(u8 *)skb[0]\nexit", 1, "a packet load needs the context in r6"),
    (
        "*(u64 *)(r10 -8) = 1\ncall f\nexit\n.func f\nr0 = *(u64 *)(r10 -8)\nexit",
        3,
        "of stack frame 1, which nobody",
    ),
    ("r1 = 1\ncall f\nr0 = r1\nexit\n.func f\nr0 = 0\nexit", 2, "r1 is read"),
]


@pytest.mark.parametrize(("text", "slot", "message"), FAULTS)
def test_faults(text: str, slot: int, message: str) -> None:
    made = machine(text, limit=1000)
    with pytest.raises(ProgramFaultError) as caught:
        made.run()
    assert message in caught.value.message
    assert caught.value.slot == slot


UNLOADABLE = [
    ([], "the program is empty"),
    ([Insn(0xFF)], "undefined instruction"),
    ([Insn(0xB7, 1, 2)], "undefined instruction"),
    ([Insn(0xC2)], "undefined instruction"),
    ([Insn(0xBF, 1, 2, -1)], "undefined instruction"),
    ([Insn(0xB7, 11)], "there is no register beyond r10"),
    ([Insn(0xB7, 10)], "r10 is read-only"),
    ([Insn(0x05, off=5)], "jump to slot 6, which is no instruction"),
    ([Insn(0x05, off=1), Insn(0x18)], "jump to slot 2, which is no instruction"),
    ([Insn(0x85, 0, 1, 0, 7)], "jump to slot 8, which is no instruction"),
]


@pytest.mark.parametrize(("insns", "message"), UNLOADABLE)
def test_unloadable(insns: list[Insn], message: str) -> None:
    with pytest.raises(ProgramFaultError, match=message):
        Program(insns)


def test_unchecked_mode_reads_zeros_and_keeps_bounds() -> None:
    assert machine("r0 = r3\nr1 = *(u64 *)(r10 -8)\nr0 += r1\nexit", checked=False).run() == 0
    with pytest.raises(ProgramFaultError, match="before stack"):
        machine("*(u8 *)(r10 -4097) = 1\nexit", checked=False).run()


def test_memory_is_confined_to_elements() -> None:
    space, buffer = Memory(), bytearray(64)
    region = space.add(Region("values", buffer, stride=16, extent=12))
    read_only = space.add(Region("constants", bytearray(8), writable=False))
    assert machine("r0 = *(u32 *)(r1 +24)\nexit", region.base, memory=space).run() == 0
    with pytest.raises(ProgramFaultError, match="offset 12 of values, which has 12 bytes"):
        machine("r0 = *(u32 *)(r1 +28)\nexit", region.base, memory=space).run()
    with pytest.raises(ProgramFaultError, match="write to constants, which is read-only"):
        machine("*(u8 *)(r1 +0) = 1\nr0 = 0\nexit", read_only.base, memory=space).run()


def test_removed_memory_is_gone() -> None:
    space = Memory()
    region = space.add(Region("sample", bytearray(8)))
    assert space.load(region.base, 8) == 0
    space.remove(region)
    with pytest.raises(ProgramFaultError):
        space.load(region.base, 8)


def test_may_goto_has_a_budget() -> None:
    made = machine("r0 = 0\nmay_goto +2\nr0 += 1\ngoto -3\nexit")
    made._gotos = 5
    assert made.run() == 5


def test_callbacks_run_in_frames_of_their_own() -> None:
    seen: list[int] = []

    def each(_machine: Machine, function: int, *_: int) -> Callback:
        def again(result: int) -> Callback | int:
            seen.append(result)
            return Callback(function, (len(seen),), again) if len(seen) < 3 else sum(seen)

        return Callback(function, (0,), again)

    text = "r1 = subprog[cb]\ncall 181\nr0 += r6\nexit\n.func cb\nr6 = r1\nr0 = r6\nr0 += 10\nexit"
    made = Machine(Program(assemble("r6 = 1000\n" + text)), helpers={181: each}, checked=False)
    made.start()
    assert made.run() == 1000 + 10 + 11 + 12
    assert seen == [10, 11, 12]


def test_tail_calls_stop_at_33() -> None:
    def chain(made: Machine, *_: int) -> TailCall:
        return TailCall(made.program)

    text = "r6 = r1\nr2 = *(u64 *)(r6 +0)\nr2 += 1\n*(u64 *)(r6 +0) = r2\nr1 = r6\nr2 = 0\nr3 = 0\ncall 12\n"
    text += "r0 = 7\nexit"
    space, buffer = Memory(), bytearray(8)
    region = space.add(Region("context", buffer))
    made = Machine(Program(assemble(text)), helpers={12: chain}, memory=space)
    made.start(region.base)
    assert made.run() == 7
    assert int.from_bytes(buffer, "little") == 1 + 33


def test_a_tail_call_from_a_function_returns_to_its_caller() -> None:
    other = Program(assemble("r0 = 5\nexit"))
    text = "call f\nr0 += 100\nexit\n.func f\nr1 = 0\nr2 = 0\nr3 = 0\ncall 12\nr0 = 1\nexit"
    made = machine(text, helpers={12: lambda *_: TailCall(other)})
    assert made.run() == 105


def test_steps_tell_what_changed() -> None:
    made = machine("r1 = 5\nr2 = 0x7\nr1 += r2\nr0 = r1\nexit")
    steps = list(made.trace())
    assert [(s.slot, s.changed) for s in steps] == [
        (0, {1: 5}), (1, {2: 7}), (3, {1: 12}), (4, {0: 12}), (5, {}),
    ]  # fmt: skip
    assert str(steps[2]).split() == ["3:", "(0f)", "r1", "+=", "r2", ";", "r1=0xc"]
    assert made.finished
    assert made.count == 5


def test_it_can_be_started_again() -> None:
    made = machine("r0 = r1\nr0 += 1\nexit", 4)
    assert made.run() == 5
    made.start(9)
    assert made.run() == 10


@given(st.binary(max_size=64), st.integers(-70, 70), st.sampled_from([1, 2, 4]))
def test_packet_loads(packet: bytes, offset: int, size: int) -> None:
    name = {1: "u8", 2: "u16", 4: "u32"}[size]
    made = machine(f"r6 = r1\nr0 = 99\nr0 = *({name} *)skb[{offset}]\nexit", 1234)
    made.start(1234, packet=packet)
    inside = offset >= 0 and offset + size <= len(packet)
    assert made.run() == (int.from_bytes(packet[offset : offset + size], "big") if inside else 0)
