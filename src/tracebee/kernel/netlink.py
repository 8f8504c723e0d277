"""Routing netlink, as much of it as BPF takes: network devices, their queues and filters, XDP programs.

Source: Linux ``Documentation/userspace-api/netlink/intro.rst``; rtnetlink(7); ``uapi/linux/rtnetlink.h``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NETLINK_ROUTE = 0
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 1, 4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED = 1 << 15
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NLMSGERR_ATTR_MSG = 270, 10, 11, 1
_RTM_GETLINK, _RTM_SETLINK, _RTM_GETQDISC, _RTM_GETTCLASS, _RTM_GETTFILTER = 18, 19, 38, 42, 46
_IFLA_IFNAME, _IFLA_XDP = 3, 43
_IFLA_XDP_FD, _IFLA_XDP_ATTACHED, _IFLA_XDP_FLAGS, _IFLA_XDP_PROG_ID = 1, 2, 3, 4
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_ACT, _TCA_BPF_NAME, _TCA_BPF_ID = 1, 7, 11
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_ACT_BPF_NAME, _TCA_ACT_BPF_ID = 6, 9

TC_H_ROOT = 0xFFFFFFFF
TC_H_CLSACT_INGRESS, TC_H_CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3

XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
XDP_FLAGS_HW_MODE = 1 << 3

# IFLA_XDP_ATTACHED: one program, in one of these modes; or (4) several, each behind its own attribute.
_MODES = {1: "driver", 2: "generic", 3: "offload"}
_MULTI = {5: "driver", 6: "generic", 7: "offload"}


class Device(NamedTuple):
    """A network device of this namespace, and its XDP programs by mode (driver, generic, offload)."""

    number: int
    name: str
    xdp: Mapping[str, int]


class Queue(NamedTuple):
    """A queueing discipline or class of a device: its handle and kind."""

    handle: int
    kind: str


class Filter(NamedTuple):
    """A BPF filter of traffic control: its name and program's id, and those of its BPF actions."""

    name: str
    prog_id: int
    actions: tuple[tuple[str, int], ...]


def devices() -> list[Device]:
    """The network devices of this namespace, by number."""
    found = []
    for data in _dump(_RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
        (number,) = struct.unpack_from("=i", data, 4)
        fields = _attributes(data[16:])
        found.append(Device(number, _text(fields.get(_IFLA_IFNAME, b"")), _xdp(fields.get(_IFLA_XDP, b""))))
    return sorted(found)


def queues(device: int) -> list[Queue]:
    """The classes and queueing disciplines of a device that filters may hang on."""
    found = []
    for request in (_RTM_GETTCLASS, _RTM_GETQDISC):
        for data in _dump(request, _tcmsg(device, 0)):
            number, handle = struct.unpack_from("=iI", data, 4)
            kind = _text(_attributes(data[20:]).get(_TCA_KIND, b""))
            qdisc = request == _RTM_GETQDISC
            if number == device and not (qdisc and (kind == "clsact" or not handle)):
                found.append(Queue(handle, kind))
    return found


def filters(device: int, parent: int) -> list[Filter]:
    """The BPF filters that hang on a class, a queueing discipline or TC_H_ROOT and so on."""
    found = []
    for data in _dump(_RTM_GETTFILTER, _tcmsg(device, parent)):
        fields = _attributes(data[20:])
        if _text(fields.get(_TCA_KIND, b"")) != "bpf" or _TCA_OPTIONS not in fields:
            continue
        options = _attributes(fields[_TCA_OPTIONS])
        if _TCA_BPF_ID in options:  # each filter is told of twice, the first time without its options
            name = _text(options.get(_TCA_BPF_NAME, b""))
            found.append(Filter(name, _u32(options[_TCA_BPF_ID]), _actions(options.get(_TCA_BPF_ACT, b""))))
    return found


def set_xdp(device: int, program_fd: int, flags: int) -> None:
    """Attach an XDP program to a device without a link, or detach what is there (``program_fd`` -1).

    :param flags: XDP_FLAGS_*.
    :raises KernelError, PrivilegeError: the kernel refuses.
    """
    what = _attribute(_IFLA_XDP_FD, struct.pack("=i", program_fd))
    what += _attribute(_IFLA_XDP_FLAGS, struct.pack("=I", flags))
    body = struct.pack("=BxHiII", 0, 0, device, 0, 0) + _attribute(_IFLA_XDP | _NESTED, what)
    with _open() as link:
        link.send(_message(_RTM_SETLINK, _NLM_F_REQUEST | _NLM_F_ACK, body))
        for _ in _answers(link):
            pass


def _xdp(data: bytes) -> dict[str, int]:
    fields = _attributes(data)
    how = fields.get(_IFLA_XDP_ATTACHED, b"\0")[0]
    if how in _MODES:
        return {_MODES[how]: _u32(fields[_IFLA_XDP_PROG_ID])}
    return {mode: _u32(fields[number]) for number, mode in _MULTI.items() if number in fields}


def _actions(data: bytes) -> tuple[tuple[str, int], ...]:
    found = []
    for action in _attributes(data).values():
        fields = _attributes(action)
        if _text(fields.get(_TCA_ACT_KIND, b"")) == "bpf":
            options = _attributes(fields.get(_TCA_ACT_OPTIONS, b""))
            number = _u32(options.get(_TCA_ACT_BPF_ID, bytes(4)))
            found.append((_text(options.get(_TCA_ACT_BPF_NAME, b"")), number))
    return tuple(found)


def _tcmsg(device: int, parent: int) -> bytes:
    return struct.pack("=BxxxiIII", 0, device, 0, parent, 0)


def _open() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    link.bind((0, 0))
    # Errors with the kernel's own words, and without the request.
    link.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    link.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    return link


def _dump(kind: int, body: bytes) -> Iterator[bytes]:
    """What the kernel answers to a request for all: each message without its header."""
    with _open() as link:
        link.send(_message(kind, _NLM_F_REQUEST | _NLM_F_DUMP, body))
        yield from _answers(link)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _answers(link: socket.socket) -> Iterator[bytes]:
    """Messages up to the last one.

    :raises KernelError, PrivilegeError: the kernel answers with an error.
    """
    while True:
        data = link.recv(1 << 20)
        at = 0
        while at < len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", data, at + 16)
                if number:
                    said = _text(_attributes(data[at + 36 : at + length]).get(_NLMSGERR_ATTR_MSG, b""))
                    raise _refusal(-number, said or os.strerror(-number).lower())
                return
            yield data[at + 16 : at + length]
            at += length + 3 & ~3


def _refusal(number: int, said: str) -> Exception:
    from tracebee.errors import KernelError, PrivilegeError
    from tracebee.kernel.explain import errno_name

    if number in (errno.EPERM, errno.EACCES):
        return PrivilegeError(f"netlink: {said}", hint="run as root, or give it CAP_NET_ADMIN")
    return KernelError("netlink", number, f"netlink: {said} ({errno_name(number)})")


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


def _u32(data: bytes) -> int:
    return int(struct.unpack_from("=I", data)[0])
