"""Event records and maps of a running script to output, byte for byte as bpftrace prints it."""

from __future__ import annotations

import struct

from tracebee.errors import DecodeError
from tracebee.report.actions import ACTIONS, encode
from tracebee.report.scene import Scene
from tracebee.report.values import quote
from tracebee.stacks.table import StackTable
from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracebee.engine.api import MapReader
    from tracebee.lang.script import MapInfo, Script
    from tracebee.report.actions import Handler
    from tracebee.report.maps import MapJson, MapText
    from tracebee.report.scene import Names
    from tracebee.stacks.table import StackReader


class Output(Protocol):
    """Where output goes: any binary file, such as ``sys.stdout.buffer``."""

    def write(self, data: bytes, /) -> object:
        """Take the bytes."""

    def flush(self) -> object:
        """Hand on what was written."""


class Reporter:
    """Prints what one script says.

    :param maps: the script's maps by ``MapDef.name`` (MapInfo.map).
    :param stacks: the script's stack maps.
    :param names: kernel and user symbols (``symbols.Symbolizer``).
    :param json: one JSON record per line (bpftrace's ``-f json``).
    :param buffering: ``line`` hands output on after each batch of events, ``full`` when the file's
        buffer is full, ``none`` after each event (bpftrace's ``-B``).
    :param quiet: print what the script says, and not that tracing begins.
    """

    def __init__(
        self,
        script: Script,
        maps: Mapping[str, MapReader],
        stacks: StackReader,
        names: Names,
        *,
        out: Output,
        err: Output,
        json: bool = False,
        buffering: str = "line",
        quiet: bool = False,
    ) -> None:
        self.script = script
        self.maps = maps
        self._out = out
        self.err = err
        self.json = json
        self._buffering = buffering
        self._quiet = quiet
        self._pending: list[bytes] = []
        self._exit: int | None = None
        self.scene = Scene(
            names,
            StackTable(stacks),
            script.strings,
            script.probe_names,
            cut=script.config.get("str_trunc_trailer", ".."),
        )
        self.infos = {info.name: info for info in script.maps}
        self._printers: dict[str, MapText | MapJson] = {}
        self._handlers: list[Handler] = [_Lazy(self, number) for number in range(len(script.actions))]

    def attached(self, probes: int) -> None:
        """Say that tracing begins, with how many probes."""
        if self._quiet:
            return
        if self.json:
            self._emit(f'{{"type": "attached_probes", "data": {{"probes": {probes}}}}}\n')
        else:
            self._emit(f"Attaching {probes} probe{'' if probes == 1 else 's'}...\n")

    def events(self, batch: Iterable[bytes | memoryview]) -> int | None:
        """Act on event records in order (``lang.script.Action``).

        :returns: the exit code when the script called ``exit()``: the records after it in the
            batch are not acted on, and the caller drops what the ring buffer still holds before it
            runs the END probes, whose records it gives to a further call. None: go on.
        :raises DecodeError: a record that no action of the script has written.
        """
        self.request_exit(None)
        handlers, pending = self._handlers, self._pending
        append = pending.append
        unbuffered = self._buffering == "none"
        try:
            for record in batch:
                # The action's number is a u32; no script has 65,536 of them.
                append(handlers[record[_LOW] | record[_HIGH] << 8](record))
                if unbuffered:
                    self.flush()
                if self._exit is not None:
                    break
        except (IndexError, struct.error) as error:
            raise DecodeError(f"event record of {len(record)} bytes fits no action of the script") from error
        finally:
            if pending:
                self._out.write(b"".join(pending))
                pending.clear()
                if self._buffering == "line":
                    self._out.flush()
        return self._exit

    def request_exit(self, code: int | None) -> None:
        """Make ``events`` stop with this exit code after the record it is at; None takes it back."""
        self._exit = code

    def flush(self) -> None:
        """Hand on everything printed so far."""
        if self._pending:
            self._out.write(b"".join(self._pending))
            self._pending.clear()
        self._out.flush()

    def lost(self, events: int) -> None:
        """Say that events were lost since this was last said."""
        if self.json:
            self._emit(f'{{"type": "lost_events", "data": {{"events": {events}}}}}\n')
        else:
            self._emit(f"Lost {events} events\n")

    def print_map(self, name: str, top: int = 0, div: int = 1) -> None:
        """Print a map by its name (with ``@``) as it is now."""
        self._emit(self.map_text(name, top, div))

    def finish(self) -> None:
        """Print all maps by name, as bpftrace does when tracing ends."""
        text = [] if self.json else ["\n\n"]
        if self.script.config.get("print_maps_on_exit", True):
            text += [self.map_text(name, 0, 1) for name in sorted(self.infos)]
        self._emit("".join(text))
        self.flush()

    def print_maps(self) -> None:
        """Print all maps by name as they are now (on SIGUSR1)."""
        self._emit("".join(self.map_text(name, 0, 1) for name in sorted(self.infos)))
        self.flush()

    def handler(self, number: int) -> Handler:
        """The function that acts on records of one action; it returns what to print."""
        action = self.script.actions[number]
        make = ACTIONS.get(action.kind)
        if make is None:
            raise DecodeError(f"script has an action of unknown kind '{action.kind}'")
        made = make(self, action)
        self._handlers[number] = made
        return made

    def _emit(self, text: str) -> None:
        if text:
            self._out.write(encode(text))
            if self._buffering != "full":
                self._out.flush()

    def map_text(self, name: str, top: int, div: int) -> str:
        """What ``print_map`` prints."""
        from tracebee.report import entries  # many scripts print no map

        info = self.infos[name]
        return self.printer(info).render(entries.read(info, self.maps[info.map]), top, div)

    def printer(self, info: MapInfo) -> MapText | MapJson:
        """The printer of a map, kept from its first use on."""
        printer = self._printers.get(info.name)
        if printer is None:
            from tracebee.report.maps import MapJson, MapText

            printer = (MapJson if self.json else MapText)(info, self.scene)
            self._printers[info.name] = printer
        return printer

    def message(self, kind: str, text: str) -> bytes:
        """The text, or in JSON a record of this kind that holds it."""
        return encode(f'{{"type": "{kind}", "data": {quote(text)}}}\n' if self.json else text)


class _Lazy:
    """Stands for an action's function until its first record: most scripts compile few of them."""

    __slots__ = ("_number", "_reporter")

    def __init__(self, reporter: Reporter, number: int) -> None:
        self._reporter = reporter
        self._number = number

    def __call__(self, record: bytes | memoryview) -> bytes:
        return self._reporter.handler(self._number)(record)


_LOW, _HIGH = (0, 1) if struct.pack("=H", 1)[0] else (3, 2)
