"""Helpers in the VM, beside the kernel's where it can be asked."""

import ctypes
import struct
import time

import pytest

from tracebee import uapi
from tracebee.errors import ProgramFaultError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program as KernelProgram
from tracebee.vm.assembly import read_assembly
from tracebee.vm.environment import Environment
from tracebee.vm.printk import format_text
from tracebee.vm.session import Vm

HEADER = ".map m hash 4 8 4\n.map a array 4 16 2\n.map ring ringbuf 0 0 4096\n"
HEADER += ".map q queue 0 8 3\n.map s stack 0 8 3\n"
KEY = "*(u32 *)(r10 -4) = 7\nr2 = r10\nr2 += -4\n"
VALUE = "*(u64 *)(r10 -16) = 40\nr3 = r10\nr3 += -16\n"
UPDATE = f"{KEY}{VALUE}r1 = map[m]\nr4 = 0\ncall map_update_elem\n"


def run(text: str, **options) -> int:
    with Vm(read_assembly(HEADER + text)) as vm:
        return vm.run(**options).value


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# Programs whose result the kernel must agree on: no addresses, no clocks. Each ends with r0 set.
SAME = {
    "update": f"{UPDATE}exit",
    "noexist": f"{UPDATE}{KEY}{VALUE}r1 = map[m]\nr4 = 1\ncall map_update_elem\nexit",
    "exist": f"{KEY}{VALUE}r1 = map[m]\nr4 = 2\ncall map_update_elem\nexit",
    "bad_flags": f"{KEY}{VALUE}r1 = map[m]\nr4 = 99\ncall map_update_elem\nexit",
    "lookup": f"{UPDATE}{KEY}r1 = map[m]\ncall map_lookup_elem\nif r0 == 0 goto +1\n"
    f"r0 = *(u64 *)(r0 +0)\nexit",
    "missing": f"{KEY}r1 = map[m]\ncall map_lookup_elem\nif r0 == 0 goto +1\nr0 = 1\nexit",
    "delete": f"{UPDATE}{KEY}r1 = map[m]\ncall map_delete_elem\nexit",
    "delete_missing": f"{KEY}r1 = map[m]\ncall map_delete_elem\nexit",
    "array_range": f"{KEY}r1 = map[a]\ncall map_lookup_elem\nif r0 == 0 goto +1\nr0 = 1\nexit",
    "array_delete": f"{KEY}r1 = map[a]\ncall map_delete_elem\nexit",
    "queue_empty": "*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\nr1 = map[q]\ncall map_pop_elem\nexit",
    "queue_order": """
        r6 = 1
        more:
        *(u64 *)(r10 -8) = r6
        r1 = map[q]
        r2 = r10
        r2 += -8
        r3 = 0
        call map_push_elem
        r6 += 1
        if r6 < 4 goto more
        r1 = map[q]
        r2 = r10
        r2 += -8
        call map_pop_elem
        r7 = *(u64 *)(r10 -8)
        r1 = map[q]
        r2 = r10
        r2 += -8
        call map_peek_elem
        r0 = *(u64 *)(r10 -8)
        r7 *= 16
        r0 += r7
        exit
        """,
    "ring_output": "*(u64 *)(r10 -8) = 3\nr1 = map[ring]\nr2 = r10\nr2 += -8\nr3 = 8\n"
    "r4 = 0\ncall ringbuf_output\nexit",
    "ring_flags": "*(u64 *)(r10 -8) = 3\nr1 = map[ring]\nr2 = r10\nr2 += -8\nr3 = 8\n"
    "r4 = 8\ncall ringbuf_output\nexit",
    "ring_too_long": "r1 = map[ring]\nr2 = 4096\nr3 = 0\ncall ringbuf_reserve\n"
    "if r0 == 0 goto +3\nr1 = r0\nr2 = 0\n"
    "call ringbuf_discard\nr0 = 5\nexit",
    "ring_query": "r1 = map[ring]\nr2 = 1\ncall ringbuf_query\nexit",
}


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("name", SAME)
def test_as_the_kernel(name: str) -> None:
    text = SAME[name]
    obj = read_assembly(HEADER + text)
    maps = {d.name: Map.create(d) for d in obj.maps}
    code = encode(assemble(text, {n: m.fd for n, m in maps.items()}))
    try:
        with KernelProgram.load(code, uapi.BPF_PROG_TYPE_SOCKET_FILTER) as program:
            theirs = program.test_run(data=bytes(64)).retval
    finally:
        for map_ in maps.values():
            map_.close()
    assert run(text) & 0xFFFFFFFF == theirs & 0xFFFFFFFF


