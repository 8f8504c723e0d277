"""Capture files in pcap's classic format.

Source: draft-ietf-opsawg-pcap, "PCAP Capture File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracebee.errors import DecodeError

LINKTYPE_ETHERNET = 1

# Magic number: the order of the file's numbers, and nanoseconds in a unit of the fraction.
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}


class Packet(NamedTuple):
    """One captured packet: nanoseconds since 1970, the bytes captured, and its length on the wire."""

    time: int
    data: bytes
    length: int


def read_capture(data: bytes) -> Iterator[Packet]:
    """The packets of a capture file.

    :raises DecodeError: it is no pcap file (pcapng is another format), or is cut short.
    """
    known = _MAGIC.get(data[:4])
    if known is None or len(data) < 24:
        raise DecodeError("this is no pcap file", hint="tcpdump -r FILE -w NEW converts other formats")
    order, unit = known
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            raise DecodeError(f"the capture is cut short at byte {at}")
        seconds, fraction, captured, length = struct.unpack_from(order + "4I", data, at)
        at += 16
        if at + captured > len(data):
            raise DecodeError(f"the capture is cut short at byte {len(data)}")
        yield Packet(seconds * 10**9 + fraction * unit, data[at : at + captured], length)
        at += captured


def write_capture(packets: Iterable[Packet], linktype: int = LINKTYPE_ETHERNET) -> bytes:
    """A capture file of packets, with nanoseconds, in little-endian order."""
    out = [struct.pack("<4sHHiIII", b"\x4d\x3c\xb2\xa1", 2, 4, 0, 0, 262144, linktype)]
    for packet in packets:
        seconds, fraction = divmod(packet.time, 10**9)
        out.append(struct.pack("<4I", seconds, fraction, len(packet.data), packet.length) + packet.data)
    return b"".join(out)
