"""Programs: what ``prog show`` says of each."""

from __future__ import annotations

import time

from tracebee import uapi
from tracebee.kernel.clocks import wall_offset_ns
from tracebee.kernel.holders import fdinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.kernel.holders import Holder
    from tracebee.kernel.program import Program

_TYPE_NAMES = {number: name for name, number in uapi.PROG_TYPES.items()}


def program_record(
    program: Program, *, holders: Sequence[Holder] = (), pins: Sequence[str] | None = None
) -> dict[str, Any]:
    """A program with bpftool's JSON keys.

    :param pins: where it is pinned; None when that was not asked for.
    """
    info = program.info()
    record: dict[str, Any] = {"id": info.id, "type": _TYPE_NAMES.get(info.type, f"type {info.type}")}
    if info.name:
        record["name"] = info.name
    record["tag"] = info.tag
    record["gpl_compatible"] = info.gpl_compatible
    if info.run_time_ns:
        record.update(run_time_ns=info.run_time_ns, run_cnt=info.run_cnt)
    if info.recursion_misses:
        record["recursion_misses"] = info.recursion_misses
    if info.load_time:
        record["loaded_at"] = (info.load_time + wall_offset_ns()) // 1_000_000_000
        record["uid"] = info.created_by_uid
    record["bytes_xlated"] = info.xlated_prog_len
    record["jited"] = bool(info.jited_prog_len)
    if info.jited_prog_len:
        record["bytes_jited"] = info.jited_prog_len
    memlock = fdinfo(program.fd).get("memlock")
    if memlock is not None:
        record["bytes_memlock"] = int(memlock)
    if info.nr_map_ids:
        record["map_ids"] = list(program.details().map_ids)
    if info.btf_id:
        record["btf_id"] = info.btf_id
    if holders:
        record["pids"] = [holder._asdict() for holder in holders]
    if pins is not None:
        record["pinned"] = list(pins)
    return record


def program_text(record: dict[str, Any]) -> str:
    """A record's lines, the first without and the others with a tab before them."""
    head = f"{record['id']}: {record['type']}"
    if "name" in record:
        head += f"  name {record['name']}"
    head += f"  tag {record['tag']}"
    if record["gpl_compatible"]:
        head += "  gpl"
    if "run_time_ns" in record:
        head += f" run_time_ns {record['run_time_ns']} run_cnt {record['run_cnt']}"
    if "recursion_misses" in record:
        head += f" recursion_misses {record['recursion_misses']}"
    lines = [head]
    if "loaded_at" in record:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(record["loaded_at"]))
        lines.append(f"loaded_at {when}  uid {record['uid']}")
    sizes = f"xlated {record['bytes_xlated']}B"
    sizes += f"  jited {record['bytes_jited']}B" if record["jited"] else "  not jited"
    if "bytes_memlock" in record:
        sizes += f"  memlock {record['bytes_memlock']}B"
    if "map_ids" in record:
        sizes += "  map_ids " + ",".join(map(str, record["map_ids"]))
    lines.append(sizes)
    lines.extend(f"pinned {path}" for path in record.get("pinned", ()))
    if "btf_id" in record:
        lines.append(f"btf_id {record['btf_id']}")
    lines.extend(holder_lines(record))
    return "\n\t".join(lines)


def holder_lines(record: dict[str, Any]) -> list[str]:
    """The line that names the processes of a record, when it has any."""
    if "pids" not in record:
        return []
    return ["pids " + ",".join(f"{holder['comm']}({holder['pid']})" for holder in record["pids"])]
