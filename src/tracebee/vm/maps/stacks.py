"""Call stacks by id: STACK_TRACE.

``bucket_mask + 1`` elements of ``element_step`` bytes from ``elements``, the number being ``max_entries``
rounded up to a power of two::

    u32 hash        of the frames, as of a hash map's key
    u32 frames      number of frames, 0 when the element is empty
    value           at ``value_offset``: return addresses, u64 each

The id of a stack is its hash's low bits. The map's lock guards changes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence

from tracebee import uapi
from tracebee.vm.maps.base import EEXIST, EINVAL, ENOENT, ENOTSUPP, UserMap
from tracebee.vm.maps.hash import key_hash
from tracebee.vm.memory import Region

_FAST_STACK_CMP, _REUSE_STACKID = 1 << 9, 1 << 10


class StackTraceMap(UserMap):
    """Stacks that programs put in, for user space to look up."""

    def _refuse_bad_definition(self) -> None:
        super()._refuse_bad_definition()
        if self.key_size != 4 or self.value_size % 8:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _plan(self) -> int:
        buckets = 1
        while buckets < self.max_entries:
            buckets *= 2
        self.bucket_mask = buckets - 1
        self.value_offset = 8
        self.element_step = self.value_offset + self.value_step
        return self.elements + buckets * self.element_step

    def regions(self) -> list[Region]:
        """None: programs do not look into stacks."""
        return []

    def _element(self, number: int) -> int:
        return self.elements + number * self.element_step

    def intern(self, frames: Sequence[int], flags: int = 0) -> int:
        """The id of a stack, which is put in if need be, or -EEXIST when another is in its place.

        :param frames: return addresses, the innermost first; those beyond the value's size are left out.
        :param flags: as of ``bpf_get_stackid``: BPF_F_FAST_STACK_CMP (equal hashes are equal stacks),
            BPF_F_REUSE_STACKID (the new stack replaces another).
        """
        frames = frames[: self.value_size // 8]
        if not frames:
            return -14  # EFAULT, as the kernel says of a stack without frames
        data = struct.pack(f"={len(frames)}Q", *frames)
        hash_ = key_hash(data)
        number = hash_ & self.bucket_mask
        element, memory = self._element(number), self.memory
        start = element + self.value_offset
        with self._lock():
            if memory.u32(element + 4):
                equal = memory.u32(element) == hash_ and (
                    bool(flags & _FAST_STACK_CMP)
                    or (
                        memory.u32(element + 4) == len(frames)
                        and bytes(memory.view[start : start + len(data)]) == data
                    )
                )
                if equal:
                    return number
                if not flags & _REUSE_STACKID:
                    return -EEXIST
            memory.view[start : start + self.value_size] = data.ljust(self.value_size, b"\0")
            memory.set_u32(element, hash_)
            memory.set_u32(element + 4, len(frames))
        return number

    def _value_at(self, key: bytes) -> int | None:
        number = int.from_bytes(key, sys.byteorder)
        if number > self.bucket_mask or not self.memory.u32(self._element(number) + 4):
            return None
        return self._element(number) + self.value_offset

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        return -EINVAL

    def set(self, key: bytes, value: bytes, flags: int = 0, cpu: int = 0) -> int:
        """Programs may not."""
        return -ENOTSUPP

    def _remove(self, key: bytes) -> int:
        number = int.from_bytes(key, sys.byteorder)
        if self._value_at(key) is None:
            return -ENOENT
        with self._lock():
            self.memory.set_u32(self._element(number) + 4, 0)
        return 0

    def _keys(self) -> Iterator[bytes]:
        for number in range(self.bucket_mask + 1):
            if self.memory.u32(self._element(number) + 4):
                yield number.to_bytes(4, sys.byteorder)
