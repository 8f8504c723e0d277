"""Programs: what ``prog show`` says of each."""

from __future__ import annotations

import json
import os
import socket
import time

from tracebee import uapi
from tracebee.kernel.clocks import wall_offset_ns
from tracebee.kernel.holders import fdinfo
from tracebee.kernel.program_info import full_name
from tracebee.report.inspect.metadata import metadata
from tracebee.report.inspect.output import holder_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.kernel.holders import Holder
    from tracebee.kernel.program import Program
    from tracebee.kernel.program_info import ProgramInfo

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
        record["name"] = full_name(program.fd, info)
    record["tag"] = info.tag
    record["gpl_compatible"] = info.gpl_compatible
    if info.run_time_ns:
        record.update(run_time_ns=info.run_time_ns, run_cnt=info.run_cnt)
    if info.recursion_misses:
        record["recursion_misses"] = info.recursion_misses
    if info.ifindex:
        record["dev"] = _device(info)
    if info.load_time:
        record["loaded_at"] = (info.load_time + wall_offset_ns()) // 1_000_000_000
        record["uid"] = info.created_by_uid
    record["orphaned"] = False  # the kernel tells nothing of a program whose device is gone
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
    told = metadata(record.get("map_ids", ()))
    if told:
        record["metadata"] = told
    return record


def _device(info: ProgramInfo) -> dict[str, Any]:
    device = {"ifindex": info.ifindex, "ns_dev": info.netns_dev, "ns_inode": info.netns_ino}
    own = os.stat("/proc/self/ns/net")
    if (own.st_dev, own.st_ino) == (info.netns_dev, info.netns_ino):
        return {**device, "ifname": socket.if_indextoname(info.ifindex)}
    return device


def program_text(record: dict[str, Any]) -> str:
    """A record's lines, the first without and the others with a tab before them."""
    head = f"{record['id']}: {record['type']}"
    if "name" in record:
        head += f"  name {record['name']}"
    head += f"  tag {record['tag']}"
    if "dev" in record:
        device = record["dev"]
        where = f"ifindex {device['ifindex']} ns_dev {device['ns_dev']} ns_ino {device['ns_inode']}"
        head += f"  offloaded_to {device.get('ifname', where)}"
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
    if "metadata" in record:
        told = [f"\t{name} = {json.dumps(value)}" for name, value in record["metadata"].items()]
        lines += ["metadata:", *told]
    return "\n\t".join(lines)
