"""The memory a program may touch: regions at real addresses of this process, with bounds and permissions.

Addresses are those of the process, so that machine code, native helpers and other processes can share
what a region holds. A region is one buffer; its elements (the values of a map) may have gaps between them
that belong to nobody. A region of a stack frame also knows which of its bytes were written.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from bisect import bisect_right, insort

from tracebee.errors import ProgramFaultError

_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SCALARS = {
    size: struct.Struct(("<" if sys.byteorder == "little" else ">") + f) for size, f in _FORMATS.items()
}


def address_of(buffer: object, offset: int = 0) -> int:
    """The address of a writable buffer's byte; the buffer must stay alive and must not be resized."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer, offset))  # type: ignore[arg-type]


class Region:
    """A buffer a program may access.

    :param name: what errors call it: ``stack frame 0``, ``value of map counts``.
    :param stride: distance between elements, 0 when the region is one element.
    :param extent: accessible bytes of each element.
    :param track: whether reading bytes that nobody wrote is a fault.
    """

    __slots__ = ("base", "end", "extent", "initialised", "name", "pin", "stride", "view", "writable")

    def __init__(
        self,
        name: str,
        buffer: object,
        *,
        writable: bool = True,
        stride: int = 0,
        extent: int = 0,
        track: bool = False,
    ) -> None:
        self.name = name
        self.pin = buffer
        self.view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self.base = address_of(buffer)
        self.end = self.base + len(self.view)
        self.writable = writable
        self.stride = stride
        self.extent = extent or len(self.view)
        self.initialised = bytearray(len(self.view)) if track else None

    def __lt__(self, other: Region) -> bool:
        return self.base < other.base

    def written(self, start: int, size: int) -> None:
        """Note that bytes were written by someone else than a program's store (``start`` from the base)."""
        if self.initialised is not None:
            self.initialised[start : start + size] = b"\1" * size

    def forget(self) -> None:
        """Make every byte unwritten again, as a new stack frame's are."""
        if self.initialised is not None:
            self.initialised[:] = bytes(len(self.initialised))


class Memory:
    """All regions a program may access, found by address."""

    __slots__ = ("_bases", "_last", "_regions")

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self._bases: list[int] = []
        self._last: Region | None = None

    def add(self, region: Region) -> Region:
        """Make a region accessible. Regions may not overlap."""
        insort(self._regions, region)
        insort(self._bases, region.base)
        return region

    def remove(self, region: Region) -> None:
        """Make a region inaccessible again."""
        at = self._regions.index(region)
        del self._regions[at], self._bases[at]
        self._last = None

    def find(self, address: int, size: int, *, write: bool = False) -> tuple[Region, int]:
        """The region that holds ``size`` bytes at an address, and where in it they start.

        :raises ProgramFaultError: no region holds all of them, or it is read-only.
        """
        region = self._last
        if region is None or not region.base <= address < region.end:
            at = bisect_right(self._bases, address) - 1
            region = self._regions[at] if at >= 0 else None
            if region is None or address >= region.end:
                raise ProgramFaultError(self._nowhere(address, size, write=write), address=address)
            self._last = region
        start = address - region.base
        inside = start % region.stride if region.stride else start
        if inside + size > region.extent:
            raise ProgramFaultError(
                f"{'write' if write else 'read'} of {size} bytes at offset {inside} of {region.name}, "
                f"which has {region.extent} bytes",
                address=address,
            )
        if write and not region.writable:
            raise ProgramFaultError(f"write to {region.name}, which is read-only", address=address)
        return region, start

    def _nowhere(self, address: int, size: int, *, write: bool) -> str:
        what = f"{'write' if write else 'read'} of {size} bytes at {address:#x}"
        if address < 4096:
            return f"{what}: a null pointer"
        near = min(
            (r for r in self._regions if -4096 < address - r.base < len(r.view) + 4096),
            key=lambda r: max(r.base - address, address - r.end),
            default=None,
        )
        if near is None:
            return f"{what}, which is no memory of the program"
        if address < near.base:
            return f"{what}, {near.base - address} bytes before {near.name}"
        return f"{what}, {address - near.end} bytes after the end of {near.name}"

    def load(self, address: int, size: int) -> int:
        """An unsigned integer of 1, 2, 4 or 8 bytes in the host's order.

        :raises ProgramFaultError: out of bounds, or bytes of the stack that nobody wrote.
        """
        region, start = self.find(address, size)
        if region.initialised is not None:
            self._check_initialised(region, start, size)
        value: int = _SCALARS[size].unpack_from(region.view, start)[0]
        return value

    def store(self, address: int, size: int, value: int) -> None:
        """Write the low bytes of an integer in the host's order.

        :raises ProgramFaultError: out of bounds or read-only.
        """
        region, start = self.find(address, size, write=True)
        _SCALARS[size].pack_into(region.view, start, value & ((1 << 8 * size) - 1))
        if region.initialised is not None:
            region.written(start, size)

    def read(self, address: int, size: int) -> bytes:
        """Bytes as a helper reads them, with the checks of ``load``."""
        if size == 0:
            return b""
        region, start = self.find(address, size)
        if region.initialised is not None:
            self._check_initialised(region, start, size)
        return bytes(region.view[start : start + size])

    def write(self, address: int, data: bytes) -> None:
        """Bytes as a helper writes them, with the checks of ``store``."""
        if not data:
            return
        region, start = self.find(address, len(data), write=True)
        region.view[start : start + len(data)] = data
        region.written(start, len(data))

    def _check_initialised(self, region: Region, start: int, size: int) -> None:
        flags = region.initialised
        if flags is not None and 0 in flags[start : start + size]:
            first = flags.index(0, start)
            raise ProgramFaultError(
                f"read of byte {first - len(flags)} of {region.name}, which nobody wrote",
                address=region.base + first,
            )
