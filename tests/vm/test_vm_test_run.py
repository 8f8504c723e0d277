"""Test runs: the kernel, the interpreter and machine code give the same for the same input."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee import uapi
from tracebee.errors import KernelError, UnsupportedError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel.program import Program
from tracebee.vm.assembly import read_assembly
from tracebee.vm.native import NativeVm
from tracebee.vm.session import Vm

EINVAL, E2BIG, ENOSPC = 22, 7, 28

# Program type, by the section that stands for it here, and the context's fields that it may read.
BUFFERS = {
    "socket": (uapi.BPF_PROG_TYPE_SOCKET_FILTER, (0, 4, 12, 16, 20, 24, 28, 32, 36, 40, 48, 68)),
    "tc": (uapi.BPF_PROG_TYPE_SCHED_CLS, (0, 4, 8, 16, 32, 36, 40, 44, 48, 68, 72, 84, 160, 164, 176)),
    "cgroup/skb": (uapi.BPF_PROG_TYPE_CGROUP_SKB, (0, 4, 8, 16, 32, 40, 48, 88, 92, 96, 100, 116, 128, 132)),
    "lwt_in": (uapi.BPF_PROG_TYPE_LWT_IN, (0, 4, 8, 16, 32, 36, 40, 48)),
    "lwt_xmit": (uapi.BPF_PROG_TYPE_LWT_XMIT, (0, 4, 8, 16, 32, 36, 40)),
}  # fmt: skip

FIELD = """
r0 = *(u32 *)(r1 +{field})
r7 = r0
r7 *= 31
*(u32 *)(r1 +48) = r7
r0 &= {mask}
exit
"""
PACKET = """
r2 = *(u32 *)(r1 +{end})
r3 = *(u32 *)(r1 +{start})
r4 = r3
r4 += 16
r0 = 1
if r4 > r2 goto out
r5 = *(u8 *)(r3 +{at})
r5 += 3
*(u8 *)(r3 +{at}) = r5
r0 = *(u16 *)(r3 +13)
r0 += r5
out:
exit
"""
METADATA = """
r2 = *(u32 *)(r1 +8)
r3 = *(u32 *)(r1 +0)
r4 = r2
r4 += 4
r0 = 99
if r4 > r3 goto out
r0 = *(u32 *)(r2 +0)
*(u8 *)(r2 +1) = 7
out:
r5 = *(u32 *)(r1 +12)
r0 += r5
exit
"""
LEGACY = "r6 = r1\nr0 = *(u16 *)skb[{at}]\nr0 += 5\nexit\n"


def outcome(run: object, **given: object) -> object:
    try:
        result = run(**given)  # type: ignore[operator]
    except KernelError as error:
        return error.errno
    return result.retval, result.data, result.ctx


def agree(section: str, kind: int, text: str, **given: object) -> object:
    """What all three give."""
    with (
        Program.load(encode(assemble(text)), kind) as loaded,
        Vm(read_assembly(f".program {section}\n{text}")) as vm,
        NativeVm(vm) as native,
    ):
        expected = outcome(loaded.test_run, **given)
        assert outcome(vm.test_run, **given) == expected
        assert outcome(native.test_run, **given) == expected
    return expected


def packets(shortest: int = 0) -> st.SearchStrategy[bytes]:
    """Packets of all protocols; those of IP whole, as kernels differ on others."""
    kinds = {b"\x08\0": 34, b"\x86\xdd": 54, b"\x08\x06": shortest, b"\0\x20": shortest, b"\x06\0": shortest}
    return st.sampled_from(list(kinds)).flatmap(
        lambda kind: st.builds(
            lambda to, body: (to + bytes(range(6)) + kind + body).ljust(kinds[kind], b"\1"),
            st.sampled_from([bytes(6), b"\xff" * 6, b"\1" + bytes(5), b"\2" + bytes(5)]),
            st.binary(max_size=80),
        )
    )


@st.composite
def buffer_contexts(draw: st.DrawFn) -> bytes:
    """A ``struct __sk_buff`` with some of the fields that can be given, and sometimes one that cannot."""
    fields = bytearray(192)
    for at, size in ((8, 4), (32, 4), (36, 4), (48, 20), (152, 8)):
        if draw(st.booleans()):
            fields[at : at + size] = draw(st.binary(min_size=size, max_size=size))
    struct.pack_into("=I", fields, 160, draw(st.sampled_from([0, 0, 0, 1, 2000, 65536, 65537])))
    struct.pack_into("=I", fields, 40, draw(st.sampled_from([0, 0, 1])))
    if not draw(st.integers(0, 9)):
        fields[draw(st.sampled_from([0, 4, 12, 16, 44, 68, 76, 84, 140]))] = 1
    return bytes(fields[: draw(st.sampled_from([192, 192, 100]))])


@pytest.mark.needs("bpf", "x86_64")
@pytest.mark.parametrize("section", BUFFERS)
@given(
    data=packets(),
    ctx=st.one_of(st.just(b""), buffer_contexts()),
    pick=st.integers(0, 99),
    room=st.booleans(),
)
@settings(max_examples=40)
def test_socket_buffers(section: str, data: bytes, ctx: bytes, pick: int, room: bool) -> None:
    kind, fields = BUFFERS[section]
    text = FIELD.format(field=fields[pick % len(fields)], mask=1 if section == "cgroup/skb" else 0x7FFFFFFF)
    agree(section, kind, text, data=data, ctx=ctx, data_out=4096, ctx_out=192 if room else 0)


@pytest.mark.needs("bpf", "x86_64")
@given(data=packets(), at=st.integers(0, 15), repeat=st.integers(1, 3))
@settings(max_examples=40)
def test_packets_are_changed_alike(data: bytes, at: int, repeat: int) -> None:
    text = PACKET.format(start=0, end=4, at=at)
    agree("xdp", uapi.BPF_PROG_TYPE_XDP, text, data=data, data_out=4096, repeat=repeat)
    text = PACKET.format(start=76, end=80, at=at)
    agree("tc", uapi.BPF_PROG_TYPE_SCHED_CLS, text, data=data, data_out=4096, repeat=repeat)


@pytest.mark.needs("bpf", "x86_64")
@given(data=packets(22), meta=st.sampled_from([0, 3, 4, 8]), device=st.sampled_from([(0, 0), (0, 1)]))
@settings(max_examples=40)
def test_packets_with_metadata(data: bytes, meta: int, device: tuple[int, int]) -> None:
    ctx = struct.pack("=6I", meta, len(data), 0, *device, 0)
    found = agree("xdp", uapi.BPF_PROG_TYPE_XDP, METADATA, data=data, ctx=ctx, data_out=4096, ctx_out=24)
    assert (found == EINVAL) == (meta == 3 or device == (0, 1) or len(data) - meta < 14)


@pytest.mark.needs("bpf", "x86_64")
@pytest.mark.parametrize("section", ["socket", "tc"])
@pytest.mark.parametrize("at", [0, 12, 30, 60])
def test_legacy_loads(section: str, at: int) -> None:
    data = bytes(range(12)) + b"\x08\x06" + bytes(range(14, 64))
    value, _, _ = agree(section, BUFFERS[section][0], LEGACY.format(at=at), data=data, data_out=64)  # type: ignore[misc]
    place = at + (14 if section == "socket" else 0)
    assert value == (int.from_bytes(data[place : place + 2], "big") + 5 if place + 2 <= len(data) else 0)


@pytest.mark.needs("bpf", "x86_64")
def test_input_that_is_refused() -> None:
    text = "r0 = 0\nexit"
    for section, (kind, _) in BUFFERS.items():
        assert agree(section, kind, text, data=bytes(13)) == EINVAL
        assert agree(section, kind, text, data=bytes(64), ctx=bytes(192) + b"\1") == E2BIG
        assert agree(section, kind, text, data=bytes(64), data_out=63) == ENOSPC
    assert agree("xdp", uapi.BPF_PROG_TYPE_XDP, text, data=bytes(13)) == EINVAL


@pytest.mark.needs("bpf", "x86_64")
def test_contexts_alone() -> None:
    text = "r0 = *(u64 *)(r1 +8)\nexit"
    ctx = struct.pack("=2Q", 1, 42)
    kind = uapi.BPF_PROG_TYPE_RAW_TRACEPOINT
    assert agree("raw_tp", kind, text, ctx=ctx) == (42, b"", b"")
    assert agree("raw_tp", kind, text, ctx=ctx, data=bytes(64)) == EINVAL
    assert agree("raw_tp", kind, text, ctx=ctx, ctx_out=16) == EINVAL


def test_what_gets_no_packet() -> None:
    with (
        Vm(read_assembly(".program flow_dissector\nr0 = 0\nexit")) as vm,
        pytest.raises(UnsupportedError, match="get no packet here"),
    ):
        vm.test_run(data=bytes(64))


def test_what_takes_a_device() -> None:
    with (
        Vm(read_assembly(".program tc\nr0 = 0\nexit")) as vm,
        pytest.raises(UnsupportedError, match="needs one"),
    ):
        vm.test_run(data=bytes(64), ctx=bytes(40) + struct.pack("=I", 7))


def test_from_the_command_line(tmp_path: Path) -> None:
    source, packet = tmp_path / "change.asm", tmp_path / "packet"
    source.write_text(".program xdp\n" + PACKET.format(start=0, end=4, at=2))
    packet.write_bytes(bytes(range(64)))
    for more in ((), ("jit",)):
        out = tmp_path / "out"
        words = ["vm", "test", source, *more, "data_in", packet, "data_out", out, "repeat", "2", "-j"]
        command = [sys.executable, "-m", "tracebee", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        record = json.loads(done.stdout)
        assert record["retval"] == 0x0E0D + 8
        assert record["duration"] > 0
        assert out.read_bytes() == bytes([0, 1, 8, *range(3, 64)])
