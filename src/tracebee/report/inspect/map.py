"""Maps: what ``map show`` says of each, and their elements for ``map dump``."""

from __future__ import annotations

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.kernel.holders import fdinfo
from tracebee.report.inspect.output import hex_bytes, hex_text
from tracebee.report.inspect.program import holder_lines
from tracebee.report.inspect.typed import typed_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.kernel.holders import Holder
    from tracebee.kernel.map import Map

_TYPE_NAMES = {number: name for name, number in uapi.MAP_TYPES.items()}
_PROG_TYPE_NAMES = {number: name for name, number in uapi.PROG_TYPES.items()}


def map_record(
    table: Map, *, holders: Sequence[Holder] = (), pins: Sequence[str] | None = None
) -> dict[str, Any]:
    """A map with bpftool's JSON keys.

    :param pins: where it is pinned; None when that was not asked for.
    """
    info, lines = table.info(), fdinfo(table.fd)
    record: dict[str, Any] = {"id": info.id, "type": _TYPE_NAMES.get(info.type, f"type {info.type}")}
    if info.name:
        record["name"] = info.name
    record.update(
        flags=info.map_flags,
        bytes_key=info.key_size,
        bytes_value=info.value_size,
        max_entries=info.max_entries,
    )
    if "memlock" in lines:
        record["bytes_memlock"] = int(lines["memlock"])
    if "owner_prog_type" in lines:
        record["owner_prog_type"] = _PROG_TYPE_NAMES.get(
            int(lines["owner_prog_type"]), lines["owner_prog_type"]
        )
        record["owner_jited"] = lines.get("owner_jited") == "1"
    record["frozen"] = int(lines.get("frozen", 0))
    if info.btf_id:
        record["btf_id"] = info.btf_id
    if holders:
        record["pids"] = [holder._asdict() for holder in holders]
    if pins is not None:
        record["pinned"] = list(pins)
    return record


def map_text(record: dict[str, Any]) -> str:
    """A record's lines, the first without and the others with a tab before them."""
    head = f"{record['id']}: {record['type']}"
    if "name" in record:
        head += f"  name {record['name']}"
    head += f"  flags {record['flags']:#x}"
    sizes = f"key {record['bytes_key']}B  value {record['bytes_value']}B  max_entries {record['max_entries']}"
    if "bytes_memlock" in record:
        sizes += f"  memlock {record['bytes_memlock']}B"
    lines = [head, sizes]
    if "owner_prog_type" in record:
        jited = "" if record["owner_jited"] else "not "
        lines.append(f"owner_prog_type {record['owner_prog_type']}  owner {jited}jited")
    lines.extend(f"pinned {path}" for path in record.get("pinned", ()))
    state = [f"btf_id {record['btf_id']}"] if "btf_id" in record else []
    if record["frozen"]:
        state.append("frozen")
    if state:
        lines.append("  ".join(state))
    lines.extend(holder_lines(record))
    return "\n\t".join(lines)


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


def element_record(table: Map, types: MapTypes, key: bytes | None, value: bytes | None) -> dict[str, Any]:
    """One element with bpftool's JSON keys: bytes, and what they mean where types are known."""
    out: dict[str, Any] = {}
    if key is not None:
        out["key"] = hex_bytes(key)
    if value is not None and table.is_per_cpu:
        out["values"] = [
            {"cpu": cpu, "value": hex_bytes(slot)} for cpu, slot in enumerate(table.slots(value))
        ]
    elif value is not None:
        out["value"] = hex_bytes(value)
    formatted = types.formatted(table, key, value)
    if formatted is not None:
        out["formatted"] = formatted
    return out


def element_text(table: Map, key: bytes | None, value: bytes | None) -> str:
    """One element of a map without types as hexadecimal bytes, on one line where it is short."""
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
        parts.append(f"value:{gap}{hex_text(value)}")
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


def elements(table: Map) -> list[tuple[bytes, bytes]]:
    """All elements of a map.

    :raises UnsupportedError: maps of this type have none that can be listed.
    """
    if table.type in _CLOSED:
        name = _TYPE_NAMES[table.type]
        raise UnsupportedError(f"elements of {name} maps cannot be listed", hint=_CLOSED[table.type])
    return table.items()
