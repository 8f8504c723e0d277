"""tracepoint: the kernel's static points, with the record that their format file describes.

The context is that record, except for its first 8 bytes, which the kernel replaces with a pointer to
registers before a BPF program sees them (kernel/trace/bpf_trace.c, perf_trace_run_bpf_submit).
"""

from __future__ import annotations

from tracebee.errors import Diagnostic, SymbolError, UnsupportedError
from tracebee.kernel import tracefs
from tracebee.kernel.link import Link
from tracebee.kernel.perf import PerfEvent
from tracebee.lang.records import INTEGERS
from tracebee.lang.types import INT8, NONE, Type, TypeField, pointer, string
from tracebee.obj.model import CoreReloc
from tracebee.probes.group import Group
from tracebee.probes.machine import is_wild, kernel_names, matching
from tracebee.probes.missing import missing
from tracebee.probes.tracepoint_format import Format, FormatField, parse_format
from tracebee.uapi import BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACEPOINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from types import ModuleType
    from typing import Any

    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.probes.machine import Machine

_LIST = "tracebee -l 'tracepoint:*' lists them"
_QUALIFIERS = frozenset(("const", "volatile", "__user", "restrict"))
_NOT_ATTACHABLE = "ftrace"  # the subsystem of the function tracers' own records
_NO_RAW = "syscalls"  # the subsystem of events made of two others, sys_enter and sys_exit
# What a script reads that only the event's own context has, kernel stacks as everyone knows them among it.
_NEED_RECORD = frozenset(("args", "ctx", "kstack"))
_FEW = 8  # events that are looked up one by one
BPF_CORE_FIELD_BYTE_OFFSET = 0
_REGS_POINTER = 8  # bytes at the start of the context that are no longer the record's


