"""Hash tables: HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH.

Buckets, 16 bytes each at ``buckets``, ``bucket_mask + 1`` of them::

    u32 lock        thread that is changing the bucket, 0 when free
    u32 sequence    odd while it is being changed
    u32 first       index + 1 of the chain's first element, 0 for none
    u32 (zero)

Elements, ``max_entries`` of them, ``element_step`` bytes each from ``elements``::

    u32 next        index + 1 of the next in the chain, or in the list of unused elements
    u32 hash        of its key; the low bits are the bucket's number
    u32 used        LRU: 1 after the element was used, 0 after the eviction hand passed
    u32 state       0 unused, 1 in a chain
    key             padded with zeros to 8 bytes
    value           at ``value_offset``: slots for CPU 0, 1, ... of ``value_step`` bytes

The hash of a key is computed over its 8-byte words in the host's order, the last padded with zeros::

    h = key_size; for each word w: h = (h ^ w) * 0x9e3779b97f4a7c15 (64 bits); h ^= h >> 32
    hash = low 32 bits of h

Looking up takes no lock: read ``sequence``, walk the chain comparing hash and key; if the key is not found
and ``sequence`` was odd or has changed, walk again, and after some hundred times with the lock (whose owner
may have died). Changing a chain takes its bucket's lock. An element is
linked in by one store to ``first`` after everything in it is written, and out by one store to the link
before it. Unused elements are a list whose head (``free`` in the header) is changed by compare-and-
exchange, with a counter in its high half that every change increments.

In an LRU map that is full, the hand (``head`` in the header) goes round the elements: a used one gets another
round, the first that is not is evicted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tracebee import uapi
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import E2BIG, EEXIST, ENOENT, ENOMEM, UserMap
from tracebee.vm.maps.layout import round_up
from tracebee.vm.maps.memory import PATIENCE, Lock

BUCKET_BYTES = 16
FIRST = 8
NEXT, HASH, USED, STATE, KEY = 0, 4, 8, 12, 16
MULTIPLIER = 0x9E3779B97F4A7C15

_MASK64 = (1 << 64) - 1
_LRU = frozenset((uapi.BPF_MAP_TYPE_LRU_HASH, uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH))


def key_hash(key: bytes) -> int:
    """The 32-bit hash of a key, see the module."""
    h = len(key)
    for at in range(0, len(key), 8):
        word = int.from_bytes(key[at : at + 8].ljust(8, b"\0"), sys.byteorder)
        h = (h ^ word) * MULTIPLIER & _MASK64
        h ^= h >> 32
    return h & 0xFFFFFFFF


def _counted(word: int, index: int) -> int:
    """A new head of the list of unused elements, told from an old one with the same index by its counter."""
    return ((word >> 32) + 1 & 0xFFFFFFFF) << 32 | index


class HashMap(UserMap):
    """Values by key."""

    can_take = True

    def _plan(self) -> int:
        buckets = 1
        while buckets < self.max_entries:
            buckets *= 2
        self.bucket_mask = buckets - 1
        self.buckets = layout.HEADER_BYTES
        self.elements = self.buckets + buckets * BUCKET_BYTES
        self.value_offset = KEY + round_up(self.key_size, 8)
        self.element_step = self.value_offset + self.value_step * self.cpus
        return self.elements + self.max_entries * self.element_step

    def _write_header(self) -> None:
        super()._write_header()
        for index in range(self.max_entries - 1):
            self.memory.set_u32(self._element(index) + NEXT, index + 2)
        self.memory.set_u64(layout.FREE, 1)

    @property
    def is_lru(self) -> bool:
        """Whether a full map makes room by itself."""
        return self.type in _LRU

    def _element(self, index: int) -> int:
        return self.elements + index * self.element_step

    def _bucket(self, hash_: int) -> int:
        return self.buckets + (hash_ & self.bucket_mask) * BUCKET_BYTES

    # Finding

    def _search(self, key: bytes, hash_: int) -> int | None:
        """Offset of the element with a key, without locking."""
        memory, bucket = self.memory, self._bucket(hash_)
        for _ in range(PATIENCE):
            sequence = memory.u32(bucket + 4)
            found = self._walk(key, hash_, bucket)[0]
            if found is not None or (sequence % 2 == 0 and memory.u32(bucket + 4) == sequence):
                return found
        with Lock(memory, bucket):
            return self._walk(key, hash_, bucket)[0]

    def _walk(self, key: bytes, hash_: int, bucket: int) -> tuple[int | None, int]:
        """The element with a key, and the offset of the link that leads to it (or the last)."""
        memory, link = self.memory, bucket + FIRST
        # A chain that changes underfoot may lead in circles, but not for longer than there are elements.
        for _ in range(self.max_entries + 1):
            index = memory.u32(link)
            if index == 0:
                break
            element = self._element(index - 1)
            start = element + KEY
            if memory.u32(element + HASH) == hash_ and memory.view[start : start + self.key_size] == key:
                return element, link
            link = element + NEXT
        return None, link

    def _value_at(self, key: bytes) -> int | None:
        element = self._search(key, key_hash(key))
        return None if element is None else element + self.value_offset

    def find(self, key: bytes, cpu: int = 0) -> int:
        """Address of the value under a key; in an LRU map that counts as using it."""
        element = self._search(key, key_hash(key))
        if element is None:
            return 0
        if self.is_lru:
            self.memory.set_u32(element + USED, 1)
        slot = cpu * self.value_step if self.cpus > 1 else 0
        return self.address + element + self.value_offset + slot

    # Changing

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        hash_ = key_hash(key)
        bucket = self._bucket(hash_)
        spare: int | None = None
        # An element is taken before the lock: evicting one may need another bucket's.
        if not flags & uapi.BPF_EXIST and self._search(key, hash_) is None:
            spare = self._take_unused()
        with Lock(self.memory, bucket):
            element, _ = self._walk(key, hash_, bucket)
            if element is not None:
                result = -EEXIST if flags & uapi.BPF_NOEXIST else self._overwrite(element, value, at)
            elif flags & uapi.BPF_EXIST:
                result = -ENOENT
            elif spare is None:
                result = -ENOMEM if self.is_lru else -E2BIG
            else:
                self._link(spare, key, hash_, bucket, value, at)
                return 0
        if spare is not None:
            self._give_back(spare)
        return result

    def _overwrite(self, element: int, value: bytes, at: int) -> int:
        start = element + self.value_offset + at
        self.memory.view[start : start + len(value)] = value
        self.memory.set_u32(element + USED, 1)
        return 0

    def _link(self, element: int, key: bytes, hash_: int, bucket: int, value: bytes, at: int) -> None:
        memory, view = self.memory, self.memory.view
        memory.set_u32(element + HASH, hash_)
        memory.set_u32(element + USED, 0)
        end = element + self.element_step
        view[element + KEY : end] = key.ljust(self.element_step - KEY, b"\0")
        start = element + self.value_offset + at
        view[start : start + len(value)] = value
        memory.set_u32(element + NEXT, memory.u32(bucket + FIRST))
        memory.set_u32(element + STATE, 1)
        memory.set_u32(bucket + FIRST, (element - self.elements) // self.element_step + 1)
        memory.add(layout.COUNT, 1)

    def _remove(self, key: bytes) -> int:
        hash_ = key_hash(key)
        bucket = self._bucket(hash_)
        with Lock(self.memory, bucket):
            element, link = self._walk(key, hash_, bucket)
            if element is None:
                return -ENOENT
            self._unlink(element, link)
        self._give_back(element)
        return 0

    def _unlink(self, element: int, link: int) -> None:
        self.memory.set_u32(link, self.memory.u32(element + NEXT))
        self.memory.set_u32(element + STATE, 0)
        self.memory.add(layout.COUNT, -1)

    # Unused elements

    def _take_unused(self) -> int | None:
        memory = self.memory
        while index := (word := memory.u64(layout.FREE)) & 0xFFFFFFFF:
            element = self._element(index - 1)
            if memory.exchange64(layout.FREE, word, _counted(word, memory.u32(element + NEXT))):
                return element
        return self._evict() if self.is_lru else None

    def _give_back(self, element: int) -> None:
        memory, index = self.memory, (element - self.elements) // self.element_step + 1
        while True:
            word = memory.u64(layout.FREE)
            memory.set_u32(element + NEXT, word & 0xFFFFFFFF)
            if memory.exchange64(layout.FREE, word, _counted(word, index)):
                return

    def _evict(self) -> int | None:
        """Unlink an element that was not used lately. After two rounds every one was asked twice."""
        memory = self.memory
        for _ in range(2 * self.max_entries + 1):
            element = self._element(memory.add(layout.HEAD, 1) % self.max_entries)
            if memory.u32(element + STATE) == 0:
                continue
            if memory.u32(element + USED):
                memory.set_u32(element + USED, 0)
                continue
            hash_ = memory.u32(element + HASH)
            bucket = self._bucket(hash_)
            with Lock(memory, bucket):
                key = bytes(memory.view[element + KEY : element + KEY + self.key_size])
                found, link = self._walk(key, hash_, bucket)
                if found == element:
                    self._unlink(element, link)
                    return element
        return None

    def _keys(self) -> Iterator[bytes]:
        memory, size = self.memory, self.key_size
        for number in range(self.bucket_mask + 1):
            index = memory.u32(self.buckets + number * BUCKET_BYTES + FIRST)
            steps = 0
            while index and steps <= self.max_entries:
                element = self._element(index - 1)
                yield bytes(memory.view[element + KEY : element + KEY + size])
                index = memory.u32(element + NEXT)
                steps += 1
