"""Perf events and raw tracepoints with programs, by the processes that hold them open.

Links tell the same of what is attached by them; programs attached to an event by ioctl are seen only here.
"""

from __future__ import annotations

import os

from tracebee.errors import KernelError
from tracebee.kernel.privileges import has, missing
from tracebee.kernel.task_fd import task_fd_query
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.kernel.task_fd import TaskFd

# Descriptors that can have a program: asking about any other is a wasted call.
_KINDS = ("anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:bpf-link", "anon_inode:bpf-raw-tp")


class PerfUser(NamedTuple):
    """A process's descriptor and what it runs."""

    pid: int
    fd: int
    attached: TaskFd


def perf_users() -> Iterator[PerfUser]:
    """All of them, by process and descriptor.

    :raises PrivilegeError: asking about other processes needs CAP_SYS_ADMIN.
    """
    if not has("CAP_SYS_ADMIN"):
        raise missing("BPF_TASK_FD_QUERY", "asking what processes attach is not permitted")
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            descriptors = sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue  # it has ended, or is not ours to look at
        for fd in descriptors:
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") in _KINDS:
                    yield PerfUser(pid, fd, task_fd_query(pid, fd))
            except (KernelError, OSError):
                continue  # it has no program, or was closed meanwhile
