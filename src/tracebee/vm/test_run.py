"""Test runs in user space, as the kernel's ``BPF_PROG_TEST_RUN`` makes them: packet and context in and out.

XDP and socket buffer programs see their packet as the kernel shows it to each type, find the same numbers in
their context, and have the same input refused. Other types get their context as it is.
Source: Linux ``net/bpf/test_run.c``; ``struct __sk_buff`` and ``struct xdp_md`` of ``uapi/linux/bpf.h``.
"""

from __future__ import annotations

import errno
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from tracebee import uapi
from tracebee.errors import KernelError, UnsupportedError
from tracebee.kernel.program import TestRun
from tracebee.vm.context import Context, low_buffer
from tracebee.vm.memory import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.vm.memory import Memory

_ETH_HLEN = 14
_PACKET_HOST, _PACKET_MULTICAST, _PACKET_OTHERHOST = 0, 2, 3
_ETH_P_IP, _ETH_P_IPV6, _ETH_P_802_3, _ETH_P_802_2, _ETH_P_802_3_MIN = 0x0800, 0x86DD, 1, 4, 0x600
_AF_INET, _AF_INET6 = 2, 10
_LOOPBACK = 1  # the number of every namespace's loopback device
_GSO_MAX, _GSO_MAX_SEGS = 65536, 65535
_IP_HEADERS = {_ETH_P_IP: 20, _ETH_P_IPV6: 40}

# struct xdp_md and struct __sk_buff: offsets of what is read and written here, and their sizes.
_XDP_DATA, _XDP_DATA_END, _XDP_DATA_META, _XDP_INGRESS, _XDP_QUEUE, _XDP_SIZE = 0, 4, 8, 12, 16, 24
_LEN, _PKT_TYPE, _PROTOCOL, _INGRESS, _IFINDEX, _CB = 0, 4, 16, 36, 40, 48
_DATA, _DATA_END, _FAMILY, _REMOTE_IP4, _LOCAL_IP4, _DATA_META = 76, 80, 88, 92, 96, 140
_REMOTE_IP6, _LOCAL_IP6, _WIRE_LEN, _GSO_SEGS, _SKB_SIZE = 100, 116, 160, 164, 192
# Fields of struct __sk_buff that come from the given context and go back to it: offset and size.
_KEPT = ((8, 4), (32, 4), (36, 4), (40, 4), (48, 20), (152, 8), (160, 4), (164, 4), (184, 8))
# One that may be given besides: gso_size, of which the kernel takes 16 bits.
_GSO_SIZE = (176, 4)

_SOCKET_BUFFERS = frozenset(
    (
        uapi.BPF_PROG_TYPE_SOCKET_FILTER,
        uapi.BPF_PROG_TYPE_SCHED_CLS,
        uapi.BPF_PROG_TYPE_SCHED_ACT,
        uapi.BPF_PROG_TYPE_CGROUP_SKB,
        uapi.BPF_PROG_TYPE_LWT_IN,
        uapi.BPF_PROG_TYPE_LWT_OUT,
        uapi.BPF_PROG_TYPE_LWT_XMIT,
        uapi.BPF_PROG_TYPE_LWT_SEG6LOCAL,
    )
)
# Those that see the link layer's header.
_WITH_HEADER = frozenset((uapi.BPF_PROG_TYPE_SCHED_CLS, uapi.BPF_PROG_TYPE_SCHED_ACT))


class Prepared(NamedTuple):
    """A run made ready: the context, and the packet as legacy loads read it.

    ``finish`` gives the packet and the context as the caller of a test run gets them.
    """

    context: Context
    packet: memoryview
    finish: Callable[[], tuple[bytes, bytes]]


