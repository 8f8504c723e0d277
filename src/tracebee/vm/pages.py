"""Pages of memory by address: what mmap(2) can do and Python's ``mmap`` cannot."""

from __future__ import annotations

import ctypes
import mmap
import os

_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def map_pages(size: int, flags: int, *, at: int = 0, fd: int = -1, offset: int = 0) -> int:
    """Map pages to read and write.

    :param flags: ``MAP_...`` of mmap(2).
    :param at: where, as ``flags`` say; 0 leaves it to the kernel.
    :returns: their address.
    :raises OSError: the kernel refuses.
    """
    address: int | None = _libc.mmap(at, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    if address is None or address == _FAILED:
        raise _error()
    return address


def unmap(address: int, size: int) -> None:
    """Give pages back."""
    _libc.munmap(address, size)


def map_code(code: bytes) -> int:
    """Map machine code: written while it may be written, run once it may not (W^X).

    :returns: its address; ``unmap`` gives it back.
    :raises PermissionError: a security policy forbids it; OSError: no memory.
    """
    size = max(len(code), 1)
    address = map_pages(size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ctypes.memmove(address, code, len(code))
    if _libc.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        error = _error()
        unmap(address, size)
        raise error
    _synchronise(address, size)
    return address


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _synchronise(address: int, size: int) -> None:
    """Make the instruction cache see what was written, where it does not by itself (arm64)."""
    if os.uname().machine == "x86_64":
        return
    try:
        clear = ctypes.CDLL("libgcc_s.so.1")["__clear_cache"]
    except (OSError, AttributeError):
        return
    clear.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    clear.restype = None
    clear(address, address + size)
