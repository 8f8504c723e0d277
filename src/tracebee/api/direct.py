"""Programs attached directly, with BCC's names: ``BPF(...).attach_kprobe(event=..., fn_name=...)``.

A program's code comes from a BPF object (an ELF file that clang has built, or an ``obj.model.Object``) or
from assembler text; how it is typed follows from what it is attached to, as in BCC.
"""

from __future__ import annotations

import os

from tracebee.api.attachment import Attachment
from tracebee.api.records import follow
from tracebee.api.table import Table
from tracebee.engine.kernel.debug_info import with_debug_info
from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.errors import SymbolError, UsageError, VerifierError
from tracebee.kernel.link import Link
from tracebee.kernel.perf import PerfEvent
from tracebee.lang.ast import AttachPoint
from tracebee.lang.script import Target
from tracebee.obj.model import Function, LineInfo, MapDef, Object, ProgramDef, Reloc
from tracebee.probes.kinds import OF_OBJECTS, module_of
from tracebee.probes.machine import Machine
from tracebee.probes.session import Session, close_all
from tracebee.typed import NamedTuple
from tracebee.uapi import (
    BPF_PROG_TYPE_KPROBE,
    BPF_PROG_TYPE_PERF_EVENT,
    BPF_PROG_TYPE_RAW_TRACEPOINT,
    BPF_PROG_TYPE_UNSPEC,
    BPF_TRACE_UPROBE_MULTI,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self

    from tracebee.kernel.program import Program


class _Typed(NamedTuple):
    """How a program has to be loaded for what it is attached to."""

    type: int
    attach_type: int
    attach_target: str


class BPF:
    """Programs and maps of one object::

        with tracebee.BPF(src_file="counts.o") as b:
            b.attach_kprobe(event="vfs_read", fn_name="on_read")
            time.sleep(1)
            print(dict(b["counts"]))

    :param src_file: path of an ELF object that clang has built.
    :param asm: text for the assembler (``tracebee.isa.asm``), one ``.func NAME`` for each program.
    :param maps: maps that the assembler text names.
    :param object: an object made by other means.
    :param license: for assembler text.
    :raises DecodeError, SourceError, KernelError, PrivilegeError: it cannot be read or its maps made.
    """

    def __init__(
        self,
        src_file: str | os.PathLike[str] | None = None,
        *,
        asm: str | None = None,
        maps: Sequence[MapDef] = (),
        object: Object | None = None,  # noqa: A002 - what it is
        license: str = "GPL",  # noqa: A002 - the kernel's word
    ) -> None:
        if sum(source is not None for source in (src_file, asm, object)) != 1:
            raise UsageError("BPF takes one of src_file, asm and object")
        if src_file is not None:
            from tracebee.obj.elf_reader import read_object

            object = read_object(os.fspath(src_file))  # noqa: A001
        elif asm is not None:
            object = _assemble(asm, maps, license)  # noqa: A001
        assert object is not None
        self.object = with_debug_info(object)
        self._programs = {p.name: p for p in self.object.programs}
        self._loaded: list[LoadedObject] = [load_object(self.object, programs=lambda _: False)]
        self._by_type: dict[tuple[str, _Typed], Program] = {}
        self._attachments: list[Attachment] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach everything, unload programs and maps."""
        for attachment in self._attachments:
            attachment.close()
        self._attachments.clear()
        # Programs first: the maps are the first entry's.
        for loaded in reversed(self._loaded):
            loaded.close()
        self._loaded.clear()
        self._by_type.clear()

    def __getitem__(self, name: str) -> Table:
        """A map by name.

        :raises KeyError: the object has none of that name.
        """
        return Table(self._loaded[0].maps[name])

    def records(self, name: str, timeout: float | None = None) -> Iterator[bytes]:
        """Records of a ring buffer map as they come, until ``timeout`` seconds pass without one."""
        from tracebee.kernel.ringbuf import RingBuffer

        with RingBuffer(self._loaded[0].maps[name]) as ring:
            yield from follow(ring, timeout)

    # Attaching. Parameters are BCC's; every method returns what detaches again.

    def attach_kprobe(
        self, event: str = "", event_off: int = 0, fn_name: str = "", event_re: str = ""
    ) -> Attachment:
        """Run a program when a kernel function is called (``event_re``: all that a pattern matches)."""
        place = f"{event}+{event_off}" if event_off else event
        return self._attach("kprobe", [place], event_re, fn_name)

    def attach_kretprobe(self, event: str = "", fn_name: str = "", event_re: str = "") -> Attachment:
        """Run a program when a kernel function returns."""
        return self._attach("kretprobe", [event], event_re, fn_name)

    def attach_fentry(self, event: str = "", fn_name: str = "", event_re: str = "") -> Attachment:
        """Run a program when a kernel function is called, by BPF trampoline."""
        return self._attach("fentry", [event], event_re, fn_name)

    def attach_fexit(self, event: str = "", fn_name: str = "", event_re: str = "") -> Attachment:
        """Run a program when a kernel function returns, by BPF trampoline."""
        return self._attach("fexit", [event], event_re, fn_name)

    def attach_uprobe(
        self,
        name: str = "",
        sym: str = "",
        sym_re: str = "",
        addr: int | None = None,
        fn_name: str = "",
        pid: int = -1,
        sym_off: int = 0,
    ) -> Attachment:
        """Run a program when a function of a program or library is called.

        :param name: a path, a library (``c``, ``libc``) or a program on PATH.
        :param addr: an address in the file as it is linked, in place of ``sym``.
        :param pid: only in this process; -1 in all.
        """
        return self._attach_user("uprobe", name, _place(sym, addr, sym_off), sym_re, fn_name, pid)

    def attach_uretprobe(
        self,
        name: str = "",
        sym: str = "",
        sym_re: str = "",
        addr: int | None = None,
        fn_name: str = "",
        pid: int = -1,
    ) -> Attachment:
        """Run a program when a function of a program or library returns."""
        return self._attach_user("uretprobe", name, _place(sym, addr, 0), sym_re, fn_name, pid)

    def attach_usdt(self, name: str = "", probe: str = "", fn_name: str = "", pid: int = -1) -> Attachment:
        """Run a program at a USDT probe.

        :param name: path or library; may be empty with ``pid``.
        :param probe: ``PROBE`` or ``PROVIDER:PROBE``.
        """
        from tracebee.engine.kernel.usdt import SPECS

        if SPECS in self._loaded[0].maps:
            return self._attach_described(name, probe, fn_name, pid)
        return self._attach("usdt", [name, *probe.split(":")], "", fn_name, pid=pid)

    def attach_tracepoint(self, tp: str = "", tp_re: str = "", fn_name: str = "") -> Attachment:
        """Run a program at a tracepoint, ``SUBSYSTEM:EVENT`` (``tp_re``: all that a pattern matches)."""
        return self._attach("tracepoint", tp.split(":"), "", fn_name, whole=tp_re)

    def attach_raw_tracepoint(self, tp: str = "", fn_name: str = "") -> Attachment:
        """Run a program at a tracepoint, with its raw arguments."""
        program = self.load_func(fn_name, BPF_PROG_TYPE_RAW_TRACEPOINT)
        return self._keep([f"rawtracepoint:{tp}"], [Link.raw_tracepoint(program, tp)])

    def attach_perf_event(
        self,
        ev_type: int = -1,
        ev_config: int = -1,
        fn_name: str = "",
        sample_period: int = 0,
        sample_freq: int = 0,
        pid: int = -1,
        cpu: int = -1,
        group_fd: int = -1,
    ) -> Attachment:
        """Run a program every so many events of a counter (``sample_period``), or times a second.

        :param ev_type, ev_config: ``perf_event_attr.type`` and ``.config``: ``tracebee.kernel.perf``.
        :param pid, cpu: one process, one CPU; -1 each for all.
        :param group_fd: taken for BCC's sake; every event is a group of its own.
        """
        if not sample_period and not sample_freq:
            raise UsageError("attach_perf_event needs sample_period or sample_freq")
        del group_fd
        program = self.load_func(fn_name, BPF_PROG_TYPE_PERF_EVENT)
        session = Session()
        cpus = [cpu] if cpu >= 0 or pid > 0 else list(session.cpus)
        links: list[Any] = []
        try:
            for number in cpus:
                event = PerfEvent.sampled(
                    ev_type, ev_config, period=sample_period, frequency=sample_freq, pid=pid, cpu=number
                )
                links.append(session.perf_link(program, event, 0))
        except BaseException:
            close_all(links)
            raise
        return self._keep([f"perf_event:{ev_type}:{ev_config}"], links)

    def load_func(
        self, fn_name: str, prog_type: int, *, attach_type: int = 0, attach_target: str = ""
    ) -> Program:
        """Load one program for a type (a number of ``enum bpf_prog_type``), or find it loaded.

        :raises SymbolError: the object has no such program; VerifierError: the kernel refuses it.
        """
        definition = self._programs.get(fn_name)
        if definition is None:
            raise SymbolError(f"there is no program '{fn_name}'", list(self._programs))
        typed = _Typed(prog_type, attach_type, attach_target)
        known = self._by_type.get((fn_name, typed))
        if known is not None:
            return known
        changed = definition._replace(
            type=prog_type, expected_attach_type=attach_type, attach_target=attach_target
        )
        obj = self.object._replace(programs=(changed,))
        try:
            loaded = load_object(obj, reuse=self._loaded[0].maps)
        except VerifierError as error:
            from tracebee.engine.kernel.refusal import explain_program  # only on the way to an error

            raise explain_program(error, obj) from error
        self._loaded.append(loaded)
        program = self._by_type[fn_name, typed] = loaded.programs[fn_name]
        return program

    def _attach_described(self, name: str, probe: str, fn_name: str, pid: int) -> Attachment:
        """At a USDT probe, with its arguments where libbpf's usdt.bpf.h has programs look for them."""
        from tracebee.engine.kernel.usdt import attach_usdt

        attach_type = BPF_TRACE_UPROBE_MULTI if Machine().has("uprobe_multi") else 0
        program = self.load_func(fn_name, BPF_PROG_TYPE_KPROBE, attach_type=attach_type)
        provider, _, probe_name = probe.rpartition(":")
        link = attach_usdt(
            self._loaded[0],
            program,
            (name, provider, probe_name),
            attach_type=attach_type,
            pid=pid if pid > 0 else None,
        )
        return self._keep([f"usdt:{name}:{probe}"], [link])

    def _attach_user(
        self, kind: str, name: str, place: str, pattern: str, fn_name: str, pid: int
    ) -> Attachment:
        return self._attach(kind, [name, pattern or place], "", fn_name, pid=pid)

    def _attach(
        self, kind: str, parts: list[str], pattern: str, fn_name: str, *, pid: int = -1, whole: str = ""
    ) -> Attachment:
        if pattern:
            parts = [pattern]
        if whole:
            parts = whole.split(":")
        machine = Machine(pid if pid > 0 else None)
        module = module_of(kind)
        point = AttachPoint(parts=[kind, *parts], text=":".join([kind, *parts]))
        links: list[Any] = []
        names: list[str] = []
        try:
            for group in module.expand(point, machine, OF_OBJECTS):
                targets = [Target(name, 0, spec) for name, spec in group.wanted]
                names += [t.probe for t in targets]
                tied = getattr(module, "LOADS_PER_TARGET", False)
                for some in [[t] for t in targets] if tied else [targets]:
                    target = module.target_name(some[0].spec) if tied else ""
                    program = self.load_func(
                        fn_name,
                        group.program_type,
                        attach_type=group.expected_attach_type,
                        attach_target=target,
                    )
                    session = Session(pid=machine.pid)
                    session.kind, session.attach_type = kind, group.expected_attach_type
                    links += module.attach(program, some, session)
        except BaseException:
            close_all(links)
            raise
        return self._keep(names, links)

    def _keep(self, names: Sequence[str], links: list[Any]) -> Attachment:
        attachment = Attachment(names, links)
        self._attachments.append(attachment)
        return attachment


def _place(sym: str, addr: int | None, offset: int) -> str:
    if addr is not None:
        return hex(addr + offset)
    return f"{sym}+{offset}" if offset else sym


def _assemble(text: str, maps: Sequence[MapDef], license_name: str) -> Object:
    from tracebee.isa.asm import assemble_functions

    lines = text.split("\n")
    functions = tuple(
        Function(
            code.name,
            code.insns,
            tuple(Reloc(s.at, s.kind, s.name, s.addend) for s in code.symbols),
            tuple(LineInfo(at, "asm", lines[n - 1], n, 1) for at, n in enumerate(code.lines)),
        )
        for code in assemble_functions(text)
    )
    programs = tuple(ProgramDef(f, "", BPF_PROG_TYPE_UNSPEC) for f in functions)
    return Object("asm", license_name, tuple(maps), programs, functions)
