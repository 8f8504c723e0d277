"""Programs of an object file from Python: what is set before loading, and the ways to attach them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, overload

from tracebee.api.object_part import Part, Setting, loaded_one
from tracebee.obj.model import ProgramDef

if TYPE_CHECKING:
    from tracebee.api.attachment import Attachment
    from tracebee.api.object_maps import ObjectMap
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.kernel.perf import PerfEvent
    from tracebee.kernel.program import Program, TestRun


class ObjectProgram(Part[ProgramDef]):
    """A program of an object."""

    kind, field = "program", "programs"

    def __repr__(self) -> str:
        """Its name and section, and whether it is in the kernel."""
        loaded = self._owner.loaded is not None and self.name in self._owner.loaded.programs
        return f"<program {self.name}: {self.section}{', loaded' if loaded else ''}>"

    @property
    def section(self) -> str:
        """Its section's name, as libbpf spells it."""
        return self.definition.section

    @property
    def kernel(self) -> Program:
        """The loaded program, for all that the kernel does with one."""
        return loaded_one(self._owner.when_loaded(f"use of '{self.name}'").programs, self.name)

    # May be set before loading

    autoload = Setting[bool]("autoload", "Whether ``load`` loads it.")

    @property
    def autoattach(self) -> bool:
        """Whether ``Object.attach`` without names attaches it."""
        return self.name not in self._owner.not_attached

    @autoattach.setter
    def autoattach(self, value: bool) -> None:
        (self._owner.not_attached.discard if value else self._owner.not_attached.add)(self.name)

    attach_target = Setting[str](
        "attach_target",
        """The kernel function, type or program function that it is for.

        Only for fentry, fexit, fmod_ret, tp_btf, lsm, iter and freplace programs, which are loaded for it.
        """,
    )

    @property
    def target_program(self) -> Program | None:
        """The loaded program whose function ``attach_target`` names (its main function if that is empty)."""
        return self._owner.targets.get(self.name)

    @target_program.setter
    def target_program(self, value: Program | ObjectProgram | None) -> None:
        self._owner.before_loading(f"change program '{self.name}'")
        if value is None:
            self._owner.targets.pop(self.name, None)
        else:
            self._owner.targets[self.name] = _kernel(value)

    prog_type = Setting[int]("type", "A number of ``enum bpf_prog_type``.")
    expected_attach_type = Setting[int]("expected_attach_type", "A number of ``enum bpf_attach_type``.")
    flags = Setting[int]("flags", "BPF_F_SLEEPABLE and so on.")

    # After it

    def attach(self, where: str = "", *, pid: int | None = None, cookie: int = 0) -> Attachment:
        """Attach it where its section says.

        :param where: what could stand behind the slash of its section, in place of what does:
            ``vfs_read``, ``sched/sched_switch``, ``/usr/bin/python3:PyObject_Call``,
            ``libstdc++.so.6:libstdcxx:throw``.
        :param pid: only in this process, for uprobes, USDT and task iterators.
        :param cookie: what bpf_get_attach_cookie() answers there, or bpf_usdt_cookie().
        :raises UnsupportedError: it is not said where. SymbolError, Diagnostic: nothing is called so.
        """
        from tracebee.engine.kernel.sections import attach_section

        links = attach_section(self._loaded(), self.name, where, pid=pid, cookie=cookie)
        return self._owner.keep((self.name,), links)

    def attach_cgroup(self, path: str | os.PathLike[str]) -> Attachment:
        """Attach it to a control group, by its directory: cgroup*, sockops and lsm_cgroup programs."""
        from tracebee.engine.kernel.targets import to_cgroup

        return self._keep(to_cgroup(self._loaded(), self.name, os.fspath(path)))

    def attach_device(
        self,
        device: str | int,
        *,
        flags: int = 0,
        before: Program | ObjectProgram | None = None,
        after: Program | ObjectProgram | None = None,
    ) -> Attachment:
        """Attach it to a network device, by name or number: xdp, tcx and netkit programs.

        :param flags: XDP_FLAGS_SKB_MODE (2) and so on.
        :param before, after: a tcx or netkit program that is attached there; by default it is the last.
        """
        from tracebee.engine.kernel.targets import to_device

        link = to_device(
            self._loaded(), self.name, device, flags=flags, before=_kernel(before), after=_kernel(after)
        )
        return self._keep(link)

    def attach_netns(self, path: str | os.PathLike[str] = "/proc/self/ns/net") -> Attachment:
        """Attach it to a network namespace, by its file: sk_lookup and flow_dissector programs."""
        from tracebee.engine.kernel.targets import to_netns

        return self._keep(to_netns(self._loaded(), self.name, os.fspath(path)))

    def attach_netfilter(
        self, family: str, hook: str, *, priority: int = 0, defragment: bool = False
    ) -> Attachment:
        """Attach it to a netfilter hook: ``attach_netfilter("ipv4", "local_in", priority=-10)``."""
        from tracebee.engine.kernel.targets import to_netfilter

        link = to_netfilter(self._loaded(), self.name, family, hook, priority=priority, defragment=defragment)
        return self._keep(link)

    def attach_map(self, table: Map | ObjectMap) -> Attachment:
        """Attach it to a map: sk_skb and sk_msg programs to socket maps, iterators to what they walk over."""
        from tracebee.engine.kernel.targets import to_map

        return self._keep(to_map(self._loaded(), self.name, _kernel_map(table)))

    def attach_perf_event(
        self,
        event: PerfEvent | str,
        *,
        frequency: int = 0,
        period: int = 0,
        pid: int | None = None,
        cookie: int = 0,
    ) -> Attachment:
        """Run it on samples: ``attach_perf_event("cpu-clock", frequency=99)``.

        :param event: perf's name of a counter, which is sampled on every CPU, or in the threads of ``pid``;
            or an open event (``tracebee.kernel.perf.PerfEvent``), which stays the caller's.
        :param frequency: samples a second; or ``period``, events from one to the next.
        """
        from tracebee.engine.kernel.targets import to_event, to_samples

        loaded = self._loaded()
        if not isinstance(event, str):
            return self._keep(to_event(loaded, self.name, event, cookie=cookie))
        links = to_samples(
            loaded, self.name, event, frequency=frequency, period=period, pid=pid, cookie=cookie
        )
        return self._owner.keep((self.name,), links)

    def test_run(self, data: bytes = b"", ctx: bytes = b"", **more: int) -> TestRun:
        """Run it once, or ``repeat`` times, on given input: ``kernel.program.Program.test_run``."""
        return self.kernel.test_run(data=data, ctx=ctx, **more)

    def read(self, *, pid: int | None = None, table: Map | ObjectMap | None = None) -> bytes:
        """What an iterator program prints in one walk.

        :param pid: one process, for task iterators.
        :param table: the map whose elements to visit, for map iterators.
        """
        from tracebee.kernel.link import Link

        walked = 0 if table is None else _kernel_map(table).fd
        with (
            Link.iterator(self.kernel, pid=pid or 0, map_fd=walked) as link,
            link.open_iterator() as file,
            os.fdopen(os.dup(file.fd), "rb") as stream,
        ):
            return stream.read()

    @property
    def log(self) -> str:
        """What the verifier wrote of it; empty unless ``load`` was given a ``log_level``."""
        return self.kernel.log

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the loaded program a name in bpffs."""
        self.kernel.pin(os.fspath(path))

    def _loaded(self) -> LoadedObject:
        loaded = self._owner.when_loaded("attach")
        loaded_one(loaded.programs, self.name)
        return loaded

    def _keep(self, link: Any) -> Attachment:
        return self._owner.keep((self.name,), [link])


@overload
def _kernel(program: Program | ObjectProgram) -> Program: ...
@overload
def _kernel(program: None) -> None: ...
def _kernel(program: Program | ObjectProgram | None) -> Program | None:
    return program.kernel if isinstance(program, ObjectProgram) else program


def _kernel_map(table: Map | ObjectMap) -> Map:
    from tracebee.api.object_maps import ObjectMap

    return table.map if isinstance(table, ObjectMap) else table
