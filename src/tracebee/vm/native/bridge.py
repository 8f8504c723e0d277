"""Helpers written in Python as native functions, for what has no native code: rare helpers, kernel functions.

A helper sees a machine whose memory is the process's own, without bounds: the program was verified. It
may have BPF functions run; they are native code, so they are called.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tracebee.errors import ProgramFaultError
from tracebee.vm.interpreter import Callback, TailCall

if TYPE_CHECKING:
    from tracebee.vm.interpreter import Helper, Machine
    from tracebee.vm.memory import Region

_C_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 5)


class ProcessMemory:
    """All of the process's memory, with the methods of ``memory.Memory`` that helpers use."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address."""
        return ctypes.string_at(address, size) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        ctypes.memmove(address, data, len(data))

    def add(self, region: Region) -> Region:
        """Nothing has to be made accessible."""
        return region

    def remove(self, region: Region) -> None:
        """Nothing becomes inaccessible."""


class Bridge:
    """Makes native functions of helpers; keeps them, and the first error one of them raised."""

    def __init__(self) -> None:
        self.memory = ProcessMemory()
        self.packet: bytes | memoryview = b""
        self._error: Exception | None = None
        self._functions: list[object] = []

    def native(self, helper: Helper) -> int:
        """The address of a native function that calls the helper."""
        # Of a machine, helpers use its memory and its packet: the bridge has both.
        machine = cast("Machine", self)

        def call(*arguments: int) -> int:
            if self._error is not None:
                return 0  # the program goes on to its end, but does nothing more outside of itself
            try:
                outcome = helper(machine, *arguments)
                while isinstance(outcome, Callback):
                    function = _C_FUNCTION(outcome.function)
                    given = [*outcome.arguments, 0, 0, 0, 0, 0][:5]
                    outcome = outcome.resume(function(*given))
                if isinstance(outcome, TailCall):
                    raise ProgramFaultError("a tail call's program has no native code")
                return 0 if outcome is None else outcome
            except Exception as error:
                # Native code is between here and who can take it.
                self._error = error
                return 0

        function = _C_FUNCTION(cast("Callable[..., int]", call))
        self._functions.append(function)
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None, "callbacks have addresses"
        return address

    def check(self) -> None:
        """Raise what a helper raised during a run."""
        error, self._error = self._error, None
        if error is not None:
            raise error
