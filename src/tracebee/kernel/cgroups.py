"""Control groups: the ids that bpf_get_current_cgroup_id gives, and their paths.

An id is the inode number of the group's directory in the cgroup2 hierarchy (``kernfs_id``).
"""

from __future__ import annotations

import os

from tracebee.errors import SymbolError
from tracebee.kernel.fd import Fd
from tracebee.kernel.mounts import mounted


def roots() -> list[str]:
    """Directories where cgroup2 is mounted."""
    return mounted("cgroup2")


def cgroup_id(path: str) -> int:
    """Id of the group at a directory.

    :raises OSError: there is no such directory.
    """
    return os.stat(path).st_ino


def open_group(path: str) -> Fd:
    """A control group's directory, open.

    :raises SymbolError: it cannot be opened.
    """
    try:
        return Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        reason = (error.strerror or "").lower()
        hint = "give a directory of a cgroup2 file system; 'tracebee cgroup tree' lists those with programs"
        raise SymbolError(f"cannot open control group '{path}': {reason}", hint=hint) from None


def path_of(group: int) -> str | None:
    """Path of a group within its hierarchy, ``/`` for the root; None when none has this id."""
    return next((path for path, number in walk() if number == group), None)


def walk() -> list[tuple[str, int]]:
    """All groups of the first cgroup2 hierarchy as (path within it, id)."""
    for root in roots()[:1]:
        found: list[tuple[str, int]] = []
        for directory, _, _ in os.walk(root):
            try:
                found.append((directory[len(root) :] or "/", os.stat(directory).st_ino))
            except OSError:
                continue  # removed meanwhile
        return found
    return []
