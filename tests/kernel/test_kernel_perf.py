"""perf events: what is asked of the kernel, and programs that run on them."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator

import pytest

from tracebee import uapi
from tracebee.errors import KernelError, UnsupportedError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel import perf
from tracebee.kernel.link import Link
from tracebee.kernel.map import Map
from tracebee.kernel.perf import PerfEvent
from tracebee.kernel.program import Program
from tracebee.kernel.syscall import read_memory, stand_in
from tracebee.kernel.tracefs import event_id
from tracebee.obj.model import MapDef

COUNT = """
    r1 = map[counter]
    r2 = r10
    r2 += -4
    *(u32 *)(r10 - 4) = 0
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 + 0) += r1
out:
    r0 = 0
    exit
"""


@pytest.fixture
def counter() -> Iterator[Map]:
    with Map.create(MapDef("counter", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)) as table:
        yield table


def counting(counter: Map, kind: int) -> Program:
    return Program.load(encode(assemble(COUNT, {"counter": counter.fd})), kind)


def total(counter: Map) -> int:
    return int(struct.unpack("=Q", counter.lookup(bytes(4)) or b"")[0])


def ask(**kwargs: object) -> tuple[bytes, tuple[int, ...]]:
    """What an event asks of the kernel: the attributes and the other arguments."""
    seen: list[tuple[bytes, tuple[int, ...]]] = []

    def kernel(name: str, args: tuple[int, ...]) -> int:
        assert name == "perf_event_open"
        seen.append((read_memory(args[0], 136), args[1:]))
        return os.open("/dev/null", os.O_RDONLY)

    with stand_in(kernel):
        PerfEvent.sampled(**kwargs).close()  # type: ignore[arg-type]
    return seen[0]


def test_sampling_by_period_and_frequency() -> None:
    attr, rest = ask(event_type=1, config=0, period=1000, cpu=2)
    assert struct.unpack_from("=IIQQ", attr) == (1, 136, 0, 1000)
    assert perf.EVENT_ATTR.get(attr, "flags") == 0
    assert rest == (-1, 2, -1, 8)
    attr, _ = ask(event_type=0, config=1, frequency=99, pid=5, inherit=True)
    assert perf.EVENT_ATTR.get(attr, "sample_freq") == 99
    assert perf.EVENT_ATTR.get(attr, "flags") == 1 << 10 | 1 << 1  # freq, inherit


def test_older_kernels_get_the_shorter_structure() -> None:
    sizes: list[int] = []

    def kernel(_: str, args: tuple[int, ...]) -> int:
        sizes.append(struct.unpack("=I", read_memory(args[0] + 4, 4))[0])
        return -7 if sizes[-1] > 128 else os.open("/dev/null", os.O_RDONLY)

    with stand_in(kernel):
        PerfEvent.cpu_clock(hertz=1, cpu=0).close()
    assert sizes == [136, 128]


@pytest.mark.needs("bpf")
def test_tracepoint_without_a_link(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_TRACEPOINT) as prog,
        PerfEvent.tracepoint(event_id("syscalls", "sys_enter_getppid")) as event,
    ):
        event.set_program(prog.fd)
        event.enable()
        for _ in range(10):
            os.getppid()
        assert total(counter) >= 10
    seen = total(counter)
    os.getppid()
    assert total(counter) == seen


@pytest.mark.needs("bpf")
def test_filter_is_checked_by_the_kernel() -> None:
    number = event_id("sched", "sched_process_exec")
    with PerfEvent.tracepoint(number, pid=0, cpu=-1) as event:
        event.set_filter("pid == 1")
        with pytest.raises(KernelError, match="the event has a filter already"):
            event.set_filter("pid == 2")
    fresh = PerfEvent.tracepoint(number, pid=0, cpu=-1)
    with fresh, pytest.raises(KernelError, match="the filter's expression is wrong"):
        fresh.set_filter("no_such_field == 1")


@pytest.mark.needs("bpf")
def test_cpu_clock_samples(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_PERF_EVENT) as prog,
        PerfEvent.cpu_clock(period_ns=1_000_000, cpu=0) as event,
        Link.perf_event(prog, event.fd, cookie=4) as link,
    ):
        fields = link.info().fields
        # Its type is not the one asked for: the kernel puts the clock's own, dynamic one in place.
        assert (fields["perf_type"], fields["config"]) == (uapi.BPF_PERF_EVENT_EVENT, 0)
        event.enable()
        deadline = time.monotonic() + 20
        while total(counter) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert total(counter) > 0


@pytest.mark.needs("bpf")
def test_software_event_of_this_process(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_PERF_EVENT) as prog,
        PerfEvent.sampled(1, perf.SOFTWARE_EVENTS["page-faults"], period=1, pid=0) as event,
        Link.perf_event(prog, event.fd),
    ):
        before = total(counter)
        fresh = mmap.mmap(-1, 64 * mmap.PAGESIZE)
        for at in range(0, len(fresh), mmap.PAGESIZE):
            fresh[at] = 1
        fresh.close()
        assert total(counter) - before >= 32  # a large folio may serve more than one page


def _libc_function(name: str) -> tuple[str, int]:
    """The file of the C library and a function's offset in it, from this process's own mappings."""
    pointer = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, offset, _, _, *path = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= pointer < end:
                return path[0], pointer - start + int(offset, 16)
    raise AssertionError(name)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("retprobe", [False, True])
def test_uprobe(counter: Map, retprobe: bool) -> None:
    path, offset = _libc_function("getpgid")
    with counting(counter, uapi.BPF_PROG_TYPE_KPROBE) as prog:
        with (
            PerfEvent.uprobe(path, offset, pid=os.getpid(), retprobe=retprobe) as event,
            Link.perf_event(prog, event.fd, cookie=6) as link,
        ):
            for _ in range(7):
                os.getpgid(0)
            assert total(counter) == 7
            fields = link.info().fields
            kind = uapi.BPF_PERF_EVENT_URETPROBE if retprobe else uapi.BPF_PERF_EVENT_UPROBE
            assert (fields["perf_type"], fields["file_name"], fields["offset"]) == (kind, path, offset)
        os.getpgid(0)
        assert total(counter) == 7


@pytest.mark.needs("kprobe")
def test_kprobe(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_KPROBE) as prog,
        PerfEvent.kprobe("vfs_read") as event,
        Link.perf_event(prog, event.fd, cookie=1) as link,
    ):
        before = total(counter)
        with open("/proc/self/comm", "rb") as file:
            file.read()
        assert total(counter) > before
        assert link.info().fields["func_name"] == "vfs_read"
        with PerfEvent.kprobe("vfs_read", retprobe=True) as back:
            back.set_program(prog.fd)


@pytest.mark.needs("no_kprobe")
def test_kernel_without_kprobes_is_named() -> None:
    with pytest.raises(UnsupportedError, match="this kernel has no kprobes"):
        PerfEvent.kprobe("vfs_read")


@pytest.mark.needs("no_hardware")
def test_missing_hardware_is_named() -> None:
    with pytest.raises(KernelError, match="this machine has no such event"):
        PerfEvent.sampled(perf.PERF_TYPE_HARDWARE, 0, period=1000, cpu=0)
