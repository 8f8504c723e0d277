"""Scripts that stay in the kernel with no process behind them: left, found again, read, ended.

A pinned script is a directory of a BPF file system, ``/sys/fs/bpf/tracebee/NAME``: ``links`` keep the
programs attached, ``maps`` are all maps, ``programs`` those of END probes, ``told`` counts the lost events
that readers have told of, and ``script`` is an array of one element that holds what user space must know
to print (``lang.portable``).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time

from tracebee import uapi
from tracebee.engine.kernel.engine import KernelEngine
from tracebee.engine.kernel.maps import KernelMap
from tracebee.engine.maps import StackMaps, lost_events
from tracebee.errors import DecodeError, PrivilegeError, SymbolError, UsageError
from tracebee.kernel import mounts
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.ringbuf import RingBuffer
from tracebee.lang.portable import from_object, to_object
from tracebee.lang.script import EVENTS, LOST, SCALARS
from tracebee.obj.model import MapDef, Object
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.lang.script import Script

_PARTS = ("links", "maps", "programs")
_FIRST = bytes(4)
_NAME_MAX = 255


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


class LastingEngine(KernelEngine):
    """A kernel engine that leaves its script in the kernel."""

    def leave(self, script: Script, name: str, source: str) -> str:
        """Run BEGIN, attach, and pin everything; closing this engine then detaches nothing.

        :param name: the script's name below ``/sys/fs/bpf/tracebee``, or a whole path.
        :param source: what the script was read from, for listings.
        :returns: the directory.
        :raises UsageError: the name is taken, or not possible; PrivilegeError: it may not be made.
        """
        place = directory(name)
        lock = _make(place, name)
        try:
            self.begin()
            self.attach(lambda _: None)
            self._pin(script, place, source)
        except BaseException:
            _remove(place)
            raise
        finally:
            os.close(lock)
        return place

    def _pin(self, script: Script, place: str, source: str) -> None:
        maps = {name: name.replace(".", "_") for name in self.loaded.maps}
        for name, file in maps.items():
            self.loaded.maps[name].pin(f"{place}/maps/{file}")
        ends = [unit.program for unit in self._units if unit.kind == "end"]
        for number, program in enumerate(ends):
            program.pin(f"{place}/programs/{number}")
        for number, link in enumerate(self._links):
            link.pin(f"{place}/links/{number}")
        with Map.create(MapDef("told", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)) as table:
            table.pin(f"{place}/told")
        parts = {
            "script": to_object(script).metadata.decode(),
            "maps": maps,
            "source": source,
            "since": time.time(),
            "probes": self.probes,
        }
        text = json.dumps(parts).encode()
        definition = MapDef("script", uapi.BPF_MAP_TYPE_ARRAY, 4, len(text), 1, uapi.BPF_F_RDONLY_PROG)
        # Last of all: a directory with a script is a whole one.
        with Map.create(definition) as table:
            table.update(_FIRST, text)
            table.freeze()
            table.pin(f"{place}/script")


class PinnedEngine:
    """A pinned script, as an engine (``engine.api.Engine``) that is attached already.

    :param ending: end the script: ``begin`` detaches its probes, ``end`` and ``close`` do as they are called.
        Otherwise it runs on.
    :param now: take only the events that wait, not those that come meanwhile.
    :raises SymbolError: nothing is pinned under the name; UsageError: another process reads it.
    """

    def __init__(self, name: str, *, ending: bool = False, now: bool = False) -> None:
        self.place = directory(name)
        self._ending = ending
        self._now = now
        self._ring: RingBuffer | None = None
        self._drained = False
        self._maps: dict[str, Map] = {}
        self._told: Map | None = None
        self._lost = (0, 0)  # in all, and what earlier readers have told of
        parts = _read(self.place)
        try:
            self.script = from_object(Object(name, "GPL", (), (), metadata=parts["script"].encode()))
            self.probes: int = parts["probes"]
            self.source: str = parts["source"]
        except (DecodeError, KeyError) as error:
            raise DecodeError(
                f"'{name}' was left by another version of tracebee, which alone can read it",
                hint=f"rm -r {self.place} ends it, and prints nothing",
            ) from error
        self._lock = _lock(self.place, name)
        try:
            for map_name, file in parts["maps"].items():
                self._maps[map_name] = Map.pinned(f"{self.place}/maps/{file}")
            told = self._told = Map.pinned(f"{self.place}/told")
            self._lost = (0, int.from_bytes(told.lookup(_FIRST) or b"", sys.byteorder))
            if EVENTS in self._maps:
                self._ring = RingBuffer(self._maps[EVENTS])
        except BaseException:
            self._release()
            raise
        self.maps = {map_name: KernelMap(table) for map_name, table in self._maps.items()}
        self.stacks = StackMaps(self._maps)

    @property
    def command_filter(self) -> bytes:
        """None: there is no command."""
        return b""

    def load(self, script: Script) -> None:
        """Nothing: it is loaded."""

    def begin(self) -> None:
        """When it is to end: detach every probe, so that its events come to an end too."""
        if self._ending:
            _empty(f"{self.place}/links")

    def attach(self, step: Callable[[int], None]) -> None:
        """Nothing: it is attached."""

    def fileno(self) -> int:
        """The ring buffer's descriptor."""
        return self._maps[EVENTS].fd if self._ring is not None else -1

    def drain(self) -> list[bytes]:
        """The records that are there."""
        if self._ring is None or (self._now and self._drained):
            return []
        self._drained = True
        return self._ring.drain()

    def exit_code(self) -> int | None:
        """What the script gave to exit(), which stopped it; None while it runs."""
        offset = self.script.config.get("stop_offset", -1)
        value = self._maps[SCALARS].lookup(_FIRST) if offset >= 0 else None
        left = int.from_bytes((value or b"")[offset : offset + 8], sys.byteorder)
        return left - 1 if left else None

    def lost(self) -> int:
        """The sum of the loss counters over causes, without what earlier readers have told of."""
        if LOST not in self._maps:
            return 0
        _, told = self._lost
        total = lost_events(self._maps[LOST].lookup(_FIRST) or b"")
        self._lost = (total, told)
        return total - told

    def detach(self) -> None:
        """Nothing: ``begin`` did, when it is to end."""

    def end(self) -> None:
        """When it is to end: run the END programs."""
        if self._ending:
            for file in sorted(os.listdir(f"{self.place}/programs"), key=int):
                with Program.pinned(f"{self.place}/programs/{file}") as program:
                    program.test_run()

    def close(self) -> None:
        """Let go; when it is to end, remove it."""
        total, told = self._lost
        if self._told is not None and total > told and not self._ending:
            self._told.update(_FIRST, total.to_bytes(8, sys.byteorder))
        if self._ending and self._lock >= 0:
            _remove(self.place)
        self._release()

    def _release(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        for table in (*self._maps.values(), *filter(None, (self._told,))):
            table.close()
        self._maps.clear()
        self._told = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


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
                parts = _read(place)
            except SymbolError:
                continue  # being made
            found.append(PinnedScript(name, place, parts["source"], parts["since"], parts["probes"]))
    return found


def remove_leftover(name: str) -> bool:
    """Remove what is left of a script whose pinning was interrupted; False when there is no such thing."""
    place = directory(name)
    if not os.path.isdir(place) or os.path.exists(f"{place}/script"):
        return False
    lock = _lock(place, name)  # nobody is at it
    try:
        _remove(place)
    finally:
        os.close(lock)
    return True


def _names(where: str) -> list[str]:
    try:
        return sorted(os.listdir(where))
    except FileNotFoundError:
        return []
    except PermissionError:
        raise PrivilegeError(f"{where} may not be read by this user", hint="run as root") from None


def _make(place: str, name: str) -> int:
    """Make the directories of a script; a descriptor that says that somebody is at work there."""
    try:
        if "/" not in name:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        os.mkdir(place)
        lock = _lock(place, name)
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
    return lock


def _read(place: str) -> dict[str, Any]:
    """What a pinned script's element says.

    :raises SymbolError: there is none; PrivilegeError: it may not be read.
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
        text = table.lookup(_FIRST) or b""
    try:
        parts: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise DecodeError(f"{place} was not left by tracebee") from error
    return parts


def _lock(place: str, name: str) -> int:
    """A descriptor that keeps other readers away: the ring buffer's position has one owner."""
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.fstat(lock))
        os.close(lock)
        other = f"process {holder}" if holder else "another process"
        raise UsageError(f"{other} is reading '{name}'", hint="end that 'tracebee attach' first") from None
    return lock


def _holder(place: os.stat_result) -> int | None:
    """The process that holds the lock of a directory. Source: proc(5), ``/proc/locks``."""
    with open("/proc/locks") as locks:
        for line in locks:
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(place.st_ino):
                return int(words[4])
    return None


def _empty(place: str) -> None:
    for file in os.listdir(place) if os.path.isdir(place) else ():
        os.unlink(f"{place}/{file}")


def _remove(place: str) -> None:
    """Links first, so that nothing runs any more when the maps go."""
    for part in _PARTS:
        _empty(f"{place}/{part}")
        if os.path.isdir(f"{place}/{part}"):
            os.rmdir(f"{place}/{part}")
    for file in ("script", "told"):
        if os.path.exists(f"{place}/{file}"):
            os.unlink(f"{place}/{file}")
    os.rmdir(place)
