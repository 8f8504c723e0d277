"""Scripts from Python: compile, attach, iterate over events, read maps as dictionaries."""

from __future__ import annotations

import io
import sys
import time

from tracebee.api.compiling import compile_text
from tracebee.api.maps import Maps
from tracebee.api.names import LazyNames
from tracebee.engine.run import Events, is_once
from tracebee.engine.select import choose, make_engine
from tracebee.report.actions import HEADER
from tracebee.report.decode import decoder
from tracebee.report.fields import member
from tracebee.report.reporter import Reporter
from tracebee.source import Source
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from tracebee.engine.command import Command
    from tracebee.errors import Diagnostic
    from tracebee.lang.script import Action


class Event(NamedTuple):
    """One thing a script said.

    :param kind: the action: ``printf``, ``print_value``, ``print_map``, ``time``, ``exit``...
    :param text: what bpftrace would print for it.
    :param values: its arguments as Python values: integers, strings, tuples, stacks of frames.
    """

    kind: str
    text: str
    values: tuple[Any, ...]


class Result(NamedTuple):
    """What a finished script leaves: its exit code, all it printed, its maps by name (with ``@``)."""

    code: int
    output: str
    maps: dict[str, Any]


class Script:
    """A script attached for as long as the ``with`` block lasts::

        with tracebee.Script("tracepoint:sched:sched_process_exec { printf('%s', comm); }") as script:
            for event in script.events(timeout=10):
                print(event.text)
            print(script.maps["@counts"])

    :param source: the script's text.
    :param pid: trace only this process; tracing ends with it.
    :param command: a program and its arguments to run and trace; tracing ends with it.
    :param parameters: positional parameters, ``$1`` first.
    :param named: named parameters, for ``getopt``.
    :param unsafe: allow functions that change things.
    :param config: settings, as a ``config`` block has them.
    :param engine: ``auto``, ``kernel`` or ``user``.
    :param name: what errors call the script.
    :param warn: called with each warning.
    :raises SourceError: by the constructor, when the script is wrong.
    """

    def __init__(
        self,
        source: str,
        *,
        pid: int | None = None,
        command: Sequence[str] | None = None,
        parameters: Sequence[str] = (),
        named: Mapping[str, str] | None = None,
        unsafe: bool = False,
        config: Mapping[str, Any] | None = None,
        engine: str = "auto",
        name: str = "script",
        warn: Callable[[Diagnostic | str], None] | None = None,
    ) -> None:
        if pid is not None and command is not None:
            raise ValueError("pid and command exclude each other")
        self._command = _hold(command)
        self._pid = pid
        self._closed = False
        self._exit_code: int | None = None
        try:
            chosen = choose(engine)
            self._script = compile_text(
                Source(name, source),
                pid=pid,
                command_pid=self._command.pid if self._command is not None else None,
                command_path=self._command.path if self._command is not None else None,
                parameters=parameters,
                named=named,
                unsafe=unsafe,
                user=chosen == "user",
                config=config,
                warn=warn,
            )
            traced = self._command.pid if self._command is not None else pid
            self._engine = make_engine(chosen, pid=traced, held=self._command is not None)
        except BaseException:
            if self._command is not None:
                self._command.close()
            raise
        self._out = io.BytesIO()
        self._events: Events | None = None

    def __enter__(self) -> Self:
        """Load, run BEGIN, attach, let the command go.

        :raises VerifierError, KernelError, PrivilegeError, UnsupportedError: it cannot be done.
        """
        try:
            self._engine.load(self._script)
            names = LazyNames()
            self._watcher = names.watcher(self._script)
            self._reporter = Reporter(
                self._script,
                self._engine.maps,
                self._engine.stacks,
                names,
                out=self._out,
                err=self._out,
            )
            self.maps = Maps(self._script, self._engine.maps, self._reporter.scene)
            self._readers = [_Reader(action, self._reporter) for action in self._script.actions]
            self._events = Events(self._engine, self._command, self._pid)
            self._engine.begin()
            self._engine.attach(lambda _made: None)
            if self._command is not None:
                self._command.start(self._engine.command_filter)
            self._look()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> None:
        pid = self._command.pid if self._command is not None else self._pid
        if pid is not None and self._watcher is not None:
            self._watcher(pid)

    def close(self) -> None:
        """Detach, unload, end the command; maps can no longer be read."""
        if not self._closed:
            self._closed = True
            if self._events is not None:
                self._events.close()
            self._engine.close()
            if self._command is not None:
                self._command.close()

    @property
    def exit_code(self) -> int | None:
        """What the script gave to ``exit()``; None while it has not called it."""
        return self._exit_code

    @property
    def probes(self) -> list[str]:
        """Names of the attached probes."""
        return list(dict.fromkeys(t.probe for a in self._script.attachments for t in a.targets))

    def lost(self) -> int:
        """How many events were lost so far."""
        return self._engine.lost()

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Events as they come, until ``exit()``, the traced process's end, or the timeout.

        :param timeout: seconds to go on for; 0 takes only what is there; None has no limit.
        """
        if self._events is None:
            raise ValueError("the script is not running: use it in a with statement")
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._exit_code is None:
            for record in self._events.take():
                event = self._event(record)
                if event.kind == "exit":
                    self._exit_code = event.values[0] if event.values else 0
                    yield event
                    return
                yield event
            left = None if deadline is None else deadline - time.monotonic()
            if self._events.ended or is_once(self._script) or (left is not None and left <= 0):
                # What came between the last look and the end is taken by a last round.
                yield from map(self._event, self._events.take())
                return
            self._events.wait(left)
            self._look()

    def _event(self, record: bytes) -> Event:
        number = int.from_bytes(record[:4], sys.byteorder)
        return self._readers[number].read(record, self._out)

    def run(self, timeout: float | None = None) -> Result:
        """Take events until the end, run END, and return everything; the maps as they are then."""
        texts = [event.text for event in self.events(timeout)]
        self._engine.detach()
        self._engine.end()
        if self._events is not None:
            texts += [self._event(record).text for record in self._events.take()]
        return Result(self._exit_code or 0, "".join(texts), {name: self.maps[name] for name in self.maps})


class _Reader:
    """Reads the records of one action."""

    def __init__(self, action: Action, reporter: Reporter) -> None:
        self.kind = action.kind
        self._number: int = reporter.script.actions.index(action)
        self._reporter = reporter
        self._fields = [(member(f), decoder(f.type, reporter.scene)) for f in action.layout.fields]

    def read(self, record: bytes, out: io.BytesIO) -> Event:
        out.seek(0)
        out.truncate()
        self._reporter.events([record])
        payload = record[HEADER:]
        values = tuple(decode(cut(payload)) for cut, decode in self._fields)
        return Event(self.kind, out.getvalue().decode("utf-8", "surrogateescape"), values)


def run(source: str, *, timeout: float | None = None, **options: Any) -> Result:
    """Run a script to its end and return what it printed and its maps.

    :param timeout: seconds after which tracing ends by itself.
    :param options: as ``Script`` takes them.
    """
    with Script(source, **options) as script:
        return script.run(timeout)


def _hold(command: Sequence[str] | None) -> Command | None:
    if command is None:
        return None
    from tracebee.engine.command import Command

    return Command(command)
