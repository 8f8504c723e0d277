"""The directory of a pinned script in a BPF file system, ``/sys/fs/bpf/tracebee/NAME``.

``links`` keep the programs attached, ``maps`` are all maps, ``programs`` those of END probes, ``told`` counts
the lost events that readers have told of, and ``script`` is an array of one element that holds what user
space must know to print (``lang.portable``). A lock on the directory says that somebody is at it.
"""

from __future__ import annotations

import fcntl
import json
import os

from tracebee import uapi
from tracebee.errors import DecodeError, PrivilegeError, SymbolError, UsageError
from tracebee.kernel import mounts
from tracebee.kernel.map import Map
from tracebee.obj.model import MapDef
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PARTS = ("links", "maps", "programs")
FIRST = bytes(4)  # the key of an array's only element
_NAME_MAX = 255  # bytes, of every file system


class PinnedScript(NamedTuple):
    """A pinned script: its name and directory, what it was made from, since when (seconds since 1970)."""

    name: str
    place: str
    source: str
    since: float
    probes: int


def directory(name: str) -> str:
    """Where a pinned script lies; a name with a slash is a directory itself.

    :raises UsageError: it is a relative path, or no name that a BPF file system takes.
    :raises PrivilegeError: no BPF file system is mounted, and this process may not mount it.
    """
    last = name.rstrip("/").rpartition("/")[2]
    if not last or "." in last or "\0" in last:
        raise UsageError(
            f"'{name}' is no name for a pinned script", hint="a BPF file system takes no names with dots"
        )
    if len(last) > _NAME_MAX:
        raise UsageError(f"the name is too long: {len(last)} bytes of at most {_NAME_MAX}")
    if "/" not in name:
        return f"{mounts.bpffs()}/tracebee/{name}"
    if not name.startswith("/"):
        raise UsageError(f"'{name}' is neither a plain name nor an absolute path")
    return name.rstrip("/")


def pinned_scripts(root: str | None = None) -> list[PinnedScript]:
    """All pinned scripts of a directory, by name.

    :param root: default: ``tracebee`` of every mounted BPF file system.
    """
    places = dict.fromkeys(mounts.mounted("bpf"))  # one may be mounted over another
    roots = [root] if root is not None else [f"{place}/tracebee" for place in places]
    found = []
    for where in roots:
        for name in _names(where):
            place = f"{where}/{name}"
            try:
                parts = read(place)
            except SymbolError:
                continue  # being made
            found.append(PinnedScript(name, place, parts["source"], parts["since"], parts["probes"]))
    return found


def remove_leftover(name: str) -> bool:
    """Remove what is left of a script whose pinning was interrupted; False when there is no such thing."""
    place = directory(name)
    if not os.path.isdir(place) or os.path.exists(f"{place}/script"):
        return False
    held = lock(place, name)  # nobody is at it
    try:
        remove(place)
    finally:
        os.close(held)
    return True


def _names(where: str) -> list[str]:
    try:
        return sorted(os.listdir(where))
    except FileNotFoundError:
        return []
    except PermissionError:
        raise PrivilegeError(f"{where} may not be read by this user", hint="run as root") from None


def make(place: str, name: str) -> int:
    """Make the directories of a script, locked.

    :returns: the descriptor that holds the lock.
    :raises UsageError: the name is taken, or not possible. PrivilegeError: they may not be made.
    """
    try:
        if "/" not in name:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        os.mkdir(place)
        held = lock(place, name)
        for part in _PARTS:
            os.mkdir(f"{place}/{part}")
    except FileExistsError:
        if os.path.isdir(place) and not os.path.exists(f"{place}/script"):
            raise UsageError(
                f"what is left of '{name}' is in the way: its pinning was interrupted, or is going on",
                hint=f"'tracebee detach {name}' removes it",
            ) from None
        raise UsageError(
            f"a script is pinned as '{name}' already",
            hint=f"'tracebee attach {name}' shows it, 'tracebee detach {name}' ends it",
        ) from None
    except PermissionError as error:
        raise PrivilegeError(
            f"cannot make {place}: {(error.strerror or '').lower()}", hint="run as root"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot pin as '{name}': {place}: {(error.strerror or '').lower()}") from None
    return held


def write(place: str, parts: Mapping[str, Any]) -> None:
    """Write what ``read`` reads, last of all: a directory with a script is a whole one."""
    text = json.dumps(parts).encode()
    definition = MapDef("script", uapi.BPF_MAP_TYPE_ARRAY, 4, len(text), 1, uapi.BPF_F_RDONLY_PROG)
    with Map.create(definition) as table:
        table.update(FIRST, text)
        table.freeze()
        table.pin(f"{place}/script")


def read(place: str) -> dict[str, Any]:
    """What user space must know of the script, which ``write`` has left.

    :raises SymbolError: there is none. PrivilegeError: it may not be read.
    :raises DecodeError: it is of something else.
    """
    try:
        os.stat(f"{place}/script")
    except PermissionError:
        raise PrivilegeError(f"{place} may not be read by this user", hint="run as root") from None
    except OSError:
        name = os.path.basename(place)
        known = [other for other in _names(os.path.dirname(place)) if other != name]
        from tracebee.suggest import nearest

        raise SymbolError(
            f"no script is pinned as '{name}'",
            nearest(name, known),
            hint=None if known else "tracebee --pin NAME leaves one",
        ) from None
    with Map.pinned(f"{place}/script", uapi.BPF_F_RDONLY) as table:
        text = table.lookup(FIRST) or b""
    try:
        parts: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise DecodeError(f"{place} was not left by tracebee") from error
    return parts


def lock(place: str, name: str) -> int:
    """A descriptor that keeps other readers away: the ring buffer's position has one owner.

    :raises UsageError: there is another one.
    """
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.fstat(held))
        os.close(held)
        other = f"process {holder}" if holder else "another process"
        raise UsageError(f"{other} is reading '{name}'", hint="end that 'tracebee attach' first") from None
    return held


def _holder(place: os.stat_result) -> int | None:
    """The process that holds the lock of a directory. Source: proc(5), ``/proc/locks``."""
    with open("/proc/locks") as locks:
        for line in locks:
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(place.st_ino):
                return int(words[4])
    return None


def empty(place: str) -> None:
    """Remove all names of a directory."""
    for file in os.listdir(place) if os.path.isdir(place) else ():
        os.unlink(f"{place}/{file}")


def remove(place: str) -> None:
    """Remove a script, or what there is of it: links first, so that nothing runs when the maps go."""
    for part in _PARTS:
        empty(f"{place}/{part}")
        if os.path.isdir(f"{place}/{part}"):
            os.rmdir(f"{place}/{part}")
    for file in ("script", "told"):
        if os.path.exists(f"{place}/{file}"):
            os.unlink(f"{place}/{file}")
    os.rmdir(place)
