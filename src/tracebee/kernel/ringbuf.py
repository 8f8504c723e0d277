"""Consumer of a BPF ring buffer: mapped memory, emptied in batches.

Layout (``kernel/bpf/ringbuf.c``): a page with the consumer's position, a page with the producer's,
and the data, which the kernel offers twice in a row so that no record wraps. All mapped pages count as
this process's memory, so they are mapped once here, and the one record of a round that wraps is put
together. A record is an 8-byte header (length with a busy and a discard bit, page offset) and its data,
padded to 8 bytes.
"""

from __future__ import annotations

import mmap
import os
import select

from tracebee.kernel.barrier import fence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tracebee.kernel.map import Map

_BUSY = 1 << 31
_DISCARD = 1 << 30
_LENGTH = _DISCARD - 1


def default_size() -> int:
    """Bytes for a ring buffer: a thousandth of the machine's memory, between 256 KiB and 4 MiB.

    bpftrace takes up to 16 MiB; mapping the buffer makes all of it resident in this process.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(1 << 18, 1 << (memory >> 10).bit_length() - 1), 1 << 22)


class RingBuffer:
    """Reads the records of a ``BPF_MAP_TYPE_RINGBUF`` map.

    The map stays the caller's; this object owns only its memory mappings.
    """

    def __init__(self, ring: Map) -> None:
        page = mmap.PAGESIZE
        self.size = ring.max_entries
        self._consumer = mmap.mmap(ring.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._producer = mmap.mmap(
                ring.fd, page + self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except BaseException:
            self._consumer.close()
            raise
        self._taken = memoryview(self._consumer).cast("Q")
        self._made = memoryview(self._producer).cast("Q")
        self._words = memoryview(self._producer).cast("I")
        self._base = page
        self._poll = select.poll()
        self._poll.register(ring.fd, select.POLLIN)

    def pending(self) -> int:
        """Bytes produced and not yet taken, headers and unfinished records included."""
        return self._made[0] - self._taken[0]

    def drain(self, limit: int = 0) -> list[bytes]:
        """Take the finished records that are there, oldest first, without waiting.

        :param limit: at most about so many bytes of the ring; 0 for all.
        """
        position = self._taken[0]
        end = self._made[0]
        if position == end:
            return []
        if limit and end - position > limit:
            end = position + limit
        fence()  # the position before the headers
        words, mask, base, beyond = self._words, self.size - 1, self._base, self._base + self.size
        wraps = -1
        places: list[tuple[int, int]] = []
        while position < end:
            at = base + (position & mask)
            header = words[at >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARD:
                if at + 8 + length > beyond:
                    wraps = len(places)
                places.append((at + 8, at + 8 + length))
            position += length + 15 & ~7
        fence()  # the headers before the data
        memory = self._producer
        records = [memory[start:stop] for start, stop in places]
        if wraps >= 0:  # its slice ended with the mapping
            records[wraps] += memory[base : base + places[wraps][1] - beyond]
        fence()  # the data before giving its room back
        self._taken[0] = position
        return records

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until records come; False after ``timeout`` seconds without any."""
        return bool(self._poll.poll(None if timeout is None else timeout * 1000))

    def close(self) -> None:
        """Give the mappings back."""
        for view in (self._taken, self._made, self._words):
            view.release()
        self._consumer.close()
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