def test_ring_records_are_reachable_until_submitted() -> None:
    reserve = "r1 = map[ring]\nr2 = 16\nr3 = 0\ncall ringbuf_reserve\nif r0 == 0 goto out\nr6 = r0\n"
    fill = "*(u64 *)(r6 +0) = 11\n*(u64 *)(r6 +8) = 22\n"
    submit = "r1 = r6\nr2 = 0\ncall ringbuf_submit\n"
    with Vm(read_assembly(f"{HEADER}{reserve}{fill}{submit}r0 = 0\nout:\nexit")) as vm:
        assert vm.run().value == 0
        assert vm.maps["ring"].records() == [struct.pack("=QQ", 11, 22)]
    with pytest.raises(ProgramFaultError, match=r"no memory of the program|bytes (before|after)"):
        run(f"{reserve}{fill}{submit}r0 = *(u64 *)(r6 +0)\nout:\nexit")
    with pytest.raises(ProgramFaultError, match="is no reserved record"):
        run(f"{reserve}{fill}{submit}{submit}r0 = 0\nout:\nexit")
    with pytest.raises(ProgramFaultError, match="0 bytes after the end of record of ring"):
        run(f"{reserve}*(u64 *)(r6 +16) = 1\nr0 = 0\nout:\nexit")


def test_helpers_check_memory() -> None:
    with pytest.raises(ProgramFaultError, match="which nobody wrote"):
        run("r2 = r10\nr2 += -4\nr1 = map[m]\ncall map_lookup_elem\nr0 = 0\nexit")
    with pytest.raises(ProgramFaultError, match="is no map"):
        run(f"{KEY}r1 = 5\ncall map_lookup_elem\nr0 = 0\nexit")


def test_probe_reads() -> None:
    text = ctypes.create_string_buffer(b"hello\0world")
    address = ctypes.addressof(text)
    body = "r1 = r10\nr1 += -8\nr2 = 8\nr3 = {} ll\ncall {}\n"
    got = run(body.format(address, "probe_read_user_str") + "exit")
    assert got == 6
    assert run(body.format(address, "probe_read_user") + "r0 = *(u8 *)(r10 -8)\nexit") == ord("h")
    assert signed(run(body.format(16, "probe_read_user") + "exit")) == -14
    assert run(body.format(16, "probe_read_user") + "r0 = *(u64 *)(r10 -8)\nexit") == 0
    assert signed(run(body.format(16, "probe_read_kernel_str") + "exit")) == -14


def test_strings_are_cut_with_a_nul() -> None:
    text = ctypes.create_string_buffer(b"abcdefgh")
    code = (
        f"r1 = r10\nr1 += -4\nr2 = 4\nr3 = {ctypes.addressof(text)} ll\ncall probe_read_user_str\nr6 = r0\n"
    )
    assert run(code + "r0 = r6\nexit") == 4
    assert run(code + "r0 = *(u32 *)(r10 -4)\nexit") == int.from_bytes(b"abc\0", "little")


def test_loops() -> None:
    loop = "*(u64 *)(r10 -8) = 0\nr1 = {}\nr2 = subprog[cb]\nr3 = r10\nr3 += -8\n"
    loop += "r4 = 0\ncall loop\n{}\nexit\n.func cb\n{}"
    add = "r3 = *(u64 *)(r2 +0)\nr3 += r1\n*(u64 *)(r2 +0) = r3\nr0 = 0\nif r1 != 6 goto +1\nr0 = 1\nexit"
    assert run(loop.format(5, "r0 = *(u64 *)(r10 -8)", add)) == 0 + 1 + 2 + 3 + 4
    assert run(loop.format(100, "r0 += 0", add)) == 7
    assert signed(run(loop.format(1 << 24, "r0 += 0", add))) == -7


def test_for_each_map_elem() -> None:
    walk = "*(u64 *)(r10 -24) = 0\nr1 = map[a]\nr2 = subprog[cb]\nr3 = r10\n"
    walk += "r3 += -24\nr4 = 0\ncall for_each_map_elem\n"
    each = ".func cb\nr1 = *(u32 *)(r2 +0)\nr1 += 10\n*(u64 *)(r3 +0) = r1\nr2 = *(u64 *)(r4 +0)\nr2 += r1\n"
    each += "*(u64 *)(r4 +0) = r2\nr0 = 0\nexit"
    with Vm(read_assembly(f"{HEADER}{walk}r1 = *(u64 *)(r10 -24)\nr1 *= 16\nr0 += r1\nexit\n{each}")) as vm:
        assert vm.run().value == 2 + 16 * 21
        assert [v[:8] for _, v in vm.maps["a"].items()] == [struct.pack("=Q", n) for n in (10, 11)]


