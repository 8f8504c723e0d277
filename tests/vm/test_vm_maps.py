"""User-space maps beside the kernel's: the same calls give the same results and error numbers."""

import functools
import os
import struct
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracebee import uapi
from tracebee.errors import KernelError, UnsupportedError
from tracebee.kernel.map import Map
from tracebee.obj.model import MapDef
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import UserMap
from tracebee.vm.maps.bloom import BloomFilterMap
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.maps.hash import HashMap, key_hash
from tracebee.vm.maps.memory import Lock
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.maps.stacks import StackTraceMap

HASH = MapDef("h", uapi.BPF_MAP_TYPE_HASH, 4, 8, 4)
DEFINITIONS = {
    "hash": HASH,
    "percpu_hash": MapDef("ph", uapi.BPF_MAP_TYPE_PERCPU_HASH, 4, 4, 4),
    "wide_hash": MapDef("wh", uapi.BPF_MAP_TYPE_HASH, 13, 3, 5),
    "array": MapDef("a", uapi.BPF_MAP_TYPE_ARRAY, 4, 12, 4),
    "percpu_array": MapDef("pa", uapi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 3),
    "lpm": MapDef("l", uapi.BPF_MAP_TYPE_LPM_TRIE, 8, 4, 6, flags=uapi.BPF_F_NO_PREALLOC),
    "queue": MapDef("q", uapi.BPF_MAP_TYPE_QUEUE, 0, 8, 3),
    "stack": MapDef("s", uapi.BPF_MAP_TYPE_STACK, 0, 8, 3),
}


def user_map(definition: MapDef) -> UserMap:
    return MapSpace().create(definition)


def key_for(name: str, number: int) -> bytes:
    """One of few keys, so that calls meet each other's."""
    if name == "lpm":
        lengths = (0, 8, 9, 16, 24, 32, 33)
        data = bytes((10, number % 3 << 6, number % 2, 1))
        return struct.pack("=I", lengths[number % 7]) + data
    size = DEFINITIONS[name].key_size
    return struct.pack("=I", number).ljust(size, b"\1")[:size]


def outcome(call) -> object:
    try:
        return call()
    except KernelError as error:
        return ("errno", error.errno)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("asked", "given_"), [(64, 4096), (4096, 4096), (12288, 16384)])
