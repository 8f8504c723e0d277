"""Machine code that is called: pages that hold it, and programs in them."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

from tracebee.errors import PrivilegeError
from tracebee.vm.jit.compiler import NativeCode, machine_for
from tracebee.vm.pages import map_code, unmap

if TYPE_CHECKING:
    from collections.abc import Callable


class ExecutableMemory:
    """Pages that hold code until they are closed."""

    def __init__(self, code: bytes) -> None:
        self._size = max(len(code), 1)
        try:
            self.address = map_code(code)
        except PermissionError:
            raise PrivilegeError(
                "this process may not make memory executable",
                hint="a security policy (SELinux, seccomp) forbids it; the interpreter does without",
            ) from None

    def close(self) -> None:
        """Give the pages back. Nothing may run in them."""
        if self.address:
            unmap(self.address, self._size)
            self.address = 0

    def __enter__(self) -> ExecutableMemory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class NativeProgram:
    r"""A compiled program ready to be called.

    ::

        with NativeProgram(compile_program(Program(assemble("r0 = 6\n r0 *= 7\n exit")))) as program:
            program.run()       # 42
    """

    def __init__(self, native: NativeCode) -> None:
        self._memory = ExecutableMemory(native.code)
        self._invoke = _invoker(native.architecture)
        self._functions = native.functions
        self.address = self._memory.address

    def run(self, r1: int = 0, r2: int = 0, *, packet: tuple[int, int] = (0, 0), repeat: int = 1) -> int:
        """Call the program, ``repeat`` times in native code, and return r0 of the last call.

        :param packet: address and length of what LD_ABS and LD_IND read.
        """
        return self._invoke(self.address, r1, r2, repeat, *packet)

    def function(self, slot: int) -> int:
        """Address of the function that starts at a slot."""
        return self._memory.address + self._functions[slot]

    def close(self) -> None:
        """Free the code."""
        self._memory.close()
        self.address = 0

    def __enter__(self) -> NativeProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@functools.cache
def _invoker(architecture: str) -> Callable[[int, int, int, int, int, int], int]:
    memory = ExecutableMemory(machine_for(architecture).invoker())
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 6)
    function = prototype(memory.address)
    function.memory = memory  # type: ignore[attr-defined] # the code lives as long as the function
    return function
