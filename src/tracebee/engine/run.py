"""The life of a traced script: load, BEGIN, attach, events until something ends it, detach, END."""

from __future__ import annotations

import os
import select
import time

from tracebee.engine.signals import STOPPING, Signals
from tracebee.probes.session import Interrupted
from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.engine.api import Engine
    from tracebee.engine.command import Command
    from tracebee.lang.script import Script

_LOSS_CHECK = 1.0  # seconds between looks at the loss counters while events come
# Seconds after its start at which the traced process's memory map is looked at: once it has mapped its
# program, once the libraries are there, and once more for what it loads later.
_LOOKS = (0.002, 0.02, 0.2, 2.0)


class Sink(Protocol):
    """Where events go: ``report.Reporter`` is one."""

    def attached(self, probes: int) -> None:
        """Tracing begins."""

    def events(self, batch: Sequence[bytes]) -> int | None:
        """Act on records in order; the exit code when one of them is ``exit()``."""

    def lost(self, events: int) -> None:
        """So many events were lost since this was last said."""

    def finish(self) -> None:
        """Tracing has ended: print the maps."""

    def print_maps(self) -> None:
        """Print all maps as they are now."""


def run(
    engine: Engine,
    sink: Sink,
    *,
    command: Command | None = None,
    pid: int | None = None,
    look: Callable[[int], None] | None = None,
    once: bool = False,
) -> int:
    """Run a loaded script until it exits, a signal comes, or the traced process ends.

    The engine is left open, so that its maps can still be read.

    :returns: the exit code: what the script gave to ``exit()``, else 0.
    :param command: the held process of ``-c``, let go once everything is attached.
    :param pid: the process of ``-p``, whose end ends the tracing.
    :param look: called with the traced process's id early in its life, to remember what its addresses
        mean: it may be gone when they are printed.
    :param once: end when everything has been attached: no event comes later (``is_once``).
    """
    events = Events(engine, command, pid)
    try:
        with Signals() as signals:
            return _Run(engine, sink, signals, command, pid, events, look, once).run()
    finally:
        events.close()


def is_once(script: Script) -> bool:
    """Whether a script's probes fire only while it is attached: iterators, beside BEGIN and END."""
    kinds = {attachment.kind for attachment in script.attachments}
    return "iter" in kinds and kinds <= {"iter", "begin", "end"}


class Events:
    """The events of one attached engine, and the end of the process that it traces.

    :param command: the held process of ``-c``; or ``pid``, the process of ``-p``.
    """

    def __init__(self, engine: Engine, command: Command | None = None, pid: int | None = None) -> None:
        self._engine = engine
        self.ended = False
        self._traced = self._watch(command.pid if command is not None else pid)
        self._poll = select.poll()
        self._ring = engine.fileno()
        for fd in (self._ring, self._traced):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)

    def _watch(self, pid: int | None) -> int:
        if pid is None:
            return -1
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            self.ended = True
            return -1

    def also(self, fd: int) -> None:
        """Wait for this descriptor too."""
        self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for events, the end, or a descriptor given to ``also``; at most ``timeout`` seconds."""
        ready = {fd for fd, _ in self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000)}
        if self._traced in ready:
            self.ended = True

    def take(self) -> list[bytes]:
        """The records that are there."""
        return self._engine.drain()

    def close(self) -> None:
        """Stop watching the process."""
        if self._traced >= 0:
            os.close(self._traced)
            self._traced = -1


class _Run:
    def __init__(
        self,
        engine: Engine,
        sink: Sink,
        signals: Signals,
        command: Command | None,
        pid: int | None,
        events: Events,
        look: Callable[[int], None] | None,
        once: bool,
    ) -> None:
        self.engine = engine
        self.sink = sink
        self.signals = signals
        self.command = command
        self.events = events
        self.traced = command.pid if command is not None else pid
        self.look = look
        self.once = once
        self.code: int | None = None
        self.stopping = False
        self.said_lost = 0

    def run(self) -> int:
        engine = self.engine
        self._attach_and_trace()
        engine.detach()
        if self.code is None:
            self._drain()
        else:
            engine.drain()  # what came behind exit() is dropped
        engine.end()
        # What END prints comes after an exit() too.
        code, self.code = self.code, None
        self._drain()
        self._say_lost()
        self.sink.finish()
        return code if code is not None else self.code or 0

    def _attach_and_trace(self) -> None:
        self.sink.attached(self.engine.probes)
        self.engine.begin()
        self._drain()
        if self.code is not None:
            return
        try:
            self.engine.attach(self._step)
        except Interrupted:
            return
        if self.command is not None:
            self.command.start(self.engine.command_filter)
        if not self.once:
            self._trace()

    def _step(self, made: int) -> None:  # noqa: ARG002 - a progress display would use it
        self._signalled()
        if self.stopping:
            raise Interrupted

    def _signalled(self) -> None:
        for number in self.signals.taken():
            if number in STOPPING:
                self.stopping = True
            else:
                self.sink.print_maps()

    def _trace(self) -> None:
        self.events.also(self.signals.fileno())
        looks = list(_LOOKS)
        self._look()
        next_check = time.monotonic() + _LOSS_CHECK
        while self.code is None and not self.stopping and not self.events.ended:
            if self.look is None or self.traced is None or not looks:
                self.events.wait()
            else:
                self.events.wait(looks.pop(0))
                self._look()
            self._signalled()
            self._drain()
            if time.monotonic() > next_check:
                self._say_lost()
                next_check = time.monotonic() + _LOSS_CHECK

    def _look(self) -> None:
        if self.look is not None and self.traced is not None:
            self.look(self.traced)

    def _drain(self) -> None:
        while self.code is None:
            batch = self.events.take()
            if not batch:
                return
            self.code = self.sink.events(batch)

    def _say_lost(self) -> None:
        lost = self.engine.lost()
        if lost > self.said_lost:
            self.sink.lost(lost - self.said_lost)
            self.said_lost = lost