def test_ring_sizes_are_rounded_up_as_the_kernels(asked: int, given_: int) -> None:
    definition = MapDef("ring", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, asked)
    with Map.create(definition) as theirs:
        assert theirs.info().max_entries == given_
    assert user_map(definition).max_entries == given_


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["update", "noexist", "exist", "lookup", "delete", "take", "keys"]),
        st.integers(0, 6),
        st.integers(0, 255),
    ),
    max_size=30,
)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("name", DEFINITIONS)
@given(calls=CALLS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_the_kernel(name: str, calls: list[tuple[str, int, int]]) -> None:
    definition = DEFINITIONS[name]
    ours = user_map(definition)
    with Map.create(definition) as theirs:
        for call, number, fill in calls:
            key = key_for(name, number)
            results = []
            for map_ in (theirs, ours):
                value = bytes([fill]) * definition.value_size
                if map_.is_per_cpu:
                    value = map_.join_slots([value] * (map_.value_bytes // (definition.value_size + 7 & ~7)))
                results.append(outcome(functools.partial(apply, map_, call, key, value)))
            assert results[0] == results[1], (call, key)
        if definition.key_size:
            assert sorted(theirs.items()) == sorted(ours.items())
    ours.close()


def apply(map_: Map | UserMap, call: str, key: bytes, value: bytes) -> object:
    flags = {"update": 0, "noexist": 1, "exist": 2}
    if call in flags:
        return map_.update(key, value, flags[call])
    if call == "lookup":
        return map_.lookup(key)
    if call == "delete":
        return map_.delete(key)
    if call == "take":
        return map_.lookup_and_delete(key)
    if map_.key_size == 0:
        return None
    return sorted(map_.keys())


BAD = [
    MapDef("no_key", uapi.BPF_MAP_TYPE_HASH, 0, 8, 4),
    MapDef("no_value", uapi.BPF_MAP_TYPE_HASH, 4, 0, 4),
    MapDef("no_entries", uapi.BPF_MAP_TYPE_HASH, 4, 8, 0),
    MapDef("array_key", uapi.BPF_MAP_TYPE_ARRAY, 8, 8, 4),
    MapDef("queue_key", uapi.BPF_MAP_TYPE_QUEUE, 4, 8, 4),
    MapDef("lpm_prealloc", uapi.BPF_MAP_TYPE_LPM_TRIE, 8, 4, 6),
    MapDef("lpm_short", uapi.BPF_MAP_TYPE_LPM_TRIE, 4, 4, 6, flags=uapi.BPF_F_NO_PREALLOC),
    MapDef("ring_key", uapi.BPF_MAP_TYPE_RINGBUF, 4, 0, 4096),
    MapDef("stack_value", uapi.BPF_MAP_TYPE_STACK_TRACE, 4, 12, 4),
    MapDef("bloom_key", uapi.BPF_MAP_TYPE_BLOOM_FILTER, 4, 4, 4),
]


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("definition", BAD, ids=lambda d: d.name)
def test_bad_definitions_as_the_kernel(definition: MapDef) -> None:
    with pytest.raises(KernelError) as theirs:
        Map.create(definition)
    with pytest.raises(KernelError) as ours:
        user_map(definition)
    assert ours.value.errno == theirs.value.errno


def test_kernel_only_types() -> None:
    with pytest.raises(UnsupportedError, match="kernel only"):
        user_map(MapDef("x", uapi.BPF_MAP_TYPE_DEVMAP, 4, 4, 4))


def test_sizes_are_checked() -> None:
    map_ = user_map(HASH)
    with pytest.raises(ValueError, match="keys of 4 bytes, not 3"):
        map_.lookup(b"abc")
    with pytest.raises(ValueError, match="values of 8 bytes, not 1"):
        map_.update(b"abcd", b"x")


def test_frozen_and_read_only_maps_refuse_user_space() -> None:
    map_ = user_map(MapDef(".rodata", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1, contents=b"12345678", frozen=True))
    assert map_.lookup(bytes(4)) == b"12345678"
    with pytest.raises(KernelError) as caught:
        map_.update(bytes(4), b"87654321")
    assert caught.value.errno == 1


def test_programs_see_one_cpus_slot() -> None:
    map_ = user_map(DEFINITIONS["percpu_array"])
    if map_.cpus > 1:
        assert map_.set(bytes(4), b"wxyz", cpu=1) == 0
        assert map_.slots(map_.lookup(bytes(4)))[1] == b"wxyz"
        assert map_.find(bytes(4), cpu=1) - map_.find(bytes(4)) == 8
    assert map_.find(struct.pack("=I", 3)) == 0


# What native code relies on: the documented layout


def test_hash_layout() -> None:
    map_ = user_map(MapDef("h", uapi.BPF_MAP_TYPE_HASH, 12, 5, 10))
    key = b"abcdefghijkl"
    map_.update(key, b"hello")
    view = bytes(map_.memory.view)
    magic, type_, key_size, value_size, entries = struct.unpack_from("=5I", view, 0)
    step, cpus, element_step, mask, elements, buckets, size = struct.unpack_from("=4I3Q", view, 24)
    assert (magic, type_, key_size, value_size, entries) == (0x54424D31, 1, 12, 5, 10)
    assert (step, cpus, mask, size) == (8, 1, 15, len(view))
    # The hash function, written out once more: two words, the second padded.
    h = 12
    for word in (int.from_bytes(b"abcdefgh", "little"), int.from_bytes(b"ijkl\0\0\0\0", "little")):
        h = (h ^ word) * 0x9E3779B97F4A7C15 % 2**64
        h ^= h >> 32
    bucket = buckets + (h & mask) * 16
    lock, sequence, first, zero = struct.unpack_from("=4I", view, bucket)
    assert (lock, sequence % 2, zero) == (0, 0, 0)
    element = elements + (first - 1) * element_step
    assert struct.unpack_from("=4I", view, element) == (0, h & 0xFFFFFFFF, 0, 1)
    (value_offset,) = struct.unpack_from("=I", view, 112)
    assert view[element + 16 : element + 28] == key
    assert view[element + value_offset : element + value_offset + 5] == b"hello"
    assert map_.find(key) == map_.address + element + value_offset
    assert map_.memory.u64(layout.COUNT) == 1


def test_hash_spreads() -> None:
    assert len({key_hash(struct.pack("=I", n)) & 1023 for n in range(1024)}) > 550


def test_a_lock_of_the_dead_is_taken_over() -> None:
    map_ = user_map(HASH)
    bucket = map_.buckets + (key_hash(b"abcd") & map_.bucket_mask) * 16
    child = os.fork()
    if child == 0:
        Lock(map_.memory, bucket).__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert map_.memory.u32(bucket) == child
    map_.update(b"abcd", b"12345678")
    assert map_.lookup(b"abcd") == b"12345678"
    assert map_.memory.u32(bucket) == 0
    assert map_.memory.u32(bucket + 4) % 2 == 0


def test_processes_share_a_hash() -> None:
    map_ = user_map(MapDef("h", uapi.BPF_MAP_TYPE_HASH, 4, 4, 64))
    children = []
    for worker in range(3):
        child = os.fork()
        if child == 0:
            for turn in range(200):
                key = struct.pack("=I", worker * 100 + turn % 20)
                map_.update(key, key)
                if turn % 3 == 0:
                    map_.delete(key)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    items = map_.items()
    assert all(key == value for key, value in items)
    assert (
        map_.memory.u64(layout.COUNT)
        == len(items)
        == 3 * 20 - 3 * len({t % 20 for t in range(180, 200) if t % 3 == 0})
    )


def test_lru_keeps_what_is_used() -> None:
    map_ = user_map(MapDef("l", uapi.BPF_MAP_TYPE_LRU_HASH, 4, 4, 4))
    assert isinstance(map_, HashMap)
    keys = [struct.pack("=I", n) for n in range(8)]
    for key in keys[:4]:
        map_.update(key, key)
    map_.find(keys[0])
    map_.find(keys[2])
    for key in keys[4:6]:
        map_.update(key, key)
    held = set(map_.keys())
    assert len(held) == 4
    assert {keys[0], keys[2], keys[4], keys[5]} == held


# Ring buffer


def ring(size: int = 4096) -> RingBufferMap:
    map_ = user_map(MapDef("r", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, size))
    assert isinstance(map_, RingBufferMap)
    return map_


@given(st.lists(st.binary(max_size=300), max_size=60))
@settings(max_examples=30, deadline=None)
def test_ring_keeps_order_across_the_end(records: list[bytes]) -> None:
    map_ = ring()
    out = []
    for record in records:
        while map_.output(record):
            out += map_.records()
    out += map_.records()
    assert out == records
    map_.close()


def test_ring_reader_stops_at_a_reservation() -> None:
    map_ = ring()
    first, second, third = (map_.reserve(8) for _ in range(3))
    for address, text in ((second, b"second--"), (third, b"third---")):
        at, size = map_.record(address)
        map_.memory.view[at : at + size] = text
    map_.discard(third)
    map_.submit(second)
    assert map_.records() == []
    map_.discard(first)
    assert map_.records() == [b"second--"]
    assert map_.query(0) == 0
    assert map_.query(1) == 4096


def test_full_ring_refuses() -> None:
    map_ = ring()
    assert map_.reserve(4096) == 0
    while map_.output(b"x" * 100) == 0:
        pass
    assert map_.output(b"x" * 100) == -11
    assert map_.lost == 3  # the reservation, the loop's last and the one after
    map_.records()
    assert map_.output(b"y") == 0


def test_ring_wakes_its_reader() -> None:
    import select

    map_ = ring()
    assert select.select([map_.fileno()], [], [], 0)[0] == []
    map_.output(b"x")
    assert select.select([map_.fileno()], [], [], 0)[0] == [map_.fileno()]
    map_.records()
    assert select.select([map_.fileno()], [], [], 0)[0] == []


def test_ring_takes_from_many_threads() -> None:
    map_ = ring(65536)
    threads = [
        threading.Thread(target=lambda n=n: [map_.output(struct.pack("=II", n, i)) for i in range(100)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = [struct.unpack("=II", record) for record in map_.records()]
    for n in range(4):
        assert [i for who, i in records if who == n] == list(range(100))


# Others


def test_bloom_has_no_false_negatives() -> None:
    map_ = user_map(MapDef("b", uapi.BPF_MAP_TYPE_BLOOM_FILTER, 0, 4, 100))
    assert isinstance(map_, BloomFilterMap)
    inside = [struct.pack("=I", n) for n in range(100)]
    for value in inside:
        assert map_.push(value) == 0
    assert all(map_.contains(value) for value in inside)
    others = [struct.pack("=I", n) for n in range(1000, 2000)]
    assert sum(map_.contains(value) for value in others) < 100


def test_maps_of_maps() -> None:
    space = MapSpace()
    inner = space.create(HASH)
    other = space.create(MapDef("o", uapi.BPF_MAP_TYPE_HASH, 8, 8, 4))
    for type_ in (uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, uapi.BPF_MAP_TYPE_HASH_OF_MAPS):
        outer = space.create(MapDef("outer", type_, 4, 4, 4, inner=HASH))
        key = struct.pack("=I", 1)
        number = bytes(inner.memory.view[layout.ID : layout.ID + 4])
        assert outer.find(key) == 0
        outer.update(key, number)
        assert outer.find(key) == inner.address
        assert space.at(outer.find(key)) is inner
        with pytest.raises(KernelError):
            outer.update(key, bytes(other.memory.view[layout.ID : layout.ID + 4]))
        assert outer.delete(key)
        assert outer.find(key) == 0


def test_stacks() -> None:
    map_ = user_map(MapDef("s", uapi.BPF_MAP_TYPE_STACK_TRACE, 4, 32, 64))
    assert isinstance(map_, StackTraceMap)
    number = map_.intern([1, 2, 3])
    assert map_.intern([1, 2, 3]) == number
    assert map_.lookup(struct.pack("=I", number)) == struct.pack("=4Q", 1, 2, 3, 0)
    assert map_.intern([1, 2, 3, 4, 5]) == map_.intern([1, 2, 3, 4])
    assert map_.intern([]) == -14
    assert map_.delete(struct.pack("=I", number))
    assert map_.lookup(struct.pack("=I", number)) is None
