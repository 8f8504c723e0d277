"""Signals as events: a descriptor that becomes readable, so that one wait covers them and the ring buffer."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Catches signals between ``__enter__`` and ``__exit__``, and puts the old handlers back."""

    def __init__(self, numbers: Sequence[int] = (*STOPPING, signal.SIGUSR1)) -> None:
        self._numbers = numbers
        self._old: dict[int, Any] = {}
        self._read = self._write = -1
        self._old_wakeup = -1

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._old[number] = signal.signal(number, _caught)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old.clear()
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._read

    def taken(self) -> bytes:
        """The numbers of the signals that came since the last call, one byte each."""
        try:
            return os.read(self._read, 256)
        except BlockingIOError:
            return b""


def _caught(number: int, frame: object) -> None:
    """Nothing: the wakeup descriptor has the number already."""
