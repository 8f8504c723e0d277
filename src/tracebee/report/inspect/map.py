"""Maps: what ``map show`` says of each."""

from __future__ import annotations

from tracebee import uapi
from tracebee.kernel.holders import fdinfo
from tracebee.report.inspect.output import holder_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
