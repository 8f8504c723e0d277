"""Elements of maps: what ``map dump`` and ``map lookup`` print, by their types where a map has some."""

from __future__ import annotations

import os
import sys

from tracebee import uapi
from tracebee.errors import KernelError, UnsupportedError
from tracebee.report.inspect.output import hex_bytes, hex_text
from tracebee.report.inspect.typed import typed_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.kernel.map import Map

_TYPE_NAMES = {number: name for name, number in uapi.MAP_TYPES.items()}
_OF_MAPS = (uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, uapi.BPF_MAP_TYPE_HASH_OF_MAPS)
_ENOENT = 2


class MapTypes:
    """A map's key and value types, for showing its elements; ``btf`` None when it has none."""

    def __init__(self, btf: Btf | None, key: int, value: int) -> None:
        self.btf, self.key, self.value = btf, key, value

    @classmethod
    def of(cls, table: Map) -> MapTypes:
        """The types a map was created with."""
        info = table.info()
        if info.btf_vmlinux_value_type_id:
            from tracebee.btf.opening import open_vmlinux

            return cls(open_vmlinux(), 0, info.btf_vmlinux_value_type_id)
        if not info.btf_id:
            return cls(None, 0, 0)
        from tracebee.report.inspect.btf import btf_of

        return cls(btf_of(info.btf_id), info.btf_key_type_id, info.btf_value_type_id)

    def formatted(self, table: Map, key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
        """The ``formatted`` part of an element; None for a map without types."""
        if self.btf is None or not self.value:
            return None
        out: dict[str, Any] = {}
        if key is not None and self.key:
            out["key"] = typed_value(self.btf, self.key, key)
        if value is None:
            return out
        if table.is_per_cpu:
            out["values"] = [
                {"cpu": cpu, "value": typed_value(self.btf, self.value, slot)}
                for cpu, slot in enumerate(table.slots(value))
            ]
        else:
            out["value"] = typed_value(self.btf, self.value, value)
        return out


def element_record(
    table: Map, types: MapTypes, key: bytes | None, value: bytes | int | None
) -> dict[str, Any]:
    """One element with bpftool's JSON keys: bytes, and what they mean where types are known.

    :param value: an error's number for an element that cannot be read.
    """
    out: dict[str, Any] = {}
    if key is not None:
        out["key"] = hex_bytes(key)
    if isinstance(value, int):
        return {**out, "value": {"error": os.strerror(value)}}
    if value is not None and table.is_per_cpu:
        out["values"] = [
            {"cpu": cpu, "value": hex_bytes(slot)} for cpu, slot in enumerate(table.slots(value))
        ]
    elif value is not None:
        out["value"] = hex_bytes(value)
        if table.type in _OF_MAPS:
            out["inner_map_id"] = int.from_bytes(value, sys.byteorder)
    formatted = types.formatted(table, key, value)
    if formatted is not None:
        out["formatted"] = formatted
    return out


def element_text(table: Map, key: bytes | None, value: bytes | int | None) -> str:
    """One element of a map without types as hexadecimal bytes, on one line where it is short."""
    if isinstance(value, int):
        said = "<no entry>" if value == _ENOENT else os.strerror(value)
        gap, end = ("\n", "\n") if table.key_size > 16 or len(said) > 16 else (" ", "  ")
        return f"key:{gap}{hex_text(key or b'')}{end}value:{gap}{said}"
    if value is not None and table.is_per_cpu:
        gap = "\n" if table.value_size > 16 else " "
        lines = [] if key is None else [f"key:\n{hex_text(key)}"]
        lines += [
            f"value (CPU {cpu:02}):{gap}{hex_text(slot)}" for cpu, slot in enumerate(table.slots(value))
        ]
        return "\n".join(lines)
    gap = "\n" if table.key_size > 16 or table.value_size > 16 else " "
    parts = [] if key is None else [f"key:{gap}{hex_text(key)}"]
    if value is not None:
        inner = table.type in _OF_MAPS
        shown = f"inner_map_id:{gap}{int.from_bytes(value, sys.byteorder)}"
        parts.append(shown if inner else f"value:{gap}{hex_text(value)}")
    return ("  " if table.key_size + table.value_size <= 24 and gap == " " else "\n").join(parts)


# Map types whose elements cannot be walked through, and what one can do instead.
_CLOSED = {
    uapi.BPF_MAP_TYPE_QUEUE: "take them out: tracebee map dequeue",
    uapi.BPF_MAP_TYPE_STACK: "take them out: tracebee map pop",
    uapi.BPF_MAP_TYPE_RINGBUF: "wait for events: tracebee map event_pipe",
    uapi.BPF_MAP_TYPE_USER_RINGBUF: None,
    uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY: "wait for events: tracebee map event_pipe",
    uapi.BPF_MAP_TYPE_BLOOM_FILTER: None,
    uapi.BPF_MAP_TYPE_ARENA: None,
}


# Arrays and hashes of sockets, devices and the like, which do not give all their elements back.
_PARTLY = frozenset(
    uapi.MAP_TYPES[name]
    for name in (
        *("devmap", "cpumap", "xskmap", "sockmap", "sockhash", "reuseport_sockarray", "cgroup_array"),
        "devmap_hash",
    )
)


def elements(table: Map) -> list[tuple[bytes, bytes | int]]:
    """All elements of a map; in place of a value that cannot be read, the error's number.

    :raises UnsupportedError: maps of this type have none that can be listed.
    """
    if table.type in _CLOSED:
        name = _TYPE_NAMES[table.type]
        raise UnsupportedError(f"elements of {name} maps cannot be listed", hint=_CLOSED[table.type])
    if table.type not in _PARTLY:
        return list(table.items())
    return [(key, _read(table, key)) for key in table.keys()]  # noqa: SIM118 - a map is no dictionary


def _read(table: Map, key: bytes) -> bytes | int:
    try:
        value = table.lookup(key)
    except KernelError as error:
        return error.errno
    return _ENOENT if value is None else value
