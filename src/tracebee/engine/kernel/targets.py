"""Attaching a loaded program to a thing: a control group, a network device or namespace, a map, an event.

What it is attached as follows from its expected attach type, which its section gave it. Everything is a link,
except on kernels that have none for socket maps. Source: ``kernel/bpf/syscall.c`` (link_create).
"""

from __future__ import annotations

import os

from tracebee import uapi
from tracebee.errors import SymbolError, UnsupportedError, UsageError
from tracebee.kernel.cgroups import open_group
from tracebee.kernel.devices import device_number
from tracebee.kernel.fd import Fd
from tracebee.kernel.link import Link
from tracebee.kernel.perf import HARDWARE_EVENTS, PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS
from tracebee.probes.machine import kernel_names
from tracebee.probes.session import Session, close_all
from tracebee.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.kernel.perf import PerfEvent
    from tracebee.kernel.program import Program
    from tracebee.probes.session import Attached

# Numbers of linux/netfilter.h.
_FAMILIES = {"ipv4": 2, "ipv6": 10}
_HOOKS = {"pre_routing": 0, "local_in": 1, "forward": 2, "local_out": 3, "post_routing": 4}
_BPF_F_NETFILTER_IP_DEFRAG = 1
_BPF_F_BEFORE, _BPF_F_AFTER = 1 << 3, 1 << 4

_DEVICE_TYPES = frozenset((uapi.BPF_PROG_TYPE_XDP, uapi.BPF_PROG_TYPE_SCHED_CLS))


class MapAttachment:
    """A program attached to a socket map without a link, until ``close``."""

    def __init__(self, program: Any, table: Map, attach_type: int) -> None:
        program.attach(table.fd, attach_type)
        self._program, self._table, self._type = program, table, attach_type

    def close(self) -> None:
        """Detach."""
        self._program.detach_from(self._table.fd, self._type)


def to_cgroup(loaded: LoadedObject, name: str, path: str) -> Link:
    """Attach to a control group and those below it, beside what is attached there.

    :param path: the group's directory in the cgroup2 file system.
    :raises SymbolError: there is none. KernelError: this program cannot be attached to one.
    """
    definition = loaded.definition(name)
    with open_group(path) as group:
        return Link.create(
            loaded.programs[name].fd,
            group.fd,
            definition.expected_attach_type,
            what=f"program '{name}' to {path}",
        )


def to_device(
    loaded: LoadedObject,
    name: str,
    device: str | int,
    *,
    flags: int = 0,
    before: Program | None = None,
    after: Program | None = None,
) -> Link:
    """Attach to a network device of this namespace: xdp, tcx and netkit programs.

    :param device: its name or number.
    :param flags: XDP_FLAGS_SKB_MODE and so on.
    :param before, after: a tcx or netkit program that is attached there; by default it is the last.
    """
    definition = loaded.definition(name)
    if definition.type not in _DEVICE_TYPES:
        raise UsageError(f"program '{name}' ({definition.section}) is not for network devices")
    attach_type = definition.expected_attach_type
    if definition.type == uapi.BPF_PROG_TYPE_SCHED_CLS and not attach_type:
        raise UnsupportedError(
            f"section '{definition.section}' does not say which way the packets of '{name}' go",
            hint='call it SEC("tcx/ingress") or SEC("tcx/egress"), or set its expected_attach_type',
        )
    place: dict[str, int] = {}
    for other, flag in ((before, _BPF_F_BEFORE), (after, _BPF_F_AFTER)):
        if other is not None:
            if definition.type == uapi.BPF_PROG_TYPE_XDP:
                raise UsageError("a device has one xdp program, so there is no order")
            flags |= flag
            place["tcx_relative_fd"] = other.fd  # netkit has it in the same place
    number = device if isinstance(device, int) else device_number(device)
    what = f"program '{name}' to device '{device}'"
    return Link.create(loaded.programs[name].fd, number, attach_type, flags=flags, what=what, **place)


