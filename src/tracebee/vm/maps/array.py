"""Arrays: ARRAY and PERCPU_ARRAY.

Element i starts at ``elements + i * element_step`` and is its value's slots for CPU 0, 1, ... each
``value_step`` bytes. All elements are always there, zero at first. Nothing is locked: a value is copied in
place, as in the kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tracebee import uapi
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import E2BIG, EEXIST, EINVAL, UserMap


class ArrayMap(UserMap):
    """Values by index: a key is a 32-bit number below ``max_entries``."""

    def _refuse_bad_definition(self) -> None:
        super()._refuse_bad_definition()
        if self.key_size != 4:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _plan(self) -> int:
        self.element_step = self.value_step * self.cpus
        return layout.HEADER_BYTES + self.max_entries * self.element_step

    def _value_at(self, key: bytes) -> int | None:
        index = int.from_bytes(key, sys.byteorder)
        return self.elements + index * self.element_step if index < self.max_entries else None

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        place = self._value_at(key)
        if place is None:
            return -E2BIG
        if flags & uapi.BPF_NOEXIST:
            return -EEXIST
        self.memory.view[place + at : place + at + len(value)] = value
        return 0

    def _remove(self, key: bytes) -> int:
        return -EINVAL

    def _keys(self) -> Iterator[bytes]:
        return (index.to_bytes(4, sys.byteorder) for index in range(self.max_entries))

    def next_key(self, key: bytes | None) -> bytes | None:
        """The next index; the first for None and for an index that is out of range."""
        index = self.max_entries if key is None else int.from_bytes(key, sys.byteorder)
        if index >= self.max_entries:
            return bytes(4)
        return (index + 1).to_bytes(4, sys.byteorder) if index + 1 < self.max_entries else None

    def clear(self) -> None:
        """Set every element to zero."""
        self._writable(uapi.BPF_MAP_UPDATE_ELEM)
        start = self.elements
        self.memory.view[start : start + self.max_entries * self.element_step] = bytes(
            self.max_entries * self.element_step
        )
