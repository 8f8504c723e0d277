"""Ring buffers: what programs send arrives whole, in order, and what does not is counted."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from tracebee import uapi
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel import cpus
from tracebee.kernel.map import Map
from tracebee.kernel.perfbuf import PerfBuffer
from tracebee.kernel.program import Program
from tracebee.kernel.ringbuf import RingBuffer
from tracebee.obj.model import MapDef

pytestmark = pytest.mark.needs("bpf")

# Sends the bytes of its context, by way of the stack, since a helper does not read the context itself.
SEND = """
{copy}
    r1 = map[ring]
    r2 = r10
    r2 += -504
    r3 = {size}
    r4 = 0
    call bpf_ringbuf_output
    exit
"""
# Reserves a record, and discards it when the context's first byte is odd.
RESERVE = """
    r6 = *(u8 *)(r1 + 0)
    r1 = map[ring]
    r2 = 24
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto out
    *(u64 *)(r0 + 0) = 7
    *(u64 *)(r0 + 8) = r6
    *(u64 *)(r0 + 16) = 9
    r1 = r0
    r2 = 0
    r6 &= 1
    if r6 != 0 goto drop
    call bpf_ringbuf_submit
    goto out
drop:
    call bpf_ringbuf_discard
out:
    r0 = 0
    exit
"""


@pytest.fixture
def ring() -> Iterator[Map]:
    with Map.create(MapDef("ring", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, mmap.PAGESIZE)) as made:
        yield made


def send(size: int) -> str:
    copy = (f"r2 = *(u8 *)(r1 + {i})\n*(u8 *)(r10 - {504 - i}) = r2" for i in range(size))
    return SEND.format(copy="\n".join(copy), size=size)


def sender(text: str, ring: Map) -> Program:
    code = encode(assemble(text, {"ring": ring.fd}))
    return Program.load(code, uapi.BPF_PROG_TYPE_SYSCALL, flags=uapi.BPF_F_SLEEPABLE)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 100, 500])
def test_records_come_whole_and_in_order_round_the_ring(ring: Map, size: int) -> None:
    # Several times round a ring of one page, so that records lie across its end.
    with sender(send(size), ring) as prog, RingBuffer(ring) as events:
        expected, received = [], []
        for round_number in range(3 * mmap.PAGESIZE // (size + 8) + 10):
            data = bytes((round_number + i) % 256 for i in range(size))
            assert prog.test_run(ctx=data.ljust(16, b"\0")).retval == 0
            expected.append(data)
            if round_number % 5 == 4:
                received += events.drain()
        received += events.drain()
        assert received == expected
        assert events.pending() == 0
        assert events.drain() == []


def test_discarded_records_are_passed_over(ring: Map) -> None:
    with sender(RESERVE, ring) as prog, RingBuffer(ring) as events:
        for number in range(10):
            prog.test_run(ctx=bytes([number]))
        assert events.pending() == 10 * 32
        assert events.drain() == [struct.pack("=3Q", 7, number, 9) for number in range(0, 10, 2)]
        assert events.pending() == 0


def test_a_full_ring_refuses_and_room_is_given_back(ring: Map) -> None:
    with sender(send(500), ring) as prog, RingBuffer(ring) as events:
        results = [prog.test_run(ctx=bytes(504)).retval for _ in range(10)]
        fitting = results.count(0)
        assert results == [0] * fitting + [2**32 - 11] * (10 - fitting)  # -EAGAIN
        assert 7 <= fitting < 10
        assert len(events.drain(limit=508)) == 1
        assert len(events.drain()) == fitting - 1
        assert prog.test_run(ctx=bytes(504)).retval == 0


def test_waiting(ring: Map) -> None:
    with sender(send(8), ring) as prog, RingBuffer(ring) as events:
        assert events.wait(0) is False
        prog.test_run(ctx=b"12345678")
        assert events.wait(5) is True
        assert events.drain() == [b"12345678"]
        assert events.wait(0) is False


OUTPUT = """
    r6 = r1
    r2 = map[array]
    r3 = 0xffffffff ll
    r4 = r10
    r4 += -400
{fill}
    r5 = {size}
    call bpf_perf_event_output
    exit
"""


def test_perf_buffer_counts_what_was_lost() -> None:
    with Map.create(MapDef("array", uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0)) as array:
        fill = "\n".join(f"*(u64 *)(r10 - {at}) = {at}" for at in range(8, 401, 8))
        code = encode(assemble(OUTPUT.format(fill=fill, size=396), {"array": array.fd}))
        os.sched_setaffinity(0, {cpus.online()[0]})
        try:
            with (
                Program.load(code, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog,
                PerfBuffer(array, pages=1) as events,
            ):
                results = [prog.test_run().retval for _ in range(30)]
                sent = results.count(0)
                assert 0 < sent < 30
                first = events.drain()
                again = 30
                for _ in range(again):  # further round, across the end; the first tells of the loss
                    assert prog.test_run().retval == 0
                    first += events.drain()
        finally:
            os.sched_setaffinity(0, set(cpus.online()))
        assert events.lost == 30 - sent
        wanted = struct.pack("=50Q", *range(400, 7, -8))[:396]
        assert [data[:396] for _, data in first] == [wanted] * (sent + again)
        assert {cpu for cpu, _ in first} == {cpus.online()[0]}


@pytest.mark.parametrize("kind", [uapi.BPF_MAP_TYPE_RINGBUF, uapi.BPF_MAP_TYPE_USER_RINGBUF])
@pytest.mark.parametrize(
    ("pages", "size"), [(0, 1), (0, 1000), (1, 0), (1, 1), (3, 0), (4, 0), (1000, 7)], ids=str
)
def test_sizes_are_rounded_up_to_what_the_kernel_takes(kind: int, pages: int, size: int) -> None:
    """Objects say 1000 or 256 * 1024, whatever a page is."""
    asked = pages * mmap.PAGESIZE + size
    with Map.create(MapDef("ring", kind, 0, 0, asked)) as made:
        given = made.info().max_entries
    assert given >= asked
    assert given // mmap.PAGESIZE & given // mmap.PAGESIZE - 1 == 0 == given % mmap.PAGESIZE
    assert given == mmap.PAGESIZE or given < 2 * asked
