"""tracefs, debugfs and bpffs: found where they are mounted, else opened without a trace.

A file system that is mounted nowhere is opened by fsopen(2) and fsmount(2) (Linux 5.2) as a mount
that has no place in the tree: its files are reached through the descriptor, as
``/proc/self/fd/N/...``, and it is gone with the process however that ends. Kernels before 5.2 get an
ordinary mount at a private directory, undone at exit.
"""

from __future__ import annotations

import os

from tracebee.kernel.syscall import address, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.fd import Fd

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_MNT_DETACH = 2
_ENOSYS = 38

BPFFS = "/sys/fs/bpf"

_opened: dict[str, str] = {}


def mounted(kind: str, mountinfo: str = "/proc/self/mountinfo") -> list[str]:
    """Directories where a file system of a type is mounted whole, in the order they were mounted.

    :param kind: ``tracefs``, ``debugfs``, ``bpf``, ``cgroup2``, ...
    Source: proc(5), ``/proc/pid/mountinfo``.
    """
    places: list[str] = []
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, tail = line.partition(" - ")
            words = fields.split(" ")
            if tail.startswith(kind + " ") and words[3] == "/":
                places.append(_unescape(words[4]))
    return places


def tracefs() -> str:
    """A directory with the root of tracefs, good for this process only.

    :raises PrivilegeError: it is not mounted, and this process may not mount.
    """
    return _directory("tracefs")


def debugfs() -> str:
    """A directory with the root of debugfs, good for this process only."""
    return _directory("debugfs")


def bpffs() -> str:
    """The directory for pinned objects, mounted at ``/sys/fs/bpf`` if no bpffs is mounted yet.

    That mount stays, since what is pinned must outlive this process.

    :raises PrivilegeError: it is not mounted, and this process may not mount.
    """
    places = mounted("bpf")
    if places:
        return BPFFS if BPFFS in places else places[0]
    _mount("bpf", BPFFS)
    return BPFFS


def open_detached(kind: str) -> Fd:
    """A new mount of a file system that is attached nowhere: the descriptor of its root.

    :raises OSError: the kernel has no such file system, or no such calls.
    """
    from tracebee.kernel.fd import Fd

    name = kind.encode() + b"\0"
    with Fd(_succeed(syscall("fsopen", address(name), _FSOPEN_CLOEXEC))) as context:
        _succeed(syscall("fsconfig", context.fd, _FSCONFIG_CMD_CREATE, 0, 0, 0))
        return Fd(_succeed(syscall("fsmount", context.fd, _FSMOUNT_CLOEXEC, 0)))


def _directory(kind: str) -> str:
    place = _opened.get(kind)
    if place is None:
        places = [place for place in mounted(kind) if os.access(place, os.R_OK | os.X_OK)]
        place = _opened[kind] = places[-1] if places else _open(kind)
    return place


def _open(kind: str) -> str:
    try:
        root = open_detached(kind)
    except OSError as error:
        if error.errno != _ENOSYS:
            raise _refusal(kind, error.errno or 0) from error
        return _mount_until_exit(kind)
    # Nobody's to close: paths through it stay in use until the process ends, and the mount with it.
    return f"/proc/self/fd/{root.detach()}"


def _mount_until_exit(kind: str) -> str:
    import atexit  # kernels without detached mounts only
    import tempfile

    place = tempfile.mkdtemp(prefix=f"tracebee-{kind}-")
    try:
        _mount(kind, place)
    except BaseException:
        os.rmdir(place)
        raise

    def undo() -> None:
        name = place.encode() + b"\0"
        syscall("umount2", address(name), _MNT_DETACH)
        os.rmdir(place)

    atexit.register(undo)
    return place


def _mount(kind: str, place: str) -> None:
    source, target = kind.encode() + b"\0", place.encode() + b"\0"
    result = syscall("mount", address(source), address(target), address(source), 0, 0)
    if result < 0:
        raise _refusal(kind, -result)


def _refusal(kind: str, number: int) -> Exception:
    from tracebee.kernel.explain import call_error

    shown = "bpffs" if kind == "bpf" else kind
    return call_error("mount", number, shown)


def _succeed(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _unescape(path: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    if "\\" not in path:
        return path
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path
