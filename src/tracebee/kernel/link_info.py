"""What the kernel says of a link: ``struct bpf_link_info``, whose second half depends on the type."""

from __future__ import annotations

import struct

from tracebee import uapi
from tracebee.kernel.attr import LINK_INFO
from tracebee.kernel.bpf import info_by_fd
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LinkInfo(NamedTuple):
    """The common part of a link's description, and its own type's fields by name.

    Strings and arrays are fetched: ``tp_name`` and its like are text, ``addrs``, ``offsets`` and
    ``cookies`` tuples of integers. ``perf_type`` of a perf event link is its BPF_PERF_EVENT_* kind.
    """

    type: int
    id: int
    prog_id: int
    fields: dict[str, Any]


# Parts of the structure that a link's type says to read: prefix of the field names.
_PARTS = {
    uapi.BPF_LINK_TYPE_RAW_TRACEPOINT: "raw_tracepoint_",
    uapi.BPF_LINK_TYPE_TRACING: "tracing_",
    uapi.BPF_LINK_TYPE_CGROUP: "cgroup_",
    uapi.BPF_LINK_TYPE_ITER: "iter_",
    uapi.BPF_LINK_TYPE_NETNS: "netns_",
    uapi.BPF_LINK_TYPE_XDP: "xdp_",
    uapi.BPF_LINK_TYPE_STRUCT_OPS: "struct_ops_",
    uapi.BPF_LINK_TYPE_NETFILTER: "netfilter_",
    uapi.BPF_LINK_TYPE_KPROBE_MULTI: "kprobe_multi_",
    uapi.BPF_LINK_TYPE_UPROBE_MULTI: "uprobe_multi_",
    uapi.BPF_LINK_TYPE_TCX: "tcx_",
    uapi.BPF_LINK_TYPE_NETKIT: "netkit_",
    uapi.BPF_LINK_TYPE_SOCKMAP: "sockmap_",
}
_PERF_PARTS = {
    uapi.BPF_PERF_EVENT_UPROBE: "perf_event_uprobe_",
    uapi.BPF_PERF_EVENT_URETPROBE: "perf_event_uprobe_",
    uapi.BPF_PERF_EVENT_KPROBE: "perf_event_kprobe_",
    uapi.BPF_PERF_EVENT_KRETPROBE: "perf_event_kprobe_",
    uapi.BPF_PERF_EVENT_TRACEPOINT: "perf_event_tracepoint_",
    uapi.BPF_PERF_EVENT_EVENT: "perf_event_event_",
}
# Strings the kernel copies out: the pointer's field and its buffer size's.
_STRINGS = {
    "raw_tracepoint_tp_name": "raw_tracepoint_tp_name_len",
    "iter_target_name": "iter_target_name_len",
    "uprobe_multi_path": "uprobe_multi_path_size",
    "perf_event_uprobe_file_name": "perf_event_uprobe_name_len",
    "perf_event_kprobe_func_name": "perf_event_kprobe_name_len",
    "perf_event_tracepoint_tp_name": "perf_event_tracepoint_name_len",
}
# Arrays of 64-bit numbers, all as long as the part's ``count``.
_ARRAYS = ("addrs", "offsets", "ref_ctr_offsets", "cookies")
_STRING_SIZE = 4096


def read(fd: int) -> LinkInfo:
    """Read a link's description, with the strings and arrays it refers to."""
    first = info_by_fd(fd, LINK_INFO)
    kind = LINK_INFO.get(first, "type")
    part = _PARTS.get(kind, "")
    if kind == uapi.BPF_LINK_TYPE_PERF_EVENT:
        part = _PERF_PARTS.get(LINK_INFO.get(first, "perf_event_type"), "")
    names = [name for name in LINK_INFO.fields if part and name.startswith(part)]
    buffers: dict[str, bytearray] = {}
    request = LINK_INFO.pack()
    for name in names:
        if name in _STRINGS:
            buffers[name] = bytearray(_STRING_SIZE)
            LINK_INFO.set(request, **{name: address(buffers[name]), _STRINGS[name]: _STRING_SIZE})
        elif name[len(part) :] in _ARRAYS and (count := LINK_INFO.get(first, part + "count")):
            buffers[name] = bytearray(8 * count)
            LINK_INFO.set(request, **{name: address(buffers[name]), part + "count": count})
    answer = info_by_fd(fd, LINK_INFO, request)
    fields: dict[str, Any] = {}
    if kind == uapi.BPF_LINK_TYPE_PERF_EVENT:
        fields["perf_type"] = LINK_INFO.get(answer, "perf_event_type")
    for name in names:
        short = name[len(part) :]
        if name in _STRINGS:
            fields[short] = buffers[name].partition(b"\0")[0].decode(errors="replace")
        elif short in _ARRAYS:
            data = buffers.get(name, b"")
            fields[short] = struct.unpack(f"={len(data) // 8}Q", data)
        elif name not in _STRINGS.values():
            fields[short] = LINK_INFO.get(answer, name)
    return LinkInfo(kind, LINK_INFO.get(answer, "id"), LINK_INFO.get(answer, "prog_id"), fields)
