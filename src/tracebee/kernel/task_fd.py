"""What the descriptors of other processes run: perf events and raw tracepoints with programs."""

from __future__ import annotations

from tracebee import uapi
from tracebee.kernel.attr import TASK_FD_QUERY
from tracebee.kernel.bpf import bpf
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple


class TaskFd(NamedTuple):
    """What a process's descriptor is attached to: an answer of ``BPF_TASK_FD_QUERY``."""

    prog_id: int
    fd_type: int
    name: str
    probe_offset: int
    probe_addr: int


def task_fd_query(pid: int, fd: int) -> TaskFd:
    """What a perf event or raw tracepoint of a process runs (``BPF_TASK_FD_QUERY``).

    :raises KernelError: the descriptor is neither, or has no program.
    """
    buffer = bytearray(512)
    attr = TASK_FD_QUERY.pack(pid=pid, fd=fd, buf_len=len(buffer), buf=address(buffer))
    bpf(uapi.BPF_TASK_FD_QUERY, attr, f"descriptor {fd} of process {pid}")
    get = TASK_FD_QUERY.get
    return TaskFd(
        get(attr, "prog_id"),
        get(attr, "fd_type"),
        buffer.partition(b"\0")[0].decode(errors="replace"),
        get(attr, "probe_offset"),
        get(attr, "probe_addr"),
    )
