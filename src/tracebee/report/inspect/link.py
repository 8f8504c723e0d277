"""Links: what ``link show`` says of each; ``link_text`` writes it as text."""

from __future__ import annotations

from tracebee import uapi
from tracebee.kernel.devices import device_name
from tracebee.kernel.perf import HARDWARE_EVENTS, SOFTWARE_EVENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.kernel.holders import Holder
    from tracebee.kernel.link import Link
    from tracebee.kernel.link_info import LinkInfo

_TYPE_NAMES = {number: name for name, number in uapi.LINK_TYPES.items()}
_PROG_TYPE_NAMES = {number: name for name, number in uapi.PROG_TYPES.items()}
_ATTACH_NAMES = {number: name for name, number in uapi.ATTACH_TYPES.items()}
_EVENT_NAMES = {
    uapi.BPF_PERF_EVENT_UPROBE: "uprobe",
    uapi.BPF_PERF_EVENT_URETPROBE: "uretprobe",
    uapi.BPF_PERF_EVENT_KPROBE: "kprobe",
    uapi.BPF_PERF_EVENT_KRETPROBE: "kretprobe",
    uapi.BPF_PERF_EVENT_TRACEPOINT: "tracepoint",
    uapi.BPF_PERF_EVENT_EVENT: "event",
}
# enum perf_type_id; enum perf_hw_id and perf_sw_ids by kernel.perf's tables, turned round.
_PERF_TYPES = ("hardware", "software", "tracepoint", "hw-cache", "raw", "breakpoint")
_HW_CACHE = 3
_EVENTS = {
    (number, config): name
    for number, table in ((0, HARDWARE_EVENTS), (1, SOFTWARE_EVENTS))
    for name, config in table.items()
}
# enum perf_hw_cache_id, perf_hw_cache_op_id and perf_hw_cache_op_result_id.
_CACHES = (
    ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node"),
    ("load", "store", "prefetch"),
    ("refs", "misses"),
)
# enum bpf_cgroup_iter_order.
_ORDERS = ("order_unspec", "self_only", "descendants_pre", "descendants_post", "ancestors_up")
# Bit 0 of a kprobe_multi's or uprobe_multi's flags: on return, not on entry.
_RETURN = 1


