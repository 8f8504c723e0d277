"""Events as they come out of a perf event array or a ring buffer: what ``map event_pipe`` prints."""

from __future__ import annotations

import json

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.kernel.perfbuf import PERF_RECORD_LOST, PERF_RECORD_SAMPLE, PerfRecord
from tracebee.report.inspect.output import hex_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracebee.kernel.map import Map

    # A perf event array's record, or a ring buffer's bytes.
    Event = PerfRecord | bytes


def events(table: Map, places: Mapping[int, int] | None = None) -> Iterator[Event]:
    """Events as they arrive, until interrupted.

    A perf event array is taken over: programs write to this process's buffers from now on.

    :param places: of a perf event array: which CPUs, and the place of each in the array; default: all.
    :raises UnsupportedError: the map is of another type, or a ring buffer, which has no places.
    """
    if table.type == uapi.BPF_MAP_TYPE_RINGBUF and places is None:
        from tracebee.kernel.ringbuf import RingBuffer

        with RingBuffer(table) as ring:
            while True:
                ring.wait()
                yield from ring.drain()
    if table.type != uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        what = "only perf event arrays have a ring for each CPU"
        raise UnsupportedError(what if places else "only perf event arrays and ring buffers carry events")
    from tracebee.kernel.perfbuf import PerfBuffer

    with PerfBuffer(table, places=places) as buffers:
        while True:
            buffers.wait()
            yield from buffers.take()


def event_text(event: Event) -> str:
    """An event as lines of sixteen bytes, in hexadecimal and as characters."""
    if isinstance(event, bytes):
        data, head = event, f"== {len(event)} bytes"
    elif event.lost:
        return f"lost {event.lost} events"
    else:
        seconds, rest = divmod(event.time, 1_000_000_000)
        data, head = event.data, f"== @{seconds}.{rest:09} CPU: {event.cpu} index: {event.place} ====="
    lines = [head]
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:04x}: {part.hex(' '):<47}  {characters}")
    return "\n".join(lines)


def event_json(event: Event) -> str:
    """An event as one line of JSON, a perf event array's with bpftool's keys."""
    if isinstance(event, bytes):
        return json.dumps({"data": hex_bytes(event)})
    kind = PERF_RECORD_LOST if event.lost else PERF_RECORD_SAMPLE
    record: dict[str, object] = {"type": kind, "cpu": event.cpu, "index": event.place}
    if event.lost:
        record["lost"] = {"id": event.id, "count": event.lost}
    else:
        record.update(timestamp=event.time, data=hex_bytes(event.data))
    return json.dumps(record)
