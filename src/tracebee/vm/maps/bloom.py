"""Sets that may only say "perhaps": BLOOM_FILTER.

A bit array of ``bucket_mask + 1`` bits at ``buckets``, as 64-bit words. A value sets, and asks for, one bit
for each of its hash functions, whose number is in the low four bits of ``extra`` (5 when they are 0). The
hash function n of a value is the hash of hash maps over the value, started with ``value_size + n`` instead
of the size; its low bits are the bit's number. Bits are set by atomic or.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tracebee import uapi
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import EINVAL, ENOENT, UserMap
from tracebee.vm.maps.hash import MULTIPLIER
from tracebee.vm.memory import Region

_DEFAULT_HASHES = 5


class BloomFilterMap(UserMap):
    """Values that were put in, and some that were not."""

    def _refuse_bad_definition(self) -> None:
        if self.key_size != 0 or self.value_size == 0 or self.max_entries == 0 or self.definition.extra & ~15:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    @property
    def hashes(self) -> int:
        """Number of hash functions."""
        return self.definition.extra & 15 or _DEFAULT_HASHES

    def _plan(self) -> int:
        # The kernel's sizing: entries * hashes / ln 2, rounded up to a power of two.
        wanted = self.max_entries * self.hashes * 7 // 5
        bits = 64
        while bits < wanted:
            bits *= 2
        self.bucket_mask = bits - 1
        self.buckets = layout.HEADER_BYTES
        return layout.HEADER_BYTES + bits // 8

    def regions(self) -> list[Region]:
        """None: programs see no bits."""
        return []

    def _bits(self, value: bytes) -> Iterator[tuple[int, int]]:
        """Offset of the word and mask of the bit for each hash function."""
        for seed in range(self.hashes):
            h = self.value_size + seed
            for at in range(0, len(value), 8):
                word = int.from_bytes(value[at : at + 8].ljust(8, b"\0"), sys.byteorder)
                h = (h ^ word) * MULTIPLIER & 0xFFFFFFFFFFFFFFFF
                h ^= h >> 32
            number = h & self.bucket_mask
            yield self.buckets + number // 64 * 8, 1 << number % 64

    def push(self, value: bytes, flags: int = 0) -> int:
        """Put a value in."""
        if flags != uapi.BPF_ANY:
            return -EINVAL
        for offset, bit in self._bits(value):
            while not (word := self.memory.u64(offset)) & bit:
                self.memory.exchange64(offset, word, word | bit)
        return 0

    def peek(self, value: bytes = b"") -> bytes | int:
        """The value itself when it may have been put in, else -ENOENT."""
        if all(self.memory.u64(offset) & bit for offset, bit in self._bits(value)):
            return value
        return -ENOENT

    def contains(self, value: bytes) -> bool:
        """Whether a value may have been put in: what user space asks the kernel by a lookup."""
        return isinstance(self.peek(value), bytes)

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        return self.push(value, flags)

    def _value_at(self, key: bytes) -> int | None:
        return None

    def _remove(self, key: bytes) -> int:
        return -EINVAL

    def _keys(self) -> Iterator[bytes]:
        return iter(())
