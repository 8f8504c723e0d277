"""rawtracepoint: static points in the kernel with their arguments as the kernel passes them.

Spellings: ``rawtracepoint:EVENT``, ``rawtracepoint:MODULE:EVENT``, wildcards. ``arg0``... are the raw
arguments; ``args`` has them by name and type where BTF knows the point (its ``btf_trace_EVENT`` typedef).
"""

from __future__ import annotations

from tracebee.btf import kinds as btf_kinds
from tracebee.errors import Diagnostic, SymbolError, UnsupportedError
from tracebee.kernel.link import Link
from tracebee.probes.group import Group
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.probes.prototype import Slot, emit_slot, record, slot_named, slots
from tracebee.uapi import BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.lang.types import Type
    from tracebee.probes.machine import Machine

_MOST_ARGUMENTS = 12


class RawTracepoint(Group):
    """Events whose arguments the script takes as numbers, or not at all."""

    program_type = BPF_PROG_TYPE_RAW_TRACEPOINT

    def __init__(self, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        section = f"raw_tp/{wanted[0][1]['event']}" if len(wanted) == 1 else "raw_tp"
        super().__init__("rawtracepoint", section, wanted)

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth raw argument."""
        if number >= _MOST_ARGUMENTS:
            raise Diagnostic(f"a raw tracepoint has at most {_MOST_ARGUMENTS} arguments")
        return b.load(ctx, 8 * number, 8)


class TypedTracepoint(RawTracepoint):
    """One event with its arguments' types; its pointers are ones the verifier lets a program follow."""

    program_type = BPF_PROG_TYPE_TRACING
    expected_attach_type = BPF_TRACE_RAW_TP

    def __init__(self, wanted: list[tuple[str, dict[str, Any]]], members: list[Slot]) -> None:
        super().__init__(wanted)
        event = wanted[0][1]["event"]
        self.section = f"tp_btf/{event}"
        self.attach_target = event
        self._slots = members

    def args_type(self) -> Type | None:
        """A record of the arguments, named as in the kernel's TP_PROTO."""
        return record(f"struct {self.attach_target}_args", self._slots)

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """One argument."""
        slot = slot_named(self._slots, field)
        return emit_slot(b, ctx, slot.offset, slot.type)

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """The context, which is the arguments one after another."""
        return ctx

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth argument as a number."""
        if number >= len(self._slots):
            raise Diagnostic(f"{self.attach_target} has {len(self._slots)} arguments, counted from arg0")
        return super().emit_arg(b, ctx, number)


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[RawTracepoint]:
    """A group for each event when the script reads ``args`` or ``probe``, else one for all."""
    parts = point.parts[1:]
    if len(parts) not in (1, 2) or not parts[-1]:
        raise Diagnostic("rawtracepoint needs an event", hint="write rawtracepoint:EVENT")
    module = parts[0] if len(parts) == 2 else ""
    wanted = [
        (f"rawtracepoint:{where}:{e}", {"event": e}) for where, e in _events(module, parts[-1], machine)
    ]
    if "args" in uses:
        return [TypedTracepoint([w], _slots(w[1]["event"], machine)) for w in wanted]
    # A raw tracepoint keeps a cookie since 6.10 only, so each gets its own program where one is needed.
    return [RawTracepoint([w]) for w in wanted] if "probe" in uses else [RawTracepoint(wanted)]


def _slots(event: str, machine: Machine) -> list[Slot]:
    try:
        return slots(machine.btf.raw_tracepoint(event).params, machine.records)
    except (SymbolError, UnsupportedError) as error:
        raise Diagnostic(
            f"the arguments of {event} are not in the kernel's type information", hint="use arg0, arg1, ..."
        ) from error


def _events(module: str, name: str, machine: Machine) -> list[tuple[str, str]]:
    wild = is_wild(name)
    if not wild and (not module or module == "vmlinux"):
        try:
            machine.btf.find(f"btf_trace_{name}", btf_kinds.BTF_KIND_TYPEDEF)
        except UnsupportedError:
            return [("vmlinux", name)]  # the kernel will say at attaching
        except SymbolError:
            pass
        else:
            return [("vmlinux", name)]
    known = dict(_known(module, machine))
    found = [(where, e) for e in matching(name, known) for where in (known[e],)]
    if not found:
        listed = "tracebee -l 'rawtracepoint:*' lists them"
        raise missing(f"no raw tracepoint matches '{name}'", name, known, listed)
    return found


def _known(module: str, machine: Machine) -> Iterator[tuple[str, str]]:
    from tracebee.btf.opening import module_names, open_module
    from tracebee.btf.tracepoints import names

    for where in matching(module or "*", ["vmlinux", *module_names()]):
        for name in names(machine.btf if where == "vmlinux" else open_module(where)):
            yield name, where


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """One link for each event."""
    typed = session.attach_type == BPF_TRACE_RAW_TP
    for target in session.steps(targets):
        name = "" if typed else target.spec["event"]
        yield Link.raw_tracepoint(program, name, cookie=0 if len(targets) == 1 else target.cookie)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every raw tracepoint of the kernel and its modules."""
    for name, where in _known("", machine):
        yield f"rawtracepoint:{where}:{name}"


def describe(machine: Machine, name: str) -> Iterator[str]:
    """The arguments of one listed event."""
    event = name.rpartition(":")[2]
    for param in machine.btf.raw_tracepoint(event).params:
        yield machine.btf.declare(param.type_id, param.name)
