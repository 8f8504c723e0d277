"""What is pinned in the BPF file systems, and where."""

from __future__ import annotations

import os

from tracebee.errors import PrivilegeError, TracebeeError
from tracebee.kernel.bpf import pinned
from tracebee.kernel.fd import Fd
from tracebee.kernel.holders import fdinfo, kind_of
from tracebee.kernel.mounts import mounted
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Pin(NamedTuple):
    """A pinned object: its path, ``prog``, ``map`` or ``link``, and its id (0 where unknown)."""

    path: str
    kind: str
    id: int


def pin_at(path: str) -> Pin:
    """The object pinned at a path.

    :raises KernelError: nothing is pinned there; PrivilegeError: it may not be opened.
    """
    with Fd(pinned(path)) as fd:
        kind = kind_of(fd.fd) or "other"
        number = fdinfo(fd.fd).get(f"{kind}_id", "0")
    return Pin(path, kind, int(number))


def walk(root: str | None = None) -> Iterator[Pin]:
    """Everything pinned below a directory, or in all mounted BPF file systems, by path.

    What this process may not open is left out, and so are iterators, which are run by being read.

    :raises PrivilegeError, OSError: the directory itself may not be read, or is none.
    """
    for place in dict.fromkeys([root] if root is not None else mounted("bpf")):
        try:
            os.listdir(place)
        except PermissionError:
            raise PrivilegeError(f"{place} may not be read by this user", hint="run as root") from None
        for directory, names, files in os.walk(place):
            names.sort()
            for name in sorted(files):
                path = f"{directory.rstrip('/')}/{name}"
                if os.path.islink(path):
                    continue
                try:
                    yield pin_at(path)
                except (TracebeeError, OSError):
                    continue


def unpin(path: str) -> None:
    """Remove a name; the object goes when nothing else holds it.

    :raises KernelError: nothing is pinned there; OSError: it may not be removed.
    """
    pin_at(path)
    os.unlink(path)
