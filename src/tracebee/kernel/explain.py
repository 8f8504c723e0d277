"""What a failed system call usually means here, and what to do about it.

Rows are (call, errno): meaning. EPERM and EACCES without a verifier log become PrivilegeError, which
names the capability or setting that stands in the way on this machine.
"""

from __future__ import annotations

import errno
import os

from tracebee import uapi
from tracebee.errors import KernelError, TracebeeError, UnsupportedError
from tracebee.kernel import privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.obj.model import MapDef

ENOTSUPP = 524  # the kernel's own number, which leaks to user space; libc has no text for it

# For a command, what an errno means; hints follow after a "|".
MEANINGS: dict[tuple[str, int], str] = {
    ("BPF_MAP_CREATE", errno.EINVAL): (
        "the kernel refuses these sizes, flags or entries for this map type"
        "|older kernels lack the map type or one of the flags: see 'tracebee feature'"
    ),
    ("BPF_MAP_CREATE", errno.E2BIG): "key, value or number of entries is larger than the kernel allows",
    ("BPF_MAP_CREATE", errno.ENOMEM): (
        "not enough memory for the map|use fewer entries, or raise the limit on locked memory (ulimit -l)"
    ),
    ("BPF_MAP_CREATE", ENOTSUPP): ("the kernel does not support this key or value type for the map"),
    ("BPF_MAP_UPDATE_ELEM", errno.E2BIG): (
        "the map is full, or the index is beyond its end|raise its number of entries (max_map_keys)"
    ),
    ("BPF_MAP_UPDATE_ELEM", errno.EINVAL): (
        "the map does not take this value, key or flag"
        "|an inner map must be like the outer map's template, a program like those that the map holds"
    ),
    ("BPF_MAP_UPDATE_ELEM", errno.EEXIST): "the key exists already",
    ("BPF_MAP_UPDATE_ELEM", errno.ENOENT): "the key does not exist",
    ("BPF_MAP_UPDATE_ELEM", errno.ENOMEM): "not enough memory for another element",
    ("BPF_MAP_UPDATE_ELEM", errno.EPERM): "the map is frozen or read-only",
    ("BPF_MAP_UPDATE_ELEM", errno.EBADF): "the value is not a file descriptor of the right kind",
    ("BPF_MAP_FREEZE", errno.EPERM): "the map is frozen already, or read-only",
    ("BPF_MAP_FREEZE", errno.EBUSY): "the map is frozen already, or mapped as memory that may be written",
    ("BPF_MAP_FREEZE", ENOTSUPP): "maps of this type cannot be frozen",
    ("BPF_MAP_DELETE_ELEM", errno.EINVAL): "elements of this map type cannot be deleted",
    ("BPF_MAP_DELETE_ELEM", errno.EPERM): "the map is frozen or read-only",
    ("BPF_MAP_LOOKUP_ELEM", errno.EPERM): "the map is write-only",
    ("BPF_PROG_LOAD", errno.E2BIG): (
        "the program has too many instructions|the kernel allows 1,000,000, and 4,096 without CAP_BPF"
    ),
    ("BPF_PROG_LOAD", errno.EINVAL): (
        "this kernel lacks the program type, or does not take its attach type or flags"
    ),
    ("BPF_PROG_LOAD", ENOTSUPP): ("this kernel or its JIT does not support what the program needs"),
    ("BPF_PROG_LOAD", errno.ESRCH): "the function, type or module to attach to does not exist",
    ("BPF_PROG_LOAD", errno.ENOENT): "the function or type to attach to does not exist in this kernel's BTF",
    ("BPF_PROG_LOAD", errno.ENOSPC): "the verifier's log did not fit its buffer",
    ("BPF_BTF_LOAD", errno.EINVAL): "the kernel refuses the type information",
    ("BPF_OBJ_PIN", errno.EEXIST): "the name exists already|choose another, or remove it: 'tracebee pin rm'",
    ("BPF_OBJ_PIN", errno.ENOENT): (
        "the directory does not exist|mount bpffs (mount -t bpf bpf /sys/fs/bpf) and make the directory in it"
    ),
    ("BPF_OBJ_PIN", errno.EPERM): (
        "the directory is not on a BPF file system|pin below a mounted bpffs, such as /sys/fs/bpf"
    ),
    ("BPF_OBJ_PIN", errno.ENOSPC): "the BPF file system is full",
    ("BPF_OBJ_GET", errno.ENOENT): "nothing is pinned there|list what is pinned: 'tracebee pin list'",
    ("BPF_OBJ_GET", errno.EACCES): "no BPF object is pinned there, or its permissions forbid opening it",
    ("BPF_PROG_ATTACH", errno.EBUSY): "another program is attached exclusively",
    ("BPF_PROG_ATTACH", errno.EINVAL): "the program's type does not fit this attach type, or the target",
    ("BPF_PROG_ATTACH", errno.EEXIST): "the program is attached there already",
    ("BPF_PROG_DETACH", errno.EINVAL): "the program is not attached there",
    ("BPF_PROG_DETACH", errno.ENOENT): "the program is not attached there",
    ("BPF_PROG_QUERY", errno.EBADF): "it is no control group of a cgroup2 file system",
    ("BPF_LINK_CREATE", errno.EINVAL): (
        "the program's type does not fit this attach point, or the kernel lacks this kind of link"
    ),
    ("BPF_LINK_CREATE", errno.EBUSY): "another program is attached there already",
    ("BPF_LINK_CREATE", errno.EEXIST): "the program is attached there already",
    ("BPF_LINK_CREATE", errno.ESRCH): "a symbol or process to attach to does not exist",
    ("BPF_LINK_CREATE", errno.EADDRNOTAVAIL): "a function or symbol to attach to cannot be traced",
    ("BPF_LINK_CREATE", errno.EOPNOTSUPP): "this kernel was built without this way of attaching",
    ("BPF_LINK_CREATE", errno.EILSEQ): "there is no instruction boundary at the address",
    ("BPF_LINK_CREATE", errno.ENOENT): "the file, symbol or offset to attach to does not exist",
    ("BPF_LINK_DETACH", errno.EOPNOTSUPP): "links of this type are detached by closing them",
    ("BPF_RAW_TRACEPOINT_OPEN", errno.ENOENT): "there is no such tracepoint",
    ("BPF_RAW_TRACEPOINT_OPEN", errno.EINVAL): "the program reads more arguments than the tracepoint has",
    ("BPF_RAW_TRACEPOINT_OPEN", ENOTSUPP): (
        "this kernel cannot patch functions (no ftrace trampolines), as fentry and fexit need"
    ),
    ("BPF_LINK_CREATE", ENOTSUPP): (
        "this kernel cannot patch functions (no ftrace trampolines), as fentry and fexit need"
    ),
    ("BPF_PROG_TEST_RUN", ENOTSUPP): ("the kernel cannot test-run programs of this type"),
    ("BPF_PROG_TEST_RUN", errno.EINVAL): (
        "the data or context does not suit this program type"
        "|packet programs take 14 bytes of data at least, others a context only, tracing programs neither"
    ),
    ("BPF_PROG_TEST_RUN", errno.EFAULT): "the kernel cannot test-run programs that are attached so",
    ("BPF_PROG_TEST_RUN", errno.ENXIO): "there is no such CPU, or it is offline",
    ("BPF_PROG_TEST_RUN", errno.ENOSPC): "the output does not fit the buffer given for it",
    ("BPF_TASK_FD_QUERY", errno.ENOENT): "there is no such process",
    ("BPF_TASK_FD_QUERY", errno.EBADF): "the process has no such descriptor",
    ("BPF_TASK_FD_QUERY", ENOTSUPP): ("the descriptor is not one that programs attach to"),
    ("BPF_PROG_GET_FD_BY_ID", errno.ENOENT): "no program has this id",
    ("BPF_MAP_GET_FD_BY_ID", errno.ENOENT): "no map has this id",
    ("BPF_BTF_GET_FD_BY_ID", errno.ENOENT): "no BTF object has this id",
    ("BPF_LINK_GET_FD_BY_ID", errno.ENOENT): "no link has this id",
    ("BPF_LINK_GET_FD_BY_ID", errno.EAGAIN): "the link is being made",
    ("BPF_TOKEN_CREATE", errno.EINVAL): "the descriptor is not the root of a bpffs that delegates anything",
    ("BPF_TOKEN_CREATE", errno.EOPNOTSUPP): "tokens are for user namespaces other than the first",
    ("BPF_TOKEN_CREATE", errno.ENOENT): "the bpffs delegates nothing|mount it with delegate_cmds and friends",
    ("perf_event_open", errno.ENOENT): "this machine has no such event, or nothing is at the address",
    ("perf_event_open", errno.EOPNOTSUPP): "the hardware does not support this event or its options",
    ("perf_event_open", errno.ENODEV): "the hardware does not support this event",
    ("perf_event_open", errno.EINVAL): "the kernel refuses this combination of event options",
    ("perf_event_open", errno.ESRCH): "there is no such process",
    ("perf_event_open", errno.EMFILE): "too many open files|raise the limit: ulimit -n",
    ("perf_event_open", errno.EBUSY): "another event has exclusive use of the hardware",
    ("perf_event_open", errno.EILSEQ): "there is no instruction boundary at the address",
    ("perf_event_open", errno.EADDRNOTAVAIL): "the function cannot be probed",
    ("PERF_EVENT_IOC_SET_BPF", errno.EEXIST): "the event has a program already",
    ("PERF_EVENT_IOC_SET_BPF", errno.EINVAL): "the program's type does not fit the event",
    ("PERF_EVENT_IOC_SET_BPF", errno.EACCES): "the program reads beyond the tracepoint's fields",
    ("PERF_EVENT_IOC_SET_FILTER", errno.EEXIST): "the event has a filter already",
    ("PERF_EVENT_IOC_SET_FILTER", errno.EINVAL): "the filter's expression is wrong",
}


