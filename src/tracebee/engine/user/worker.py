"""The process that traces: it holds the ptrace connections and runs the programs, so that printing never
delays a traced process, and so that either process can clean up when the other is killed.

It tells the other by a pipe, a line each: ``ready``, ``error TEXT``, ``warn TEXT``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import time

from tracebee.engine.user.dispatch import Dispatcher
from tracebee.engine.user.ptrace import Gone
from tracebee.engine.user.tracer import Tracer
from tracebee.errors import TracebeeError
from tracebee.kernel.syscall import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.user.plan import Plan, Timer
    from tracebee.engine.user.programs import Programs

_PR_SET_PDEATHSIG = 1
_HEARTBEAT = 0.1  # seconds in which a request to stop is noticed at the latest
_ENTRY = struct.Struct("=IIQ")


class Journal:
    """Bytes that breakpoints stand in for, in memory that outlives the worker."""

    def __init__(self, room: int = 1 << 16) -> None:
        self._map = mmap.mmap(-1, 8 + room * _ENTRY.size)
        self._room = room
        self._count = 0

    def add(self, pid: int, addr: int, original: int) -> None:
        """Note a byte; beyond the room nothing is noted."""
        if self._count < self._room:
            _ENTRY.pack_into(self._map, 8 + self._count * _ENTRY.size, pid, original, addr)
            self._count += 1
            struct.pack_into("=Q", self._map, 0, self._count)

    def restore(self) -> int:
        """Put every noted byte back where a breakpoint still stands; returns how many."""
        (count,) = struct.unpack_from("=Q", self._map)
        restored = 0
        for i in range(count):
            pid, original, addr = _ENTRY.unpack_from(self._map, 8 + i * _ENTRY.size)
            with contextlib.suppress(OSError):
                fd = os.open(f"/proc/{pid}/mem", os.O_RDWR)
                try:
                    if os.pread(fd, 1, addr) == b"\xcc":
                        os.pwrite(fd, bytes([original]), addr)
                        restored += 1
                finally:
                    os.close(fd)
        return restored

    def close(self) -> None:
        """Free the memory."""
        self._map.close()


class Worker:
    """The worker's own side; made in the child after fork.

    :param pid: the process to trace; ``held``: it is a command that waits to be let go.
    """

    def __init__(
        self, plan: Plan, programs: Programs, journal: Journal, pid: int | None, *, held: bool, pipe: int
    ) -> None:
        self.plan, self.pid, self.held, self.pipe = plan, pid, held, pipe
        self.dispatcher = Dispatcher(plan, programs)
        self.tracer = Tracer(self.dispatcher, plan.sites, plan.calls, journal.add, plan.exits)
        self.stopping = False
        self._next = [time.monotonic() + t.period for t in plan.timers]

    def main(self) -> None:
        """Trace until told to stop or nothing is left; never raises."""
        try:
            self._prepare_signals()
            self._attach()
            self._say("ready")
            self._loop()
        except TracebeeError as error:
            self._say(f"error {error!s}")
        finally:
            with contextlib.suppress(Exception):
                self.tracer.detach()
            for text in self.tracer.errors:
                self._say(f"warn {text}")
            for text, count in self.dispatcher.faults.items():
                self._say(f"warn a program was stopped {count} times: {text}")

    def _prepare_signals(self) -> None:
        # Ctrl-C reaches the whole group: the other process decides, and says so with SIGUSR1. That one
        # also comes when the other process dies.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._stop)
        signal.signal(signal.SIGALRM, _wake)
        syscall("prctl", _PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
        periods = (
            [min(_HEARTBEAT, *(t.period for t in self.plan.timers))] if self.plan.timers else [_HEARTBEAT]
        )
        signal.setitimer(signal.ITIMER_REAL, periods[0], periods[0])

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _attach(self) -> None:
        if self.pid is None:
            return
        try:
            if self.held:
                self.tracer.adopt(self.pid)
            else:
                self.tracer.attach(self.pid)
        except Gone:
            raise TracebeeError(f"process {self.pid} has ended") from None

    def _loop(self) -> None:
        parent = os.getppid()
        while not self.stopping and os.getppid() == parent:
            if self.pid is None:
                time.sleep(min([_HEARTBEAT, *(max(0.0, n - time.monotonic()) for n in self._next)]))
            elif not self.tracer.step():
                return
            self._fire()

    def _fire(self) -> None:
        now = time.monotonic()
        samples = []
        for i, timer in enumerate(self.plan.timers):
            if now >= self._next[i]:
                self._next[i] = _after(self._next[i], timer, now)
                if timer.samples:
                    samples.append(timer.run)
                else:
                    self.dispatcher.interval(timer.run)
        if samples:
            self.dispatcher.due = samples
            self.tracer.sample_running(os.cpu_count() or 1)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.pipe, line.replace("\n", "\x1f").encode() + b"\n")


def _after(due: float, timer: Timer, now: float) -> float:
    """The next time on the timer's grid: one that was missed is not made up for."""
    return due + timer.period * (int((now - due) / timer.period) + 1)


def _wake(*_: object) -> None:
    """Nothing: the signal ends a wait."""
