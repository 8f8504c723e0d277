"""Scripts that stay in the kernel with no process behind them: left, found again, read, ended.

A pinned script is a directory of a BPF file system, ``/sys/fs/bpf/tracebee/NAME``: ``links`` keep the
programs attached, ``maps`` are all maps, ``programs`` those of END probes, and ``script`` is an array of
one element that holds what user space must know to print (``lang.portable``).
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time

from tracebee import uapi
from tracebee.engine.kernel.engine import KernelEngine
from tracebee.engine.kernel.maps import KernelMap
from tracebee.engine.maps import StackMaps
from tracebee.errors import DecodeError, PrivilegeError, SymbolError, TracebeeError, UsageError
from tracebee.kernel import mounts
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.ringbuf import RingBuffer
from tracebee.lang.portable import from_object, to_object
from tracebee.lang.script import EVENTS, LOST
from tracebee.obj.model import MapDef, Object
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.lang.script import Script

_PARTS = ("links", "maps", "programs")
_FIRST = bytes(4)


class PinnedScript(NamedTuple):
    """A pinned script: its name and directory, what it was made from, since when (seconds since 1970)."""

    name: str
    place: str
    source: str
    since: float
    probes: int


def directory(name: str) -> str:
    """Where a pinned script lies; a name with a slash is a directory itself.

    :raises UsageError: it is a relative path.
    :raises PrivilegeError: no BPF file system is mounted, and this process may not mount it.
    """
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
        _make(place, name)
        try:
            self.begin()
            self.attach(lambda _: None)
            self._pin(script, place, source)
        except BaseException:
            _remove(place)
            raise
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

    :param ending: whether ``detach``, ``end`` and ``close`` end the script, or let it run on.
    :raises SymbolError: nothing is pinned under the name; UsageError: another process reads it.
    """

    def __init__(self, name: str, *, ending: bool = False) -> None:
        self.place = directory(name)
        self._ending = ending
        self._ring: RingBuffer | None = None
        self._maps: dict[str, Map] = {}
        parts = _read(self.place)
        obj = Object(name, "GPL", (), (), metadata=parts["script"].encode())
        self.script = from_object(obj)
        self.probes: int = parts["probes"]
        self.source: str = parts["source"]
        self._lock = _lock(self.place, name)
        try:
            for map_name, file in parts["maps"].items():
                self._maps[map_name] = Map.pinned(f"{self.place}/maps/{file}")
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
        """Nothing: BEGIN ran long ago."""

    def attach(self, step: Callable[[int], None]) -> None:
        """Nothing: it is attached."""

    def fileno(self) -> int:
        """The ring buffer's descriptor."""
        return self._maps[EVENTS].fd if self._ring is not None else -1

    def drain(self) -> list[bytes]:
        """The records that are there."""
        return [] if self._ring is None else self._ring.drain()

    def lost(self) -> int:
        """The sum of the loss counters over causes."""
        value = self._maps[LOST].lookup(_FIRST) if LOST in self._maps else None
        return sum(count for (count,) in struct.iter_unpack("=Q", value or b""))

    def detach(self) -> None:
        """When it is to end: detach every probe."""
        if self._ending:
            _empty(f"{self.place}/links")

    def end(self) -> None:
        """When it is to end: run the END programs."""
        if self._ending:
            for file in sorted(os.listdir(f"{self.place}/programs"), key=int):
                with Program.pinned(f"{self.place}/programs/{file}") as program:
                    program.test_run()

    def close(self) -> None:
        """Let go; when it is to end, remove it."""
        if self._ending and self._lock >= 0:
            _remove(self.place)
        self._release()

    def _release(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        for table in self._maps.values():
            table.close()
        self._maps.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def pinned_scripts(root: str | None = None) -> list[PinnedScript]:
    """All pinned scripts of a directory, by name.

    :param root: default: ``tracebee`` of every mounted BPF file system.
    """
    roots = [root] if root is not None else [f"{place}/tracebee" for place in mounts.mounted("bpf")]
    found = []
    for where in roots:
        for name in sorted(os.listdir(where)) if os.path.isdir(where) else ():
            place = f"{where}/{name}"
            try:
                parts = _read(place)
            except TracebeeError:
                continue  # being made, or not ours to read
            found.append(PinnedScript(name, place, parts["source"], parts["since"], parts["probes"]))
    return found


def _make(place: str, name: str) -> None:
    try:
        if "/" not in name:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        os.mkdir(place)
        for part in _PARTS:
            os.mkdir(f"{place}/{part}")
    except FileExistsError:
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


def _read(place: str) -> dict[str, Any]:
    """What a pinned script's element says.

    :raises SymbolError: there is none; PrivilegeError: it may not be read.
    """
    if not os.path.exists(f"{place}/script"):
        name = os.path.basename(place)
        parent = os.path.dirname(place)
        known = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
        from tracebee.suggest import nearest

        raise SymbolError(
            f"no script is pinned as '{name}'",
            nearest(name, known),
            hint=None if known else "tracebee --pin NAME leaves one",
        )
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
        os.close(lock)
        raise UsageError(
            f"another process is reading '{name}'", hint="end that 'tracebee attach' first"
        ) from None
    return lock


def _empty(place: str) -> None:
    for file in os.listdir(place) if os.path.isdir(place) else ():
        os.unlink(f"{place}/{file}")


def _remove(place: str) -> None:
    """Links first, so that nothing runs any more when the maps go."""
    for part in _PARTS:
        _empty(f"{place}/{part}")
        if os.path.isdir(f"{place}/{part}"):
            os.rmdir(f"{place}/{part}")
    if os.path.exists(f"{place}/script"):
        os.unlink(f"{place}/script")
    os.rmdir(place)
