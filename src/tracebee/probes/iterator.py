"""iter: every kernel object of a kind, once: tasks, their files and mappings, BPF's own objects.

Spelling: ``iter:TARGET``, wildcards none. ``args`` is the iterator's context (``struct bpf_iter__TARGET``):
``iter:task { print((args.task.pid, args.task.comm)) }``. With ``-p`` the task iterators walk over
that process alone. The walk takes place while attaching; a script of nothing else then ends.
Source: Documentation/bpf/bpf_iterators.rst.
"""

from __future__ import annotations

import errno
import os

from tracebee.btf import kinds as btf_kinds
from tracebee.btf.core_kinds import BPF_CORE_FIELD_BYTE_OFFSET
from tracebee.errors import Diagnostic, SymbolError
from tracebee.ir.types import KERNEL
from tracebee.kernel.link import Link
from tracebee.lang.types import Type, TypeField
from tracebee.obj.model import CoreReloc
from tracebee.probes.group import Group
from tracebee.probes.missing import missing
from tracebee.uapi import BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.btf.types import Field
    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.probes.machine import Machine

_CONTEXT = "bpf_iter__"
# Iterators that walk over tasks, and can be told which.
_OF_TASKS = frozenset(("task", "task_file", "task_vma"))
# Iterators that need to be told what to walk over: a map, which a script cannot name.
_OF_MAPS = frozenset(("bpf_map_elem", "bpf_sk_storage_map", "sockmap"))


class ObjectIterator(Group):
    """One iterator; its context's members are pointers the verifier knows, null on the last call."""

    program_type = BPF_PROG_TYPE_TRACING
    expected_attach_type = BPF_TRACE_ITER

    def __init__(self, point: AttachPoint, target: str, machine: Machine) -> None:
        super().__init__("iter", f"iter/{target}", [(point.text, {"target": target})])
        self.attach_target = target
        self._fields = machine.btf.fields(machine.btf.find(f"struct {_CONTEXT}{target}"))
        self._records = machine.records
        self._name = target
        self._portable = machine.portable

    def args_type(self) -> Type | None:
        """The context's members."""
        fields = tuple(
            TypeField(f.name, self._records.from_btf(f.type_id), f.bit_offset // 8) for f in self._fields
        )
        return Type(
            "record", max((f.offset + 8 for f in fields), default=0), name="struct iter", fields=fields
        )

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """One member of the context."""
        found = next(f for f in self._fields if f.name == field)
        kind = self._records.from_btf(found.type_id)
        if kind.kind == "pointer":
            return self._load(b, ctx, found, 8, type=KERNEL)
        return self._load(b, ctx, found, kind.size, signed=kind.signed)

    def _load(self, b: Builder, ctx: Value, field: Field, size: int, **how: Any) -> Value:
        """Read a member; a loader finds it on another kernel."""
        if not self._portable:
            return b.load(ctx, field.bit_offset // 8, size, **how)
        core = CoreReloc(BPF_CORE_FIELD_BYTE_OFFSET, f"struct {_CONTEXT}{self._name}", field.name)
        return b.load(ctx, 0, size, core=core, **how)

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """The context."""
        return ctx

    def emit_guard(self, b: Builder, ctx: Value) -> Value | None:
        """All objects that the context points to are there: the last call of a walk has none."""
        condition: Value | None = None
        for field in self._fields:
            if field.name != "meta" and self._records.from_btf(field.type_id).kind == "pointer":
                present = b.compare("ne", self._load(b, ctx, field, 8, type=KERNEL), b.const(0))
                condition = present if condition is None else b.binary("and", condition, present)
        return condition


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[ObjectIterator]:
    """One group with one target; the spec names the iterator."""
    if len(point.parts) != 2 or not point.parts[1]:
        raise Diagnostic("iter needs what to walk over", hint="write iter:task, for example")
    target = point.parts[1]
    if target in _OF_MAPS:
        raise Diagnostic(f"iter:{target} walks over a map's elements, and a script cannot say which map's")
    try:
        machine.btf.find(f"bpf_iter_{target}", btf_kinds.BTF_KIND_FUNC)
    except SymbolError:
        raise missing(f"this kernel has no iterator '{target}'", target, _targets(machine)) from None
    return [ObjectIterator(point, target, machine)]


def _targets(machine: Machine) -> list[str]:
    structs = machine.btf.names(btf_kinds.BTF_KIND_STRUCT)
    names = (n.removeprefix(_CONTEXT) for n, _ in structs if n.startswith(_CONTEXT))
    return sorted(n for n in names if "__" not in n and n not in _OF_MAPS)


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """A link, and one walk through it."""
    for target in session.steps(targets):
        pid = session.pid if target.spec["target"] in _OF_TASKS and session.pid is not None else 0
        link = Link.iterator(program, pid=pid)
        yield link
        with link.open_iterator() as walk:
            _read(walk.fd)


def _read(fd: int) -> None:
    """Read to the end: the program runs as the file is read, and writes nothing to it."""
    while True:
        try:
            if not os.read(fd, 4096):
                return
        except OSError as error:
            # The kernel pauses after a million objects without output.
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every iterator that needs no map."""
    yield from (f"iter:{name}" for name in _targets(machine))


def describe(machine: Machine, name: str) -> Iterator[str]:
    """The members of one listed iterator's context."""
    struct = f"struct {_CONTEXT}{name.partition(':')[2]}"
    for field in machine.btf.fields(machine.btf.find(struct)):
        yield machine.btf.declare(field.type_id, field.name)
