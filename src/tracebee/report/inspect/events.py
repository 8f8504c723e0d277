"""Events as they come out of a perf event array or a ring buffer: what ``map event_pipe`` prints."""

from __future__ import annotations

import json

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.kernel.map import Map


class Event(NamedTuple):
    """One event: its data, and for a perf event array the CPU it comes from; or how many were lost."""

    data: bytes
    cpu: int | None
    lost: int = 0


def events(table: Map) -> Iterator[Event]:
    """Events as they arrive, until interrupted.

    A perf event array is taken over: programs write to this process's buffers from now on.

    :raises UnsupportedError: the map is of another type.
    """
    if table.type == uapi.BPF_MAP_TYPE_RINGBUF:
        from tracebee.kernel.ringbuf import RingBuffer

        with RingBuffer(table) as ring:
            while True:
                ring.wait()
                for data in ring.drain():
                    yield Event(data, None)
    if table.type != uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        raise UnsupportedError("only perf event arrays and ring buffers carry events")
    from tracebee.kernel.perfbuf import PerfBuffer

    lost = 0
    with PerfBuffer(table) as buffers:
        while True:
            buffers.wait()
            for cpu, data in buffers.drain():
                yield Event(data, cpu)
            if buffers.lost > lost:
                yield Event(b"", None, buffers.lost - lost)
                lost = buffers.lost


def event_text(event: Event) -> str:
    """An event as lines of sixteen bytes, in hexadecimal and as characters."""
    if event.lost:
        return f"lost {event.lost} events"
    head = f"== {len(event.data)} bytes" + ("" if event.cpu is None else f"  CPU: {event.cpu}")
    lines = [head]
    for at in range(0, len(event.data), 16):
        part = event.data[at : at + 16]
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:04x}: {' '.join(f'{byte:02x}' for byte in part):<47}  {characters}")
    return "\n".join(lines)


def event_json(event: Event) -> str:
    """An event as one line of JSON."""
    if event.lost:
        return json.dumps({"lost": event.lost})
    record: dict[str, object] = {} if event.cpu is None else {"cpu": event.cpu}
    record["data"] = [f"0x{byte:02x}" for byte in event.data]
    return json.dumps(record)