@pytest.mark.parametrize(
    ("text", "base", "result", "value"),
    [
        (b"123xyz", 10, 3, 123),
        (b" -42", 0, 4, -42),
        (b"0x1fg", 0, 4, 0x1F),
        (b"1fg", 16, 2, 0x1F),
        (b"017", 0, 3, 15),
        (b"zzz", 10, -22, None),
        (b"1", 3, -22, None),
        (b"9223372036854775808", 10, -34, None),
    ],
)
def test_strtol(text: bytes, base: int, result: int, value: int | None) -> None:
    padded = text.ljust(24, b"\0")
    stores = "".join(
        f"r1 = {int.from_bytes(padded[i : i + 8], 'little')} ll\n*(u64 *)(r10 {i - 24}) = r1\n"
        for i in (0, 8, 16)
    )
    call = f"r1 = r10\nr1 += -24\nr2 = 24\nr3 = {base}\nr4 = r10\nr4 += -32\ncall strtol\n"
    assert signed(run(f"{stores}{call}exit")) == result
    if value is not None:
        assert signed(run(f"{stores}{call}r0 = *(u64 *)(r10 -32)\nexit")) == value


PRINTF = [
    (b"%d %u %x", (-1 & 0xFFFFFFFF, 0xFFFFFFFF, 255), b"-1 4294967295 ff"),
    (b"%ld %lx", (-5 & (1 << 64) - 1, 1 << 40), b"-5 10000000000"),
    (b"%5d|%-5d|%05d", (42, 42, 42), b"   42|42   |00042"),
    (b"100%% %c", (65,), b"100% A"),
    (b"%s!", (0,), b"text!"),
    (b"%8s|", (0,), b"    text|"),
    (b"%hhd", (0x1FF,), b"-1"),
    (b"%d", (), None),
    (b"%q", (1,), None),
]


@pytest.mark.parametrize(("template", "values", "result"), PRINTF)
def test_formats(template: bytes, values: tuple[int, ...], result: bytes | None) -> None:
    assert format_text(template, iter(values), lambda _: b"text") == result


def test_trace_printk_reaches_the_environment() -> None:
    text = b"n=%d\n\0\0\0"
    environment = Environment()
    store = f"r1 = {int.from_bytes(text, 'little')} ll\n*(u64 *)(r10 -8) = r1\n"
    obj = read_assembly(f"{store}r1 = r10\nr1 += -8\nr2 = 6\nr3 = 5\ncall trace_printk\nexit")
    assert Vm(obj, environment).run().value == 4
    assert environment.output == ["n=5\n"]


def test_this_process() -> None:
    import os

    assert run("call get_current_pid_tgid\nr0 >>= 32\nexit") == os.getpid()
    assert run("call get_current_uid_gid\nw0 = w0\nexit") == os.getuid()
    with open("/proc/self/comm", "rb") as file:
        comm = file.read().rstrip(b"\n")[:7].ljust(8, b"\0")
    text = "r1 = r10\nr1 += -8\nr2 = 8\ncall get_current_comm\nr0 = *(u64 *)(r10 -8)\nexit"
    assert run(text).to_bytes(8, "little") == comm
    before = time.monotonic_ns()
    assert before <= run("call ktime_get_ns\nexit") <= time.monotonic_ns()


def test_tail_calls_through_a_map() -> None:
    text = ".map programs prog_array 4 4 2\nr2 = map[programs]\nr3 = 1\ncall tail_call\nr0 = 3\nexit"
    with Vm(read_assembly(text)) as vm:
        assert vm.run().value == 3
        other = Vm(read_assembly("r0 = 77\nexit")).programs["main"]
        vm.maps["programs"].put(1, other)
        assert vm.run().value == 77


def test_stack_ids() -> None:
    class Stacked(Environment):
        def frames(self, user: bool) -> tuple[int, ...]:
            return (0x10, 0x20, 0x30) if user else ()

    text = ".map stacks stack_trace 4 80 16\nr2 = map[stacks]\nr3 = 257\ncall get_stackid\nexit"
    with Vm(read_assembly(text), Stacked()) as vm:
        number = vm.run(context=bytes(8)).value
        stack = vm.maps["stacks"].lookup(struct.pack("=I", number))
        assert stack[:24] == struct.pack("=3Q", 0x20, 0x30, 0)
