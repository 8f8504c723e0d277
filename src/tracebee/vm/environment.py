"""What helpers tell a program of the world: whose process this is, the time, other memory.

This one speaks of the process that runs the VM. An engine that runs programs on behalf of another process
derives from it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
import time
from collections.abc import Sequence


class Environment:
    """The process the VM runs in."""

    def __init__(self) -> None:
        self.output: list[str] = []  # what bpf_trace_printk wrote
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.process_vm_readv.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_ulong,
            ctypes.c_void_p,
            ctypes.c_ulong,
            ctypes.c_ulong,
        ]
        self._libc.process_vm_readv.restype = ctypes.c_ssize_t

    def pid_tgid(self) -> int:
        """Process id in the high half, thread id in the low."""
        return os.getpid() << 32 | threading.get_native_id()

    def uid_gid(self) -> int:
        """Group id in the high half, user id in the low."""
        return os.getgid() << 32 | os.getuid()

    def comm(self) -> bytes:
        """The thread's name, 15 bytes at most."""
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "rb") as file:
            return file.read().rstrip(b"\n")[:15]

    def cpu(self) -> int:
        """The number of the CPU, whose slot per-CPU maps use."""
        return int(self._libc.sched_getcpu())

    def clock(self, clock: int) -> int:
        """Nanoseconds of a clock of clock_gettime(2)."""
        return time.clock_gettime_ns(clock)

    def random(self) -> int:
        """32 random bits."""
        return int.from_bytes(os.urandom(4), sys.byteorder)

    def printk(self, text: str) -> None:
        """Take a line of bpf_trace_printk."""
        self.output.append(text)

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of the process's memory, None when one of them cannot be read."""
        buffer = ctypes.create_string_buffer(size)
        local = struct.pack("=QQ", ctypes.addressof(buffer), size)
        remote = struct.pack("=QQ", address & 0xFFFFFFFFFFFFFFFF, size)
        got = self._libc.process_vm_readv(self.process(), local, 1, remote, 1, 0)
        return buffer.raw if got == size else None

    def process(self) -> int:
        """The process whose memory ``read`` reads."""
        return os.getpid()

    def read_string(self, address: int, size: int) -> bytes | None:
        """A string of at most ``size`` bytes with its NUL, cut (and closed by a NUL) where it is longer."""
        found = b""
        while len(found) < size:
            # Up to the end of the page at a time: the next one may not be there.
            step = min(4096 - (address + len(found)) % 4096, size - len(found))
            piece = self.read(address + len(found), step)
            if piece is None:
                return None
            end = piece.find(b"\0")
            if end >= 0:
                return found + piece[: end + 1]
            found += piece
        return found[:-1] + b"\0"

    def frames(self, user: bool) -> Sequence[int]:  # noqa: ARG002 (for those that have stacks)
        """Return addresses of the stack, innermost first; there is none here."""
        return ()
