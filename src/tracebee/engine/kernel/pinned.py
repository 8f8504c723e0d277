"""Scripts that stay in the kernel with no process behind them: left there, and read or ended later.

``pinned_directory`` has where they lie.
"""

from __future__ import annotations

import os
import sys
import time

from tracebee import uapi
from tracebee.engine.kernel.engine import KernelEngine, KernelMap
from tracebee.engine.kernel.pinned_directory import FIRST, directory, empty, lock, make, read, remove, write
from tracebee.engine.maps import StackMaps, lost_events
from tracebee.errors import DecodeError
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.ringbuf import RingBuffer
from tracebee.lang.portable import from_object, to_object
from tracebee.lang.script import EVENTS, LOST, SCALARS
from tracebee.obj.model import MapDef, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.script import Script


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
        held = make(place, name)
        try:
            self.begin()
            self.attach(lambda _: None)
            self._pin(script, place, source)
        except BaseException:
            remove(place)
            raise
        finally:
            os.close(held)
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
        write(place, parts)


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
        parts = read(self.place)
        try:
            self.script = from_object(Object(name, "GPL", (), (), metadata=parts["script"].encode()))
            self.probes: int = parts["probes"]
            self.source: str = parts["source"]
        except (DecodeError, KeyError) as error:
            raise DecodeError(
                f"'{name}' was left by another version of tracebee, which alone can read it",
                hint=f"rm -r {self.place} ends it, and prints nothing",
            ) from error
        self._lock = lock(self.place, name)
        try:
            for map_name, file in parts["maps"].items():
                self._maps[map_name] = Map.pinned(f"{self.place}/maps/{file}")
            told = self._told = Map.pinned(f"{self.place}/told")
            self._lost = (0, int.from_bytes(told.lookup(FIRST) or b"", sys.byteorder))
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
            empty(f"{self.place}/links")

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
        value = self._maps[SCALARS].lookup(FIRST) if offset >= 0 else None
        left = int.from_bytes((value or b"")[offset : offset + 8], sys.byteorder)
        return left - 1 if left else None

    def lost(self) -> int:
        """The sum of the loss counters over causes, without what earlier readers have told of."""
        if LOST not in self._maps:
            return 0
        _, told = self._lost
        total = lost_events(self._maps[LOST].lookup(FIRST) or b"")
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
            self._told.update(FIRST, total.to_bytes(8, sys.byteorder))
        if self._ending and self._lock >= 0:
            remove(self.place)
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
