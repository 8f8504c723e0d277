"""Links: programs attached to something, for as long as the descriptor (or a pin) lives."""

from __future__ import annotations

import struct

from tracebee import uapi
from tracebee.kernel.attr import (
    ITER_CREATE,
    LINK_CREATE,
    LINK_DETACH,
    LINK_UPDATE,
    RAW_TRACEPOINT,
    TOKEN_CREATE,
)
from tracebee.kernel.bpf import bpf, fd_by_id, ids, pin, pinned
from tracebee.kernel.fd import Fd
from tracebee.kernel.syscall import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from tracebee.kernel.link_info import LinkInfo
    from tracebee.kernel.program import Program


class Link(Fd):
    """An attachment held by its descriptor: closing the last one detaches, unless it is pinned."""

    __slots__ = ()

    # One constructor per way of attaching

    @classmethod
    def create(
        cls, program_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, what: str = "", **more: int
    ) -> Self:
        """Any ``BPF_LINK_CREATE``: ``more`` are further fields of its attributes, by name.

        Cgroups, network namespaces, XDP, tcx, netkit, netfilter and struct_ops need no more than this.
        """
        attr = LINK_CREATE.pack(
            prog_fd=program_fd, target_fd=target_fd, attach_type=attach_type, flags=flags, **more
        )
        return cls(bpf(uapi.BPF_LINK_CREATE, attr, what))

    @classmethod
    def perf_event(cls, program: Program, event_fd: int, *, cookie: int = 0) -> Self:
        """Attach to an open perf event: kprobe, uprobe, tracepoint, or a sampled one (Linux 5.15)."""
        return cls.create(
            program.fd, event_fd, uapi.BPF_PERF_EVENT, what=program.what, perf_event_bpf_cookie=cookie
        )

    @classmethod
    def kprobe_multi(
        cls,
        program: Program,
        *,
        symbols: Sequence[str] = (),
        addresses: Sequence[int] = (),
        cookies: Sequence[int] = (),
        retprobe: bool = False,
        session: bool = False,
    ) -> Self:
        """Attach to many kernel functions at once (Linux 5.18; sessions, entry and return, 6.10).

        The program must have been loaded with expected attach type BPF_TRACE_KPROBE_MULTI or
        BPF_TRACE_KPROBE_SESSION.

        :param symbols: names, each of one function only; or ``addresses``, not both.
        :param cookies: none, or one for each function.
        """
        names = [name.encode() + b"\0" for name in symbols]
        pointers = struct.pack(f"={len(names)}Q", *map(address, names))
        addrs = struct.pack(f"={len(addresses)}Q", *addresses)
        values = struct.pack(f"={len(cookies)}Q", *cookies)
        kind = uapi.BPF_TRACE_KPROBE_SESSION if session else uapi.BPF_TRACE_KPROBE_MULTI
        return cls.create(
            program.fd,
            0,
            kind,
            what=program.what,
            kprobe_multi_flags=uapi.BPF_F_KPROBE_MULTI_RETURN if retprobe else 0,
            kprobe_multi_cnt=len(names) or len(addresses),
            kprobe_multi_syms=address(pointers),
            kprobe_multi_addrs=address(addrs),
            kprobe_multi_cookies=address(values),
        )

    @classmethod
    def uprobe_multi(
        cls,
        program: Program,
        path: str,
        offsets: Sequence[int],
        *,
        ref_ctr_offsets: Sequence[int] = (),
        cookies: Sequence[int] = (),
        pid: int = 0,
        retprobe: bool = False,
        session: bool = False,
    ) -> Self:
        """Attach to many places of one file at once (Linux 6.6; sessions 6.13).

        The program must have been loaded with expected attach type BPF_TRACE_UPROBE_MULTI or
        BPF_TRACE_UPROBE_SESSION.

        :param offsets: offsets in the file of the instructions.
        :param ref_ctr_offsets: file offsets of USDT semaphores, one for each place, 0 for none.
        :param pid: only in this process; 0 for all.
        """
        name = path.encode() + b"\0"
        places, counters, values = (
            struct.pack(f"={len(numbers)}Q", *numbers) for numbers in (offsets, ref_ctr_offsets, cookies)
        )
        kind = uapi.BPF_TRACE_UPROBE_SESSION if session else uapi.BPF_TRACE_UPROBE_MULTI
        return cls.create(
            program.fd,
            0,
            kind,
            what=f"{program.what} to '{path}'",
            uprobe_multi_path=address(name),
            uprobe_multi_offsets=address(places),
            uprobe_multi_ref_ctr_offsets=address(counters),
            uprobe_multi_cookies=address(values),
            uprobe_multi_cnt=len(offsets),
            uprobe_multi_flags=uapi.BPF_F_UPROBE_MULTI_RETURN if retprobe else 0,
            uprobe_multi_pid=pid,
        )

    @classmethod
    def raw_tracepoint(cls, program: Program, name: str = "", *, cookie: int = 0) -> Self:
        """Attach to a raw tracepoint (``BPF_RAW_TRACEPOINT_OPEN``).

        :param name: the tracepoint; empty for a program loaded with its target's BTF id (``tp_btf``,
            ``fentry``, ``fexit``, ``lsm``).
        :param cookie: Linux 6.10 and later.
        """
        text = name.encode() + b"\0"
        attr = RAW_TRACEPOINT.pack(name=address(text) if name else 0, prog_fd=program.fd, cookie=cookie)
        return cls(
            bpf(uapi.BPF_RAW_TRACEPOINT_OPEN, attr, f"{program.what} to '{name}'" if name else program.what)
        )

    @classmethod
    def tracing(
        cls,
        program: Program,
        attach_type: int,
        *,
        cookie: int = 0,
        target_fd: int = 0,
        target_btf_id: int = 0,
    ) -> Self:
        """Attach a tp_btf, fentry, fexit, fmod_ret or lsm program with a cookie (Linux 5.19).

        :param attach_type: as the program's expected attach type: BPF_TRACE_FENTRY and so on.
        :param target_fd, target_btf_id: another program and its function, when not the one given at load.
        """
        return cls.create(
            program.fd,
            target_fd,
            attach_type,
            what=program.what,
            tracing_target_btf_id=target_btf_id,
            tracing_cookie=cookie,
        )

    @classmethod
    def iterator(
        cls,
        program: Program,
        *,
        map_fd: int = 0,
        pid: int = 0,
        tid: int = 0,
        cgroup_fd: int = 0,
        order: int = 0,
    ) -> Self:
        """Bind an iterator program to what it walks over; :meth:`open_iterator` then starts a walk.

        :param map_fd: for iterators over a map's elements.
        :param pid, tid: one process, or one task, for task iterators; 0 for all.
        :param order: for cgroup iterators: a ``BPF_CGROUP_ITER_*`` number.
        """
        info = b""
        if map_fd:
            info = struct.pack("=I", map_fd)
        elif pid or tid:
            info = struct.pack("=3I", tid, pid, 0)
        elif cgroup_fd or order:
            info = struct.pack("=2IQ", order, cgroup_fd, 0)
        return cls.create(
            program.fd,
            0,
            uapi.BPF_TRACE_ITER,
            what=program.what,
            iter_info=address(info),
            iter_info_len=len(info),
        )

    # Found

    @classmethod
    def by_id(cls, object_id: int) -> Self:
        """The link with an id."""
        return cls(fd_by_id(uapi.BPF_LINK_GET_FD_BY_ID, object_id, f"link {object_id}"))

    @classmethod
    def pinned(cls, path: str) -> Self:
        """The link pinned at a path of bpffs."""
        return cls(pinned(path, kind="link"))

    @staticmethod
    def ids() -> Iterator[int]:
        """Ids of all links in the kernel."""
        return ids(uapi.BPF_LINK_GET_NEXT_ID)

    # Used

    def open_iterator(self) -> Fd:
        """A file that runs the iterator as it is read (``BPF_ITER_CREATE``)."""
        return Fd(bpf(uapi.BPF_ITER_CREATE, ITER_CREATE.pack(link_fd=self.fd)))

    def update(self, program: Program, *, old: Program | None = None) -> None:
        """Put another program in place without a gap (``BPF_LINK_UPDATE``).

        :param old: only if this one is attached now.
        """
        attr = LINK_UPDATE.pack(link_fd=self.fd, new_prog_fd=program.fd)
        if old is not None:
            LINK_UPDATE.set(attr, flags=4, old_prog_fd=old.fd)  # BPF_F_REPLACE
        bpf(uapi.BPF_LINK_UPDATE, attr, program.what)

    def force_detach(self) -> None:
        """Detach although others hold the link (``BPF_LINK_DETACH``); not every type can."""
        bpf(uapi.BPF_LINK_DETACH, LINK_DETACH.pack(link_fd=self.fd))

    def pin(self, path: str) -> None:
        """Give it a name in bpffs, which keeps the program attached."""
        pin(self.fd, path)

    def info(self) -> LinkInfo:
        """What the kernel says of it."""
        from tracebee.kernel.link_info import read  # only administration asks

        return read(self.fd)


def create_token(bpffs_fd: int) -> Fd:
    """A token for what a bpffs delegates to its user namespace (``BPF_TOKEN_CREATE``, Linux 6.9)."""
    return Fd(bpf(uapi.BPF_TOKEN_CREATE, TOKEN_CREATE.pack(bpffs_fd=bpffs_fd)))