class Tracepoint(Group):
    """Events whose records are laid out alike (or whose records the script does not read)."""

    program_type = BPF_PROG_TYPE_TRACEPOINT

    def __init__(
        self,
        wanted: list[tuple[str, dict[str, Any]]],
        format_: Format | None,
        name: str,
        members: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        system, event = wanted[0][1]["system"], wanted[0][1]["event"]
        section = f"tracepoint/{system}/{event}" if len(wanted) == 1 else "tracepoint"
        super().__init__("tracepoint", section, wanted)
        self.fields = {} if format_ is None else {f.name: f for f in format_.fields}
        # A pointer in a record is a kernel one, except that system calls are given user pointers.
        self.address_space = "user" if system == "syscalls" else "kernel"
        self._name = name
        self._members = members  # for portable programs: where a loader looks fields up
        self._type: Type | None = None

    def args_type(self) -> Type | None:
        """The record; a ``__data_loc`` field is a pointer to the data it refers to."""
        if self._type is None:
            fields = tuple(
                TypeField(f.name, _field_type(f, self.address_space), f.offset) for f in self.fields.values()
            )
            size = max((f.offset + f.size for f in self.fields.values()), default=0)
            self._type = Type("record", size, name=f"struct {self._name}", fields=fields)
        return self._type

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """Scalars straight from the context; a ``__data_loc`` field's address; None for arrays."""
        f = self.fields[field]
        kind = _field_type(f, self.address_space)
        if not f.dynamic and (f.array is not None or kind.kind == "record" or f.offset < _REGS_POINTER):
            return None
        found = self.args_member(field)
        core = None if found is None else CoreReloc(BPF_CORE_FIELD_BYTE_OFFSET, *found)
        offset = f.offset if core is None else 0
        if not f.dynamic:
            return b.load(ctx, offset, kind.size, kind.signed, core)
        place = b.load(ctx, offset, 4, core=core)
        start = b.binary("and", place, b.const(0xFFFF))
        if f.dynamic == "rel":
            start = b.binary("add", start, b.const(f.offset) if core is None else b.core(core))
            start = b.binary("add", start, b.const(f.size))
        return b.binary("add", ctx, start)

    def args_member(self, field: str) -> tuple[str, str] | None:
        """The struct and member that a field is; one without is noted, for ``check_layout``."""
        f = self.fields[field]
        if self._members is None or f.offset < _REGS_POINTER:
            return None
        found = self._members.get(field)
        if found is None:
            for target in self.targets:
                target.spec.setdefault("layout", {})[field] = [f.offset, f.size]
        return found

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """The context itself."""
        return ctx


def _field_type(f: FormatField, space: str) -> Type:
    if f.dynamic:
        element = INT8 if f.type == "char" else _c_type(f.type, space)
        return pointer(element, "kernel")
    if f.array is not None:
        if f.type == "char":
            return string(f.size)
        element = INTEGERS.get(f.type) or Type("int", max(1, f.size // max(1, f.array)), signed=f.signed)
        return Type("array", f.size, element=element, number=f.array)
    if f.type.endswith("*"):
        return _c_type(f.type, space)
    # A system call's argument takes a whole register in the record, whatever its C type. The kernel
    # uses an int's low half, so that is read: a dfd of AT_FDCWD prints as -100, not as 4294967196.
    if f.size not in (1, 2, 4, 8):
        return Type("record", f.size)
    known = INTEGERS.get(f.type)
    return known if known is not None and known.size <= f.size else Type("int", f.size, signed=f.signed)


def _c_type(text: str, space: str) -> Type:
    words = [w for w in text.replace("*", " * ").split() if w not in _QUALIFIERS]
    base = " ".join(w for w in words if w != "*")
    kind = INTEGERS.get(base, NONE)
    if base.startswith(("struct ", "union ")):
        kind = Type("record", 0, name=base)
    for _ in range(words.count("*")):
        kind = pointer(kind, space)
    return kind


class PlainTracepoint(Group):
    """Events whose records the script does not read: attached as raw tracepoints, which spare the kernel
    filling the record in, and whose detaching waits for nobody (an event's takes tens of milliseconds).
    """

    program_type = BPF_PROG_TYPE_RAW_TRACEPOINT

    def __init__(self, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        section = f"raw_tp/{wanted[0][1]['event']}" if len(wanted) == 1 else "raw_tp"
        super().__init__("tracepoint", section, [(name, {**spec, "raw": True}) for name, spec in wanted])


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Group]:
    """Groups by record layout when the script reads ``args``, else one for all events, or two when some
    of them are no raw tracepoints.
    """
    parts = point.parts[1:]
    if len(parts) != 2 or not all(parts):
        raise Diagnostic("tracepoint needs a subsystem and an event", hint="write tracepoint:SUBSYSTEM:EVENT")
    events = _events(parts[0], parts[1], machine)
    if uses.isdisjoint(_NEED_RECORD):
        raw = _raw(events, machine, uses)
        plain = [_wanted(s, e) for s, e in events if e in raw and s != _NO_RAW]
        rest = [_wanted(s, e) for s, e in events if e not in raw or s == _NO_RAW]
        groups: list[Group] = [PlainTracepoint(plain)] if plain else []
        return [*groups, Tracepoint(rest, None, "")] if rest else groups
    if machine.portable:
        return [_portable(system, event, machine) for system, event in events]
    by_layout: dict[tuple[FormatField, ...], list[tuple[str, str]]] = {}
    formats: dict[tuple[FormatField, ...], Format] = {}
    for system, event in events:
        found = parse_format(machine.events.event_format(system, event))
        by_layout.setdefault(found.fields, []).append((system, event))
        formats.setdefault(found.fields, found)
    return [
        Tracepoint([_wanted(s, e) for s, e in same], formats[fields], "_".join(("_tracepoint", *same[0])))
        for fields, same in by_layout.items()
    ]


def _portable(system: str, event: str, machine: Machine) -> Tracepoint:
    """One event: what is laid out alike on this kernel need not be so on another."""
    from tracebee.probes.tracepoint_record import members

    found = parse_format(machine.events.event_format(system, event))
    fields = [f for f in found.fields if not f.name.startswith("common_")]
    known = members(system, event, fields, machine.events.events(system), machine.btf)
    return Tracepoint([_wanted(system, event)], found, f"_tracepoint_{system}_{event}", known)


def check_layout(spec: dict[str, Any], events: ModuleType = tracefs) -> None:
    """That the fields a built program reads at fixed places lie there on this kernel, too.

    :param events: where format files are.
    :raises UnsupportedError: one does not.
    """
    wanted = spec.get("layout", {})
    system, event = spec["system"], spec["event"]
    found = parse_format(events.event_format(system, event)) if wanted else Format(0, ())
    here = {f.name: [f.offset, f.size] for f in found.fields}
    for name, place in wanted.items():
        if here.get(name) != place:
            raise UnsupportedError(
                f"'{name}' of tracepoint:{system}:{event} is not where it was when the script was built",
                hint="build the script on this kernel",
            )


def _raw(events: list[tuple[str, str]], machine: Machine, uses: frozenset[str]) -> Container[str]:
    """Which events are raw tracepoints of the same name, as far as that helps here."""
    if machine.user or (len(events) > 1 and "probe" in uses and not _keeps_cookies(machine)):
        return ()
    if len(events) > _FEW:
        from tracebee.btf.tracepoints import names

        return frozenset(names(machine.btf))
    return [event for _, event in events if kernel_names(f"btf_trace_{event}")]


def _keeps_cookies(machine: Machine) -> bool:
    """Whether raw tracepoints keep a cookie (Linux 6.10)."""
    if machine.portable:
        return False
    try:
        machine.btf.member_path(machine.btf.find("struct bpf_raw_tp_link"), "cookie")
    except (SymbolError, UnsupportedError):
        return False
    return True


def _wanted(system: str, event: str) -> tuple[str, dict[str, Any]]:
    return f"tracepoint:{system}:{event}", {"system": system, "event": event}


def _events(system: str, event: str, machine: Machine) -> list[tuple[str, str]]:
    known = machine.events
    if not is_wild(system) and not is_wild(event):
        # The usual case: no directory is walked, the one file is looked for.
        if known.event_exists(system, event):
            return [(system, event)]
        raise _not_found(system, event, machine)
    systems = matching(system, known.categories()) if is_wild(system) else [system]
    found = [(s, e) for s in systems if s != _NOT_ATTACHABLE for e in matching(event, known.events(s))]
    if not found:
        raise _not_found(system, event, machine)
    return found


def _not_found(system: str, event: str, machine: Machine) -> Diagnostic:
    known = machine.events
    events = [] if is_wild(system) else known.events(system)
    if machine.user and not is_wild(system) and event not in events:
        return missing(
            f"the user engine has no tracepoint '{system}:{event}'",
            event,
            events,
            f"it has {', '.join(_of_the_user_engine(known))}; the kernel's others need root",
        )
    if not events:
        what = f"no tracepoint subsystem is called '{system}'"
        return missing(what, system, known.categories(), _LIST)
    return missing(f"no tracepoint matches '{system}:{event}'", event, events, _LIST)


def _of_the_user_engine(known: Any) -> list[str]:
    """Its tracepoints by name, those of system calls by pattern."""
    few = [c for c in known.categories() if c != "syscalls"]
    return ["syscalls:*", *(f"{category}:{event}" for category in few for event in known.events(category))]


def attach(program: Any, targets: Any, session: Any) -> Iterator[Any]:
    """A raw tracepoint link, or a perf event, whose number is read now as it differs from boot to boot."""
    for target in session.steps(targets):
        spec = target.spec
        if spec.get("raw"):
            cookie = 0 if len(targets) == 1 else target.cookie
            yield Link.raw_tracepoint(program, spec["event"], cookie=cookie)
        else:
            event = PerfEvent.tracepoint(tracefs.event_id(spec["system"], spec["event"]), what=target.probe)
            yield session.perf_link(program, event, target.cookie)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every tracepoint as ``tracepoint:SUBSYSTEM:EVENT``."""
    for system, event in machine.events.tracepoints():
        if system != _NOT_ATTACHABLE:
            yield f"tracepoint:{system}:{event}"


def describe(machine: Machine, name: str) -> Iterator[str]:
    """The fields of one listed tracepoint, one declaration each, without the common ones."""
    _, system, event = name.split(":")
    for field in parse_format(machine.events.event_format(system, event)).fields:
        if not field.name.startswith("common_"):
            yield field.declaration
