"""Native helpers against the maps' own methods, among threads, and from compiled programs."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracebee import uapi
from tracebee.isa.asm import assemble
from tracebee.isa.helpers import BY_NAME
from tracebee.obj.model import MapDef
from tracebee.vm.environment import Environment as VmEnvironment
from tracebee.vm.jit import Environment, NativeProgram, compile_program
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import UserMap
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.native import NativeHelpers
from tracebee.vm.program import Program

pytestmark = pytest.mark.needs("x86_64")

HASHES = {
    "hash": uapi.BPF_MAP_TYPE_HASH,
    "lru": uapi.BPF_MAP_TYPE_LRU_HASH,
    "percpu hash": uapi.BPF_MAP_TYPE_PERCPU_HASH,
    "percpu lru": uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH,
}
ARRAYS = {"array": uapi.BPF_MAP_TYPE_ARRAY, "percpu array": uapi.BPF_MAP_TYPE_PERCPU_ARRAY}
ENTRIES = 8


class Native:
    """A map with the native helpers as functions of bytes."""

    def __init__(self, *definitions: MapDef) -> None:
        self.space = MapSpace()
        self.maps = [self.space.create(definition) for definition in definitions]
        self.helpers = NativeHelpers(self.space)

    def close(self) -> None:
        self.helpers.close()
        self.space.close()

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, name: str, *arguments: int | bytes) -> int:
        """A helper's result, signed. Bytes are passed by address, without a byte behind them."""
        buffers = [
            (ctypes.c_char * len(a)).from_buffer_copy(a) if isinstance(a, bytes) else a for a in arguments
        ]
        given = [b if isinstance(b, int) else ctypes.addressof(b) for b in buffers]
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * len(given))(
            self.helpers.addresses[name]
        )
        return int(function(*given))

    def value(self, map_: UserMap, key: bytes) -> bytes | None:
        address = self.call("map_lookup_elem", map_.address, key)
        return ctypes.string_at(address, map_.value_size) if address else None


