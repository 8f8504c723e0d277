"""Contexts: what r1 points at when a program starts, by program type.

One row per field of the types whose context is a table of fields; the others are ranges. Offsets and
sizes are those of the kernel's user-visible structures, which a test compares with its BTF.
Source: the ``*_is_valid_access`` functions of the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

from tracebee import uapi
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import PACKET, PACKET_END, PACKET_META, SCALAR, SOCK


class Field(NamedTuple):
    """A field: ``narrow`` whether parts of it may be read, ``kind`` what a read gives."""

    name: str
    offset: int
    size: int
    narrow: bool = True
    kind: str = SCALAR


# struct __sk_buff
SK_BUFF = (
    Field("len", 0, 4),
    Field("pkt_type", 4, 4),
    Field("mark", 8, 4),
    Field("queue_mapping", 12, 4),
    Field("protocol", 16, 4),
    Field("vlan_present", 20, 4),
    Field("vlan_tci", 24, 4),
    Field("vlan_proto", 28, 4),
    Field("priority", 32, 4),
    Field("ingress_ifindex", 36, 4),
    Field("ifindex", 40, 4),
    Field("tc_index", 44, 4),
    Field("cb", 48, 20),
    Field("hash", 68, 4),
    Field("tc_classid", 72, 4),
    Field("data", 76, 4, narrow=False, kind=PACKET),
    Field("data_end", 80, 4, narrow=False, kind=PACKET_END),
    Field("napi_id", 84, 4),
    Field("family", 88, 4),
    Field("remote_ip4", 92, 4, narrow=False),
    Field("local_ip4", 96, 4, narrow=False),
    Field("remote_ip6", 100, 16, narrow=False),
    Field("local_ip6", 116, 16, narrow=False),
    Field("remote_port", 132, 4),
    Field("local_port", 136, 4),
    Field("data_meta", 140, 4, narrow=False, kind=PACKET_META),
    Field("tstamp", 152, 8, narrow=False),
    Field("wire_len", 160, 4),
    Field("gso_segs", 164, 4),
    Field("sk", 168, 8, narrow=False, kind=SOCK),
    Field("gso_size", 176, 4),
    Field("tstamp_type", 180, 1),
    Field("hwtstamp", 184, 8, narrow=False),
)
# struct xdp_md
XDP_MD = (
    Field("data", 0, 4, narrow=False, kind=PACKET),
    Field("data_end", 4, 4, narrow=False, kind=PACKET_END),
    Field("data_meta", 8, 4, narrow=False, kind=PACKET_META),
    Field("ingress_ifindex", 12, 4, narrow=False),
    Field("rx_queue_index", 16, 4, narrow=False),
)


# Fields of the socket, which only programs of a cgroup see.
_SOCKET = frozenset(
    ("family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6", "remote_port", "local_port")
)
_CLS_WRITABLE = frozenset(("mark", "tc_index", "priority", "tc_classid", "cb", "tstamp", "queue_mapping"))


class Context(NamedTuple):
    """How a program type's context may be read and written.

    :param size: bytes.
    :param fields: its fields; none for a plain range of bytes.
    :param hidden: fields the type may not touch, :param writable: those it may write.
    :param word: whether a plain range is read in whole 8-byte words, except ``narrow`` ones at its end.
    :param packet: whether it may write to packets, None when it has none.
    """

    size: int
    fields: tuple[Field, ...] = ()
    hidden: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()
    word: bool = False
    start: int = 0
    packet: bool | None = None
    load_bytes: bool = False  # the packet load instructions


_PT_REGS = {"x86_64": 168, "aarch64": 272}


def contexts(machine: str = "x86_64") -> dict[int, Context]:
    """Contexts by program type."""
    registers = _PT_REGS.get(machine, 168)
    return {
        uapi.BPF_PROG_TYPE_KPROBE: Context(registers),
        uapi.BPF_PROG_TYPE_TRACEPOINT: Context(8192, start=8),
        uapi.BPF_PROG_TYPE_RAW_TRACEPOINT: Context(96),
        uapi.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE: Context(96),
        uapi.BPF_PROG_TYPE_TRACING: Context(96, word=True),
        uapi.BPF_PROG_TYPE_PERF_EVENT: Context(
            registers + 16,
            (Field("sample_period", registers, 8), Field("addr", registers + 8, 8)),
            word=True,
        ),
        uapi.BPF_PROG_TYPE_SOCKET_FILTER: Context(
            192,
            SK_BUFF,
            hidden=frozenset(
                ("tc_classid", "data", "data_meta", "data_end", "tstamp", "wire_len", "hwtstamp")
            )
            | _SOCKET,
            writable=frozenset(("cb",)),
            load_bytes=True,
        ),
        uapi.BPF_PROG_TYPE_SCHED_CLS: Context(
            192,
            SK_BUFF,
            writable=_CLS_WRITABLE,
            hidden=_SOCKET,
            packet=True,
            load_bytes=True,
        ),
        uapi.BPF_PROG_TYPE_SCHED_ACT: Context(
            192,
            SK_BUFF,
            writable=_CLS_WRITABLE,
            hidden=_SOCKET,
            packet=True,
            load_bytes=True,
        ),
        uapi.BPF_PROG_TYPE_CGROUP_SKB: Context(
            192,
            SK_BUFF,
            hidden=frozenset(("tc_classid", "data_meta", "wire_len")),
            writable=frozenset(("mark", "priority", "cb", "tstamp")),
            packet=False,
        ),
        uapi.BPF_PROG_TYPE_XDP: Context(24, XDP_MD, packet=True),
    }


def access(context: Context, offset: int, size: int, *, write: bool) -> str:
    """Check an access of the context; returns the kind of what a read gives.

    :raises RefusalError: the program type may not do that.
    """
    wrong = RefusalError(
        f"invalid bpf_context access off={offset} size={size}",
        hint=f"its context has {context.size} bytes" if not context.fields else "",
    )
    if offset < context.start or offset >= context.size or offset % size:
        raise wrong
    field = next((f for f in context.fields if f.offset <= offset < f.offset + f.size), None)
    if field is None:
        if write or (context.fields and not context.word) or offset + size > context.size:
            raise wrong
        if context.word and size != 8:
            raise wrong
        return SCALAR
    if field.name in context.hidden or offset + size > field.offset + field.size:
        raise wrong
    if write:
        if field.name not in context.writable:
            raise wrong
        if field.name != "cb" and size != field.size:
            raise wrong
        return SCALAR
    part = size != field.size and field.name != "cb"
    if field.name in ("remote_ip6", "local_ip6"):
        part = size != 4
    if part and (not field.narrow or size > field.size):
        raise wrong
    return field.kind