# Storage that belongs to sockets, tasks and so on: it has as many elements as there are of them.
_WITHOUT_ENTRIES = frozenset(
    uapi.MAP_TYPES[name]
    for name in (
        *("cgroup_storage", "percpu_cgroup_storage", "sk_storage", "inode_storage", "task_storage"),
        "cgrp_storage",
    )
)


def describe(call: str, number: int) -> tuple[str, str | None]:
    """Meaning and hint of an error number from a call: from the table, else the C library's text."""
    row = MEANINGS.get((call, number))
    if row is None:
        return ("the operation is not supported" if number == ENOTSUPP else os.strerror(number).lower()), None
    meaning, _, hint = row.partition("|")
    return meaning, hint or None


def errno_name(number: int) -> str:
    """``EINVAL`` for 22."""
    return "ENOTSUPP" if number == ENOTSUPP else errno.errorcode.get(number, str(number))


def call_error(call: str, number: int, what: str = "", *, shown: str | None = None) -> TracebeeError:
    """The exception for a failed call.

    :param call: the row's key: a bpf command's name, a system call's, or an ioctl's.
    :param what: the object concerned, as the message should name it.
    :param shown: the call as the message names it, when that is not ``call``.
    """
    shown = shown or call
    subject = f" of {what}" if what else ""
    if number in (errno.EPERM, errno.EACCES) and (
        (call, number) not in MEANINGS or not privileges.has("CAP_SYS_ADMIN")
    ):
        return privileges.missing(call, f"{shown}{subject} is not permitted")
    if number == errno.ENOSYS:
        return UnsupportedError(
            f"this kernel has no {shown.partition('(')[0]} system call",
            hint="a container's seccomp filter may hide it, or the kernel was built without it",
        )
    meaning, hint = describe(call, number)
    return KernelError(shown, number, f"{shown}{subject} failed: {meaning} ({errno_name(number)})", hint=hint)


def bpf_error(command: int, number: int, what: str = "") -> TracebeeError:
    """The exception for a failed bpf(2) command."""
    name = uapi.COMMAND_NAMES.get(command, f"command {command}")
    return call_error(name, number, what, shown=f"bpf({name})")


def map_error(definition: MapDef, entries: int, number: int) -> TracebeeError:
    """The error for a map that the kernel does not create.

    :param entries: the ``max_entries`` that it was asked for.
    """
    error = bpf_error(uapi.BPF_MAP_CREATE, number, f"map '{definition.name}'")
    if number == errno.EINVAL and not entries and definition.type not in _WITHOUT_ENTRIES:
        error.hint = "its max_entries is 0: write __uint(max_entries, N), or set it before loading"
    return error