def prepare(memory: Memory, program_type: int, data: bytes, ctx: bytes, *, ctx_out: bool) -> Prepared:
    """Make the input of a test run accessible to a program of some type.

    :param ctx_out: whether the context is wanted back, which for some types asks for one to be given.
    :raises KernelError: EINVAL or E2BIG, where the kernel refuses the input so.
    :raises UnsupportedError: the input asks for a device of the machine.
    """
    if program_type == uapi.BPF_PROG_TYPE_XDP:
        return _prepare_xdp(memory, data, ctx, given=bool(ctx) or ctx_out)
    if program_type in _SOCKET_BUFFERS:
        return _prepare_buffer(memory, program_type, data, ctx, has_ctx=bool(ctx) or ctx_out)
    if program_type == uapi.BPF_PROG_TYPE_RAW_TRACEPOINT and (data or ctx_out):
        raise _refused(errno.EINVAL, "raw tracepoints have no packet, and give nothing back")
    if data:
        raise UnsupportedError(
            "programs of this type get no packet here", hint="'tracebee prog run' asks the kernel"
        )
    region = memory.add(Region("context", bytearray(ctx))) if ctx else None
    return Prepared(Context(region), memoryview(b""), lambda: (b"", bytes(region.view) if region else b""))


def timed(run: Callable[[], int], prepared: Prepared, repeat: int, data_out: int, ctx_out: int) -> TestRun:
    """Run a program some times on the same input; see ``kernel.program.Program.test_run``.

    :raises KernelError: ENOSPC: what is left does not fit where it should go.
    """
    value, start = 0, time.perf_counter_ns()
    for _ in range(max(1, repeat)):
        value = run()
    spent = time.perf_counter_ns() - start
    data, ctx = prepared.finish()
    for given, size in ((data, data_out), (ctx, ctx_out)):
        if 0 < size < len(given):
            raise _refused(errno.ENOSPC, "the output does not fit the buffer given for it")
    return TestRun(
        value & 0xFFFFFFFF, spent // max(1, repeat), data if data_out else b"", ctx if ctx_out else b""
    )


def _prepare_xdp(memory: Memory, data: bytes, ctx: bytes, *, given: bool) -> Prepared:
    fields = _fitted(ctx, _XDP_SIZE)
    meta, end, before, device, queue, _ = struct.unpack("=6I", fields)
    if given and (before or end != len(data) or meta % 4 or meta > min(len(data), 255)):
        raise _refused(
            errno.EINVAL, "in the context, data is the length of the metadata, data_end that of the packet"
        )
    if len(data) - meta < _ETH_HLEN:
        raise _refused(errno.EINVAL, f"a packet has at least {_ETH_HLEN} bytes")
    if queue and not device:
        raise _refused(errno.EINVAL, "a receive queue is one of a device")
    if device:
        raise UnsupportedError("a context with a device needs one", hint="leave ingress_ifindex 0")
    packet = memory.add(Region("packet", _low_copy(data)))
    places = struct.pack("=3I", packet.base + meta, packet.base + len(data), packet.base)
    region = Region("context", bytearray(places + struct.pack("=3I", _LOOPBACK, 0, 0)))
    memory.add(region)

    def finish() -> tuple[bytes, bytes]:
        return bytes(packet.view), struct.pack("=2I", meta, len(data)) + fields[8:] if given else b""

    return Prepared(Context(region, packet), packet.view[meta:], finish)


