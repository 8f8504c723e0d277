"""Tracepoints' records in built scripts: their fields are found by the format files of where they run.

In the object they are members of the kernel's structs, for other loaders. An event may have changed its
struct since, and the user engine has no kernel's: the format file says it in any case.
"""

from __future__ import annotations

from tracebee.btf.builder import Builder
from tracebee.engine.kernel.core import Core
from tracebee.errors import UnsupportedError
from tracebee.probes.tracepoint_format import parse_format
from tracebee.probes.tracepoint_record import member_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.isa.insn import Insn
    from tracebee.lang.script import Attachment
    from tracebee.obj.model import Object, ProgramDef, Reloc
    from tracebee.probes.tracepoint_format import FormatField

_RECORDS = ("struct trace_event_raw_", "struct syscall_trace_enter", "struct syscall_trace_exit")
_COMMON = 8  # bytes of every record that are not the event's own


def with_records(obj: Object, attachment: Attachment, events: ModuleType) -> Object:
    """The object with the places of fields in the program of a tracepoint.

    :param events: where format files are: ``kernel.tracefs``, or ``probes.user_events`` in its place.
    :raises UnsupportedError: the event has not all the fields, or has one in another form.
    """
    program = next(p for p in obj.programs if p.name == attachment.program)
    names = {r.core.type_name for r in program.function.relocs if r.core is not None and _is_of_record(r)}
    if not names:
        return obj
    spec = attachment.targets[0].spec
    fields = parse_format(events.event_format(spec["system"], spec["event"])).fields
    types = _types(names, [f for f in fields if f.offset >= _COMMON], spec)
    settled = _settled(program, Core(obj, types), attachment.targets[0].probe)
    return obj._replace(programs=tuple(settled if p is program else p for p in obj.programs))


def _is_of_record(reloc: Reloc) -> bool:
    return reloc.core is not None and reloc.core.type_name.startswith(_RECORDS)


def _settled(program: ProgramDef, core: Core, probe: str) -> ProgramDef:
    insns: list[Insn] = list(program.function.insns)
    for reloc in program.function.relocs:
        if reloc.core is not None and _is_of_record(reloc):
            if core.lacks(reloc.core):
                field = core.describe(reloc.core).rpartition(".")[2]
                raise UnsupportedError(
                    f"{probe} has no '{field}' here, or in another form than where the script was built",
                    hint="build the script on this kernel",
                )
            (insns[reloc.at],) = core.patch(insns[reloc.at], reloc)
    left = tuple(r for r in program.function.relocs if not _is_of_record(r))
    return program._replace(function=program.function._replace(insns=tuple(insns), relocs=left))


def _types(names: Iterable[str], fields: list[FormatField], spec: dict[str, Any]) -> Btf:
    """Types in which the structs that the program was compiled with are the event's record."""
    b = Builder("little")
    is_call = spec["system"] == "syscalls"
    rows = (
        _call_members(b, fields) if is_call else [(member_name(f), _type(b, f), 8 * f.offset) for f in fields]
    )
    size = max((f.offset + f.size for f in fields), default=_COMMON)
    for name in names:
        b.struct(name.removeprefix("struct "), size, rows)
    return b.build()


def _call_members(b: Builder, fields: list[FormatField]) -> list[tuple[str, int, int]]:
    """``nr``, and ``args`` or ``ret``, as the kernel's structs of system calls call them."""
    rows = []
    for f in fields:
        if f.name == "__syscall_nr":
            rows.append(("nr", _type(b, f), 8 * f.offset))
        elif f.name == "ret":
            rows.append(("ret", _type(b, f), 8 * f.offset))
        else:
            rows.append(("args", b.array(b.integer("unsigned long", 8), 0), 8 * f.offset))
            break  # the others follow it
    return rows


def _type(b: Builder, field: FormatField) -> int:
    if not field.array:
        return b.integer(field.type, field.size, signed=field.signed)
    element = field.size // field.array
    return b.array(b.integer(field.type, element, signed=field.signed), field.array)
