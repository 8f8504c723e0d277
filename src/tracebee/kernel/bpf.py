"""bpf(2): one function per call shape, raising errors that say what the number means here."""

from __future__ import annotations

import errno
import os

from tracebee import uapi
from tracebee.kernel.attr import ID, INFO, OBJECT
from tracebee.kernel.syscall import address, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.kernel.layout import Layout


def bpf(command: int, attr: bytearray, what: str = "") -> int:
    """Make the call, retrying when a signal interrupts it.

    :param attr: the command's part of ``union bpf_attr``; the kernel may write to it.
    :param what: the object concerned, as an error should name it: ``map 'start'``.
    :returns: the call's result, a file descriptor for most commands that create or find something.
    :raises KernelError, PrivilegeError: the call failed.
    """
    result = try_bpf(command, attr)
    if result < 0:
        from tracebee.kernel.explain import bpf_error  # only failures pay for it

        raise bpf_error(command, -result, what)
    return result


def try_bpf(command: int, attr: bytearray) -> int:
    """As :func:`bpf`, for callers to whom failure is an answer: returns the negative error number."""
    while True:
        result = syscall("bpf", command, address(attr), len(attr))
        # EINTR: a signal came. EAGAIN (BPF_PROG_LOAD): the verifier gave way to a signal.
        if result == -4 or (result == -11 and command == uapi.BPF_PROG_LOAD):
            continue
        if result == -1 and command in _CHARGED and _raised_memory_limit():
            continue
        return result


# Kernels before 5.11 count what these make as locked memory, of which a process may have 64 KB or so.
_CHARGED = frozenset({uapi.BPF_MAP_CREATE, uapi.BPF_PROG_LOAD, uapi.BPF_BTF_LOAD})


def _raised_memory_limit() -> bool:
    """Let this process lock as much memory as it may; whether that is more than before."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    for limit in ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (hard, hard)):
        if limit[0] == soft:
            break
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limit)
        except (ValueError, OSError):
            continue
        return True
    return False


def ids(command: int) -> Iterator[int]:
    """Ids of all objects of a kind: command is BPF_{PROG,MAP,BTF,LINK}_GET_NEXT_ID.

    :raises PrivilegeError: walking ids needs CAP_SYS_ADMIN.
    """
    at = 0
    while True:
        attr = ID.pack(start_id=at)
        result = try_bpf(command, attr)
        if result == -2:  # ENOENT: no id is greater
            return
        if result < 0:
            from tracebee.kernel.explain import bpf_error

            raise bpf_error(command, -result, "")
        at = ID.get(attr, "next_id")
        yield at


def fd_by_id(command: int, object_id: int, what: str, open_flags: int = 0) -> int:
    """A new descriptor for the object with an id: command is BPF_{PROG,MAP,BTF,LINK}_GET_FD_BY_ID."""
    return bpf(command, ID.pack(start_id=object_id, open_flags=open_flags), what)


def info_by_fd(fd: int, layout: Layout, info: bytearray | None = None) -> bytearray:
    """``BPF_OBJ_GET_INFO_BY_FD``: the object's info structure, as much of it as this kernel fills in.

    :param info: a structure with input fields (lengths and addresses of arrays) already set.
    """
    buffer = bytearray(layout.size) if info is None else info
    attr = INFO.pack(bpf_fd=fd, info_len=len(buffer), info=address(buffer))
    bpf(uapi.BPF_OBJ_GET_INFO_BY_FD, attr)
    return buffer


def pin(fd: int, path: str) -> None:
    """Give an object a name in bpffs, which keeps it alive.

    :raises KernelError: the name exists, the directory is missing or no bpffs.
    """
    name = os.fsencode(path) + b"\0"
    result = try_bpf(uapi.BPF_OBJ_PIN, OBJECT.pack(pathname=address(name), bpf_fd=fd))
    if result < 0:
        from tracebee.kernel.explain import bpf_error

        if result == -errno.EPERM and "." in os.path.basename(path):
            from tracebee.errors import UsageError

            raise UsageError(f"'{path}' cannot be pinned: a BPF file system takes no names with dots")
        raise bpf_error(uapi.BPF_OBJ_PIN, -result, f"'{path}'")


def pinned(path: str, file_flags: int = 0, kind: str = "") -> int:
    """A new descriptor for the object pinned at a path.

    :param kind: what it must be: ``prog``, ``map`` or ``link``; empty for anything.
    :raises UsageError: it is something else.
    """
    name = os.fsencode(path) + b"\0"
    fd = bpf(uapi.BPF_OBJ_GET, OBJECT.pack(pathname=address(name), file_flags=file_flags), f"'{path}'")
    if kind:
        from tracebee.kernel.holders import kind_of

        found = kind_of(fd)
        if found is not None and found != kind:
            from tracebee.errors import UsageError

            os.close(fd)
            hint = f"'tracebee {found} show pinned {path}' shows it"
            raise UsageError(f"what is pinned at {path} is no {kind}, but a {found}", hint=hint)
    return fd
