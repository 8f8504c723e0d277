"""Programs on perf events and raw tracepoints of processes: what ``perf show`` prints."""

from __future__ import annotations

from tracebee import uapi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.kernel.perf_users import PerfUser

# enum bpf_task_fd_type: its name, and what the answer's text is.
_TYPES = {
    uapi.BPF_FD_TYPE_RAW_TRACEPOINT: ("raw_tracepoint", "tracepoint"),
    uapi.BPF_FD_TYPE_TRACEPOINT: ("tracepoint", "tracepoint"),
    uapi.BPF_FD_TYPE_KPROBE: ("kprobe", "func"),
    uapi.BPF_FD_TYPE_KRETPROBE: ("kretprobe", "func"),
    uapi.BPF_FD_TYPE_UPROBE: ("uprobe", "filename"),
    uapi.BPF_FD_TYPE_URETPROBE: ("uretprobe", "filename"),
}


def perf_record(user: PerfUser) -> dict[str, Any]:
    """One descriptor with bpftool's JSON keys."""
    attached = user.attached
    kind, text = _TYPES.get(attached.fd_type, (str(attached.fd_type), "name"))
    record: dict[str, Any] = {"pid": user.pid, "fd": user.fd, "prog_id": attached.prog_id, "fd_type": kind}
    if text == "func" and not attached.name:
        record["addr"] = attached.probe_addr
    else:
        record[text] = attached.name
    if text in ("func", "filename") and "addr" not in record:
        record["offset"] = attached.probe_offset
    return record


def perf_text(record: dict[str, Any]) -> str:
    """A record's line."""
    what = next(key for key in ("tracepoint", "func", "filename", "addr", "name") if key in record)
    where = str(record[what]) if what == "tracepoint" else f"{what} {record[what]}"
    line = (
        f"pid {record['pid']}  fd {record['fd']}: prog_id {record['prog_id']}  {record['fd_type']}  {where}"
    )
    return line + (f"  offset {record['offset']}" if "offset" in record else "")
