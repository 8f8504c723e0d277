"""What is attached somewhere: to a control group, a network namespace or device (``BPF_PROG_QUERY``)."""

from __future__ import annotations

import errno
import struct

from tracebee import uapi
from tracebee.errors import KernelError
from tracebee.kernel.attr import QUERY
from tracebee.kernel.bpf import bpf
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple

_LIMIT = 64  # programs asked for at first


class Attached(NamedTuple):
    """A program attached: its id and flags (BPF_F_ALLOW_MULTI and so on), its link's id and flags, or 0."""

    prog_id: int
    flags: int
    link_id: int
    link_flags: int


def attached(target: int, attach_type: int, *, effective: bool = False, what: str = "") -> list[Attached]:
    """The programs attached to something by an attach type, in the order in which they run.

    :param target: a control group's or namespace's descriptor, or a network device's number.
    :param effective: of a control group: also what it has from those above it. Flags are 0 then.
    :param what: the target, as an error should name it.
    :raises KernelError: the kernel does not have the attach type, or cannot be asked about it.
    """
    limit = _LIMIT
    while True:
        ids, flags, links, link_flags = (bytearray(4 * limit) for _ in range(4))
        attr = QUERY.pack(
            target_fd=target,
            attach_type=attach_type,
            query_flags=uapi.BPF_F_QUERY_EFFECTIVE if effective else 0,
            prog_ids=address(ids),
            prog_cnt=limit,
        )
        if not effective:
            QUERY.set(attr, prog_attach_flags=address(flags))
        if attach_type in _ON_DEVICES:
            QUERY.set(attr, link_ids=address(links), link_attach_flags=address(link_flags))
        try:
            bpf(uapi.BPF_PROG_QUERY, attr, what)
            break
        except KernelError as error:
            if error.errno != errno.ENOSPC:
                raise
            limit = max(2 * limit, QUERY.get(attr, "prog_cnt"))
    count = QUERY.get(attr, "prog_cnt")
    rows = [struct.unpack_from(f"={count}I", array) for array in (ids, flags, links, link_flags)]
    common = QUERY.get(attr, "attach_flags")
    return [Attached(number, own or common, *link) for number, own, *link in zip(*rows, strict=True)]


_ON_DEVICES = frozenset(
    (uapi.BPF_TCX_INGRESS, uapi.BPF_TCX_EGRESS, uapi.BPF_NETKIT_PRIMARY, uapi.BPF_NETKIT_PEER)
)