def _prepare_buffer(memory: Memory, program_type: int, data: bytes, ctx: bytes, *, has_ctx: bool) -> Prepared:
    if len(data) < _ETH_HLEN:
        raise _refused(errno.EINVAL, f"a packet has at least {_ETH_HLEN} bytes")
    given = _fitted(ctx, _SKB_SIZE)
    _check_given(given)
    # A program without the link layer's header sees what is behind it.
    skipped = 0 if program_type in _WITH_HEADER else _ETH_HLEN
    packet = memory.add(Region("packet", _low_copy(data[skipped:])))
    length = len(data) - skipped
    fields = bytearray(_SKB_SIZE)
    for at, size in (*_KEPT, _GSO_SIZE):
        fields[at : at + size] = given[at : at + size]
    fields[178:180] = bytes(2)
    wire = int.from_bytes(given[_WIRE_LEN : _WIRE_LEN + 4], "little")
    if wire and not length <= wire <= _GSO_MAX:
        raise _refused(errno.EINVAL, "wire_len is less than the packet's length")
    protocol = _protocol(data)
    if len(data) - _ETH_HLEN < _IP_HEADERS.get(protocol, 0):
        raise _refused(errno.EINVAL, "the packet is shorter than its protocol's header")  # since Linux 6.18
    for at, number in (
        (_LEN, length),
        (_PKT_TYPE, _packet_type(data)),
        (_PROTOCOL, int.from_bytes(protocol.to_bytes(2, "big"), "little")),
        (_IFINDEX, _LOOPBACK),
        (_DATA, packet.base),
        (_DATA_END, packet.base + length),
        (_DATA_META, packet.base),
        (_WIRE_LEN, wire or (length if has_ctx else 0)),  # only a context sets it
    ):
        struct.pack_into("=I", fields, at, number)
    _addresses(fields, protocol, data[_ETH_HLEN:])
    region = memory.add(Region("context", fields))

    def finish() -> tuple[bytes, bytes]:
        left = bytearray(given)
        for at, size in _KEPT:
            left[at : at + size] = region.view[at : at + size]
        return bytes(skipped) + bytes(packet.view[:length]), bytes(left)

    return Prepared(Context(region, packet), packet.view[:length], finish)


def _check_given(given: bytes) -> None:
    """Refuse a context with fields that cannot be set."""
    rest = bytearray(given)
    for at, size in (*_KEPT, _GSO_SIZE):
        rest[at : at + size] = bytes(size)
    if any(rest):
        raise _refused(errno.EINVAL, "the context has values in fields that cannot be given")
    if int.from_bytes(given[_IFINDEX : _IFINDEX + 4], "little") > _LOOPBACK:
        raise UnsupportedError("a context with a device needs one", hint="leave ifindex 0")
    if int.from_bytes(given[_GSO_SEGS : _GSO_SEGS + 4], "little") > _GSO_MAX_SEGS:
        raise _refused(errno.EINVAL, f"gso_segs is at most {_GSO_MAX_SEGS}")


def _packet_type(data: bytes) -> int:
    """To whom a packet goes, for the loopback device: its address and that of its broadcasts are zero."""
    if not any(data[:6]):
        return _PACKET_HOST
    return _PACKET_MULTICAST if data[0] & 1 else _PACKET_OTHERHOST


def _protocol(data: bytes) -> int:
    """The EtherType, or what the kernel takes a length in its place for."""
    number = int.from_bytes(data[12:14], "big")
    if number >= _ETH_P_802_3_MIN:
        return number
    return _ETH_P_802_3 if data[14:16] == b"\xff\xff" else _ETH_P_802_2


def _addresses(fields: bytearray, protocol: int, data: bytes) -> None:
    """The socket's family and addresses, which the kernel takes from the packet."""
    if protocol == _ETH_P_IP:
        struct.pack_into("=I", fields, _FAMILY, _AF_INET)
        fields[_LOCAL_IP4 : _LOCAL_IP4 + 4] = data[12:16]
        fields[_REMOTE_IP4 : _REMOTE_IP4 + 4] = data[16:20]
    elif protocol == _ETH_P_IPV6:
        struct.pack_into("=I", fields, _FAMILY, _AF_INET6)
        fields[_LOCAL_IP6 : _LOCAL_IP6 + 16] = data[8:24]
        fields[_REMOTE_IP6 : _REMOTE_IP6 + 16] = data[24:40]


def _low_copy(data: bytes) -> object:
    """The packet where 32 bits can address it."""
    buffer = low_buffer(max(len(data), 1))
    memoryview(buffer).cast("B")[: len(data)] = data
    return buffer


def _fitted(ctx: bytes, size: int) -> bytes:
    """A context as long as the structure it is: what is behind that must be zero."""
    if any(ctx[size:]):
        raise _refused(errno.E2BIG, "the context has more fields than there are")
    return ctx[:size].ljust(size, b"\0")


def _refused(number: int, why: str) -> KernelError:
    name = errno.errorcode[number]
    return KernelError("test run", number, f"the test run's input or output is wrong: {why} ({name})")
