"""Programs on network devices and namespaces: what ``net show`` prints."""

from __future__ import annotations

import os

from tracebee import uapi
from tracebee.errors import KernelError, TracebeeError
from tracebee.kernel import choose, netlink
from tracebee.kernel.attached import attached
from tracebee.kernel.fd import Fd
from tracebee.kernel.program import Program
from tracebee.report.inspect.link import link_record
from tracebee.report.inspect.link_text import netfilter_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Record = dict[str, Any]

_LOCATIONS = {
    uapi.BPF_TCX_INGRESS: "tcx/ingress",
    uapi.BPF_TCX_EGRESS: "tcx/egress",
    uapi.BPF_NETKIT_PRIMARY: "netkit/primary",
    uapi.BPF_NETKIT_PEER: "netkit/peer",
}
_PARENTS = (
    (netlink.TC_H_ROOT, "root"),
    (netlink.TC_H_CLSACT_INGRESS, "clsact/ingress"),
    (netlink.TC_H_CLSACT_EGRESS, "clsact/egress"),
)


def net_record(device: int | None = None) -> Record:
    """Everything of this network namespace, or of one device, with bpftool's JSON keys."""
    chosen = [each for each in netlink.devices() if device is None or each.number == device]
    return {
        "xdp": [_xdp(each) for each in chosen if each.xdp],
        "tc": [record for each in chosen for record in (*_links(each), *_filters(each))],
        "flow_dissector": [{"id": number} for number in _flow_dissectors()],
        "netfilter": _netfilter(),
    }


def net_text(record: Record) -> str:
    """The record in four parts, a line for each attachment."""
    parts = {
        "xdp": [_xdp_line(each) for each in record["xdp"]],
        "tc": [_tc_line(each) for each in record["tc"]],
        "flow_dissector": [f"id {each['id']}" for each in record["flow_dissector"]],
        "netfilter": [f"\t{netfilter_text(each)} prog_id {each['id']}" for each in record["netfilter"]],
    }
    return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in parts.items()) + "\n"


def _xdp(device: netlink.Device) -> Record:
    programs = [{"mode": mode, "id": number} for mode, number in device.xdp.items()]
    more = programs[0] if len(programs) == 1 else {"multi_attachments": programs}
    return {"devname": device.name, "ifindex": device.number, **more}


def _xdp_line(record: Record) -> str:
    programs = record.get("multi_attachments", [record])
    return _where(record) + "".join(f" {program['mode']} id {program['id']}" for program in programs)


def _links(device: netlink.Device) -> Iterator[Record]:
    """What is attached by tcx and netkit."""
    for attach_type, kind in _LOCATIONS.items():
        try:
            found = attached(device.number, attach_type)
        except KernelError:
            continue  # not on such a device, or not with this kernel
        for program in found:
            name = _name(program.prog_id)
            yield {
                "devname": device.name,
                "ifindex": device.number,
                "kind": kind,
                **({"name": name} if name else {}),
                "prog_id": program.prog_id,
                "prog_flags": _bits(program.flags),
                "link_id": program.link_id,
                "link_flags": _bits(program.link_flags),
            }


def _filters(device: netlink.Device) -> Iterator[Record]:
    """What is attached by traffic control's own filters."""
    parents = [*((queue.handle, queue.kind) for queue in netlink.queues(device.number)), *_PARENTS]
    for parent, kind in parents:
        for found in netlink.filters(device.number, parent):
            record: Record = {"devname": device.name, "ifindex": device.number, "kind": kind}
            record.update(name=found.name, id=found.prog_id)
            if found.actions:
                record["act"] = [{"name": name, "id": number} for name, number in found.actions]
            yield record


def _tc_line(record: Record) -> str:
    line = f"{_where(record)} {record['kind']}" + (f" {record['name']}" if "name" in record else "")
    if "id" in record:
        actions = "".join(f"{{{act['name']} id {act['id']}}}" for act in record.get("act", ()))
        return f"{line} id {record['id']}" + (f" act [{actions}]" if actions else "")
    line += f" prog_id {record['prog_id']}" + _flags("prog_flags", record)
    return line + (
        f" link_id {record['link_id']}" + _flags("link_flags", record) if record["link_id"] else ""
    )


def _flags(name: str, record: Record) -> str:
    return f" {name} " + " ".join(map(str, record[name])) if record[name] else ""


def _where(record: Record) -> str:
    return f"{record['devname']}({record['ifindex']})"


def _bits(flags: int) -> list[int]:
    return [1 << bit for bit in range(32) if flags >> bit & 1]


def _name(number: int) -> str:
    try:
        with Program.by_id(number) as program:
            return choose.name_of(program)
    except TracebeeError:
        return ""  # gone meanwhile


def _flow_dissectors() -> Iterable[int]:
    with Fd(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as namespace:
        try:
            return [each.prog_id for each in attached(namespace.fd, uapi.BPF_FLOW_DISSECTOR)]
        except KernelError:
            return []  # not with this kernel


def _netfilter() -> list[Record]:
    found = []
    for link in choose.all_links():
        with link:
            if link.info().type == uapi.BPF_LINK_TYPE_NETFILTER:
                record = link_record(link)
                found.append({key: record[key] for key in ("pf", "hook", "prio", "flags")})
                found[-1]["id"] = record["prog_id"]
    return sorted(found, key=lambda record: tuple(record.values())[:4])
