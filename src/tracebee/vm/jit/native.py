"""Machine code in memory: written while it may be written, run once it may not (W^X)."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

from tracebee.errors import PrivilegeError
from tracebee.vm.jit.compiler import NativeCode, machine_for

if TYPE_CHECKING:
    from collections.abc import Callable

_READ, _WRITE, _EXECUTE = 1, 2, 4
_PRIVATE, _ANONYMOUS = 2, 0x20
_FAILED = (1 << 64) - 1


class ExecutableMemory:
    """Pages that hold code until they are closed."""

    def __init__(self, code: bytes) -> None:
        libc = _libc()
        self._size = max(len(code), 1)
        address = libc.mmap(None, self._size, _READ | _WRITE, _PRIVATE | _ANONYMOUS, -1, 0)
        if address == _FAILED:
            raise MemoryError(f"no memory for {self._size} bytes of machine code")
        ctypes.memmove(address, code, len(code))
        if libc.mprotect(address, self._size, _READ | _EXECUTE):
            libc.munmap(address, self._size)
            raise PrivilegeError(
                "this process may not make memory executable",
                hint="a security policy (SELinux, seccomp) forbids it; the interpreter does without",
            )
        _synchronise(address, self._size)
        self.address: int = address

    def close(self) -> None:
        """Give the pages back. Nothing may run in them."""
        if self.address:
            _libc().munmap(self.address, self._size)
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
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_uint64
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


@functools.cache
def _invoker(architecture: str) -> Callable[[int, int, int, int, int, int], int]:
    memory = ExecutableMemory(machine_for(architecture).invoker())
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 6)
    function = prototype(memory.address)
    function.memory = memory  # type: ignore[attr-defined] # the code lives as long as the function
    return function


def _synchronise(address: int, size: int) -> None:
    """Make the instruction cache see what was written, where it does not by itself (arm64)."""
    try:
        clear = ctypes.CDLL("libgcc_s.so.1")["__clear_cache"]
    except (OSError, AttributeError):
        return
    clear.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    clear.restype = None
    clear(address, address + size)
