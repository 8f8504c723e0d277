"""Shared memory of one map: words in it, and locks that outlive their owner."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
import time

from tracebee.vm.atomics import add64, compare_exchange32, compare_exchange64
from tracebee.vm.memory import address_of

_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_SPINS = 100

# How often a reader that takes no lock tries again before it takes one after all.
PATIENCE = 200


class SharedMemory:
    """Memory of a memfd, mapped shared: children that are forked see it, and others through the descriptor.

    :param size: bytes to create.
    :param fd: an existing memfd to map instead, which this object then owns.
    """

    __slots__ = ("_map", "address", "fd", "size", "view")

    def __init__(self, size: int, name: str = "bpf-map", fd: int | None = None) -> None:
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC) if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, size)
        self.size = size
        self._map = mmap.mmap(self.fd, size)
        self.view = memoryview(self._map)
        self.address = address_of(self._map)

    def close(self) -> None:
        """Close the descriptor. The memory goes when nobody refers to it any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def u32(self, offset: int) -> int:
        """The 32-bit word at an offset."""
        value: int = _U32.unpack_from(self.view, offset)[0]
        return value

    def u64(self, offset: int) -> int:
        """The 64-bit word at an offset."""
        value: int = _U64.unpack_from(self.view, offset)[0]
        return value

    def set_u32(self, offset: int, value: int) -> None:
        """Store a 32-bit word: one store of the processor's, as the offset is aligned."""
        ctypes.c_uint32.from_address(self.address + offset).value = value

    def set_u64(self, offset: int, value: int) -> None:
        """Store a 64-bit word in one."""
        ctypes.c_uint64.from_address(self.address + offset).value = value

    def add(self, offset: int, amount: int) -> int:
        """Add to a 64-bit word atomically; gives the old value."""
        return add64(self.address + offset, amount & 0xFFFFFFFFFFFFFFFF)

    def exchange32(self, offset: int, expected: int, new: int) -> bool:
        """Replace a 32-bit word if it holds ``expected``."""
        return compare_exchange32(self.address + offset, expected, new) == expected

    def exchange64(self, offset: int, expected: int, new: int) -> bool:
        """Replace a 64-bit word if it holds ``expected``."""
        return compare_exchange64(self.address + offset, expected, new) == expected


def _lives(thread: int) -> bool:
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Lock:
    """A lock word and the sequence word behind it, as a context manager.

    The sequence is odd while the lock is held by someone who changes what it guards. Readers that take
    no lock compare it before and after.
    """

    __slots__ = ("_memory", "_offset")

    def __init__(self, memory: SharedMemory, offset: int) -> None:
        self._memory = memory
        self._offset = offset

    def __enter__(self) -> Lock:
        memory, offset, me = self._memory, self._offset, threading.get_native_id()
        spins = 0
        while not memory.exchange32(offset, 0, me):
            owner = memory.u32(offset)
            spins += 1
            if owner and spins % _SPINS == 0:
                if not _lives(owner) and memory.exchange32(offset, owner, me):
                    break
                time.sleep(0.0001)
        sequence = memory.u32(offset + 4)
        # After taking over from the dead the sequence may be odd already.
        memory.set_u32(offset + 4, (sequence | 1) & 0xFFFFFFFF)
        return self

    def __exit__(self, *_: object) -> None:
        memory, offset = self._memory, self._offset
        memory.set_u32(offset + 4, memory.u32(offset + 4) + 1 & 0xFFFFFFFF)
        memory.set_u32(offset, 0)
