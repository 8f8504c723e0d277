"""Contexts for programs run by hand: what r1 points to, by program type.

Packet programs find the packet's address in 32-bit fields, so their packets lie below 4 GiB.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import weakref
from typing import NamedTuple

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.vm.memory import Memory, Region
from tracebee.vm.pages import map_pages, unmap

_LOW_START, _LOW_END, _LOW_STEP = 0x1000_0000, 0x7000_0000, 0x10_0000
_MAP_FIXED_NOREPLACE = 0x100000

# Byte offsets of the packet's start and end, its length and its EtherType in each context (-1: it has none).
_XDP_MD = (0, 4, -1, -1, 24)
_SK_BUFF = (76, 80, 0, 16, 192)
_LAYOUTS = {
    uapi.BPF_PROG_TYPE_XDP: _XDP_MD,
    uapi.BPF_PROG_TYPE_SOCKET_FILTER: _SK_BUFF,
    uapi.BPF_PROG_TYPE_SCHED_CLS: _SK_BUFF,
    uapi.BPF_PROG_TYPE_SCHED_ACT: _SK_BUFF,
    uapi.BPF_PROG_TYPE_CGROUP_SKB: _SK_BUFF,
}


class Context(NamedTuple):
    """A context made accessible: its region (None for an empty one), and the packet's for packet programs."""

    region: Region | None
    packet: Region | None = None

    @property
    def address(self) -> int:
        """What goes to r1."""
        return self.region.base if self.region else 0


def low_buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    """Memory below 4 GiB, unmapped with the last reference to it.

    :raises UnsupportedError: there is no room there.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    for hint in range(_LOW_START, _LOW_END, _LOW_STEP):
        try:
            address = map_pages(size, flags, at=hint)
        except OSError:
            continue
        # Kernels before 4.17 take the flag for a wish.
        if address == hint:
            buffer = (ctypes.c_char * size).from_address(address)
            weakref.finalize(buffer, unmap, address, size)
            return buffer
        unmap(address, size)
    raise UnsupportedError("there is no free memory below 4 GiB for a packet")


def make_context(memory: Memory, program_type: int, data: bytes, packet: bytes | None) -> Context:
    """Make a context accessible in a memory.

    :param data: the context's bytes; for packet programs they are filled in by its type.
    :param packet: the packet of a packet program, None for other programs.
    """
    if packet is None or program_type not in _LAYOUTS:
        return Context(memory.add(Region("context", bytearray(data))) if data else None)
    start, end, length, protocol, size = _LAYOUTS[program_type]
    room = low_buffer(max(len(packet), 1))
    region = Region("packet", room)
    region.view[: len(packet)] = packet
    fields = bytearray(data.ljust(size, b"\0"))
    struct.pack_into("=I", fields, start, region.base)
    struct.pack_into("=I", fields, end, region.base + len(packet))
    if length >= 0:
        struct.pack_into("=I", fields, length, len(packet))
        struct.pack_into("=2s", fields, protocol, packet[12:14])
    memory.add(region)
    return Context(memory.add(Region("context", fields)), region)
