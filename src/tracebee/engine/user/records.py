"""Tracepoints' records in built scripts: their fields are relocated to where this engine writes them."""

from __future__ import annotations

from tracebee.btf.builder import Builder
from tracebee.engine.kernel.core import Core
from tracebee.errors import UnsupportedError
from tracebee.probes import user_events
from tracebee.probes.tracepoint_format import parse_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Function, Object, Reloc
    from tracebee.probes.tracepoint_format import FormatField

_PREFIX = "struct trace_event_raw_"
_SYSTEM_CALLS = ("struct syscall_trace_enter", "struct syscall_trace_exit")


def with_records(obj: Object) -> Object:
    """The object with the places of records' fields in its programs.

    :raises UnsupportedError: this engine's records lack a field.
    """
    if not any(_is_of_record(r) for p in obj.programs for r in p.function.relocs):
        return obj
    core = Core(obj, _record_types())
    return obj._replace(programs=tuple(p._replace(function=_settled(p.function, core)) for p in obj.programs))


def _is_of_record(reloc: Reloc) -> bool:
    return reloc.core is not None and reloc.core.type_name.startswith((_PREFIX, *_SYSTEM_CALLS))


def _settled(function: Function, core: Core) -> Function:
    insns: list[Insn] = list(function.insns)
    for reloc in function.relocs:
        if _is_of_record(reloc):
            assert reloc.core is not None
            if core.lacks(reloc.core):
                raise UnsupportedError(
                    f"the script reads {core.describe(reloc.core)}, which the user engine does not have",
                    hint="run as root, or with CAP_BPF and CAP_PERFMON",
                )
            (insns[reloc.at],) = core.patch(insns[reloc.at], reloc)
    left = tuple(r for r in function.relocs if not _is_of_record(r))
    return function._replace(insns=tuple(insns), relocs=left)


def _record_types() -> Btf:
    """The records as a kernel's types would have them: ``probes.user_events`` says what is in each."""
    b = Builder("little")
    long = b.integer("long", 8, signed=True)
    arguments = b.array(b.integer("unsigned long", 8), 0)
    number = b.integer("int", 4, signed=True)
    b.struct("syscall_trace_enter", 16, [("nr", number, 64), ("args", arguments, 128)])
    b.struct("syscall_trace_exit", 24, [("nr", number, 64), ("ret", long, 128)])
    for category, event in user_events.tracepoints():
        if category != "syscalls":
            fields = parse_format(user_events.event_format(category, event)).fields
            rows = [(_member(f), _type(b, f), 8 * f.offset) for f in fields if f.offset >= 8]
            end = max(f.offset + f.size for f in fields)
            b.struct(f"trace_event_raw_{event}", end, rows)
    return b.build()


def _member(field: FormatField) -> str:
    return f"__{field.dynamic}_loc_{field.name}" if field.dynamic else field.name


def _type(b: Builder, field: FormatField) -> int:
    if not field.array:
        return b.integer(field.type, field.size, signed=field.signed)
    element = field.size // field.array
    return b.array(b.integer(field.type, element, signed=field.signed), field.array)
