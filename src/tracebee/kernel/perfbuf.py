"""Consumer of a perf event array: one ring per CPU, for kernels or programs without the BPF ring buffer.

Each ring is a control page (``struct perf_event_mmap_page``) and a power of two of data pages with
records behind ``struct perf_event_header``; a record may wrap around the end.
Source: perf_event_open(2), "MMAP layout".
"""

from __future__ import annotations

import mmap
import select
import struct

from tracebee.kernel import cpus
from tracebee.kernel.barrier import fence
from tracebee.kernel.perf import EVENT_ATTR, PERF_SAMPLE_RAW, PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS, PerfEvent
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from tracebee.kernel.map import Map

PERF_SAMPLE_TIME = 1 << 2
PERF_RECORD_LOST, PERF_RECORD_SAMPLE = 2, 9
# Offsets in struct perf_event_mmap_page, and as indexes of 64-bit words.
_DATA_HEAD, _DATA_TAIL = 1024 // 8, 1032 // 8


class PerfRecord(NamedTuple):
    """A record of one CPU's ring: its data, or how many before it were lost (``id`` is the event's then).

    ``place`` is its ring's index in the array, ``time`` nanoseconds of the clock of trace events.
    """

    cpu: int
    place: int
    time: int
    data: bytes
    lost: int = 0
    id: int = 0


class _Ring(NamedTuple):
    cpu: int
    place: int
    event: PerfEvent
    memory: mmap.mmap
    words: memoryview


class PerfBuffer:
    """Reads what programs send with bpf_perf_event_output through a perf event array.

    :param array: a BPF_MAP_TYPE_PERF_EVENT_ARRAY map, which stays the caller's.
    :param pages: data pages per CPU, a power of two.
    :param places: which CPUs, and each one's place in the array; default: all, each at its own number.
    """

    def __init__(self, array: Map, *, pages: int = 64, places: Mapping[int, int] | None = None) -> None:
        self.lost = 0
        self._size = pages * mmap.PAGESIZE
        self._rings: list[_Ring] = []
        self._poll = select.poll()
        try:
            for cpu, index in (places or {cpu: cpu for cpu in cpus.online()}).items():
                self._add(array, cpu, index)
        except BaseException:
            self.close()
            raise

    def _add(self, array: Map, cpu: int, index: int) -> None:
        attr = EVENT_ATTR.pack(
            type=PERF_TYPE_SOFTWARE,
            config=SOFTWARE_EVENTS["bpf-output"],
            sample_type=PERF_SAMPLE_RAW | PERF_SAMPLE_TIME,
            sample_period=1,
            wakeup_events=1,
        )
        event = PerfEvent.open(attr, cpu=cpu, what=f"the perf buffer of CPU {cpu}")
        try:
            memory = mmap.mmap(event.fd, mmap.PAGESIZE + self._size)
        except BaseException:
            event.close()
            raise
        self._rings.append(_Ring(cpu, index, event, memory, memoryview(memory).cast("Q")))
        self._poll.register(event.fd, select.POLLIN)
        array.update(struct.pack("=I", index), struct.pack("=I", event.fd))
        event.enable()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until records come; False after ``timeout`` seconds without any.

        May be true once for records that were drained before the kernel's wake-up was noticed.
        """
        return bool(self._poll.poll(None if timeout is None else timeout * 1000))

    def drain(self) -> list[tuple[int, bytes]]:
        """Take what is there as (CPU, data), in order on each CPU; ``lost`` grows by what the kernel dropped.

        The data ends with up to 7 bytes of padding, as the kernel writes it.
        """
        return [(record.cpu, record.data) for record in self.take() if not record.lost]

    def take(self) -> list[PerfRecord]:
        """Take what is there as records, those that tell of losses among them."""
        records: list[PerfRecord] = []
        for ring in self._rings:
            self._drain_ring(ring, records)
        return records

    def _drain_ring(self, ring: _Ring, records: list[PerfRecord]) -> None:
        head, tail = ring.words[_DATA_HEAD], ring.words[_DATA_TAIL]
        if head == tail:
            return
        fence()  # the position before the data
        start, mask = tail & self._size - 1, self._size - 1
        memory, page, length = ring.memory, mmap.PAGESIZE, head - tail
        data = memory[page + start : page + min(self._size, start + length)]
        if len(data) < length:
            data += memory[page : page + (head & mask)]
        at = 0
        while at < length:
            kind, _, size = struct.unpack_from("=IHH", data, at)
            if kind == PERF_RECORD_SAMPLE:
                time, raw = struct.unpack_from("=QI", data, at + 8)
                records.append(PerfRecord(ring.cpu, ring.place, time, data[at + 20 : at + 20 + raw]))
            elif kind == PERF_RECORD_LOST:
                number, lost = struct.unpack_from("=QQ", data, at + 8)
                self.lost += lost
                records.append(PerfRecord(ring.cpu, ring.place, 0, b"", lost, number))
            at += size
        fence()  # the data before giving its room back
        ring.words[_DATA_TAIL] = head

    def close(self) -> None:
        """Close the rings."""
        for ring in self._rings:
            ring.words.release()
            ring.memory.close()
            ring.event.close()
        self._rings.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