@pytest.fixture(autouse=True)
def one_cpu() -> Iterator[None]:
    """Per-CPU values are compared on the CPU that wrote them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["update", "update", "delete", "lookup"]),
        st.integers(0, 12),
        st.integers(0, 255),
        st.integers(0, 4),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(HASHES)),
    key_size=st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 16, 21]),
    value_size=st.sampled_from([1, 4, 8, 13, 40]),
    operations=OPERATIONS,
)
def test_hashes_behave_as_their_methods_do(
    kind: str, key_size: int, value_size: int, operations: list[tuple[str, int, int, int]]
) -> None:
    definition = MapDef("m", HASHES[kind], key_size, value_size, ENTRIES)
    compare(definition, key_size, value_size, operations)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(ARRAYS)), value_size=st.sampled_from([1, 4, 8, 13, 40]), operations=OPERATIONS
)
def test_arrays_behave_as_their_methods_do(
    kind: str, value_size: int, operations: list[tuple[str, int, int, int]]
) -> None:
    compare(MapDef("m", ARRAYS[kind], 4, value_size, ENTRIES), 4, value_size, operations)


def compare(
    definition: MapDef, key_size: int, value_size: int, operations: list[tuple[str, int, int, int]]
) -> None:
    cpu = min(os.sched_getaffinity(0))
    with Native(definition) as native:
        ours = native.maps[0]
        space = MapSpace()
        theirs = space.create(definition)
        for name, number, filler, flags in operations:
            key = number.to_bytes(key_size, "little")
            value = bytes([filler]) * value_size
            if name == "update":
                assert native.call("map_update_elem", ours.address, key, value, flags) == theirs.set(
                    key, value, flags, cpu
                )
            elif name == "delete":
                assert native.call("map_delete_elem", ours.address, key) == theirs.remove(key)
            else:
                address = theirs.find(key, cpu)
                expected = ctypes.string_at(address, value_size) if address else None
                assert native.value(ours, key) == expected
        assert sorted(ours.items()) == sorted(theirs.items())
        assert ours.memory.u64(layout.COUNT) == theirs.memory.u64(layout.COUNT)
        space.close()


def test_every_element_can_be_used_and_given_back() -> None:
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 8, 8, 100)) as native:
        (map_,) = native.maps
        for _ in range(3):
            for n in range(100):
                assert native.call("map_update_elem", map_.address, struct.pack("=Q", n), bytes(8), 0) == 0
            assert native.call("map_update_elem", map_.address, struct.pack("=Q", 100), bytes(8), 0) == -7
            for n in range(100):
                assert native.call("map_delete_elem", map_.address, struct.pack("=Q", n)) == 0
            assert map_.items() == []


def test_a_key_is_read_no_further_than_its_size() -> None:
    # Of a key that ends where readable memory ends, a byte more would be a fault.
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 5, 8, 4)) as native:
        (map_,) = native.maps
        libc = ctypes.CDLL(None)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        with mmap.mmap(-1, 2 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            cell = ctypes.c_char.from_buffer(memory)
            start = ctypes.addressof(cell)
            assert libc.mprotect(start + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
            key = start + mmap.PAGESIZE - 5
            assert native.call("map_update_elem", map_.address, key, bytes(8), 0) == 0
            assert native.call("map_lookup_elem", map_.address, key) != 0
            assert native.call("map_delete_elem", map_.address, key) == 0
            del cell


def test_other_map_types_are_served_by_their_methods() -> None:
    definition = MapDef("m", uapi.BPF_MAP_TYPE_LPM_TRIE, 8, 8, 10, flags=uapi.BPF_F_NO_PREALLOC)
    with Native(definition) as native:
        (map_,) = native.maps
        key = struct.pack("=I4s", 8, bytes([10, 0, 0, 0]))
        assert native.call("map_update_elem", map_.address, key, struct.pack("=Q", 5), 0) == 0
        assert native.value(map_, struct.pack("=I4s", 32, bytes([10, 1, 2, 3]))) == struct.pack("=Q", 5)
        assert native.call("map_delete_elem", map_.address, key) == 0


def test_a_lock_whose_owner_died_is_taken_over() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 4, 4, 1)) as native:
        (map_,) = native.maps
        map_.memory.set_u32(map_.buckets, child)
        map_.memory.set_u32(map_.buckets + 4, 1)
        assert native.call("map_update_elem", map_.address, bytes(4), b"abcd", 0) == 0
        assert map_.memory.u32(map_.buckets) == 0
        assert map_.memory.u32(map_.buckets + 4) % 2 == 0


def helper(name: str) -> int:
    return BY_NAME[name].number


def program(native: Native, text: str, *maps: UserMap) -> NativeProgram:
    addresses = iter([m.address for m in maps])
    insns = [
        insn._replace(src=0, imm=next(addresses)) if insn.is_wide and insn.src else insn
        for insn in assemble(text, maps={"m": 1})
    ]
    return NativeProgram(compile_program(Program(insns), Environment(helpers=native.helpers.table)))


def together(*bodies: Callable[[], object]) -> None:
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


CHURN = """
    r6 = *(u64 *)(r1 +0)        ; a counter of the thread's own: key and value
    r7 = r6
    r7 += 1
    *(u64 *)(r1 +0) = r7
    r6 &= 15
    *(u32 *)(r10 -4) = r6
    *(u64 *)(r10 -16) = r6
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    r1 = map[m]
    call map_update_elem
    if r0 != 0 goto bad
    r2 = r10
    r2 += -4
    r1 = map[m]
    call map_lookup_elem
    if r0 == 0 goto removed     ; by the other thread
    r0 = *(u64 *)(r0 +0)
removed:
    r2 = r10
    r2 += -4
    r1 = map[m]
    call map_delete_elem
    r0 = 0
    exit
bad:
    exit