def link_record(
    link: Link,
    *,
    program_type: int | None = None,
    holders: Sequence[Holder] = (),
    pins: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A link with bpftool's JSON keys.

    :param program_type: its program's type, which tracing links show.
    :param pins: where it is pinned; None when that was not asked for.
    """
    info = link.info()
    record: dict[str, Any] = {
        "id": info.id,
        "type": _TYPE_NAMES.get(info.type, f"type {info.type}"),
        "prog_id": info.prog_id,
    }
    _DETAILS.get(info.type, _plain)(record, info)
    if info.type == uapi.BPF_LINK_TYPE_TRACING and program_type is not None:
        record = _after(
            record, "prog_id", {"prog_type": _PROG_TYPE_NAMES.get(program_type, str(program_type))}
        )
    if pins is not None:
        record["pinned"] = list(pins)
    if holders:
        record["pids"] = [holder._asdict() for holder in holders]
    return record


def _plain(record: dict[str, Any], info: LinkInfo) -> None:
    for name, value in info.fields.items():
        record[name] = _ATTACH_NAMES.get(value, value) if name == "attach_type" else value


def _device(record: dict[str, Any], info: LinkInfo) -> None:
    record["devname"] = device_name(info.fields["ifindex"])
    _plain(record, info)


def _netfilter(record: dict[str, Any], info: LinkInfo) -> None:
    fields = info.fields
    record.update(pf=fields["pf"], hook=fields["hooknum"], prio=fields["priority"], flags=fields["flags"])


def _raw_tracepoint(record: dict[str, Any], info: LinkInfo) -> None:
    record["tp_name"] = info.fields["tp_name"]
    if info.fields["cookie"]:
        record["cookie"] = info.fields["cookie"]


def _tracing(record: dict[str, Any], info: LinkInfo) -> None:
    record["attach_type"] = _ATTACH_NAMES.get(info.fields["attach_type"], info.fields["attach_type"])
    record.update(target_obj_id=info.fields["target_obj_id"], target_btf_id=info.fields["target_btf_id"])
    if info.fields["cookie"]:
        record["cookie"] = info.fields["cookie"]


def _iterator(record: dict[str, Any], info: LinkInfo) -> None:
    record["target_name"] = name = info.fields["target_name"]
    if name in ("bpf_map_elem", "bpf_sk_storage_map"):
        record["map_id"] = info.fields["map_map_id"]
    if name in ("task", "task_file", "task_vma"):
        record.update(
            {key: info.fields[f"task_{key}"] for key in ("tid", "pid") if info.fields[f"task_{key}"]}
        )
    if name == "cgroup":
        order = info.fields["cgroup_order"]
        record["cgroup_id"] = info.fields["cgroup_cgroup_id"]
        record["order"] = _ORDERS[order] if order < len(_ORDERS) else "unknown"


def _kprobe_multi(record: dict[str, Any], info: LinkInfo) -> None:
    record["retprobe"] = bool(info.fields["flags"] & _RETURN)
    record["func_cnt"] = info.fields["count"]
    record["missed"] = info.fields["missed"]
    cookies = info.fields["cookies"] or (0,) * info.fields["count"]
    if info.fields["addrs"] and any(info.fields["addrs"]):
        from tracebee.kernel.kallsyms import Kallsyms

        table = Kallsyms()
        record["funcs"] = []
        for address, cookie in sorted(zip(info.fields["addrs"], cookies, strict=False)):
            found = table.resolve(address)
            symbol = found[0] if found else None
            record["funcs"].append(
                {
                    "addr": address,
                    "func": symbol.name if symbol else "",
                    "module": symbol.module or None if symbol else None,
                    "cookie": cookie,
                }
            )


def _uprobe_multi(record: dict[str, Any], info: LinkInfo) -> None:
    fields = info.fields
    record["retprobe"] = bool(fields["flags"] & _RETURN)
    record["path"] = fields["path"]
    record["func_cnt"] = fields["count"]
    record["pid"] = fields["pid"]
    none = (0,) * fields["count"]
    record["funcs"] = [
        {"offset": offset, "ref_ctr_offset": counter, "cookie": cookie}
        for offset, counter, cookie in zip(
            fields["offsets"], fields["ref_ctr_offsets"] or none, fields["cookies"] or none, strict=False
        )
    ]


def _perf_event(record: dict[str, Any], info: LinkInfo) -> None:
    fields = info.fields
    kind = fields["perf_type"]
    if kind in (uapi.BPF_PERF_EVENT_KPROBE, uapi.BPF_PERF_EVENT_KRETPROBE):
        record["retprobe"] = kind == uapi.BPF_PERF_EVENT_KRETPROBE
        record.update(
            {key: fields[key] for key in ("addr", "offset", "missed", "cookie")}, func=fields["func_name"]
        )
    elif kind in (uapi.BPF_PERF_EVENT_UPROBE, uapi.BPF_PERF_EVENT_URETPROBE):
        record["retprobe"] = kind == uapi.BPF_PERF_EVENT_URETPROBE
        record.update(file=fields["file_name"], offset=fields["offset"], cookie=fields["cookie"])
        if fields["ref_ctr_offset"]:
            record["ref_ctr_offset"] = fields["ref_ctr_offset"]
    elif kind == uapi.BPF_PERF_EVENT_TRACEPOINT:
        record.update(tracepoint=fields["tp_name"], cookie=fields["cookie"])
    elif kind == uapi.BPF_PERF_EVENT_EVENT:
        number, config = fields["type"], fields["config"]
        record["event_type"] = _PERF_TYPES[number] if number < len(_PERF_TYPES) else number
        record["event_config"] = _event_name(number, config)
        record["cookie"] = fields["cookie"]
    record["event"] = _EVENT_NAMES.get(kind, "unknown")


def _event_name(number: int, config: int) -> str | int:
    """A perf event's name, or its configuration's number where it has none."""
    if number == _HW_CACHE:
        parts = (config & 0xFF, config >> 8 & 0xFF, config >> 16)
        return "-".join(
            names[part] if part < len(names) else str(part)
            for names, part in zip(_CACHES, parts, strict=True)
        )
    return _EVENTS.get((number, config), config)


_DETAILS = {
    uapi.BPF_LINK_TYPE_XDP: _device,
    uapi.BPF_LINK_TYPE_TCX: _device,
    uapi.BPF_LINK_TYPE_NETKIT: _device,
    uapi.BPF_LINK_TYPE_NETFILTER: _netfilter,
    uapi.BPF_LINK_TYPE_RAW_TRACEPOINT: _raw_tracepoint,
    uapi.BPF_LINK_TYPE_TRACING: _tracing,
    uapi.BPF_LINK_TYPE_ITER: _iterator,
    uapi.BPF_LINK_TYPE_KPROBE_MULTI: _kprobe_multi,
    uapi.BPF_LINK_TYPE_UPROBE_MULTI: _uprobe_multi,
    uapi.BPF_LINK_TYPE_PERF_EVENT: _perf_event,
}


def _after(record: dict[str, Any], key: str, more: dict[str, Any]) -> dict[str, Any]:
    """The record with further entries behind one of its own."""
    out: dict[str, Any] = {}
    for name, value in record.items():
        out[name] = value
        if name == key:
            out.update(more)
    return out
