"""The ring buffer: RINGBUF, in the kernel's layout.

Pages, from ``elements`` (which is page-aligned)::

    consumer        u64 position up to which records were taken
    producer        u64 position up to which space was reserved
    data            ``max_entries`` bytes, a power of two, mapped twice in a row so that no record wraps

A record is at position p modulo ``max_entries``: u32 length (bit 31 busy: reserved and not submitted
yet, bit 30 discarded), u32 offset (in pages from the consumer page to the record, as the kernel has
it), then the data; the next begins at the next multiple of 8. Reserving takes the map's lock; submitting
is one store to the length. The reader stops at a busy record.

Source: ``kernel/bpf/ringbuf.c``.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from tracebee import uapi
from tracebee.obj.model import MapDef
from tracebee.vm.maps.base import EAGAIN, EINVAL, ENOTSUPP, UserMap
from tracebee.vm.maps.layout import round_up
from tracebee.vm.maps.memory import SharedMemory
from tracebee.vm.memory import Region, address_of
from tracebee.vm.pages import map_pages

BUSY, DISCARD = 1 << 31, 1 << 30
HEADER = 8

_PAGE = mmap.PAGESIZE
_MAP_FIXED = 0x10
_NO_WAKEUP, _FORCE_WAKEUP = 1, 2
_AVAIL_DATA, _RING_SIZE, _CONS_POS, _PROD_POS = range(4)


class _RingMemory(SharedMemory):
    """A shared memory whose last part is mapped a second time right behind itself."""

    __slots__ = ("_whole",)

    def __init__(self, size: int, twice: int, name: str) -> None:
        super().__init__(size, name)
        # An anonymous mapping holds the place, and the memfd's two then go on top of it.
        self._whole = mmap.mmap(-1, size + twice, mmap.MAP_SHARED)
        base = address_of(self._whole)
        fixed = _MAP_FIXED | mmap.MAP_SHARED
        for at, length, offset in ((base, size, 0), (base + size, twice, size - twice)):
            map_pages(length, fixed, at=at, fd=self.fd, offset=offset)
        self._map = self._whole
        self.view = memoryview(self._whole)
        self.address = base


class RingBufferMap(UserMap):
    """Records from programs to one reader, in order."""

    def __init__(self, definition: MapDef) -> None:
        super().__init__(definition)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.lost = 0

    def _refuse_bad_definition(self) -> None:
        size = self.max_entries
        if self.key_size or self.value_size or size == 0 or size & size - 1 or size % _PAGE:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _plan(self) -> int:
        self.elements = _PAGE
        self.value_offset = 2 * _PAGE  # from the consumer page to the data
        return self.elements + 2 * _PAGE + self.max_entries

    def _allocate(self, size: int) -> SharedMemory:
        return _RingMemory(size, self.max_entries, f"bpf-{self.name}"[:31])

    def close(self) -> None:
        """Give the descriptors back."""
        super().close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def __del__(self) -> None:
        if getattr(self, "_wake", -1) >= 0:
            os.close(self._wake)

    @property
    def _data(self) -> int:
        return self.elements + 2 * _PAGE

    def regions(self) -> list[Region]:
        """None: a program gets at a record by reserving it."""
        return []

    # For programs

    def reserve(self, size: int) -> int:
        """Reserve a record of ``size`` bytes: the address of its data, 0 when there is no room."""
        total = round_up(size + HEADER, 8)
        memory, consumer, producer = self.memory, self.elements, self.elements + _PAGE
        if total > self.max_entries or size >= DISCARD:
            self.lost += 1
            return 0
        with self._lock():
            start = memory.u64(producer)
            if start + total - memory.u64(consumer) > self.max_entries - 1:
                self.lost += 1
                return 0
            at = self._data + start % self.max_entries
            memory.set_u32(at + 4, (at - self.elements) // _PAGE)
            memory.set_u32(at, size | BUSY)
            memory.set_u64(producer, start + total)
        return self.address + at + HEADER

    def record(self, address: int) -> tuple[int, int]:
        """Offset and size of the data of a record that is reserved."""
        at = address - self.address
        return at, self.memory.u32(at - HEADER) & DISCARD - 1

    def submit(self, address: int, flags: int = 0) -> None:
        """Hand a reserved record to the reader."""
        self._commit(address, flags, 0)

    def discard(self, address: int, flags: int = 0) -> None:
        """Give a reserved record up."""
        self._commit(address, flags, DISCARD)

    def _commit(self, address: int, flags: int, mark: int) -> None:
        at, size = self.record(address)
        self.memory.set_u32(at - HEADER, size | mark)
        if not flags & _NO_WAKEUP:
            os.eventfd_write(self._wake, 1)

    def output(self, data: bytes, flags: int = 0) -> int:
        """Reserve, fill and submit: 0 or -errno, as ``bpf_ringbuf_output``."""
        if flags & ~(_NO_WAKEUP | _FORCE_WAKEUP):
            return -EINVAL
        address = self.reserve(len(data))
        if address == 0:
            return -EAGAIN
        at = address - self.address
        self.memory.view[at : at + len(data)] = data
        self.submit(address, flags)
        return 0

    def query(self, what: int) -> int:
        """A number about the buffer, as ``bpf_ringbuf_query``."""
        consumer = self.memory.u64(self.elements)
        producer = self.memory.u64(self.elements + _PAGE)
        values = {
            _AVAIL_DATA: producer - consumer,
            _RING_SIZE: self.max_entries,
            _CONS_POS: consumer,
            _PROD_POS: producer,
        }
        return values.get(what, 0)

    # For the reader

    def fileno(self) -> int:
        """A descriptor that is readable after a submission by this process."""
        return self._wake

    def records(self) -> list[bytes]:
        """The data of all records that are submitted, oldest first, taken out."""
        memory, view = self.memory, self.memory.view
        position, end = memory.u64(self.elements), memory.u64(self.elements + _PAGE)
        records = []
        while position < end:
            at = self._data + position % self.max_entries
            word = memory.u32(at)
            if word & BUSY:
                break
            size = word & DISCARD - 1
            if not word & DISCARD:
                records.append(bytes(view[at + HEADER : at + HEADER + size]))
            position += round_up(size + HEADER, 8)
            memory.set_u64(self.elements, position)
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        return records

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """Not offered, as in the kernel."""
        self._refuse(uapi.BPF_MAP_LOOKUP_ELEM, ENOTSUPP)
        return None

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        return -ENOTSUPP

    def _value_at(self, key: bytes) -> int | None:
        return None

    def _remove(self, key: bytes) -> int:
        return -ENOTSUPP

    def _keys(self) -> Iterator[bytes]:
        return iter(())