def to_netns(loaded: LoadedObject, name: str, path: str) -> Link:
    """Attach to a network namespace: sk_lookup and flow_dissector programs.

    :param path: ``/proc/PID/ns/net``, or ``/run/netns/NAME`` of one made with ip-netns(8).
    """
    with _namespace(path) as namespace:
        return Link.create(
            loaded.programs[name].fd,
            namespace.fd,
            loaded.definition(name).expected_attach_type,
            what=f"program '{name}' to {path}",
        )


def to_netfilter(
    loaded: LoadedObject, name: str, family: str, hook: str, *, priority: int = 0, defragment: bool = False
) -> Link:
    """Attach to a netfilter hook of this network namespace.

    :param family: ``ipv4`` or ``ipv6``.
    :param hook: ``pre_routing``, ``local_in``, ``forward``, ``local_out`` or ``post_routing``.
    :param priority: neither the first nor the last possible number; each can be taken once.
    """
    for word, known in ((family, _FAMILIES), (hook, _HOOKS)):
        if word not in known:
            raise UsageError(f"netfilter has no '{word}'", hint=f"it has {', '.join(known)}")
    return Link.create(
        loaded.programs[name].fd,
        0,
        uapi.BPF_NETFILTER,
        what=f"program '{name}' to {family} {hook}",
        netfilter_pf=_FAMILIES[family],
        netfilter_hooknum=_HOOKS[hook],
        netfilter_priority=priority,
        netfilter_flags=_BPF_F_NETFILTER_IP_DEFRAG if defragment else 0,
    )


def to_map(loaded: LoadedObject, name: str, table: Map) -> Link | MapAttachment:
    """Attach to a map: sk_skb and sk_msg programs to socket maps, iterators to what they walk over."""
    definition, program = loaded.definition(name), loaded.programs[name]
    if definition.expected_attach_type == uapi.BPF_TRACE_ITER:
        return Link.iterator(program, map_fd=table.fd)
    if not kernel_names("sockmap_link"):  # Linux 6.10
        return MapAttachment(program, table, definition.expected_attach_type)
    what = f"program '{name}' to map '{table.name}'"
    return Link.create(program.fd, table.fd, definition.expected_attach_type, what=what)


def to_event(loaded: LoadedObject, name: str, event: PerfEvent, *, cookie: int = 0) -> Link:
    """Attach to an open perf event, which stays the caller's."""
    return Link.perf_event(loaded.programs[name], event.fd, cookie=cookie)


def to_samples(
    loaded: LoadedObject,
    name: str,
    event: str,
    *,
    frequency: int = 0,
    period: int = 0,
    pid: int | None = None,
    cookie: int = 0,
) -> list[Attached]:
    """Attach to samples of a counter on every CPU, or of a process's threads.

    :param event: perf's name: ``cpu-clock``, ``page-faults``, ``cpu-cycles``...
    :param frequency: samples a second; or ``period``, events from one to the next.
    """
    kind = PERF_TYPE_SOFTWARE if event in SOFTWARE_EVENTS else PERF_TYPE_HARDWARE
    config = SOFTWARE_EVENTS.get(event, HARDWARE_EVENTS.get(event))
    if config is None:
        known = [*SOFTWARE_EVENTS, *HARDWARE_EVENTS]
        raise SymbolError(f"there is no perf event '{event}'", nearest(event, known))
    if (frequency > 0) == (period > 0):
        raise UsageError(f"samples of {event} need a frequency or a period")
    session = Session(pid=pid)
    made: list[Attached] = []
    try:
        for attached in session.sampled(
            loaded.programs[name],
            type=kind,
            config=config,
            frequency=frequency,
            period=period,
            cpus=session.cpus,
            pid=pid,
            cookie=cookie,
            what=event,
        ):
            made.append(attached)  # noqa: PERF402 - what was made is closed when the next one fails
    except BaseException:
        close_all(made)
        raise
    return made


def _namespace(path: str) -> Fd:
    try:
        return Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        reason = (error.strerror or "").lower()
        hint = "give /proc/PID/ns/net, or /run/netns/NAME of one made with 'ip netns add'"
        raise SymbolError(f"cannot open network namespace '{path}': {reason}", hint=hint) from None