"""


def test_threads_change_one_map_at_once() -> None:
    # The affinity of the test is one CPU: threads need both to meet.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 4, 8, 64)) as native:
        (map_,) = native.maps
        with program(native, CHURN, map_, map_, map_) as churn:
            counters = [ctypes.c_uint64(0), ctypes.c_uint64(7)]
            together(*[lambda c=c: churn_on(churn, c) for c in counters])
            for key in [key for key, _ in map_.items()]:
                assert native.call("map_delete_elem", map_.address, key) == 0
        assert map_.memory.u64(layout.COUNT) == 0
        # Nothing was lost: all 64 elements can be used again.
        for n in range(64):
            assert native.call("map_update_elem", map_.address, struct.pack("=I", n), bytes(8), 0) == 0


def churn_on(churn: NativeProgram, counter: ctypes.c_uint64) -> None:
    assert churn.run(ctypes.addressof(counter), repeat=20_000) == 0


def test_ring_buffer_records_come_out_in_order() -> None:
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)) as native:
        (ring,) = native.maps
        assert isinstance(ring, RingBufferMap)
        for n in range(500):
            data = bytes([n & 255]) * (1 + n % 60)
            assert native.call("ringbuf_output", ring.address, data, len(data), 0) == 0
            address = native.call("ringbuf_reserve", ring.address, 9, 0)
            ctypes.memmove(address, b"reserved!", 9)
            dropped = native.call("ringbuf_reserve", ring.address, 4, 0)
            assert native.call("ringbuf_discard", dropped, 0) == 0
            assert native.call("ringbuf_submit", address, 0) == 0
            assert ring.records() == [data, b"reserved!"]
            assert native.call("ringbuf_query", ring.address, 0) == 0


def test_a_full_ring_buffer_counts_what_it_lost() -> None:
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)) as native:
        (ring,) = native.maps
        assert isinstance(ring, RingBufferMap)
        results = [native.call("ringbuf_output", ring.address, bytes(100), 100, 0) for _ in range(50)]
        fitting = 4095 // 112  # 100 bytes and a header, rounded up to 8
        assert results == [0] * fitting + [-11] * (50 - fitting)
        assert ring.lost == 50 - fitting
        assert len(ring.records()) == fitting
        assert native.call("ringbuf_output", ring.address, b"", 5000, 0) == -11
        assert native.call("ringbuf_output", ring.address, b"x", 1, 8) == -22


def test_a_reader_is_woken() -> None:
    import select

    with Native(MapDef("m", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)) as native:
        (ring,) = native.maps
        assert isinstance(ring, RingBufferMap)
        assert select.select([ring.fileno()], [], [], 0)[0] == []
        native.call("ringbuf_output", ring.address, b"x", 1, 1)  # BPF_RB_NO_WAKEUP
        assert select.select([ring.fileno()], [], [], 0)[0] == []
        native.call("ringbuf_output", ring.address, b"x", 1, 0)
        assert select.select([ring.fileno()], [], [], 0)[0] == [ring.fileno()]


def test_the_process_and_the_time() -> None:
    with Native() as native:
        assert native.call("get_current_pid_tgid") == os.getpid() << 32 | threading.get_native_id()
        assert native.call("get_current_uid_gid") == os.getgid() << 32 | os.getuid()
        assert native.call("get_smp_processor_id") == min(os.sched_getaffinity(0))
        clocks = {"ns": time.CLOCK_MONOTONIC, "boot_ns": time.CLOCK_BOOTTIME, "tai_ns": time.CLOCK_TAI}
        for name, clock in clocks.items():
            before = time.clock_gettime_ns(clock)
            assert before <= native.call(f"ktime_get_{name}") <= time.clock_gettime_ns(clock)
        assert len({native.call("get_prandom_u32") for _ in range(20)}) > 15


def test_reading_memory_cannot_fault() -> None:
    with Native() as native:
        source, target = ctypes.create_string_buffer(b"hello world"), ctypes.create_string_buffer(b"x" * 12)
        place = ctypes.addressof(target)
        assert native.call("probe_read_user", place, 5, ctypes.addressof(source)) == 0
        assert target.raw[:6] == b"hellox"
        for bad in (0, 8, 1 << 63):
            assert native.call("probe_read_user", place, 5, bad) == -14
            assert target.raw[:6] == b"\0\0\0\0\0x"


def test_a_program_counts_in_a_map() -> None:
    text = f"""
        *(u32 *)(r10 -4) = 5
        r2 = r10
        r2 += -4
        r1 = map[m]
        call {helper("map_lookup_elem")}
        if r0 == 0 goto out
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        out:
        r0 = 0
        exit
    """
    with Native(MapDef("m", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 10)) as native:
        (map_,) = native.maps
        with program(native, text, map_) as counting:
            counting.run(repeat=1000)
        assert map_.lookup(struct.pack("=I", 5)) == struct.pack("=Q", 1000)


@given(
    text=st.binary(max_size=700).map(lambda b: b.replace(b"\0", b"x")),
    size=st.integers(0, 720),
    shift=st.integers(0, 4095),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strings_are_read_as_the_environment_reads_them(text: bytes, size: int, shift: int) -> None:
    source = bytearray(2 * 4096 + 1024)
    source[shift : shift + len(text)] = text
    address = ctypes.addressof(ctypes.c_char.from_buffer(source)) + shift
    target = (ctypes.c_char * 800).from_buffer_copy(b"#" * 800)
    expected = VmEnvironment().read_string(address, size) if size else b""
    assert expected is not None
    assert shared().call("probe_read_user_str", ctypes.addressof(target), size, address) == len(expected)
    # What is behind the string stays: a key that was zeroed stays zeros there.
    assert target.raw == expected.ljust(800, b"#")


def test_a_string_that_runs_into_unreadable_memory() -> None:
    with mmap.mmap(-1, 2 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        cell = ctypes.c_char.from_buffer(memory)
        start = ctypes.addressof(cell)
        memory[: mmap.PAGESIZE] = b"x" * (mmap.PAGESIZE - 4) + b"end\0"
        libc = ctypes.CDLL(None)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        assert libc.mprotect(start + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
        target = ctypes.create_string_buffer(b"#" * 20, 20)
        place = ctypes.addressof(target)
        end = start + mmap.PAGESIZE
        assert shared().call("probe_read_user_str", place, 20, end - 4) == 4
        assert target.raw == b"end\0".ljust(20, b"#")
        memory[mmap.PAGESIZE - 1] = ord("!")
        assert shared().call("probe_read_user_str", place, 16, end - 4) == -14
        assert target.raw == bytes(16) + b"####"
        assert shared().call("probe_read_user_str", place, 4, end - 4) == 4
        assert target.raw[:5] == b"end\0\0"
        del cell


@functools.cache
def shared() -> Native:
    """Helpers that need no maps, kept for all tests."""
    return Native()


@pytest.mark.parametrize("size", [1, 4, 16, 40])
def test_the_threads_name(size: int) -> None:
    buffer = ctypes.create_string_buffer(b"#" * 50, 50)
    assert shared().call("get_current_comm", ctypes.addressof(buffer), size) == 0
    assert buffer.raw == VmEnvironment().comm()[: size - 1].ljust(size, b"\0").ljust(50, b"#")


@given(st.binary(max_size=6), st.integers(0, 8), st.binary(max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_string_order(left: bytes, size: int, right: bytes) -> None:
    a, b = left.split(b"\0")[0][:size].ljust(size, b"\0"), right.split(b"\0")[0][:size].ljust(size, b"\0")
    expected = next((x - y for x, y in zip(a, b, strict=True) if x != y), 0)
    assert shared().call("strncmp", left.ljust(9, b"\0"), size, right + b"\0") == expected
