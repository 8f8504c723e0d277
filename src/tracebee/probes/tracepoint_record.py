"""The kernel's own struct behind a tracepoint's record, for programs that other kernels are to take.

A format file says where fields lie on this kernel alone. An event's record is a struct that all events of
its class share (include/trace/stages/stage1_struct_define.h): ``struct trace_event_raw_CLASS``. Which class
that is, the kernel does not tell; most are called like their event, or have fields that no other has.
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import SymbolError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.probes.tracepoint_format import FormatField

_PREFIX = "trace_event_raw_"
# The records of system calls (kernel/trace/trace.h), by their events' prefixes.
_SYSCALLS = {"sys_enter_": "struct syscall_trace_enter", "sys_exit_": "struct syscall_trace_exit"}


def members(
    system: str, event: str, fields: Sequence[FormatField], events: Collection[str], btf: Btf
) -> dict[str, tuple[str, str]]:
    """By field: the struct and the path in it by which a loader finds the field; without those not known.

    :param fields: the event's, common ones left out.
    :param events: the names of the events there are.
    """
    try:
        if system == "syscalls":
            return _of_system_call(event, fields, btf)
        wanted = [member_name(field) for field in fields]
        found = _record(event, wanted, events, btf)
    except UnsupportedError:  # no type information at all
        return {}
    if found is None:
        return {}
    name, there = found
    return {f.name: (f"struct {name}", m) for f, m in zip(fields, wanted, strict=True) if m in there}


def _of_system_call(event: str, fields: Sequence[FormatField], btf: Btf) -> dict[str, tuple[str, str]]:
    record = next((r for prefix, r in _SYSCALLS.items() if event.startswith(prefix)), None)
    if record is None or not btf.find_all(record.removeprefix("struct "), kinds.BTF_KIND_STRUCT):
        return {}
    found = {}
    arguments = [f for f in fields if not f.dynamic and f.array is None and f.name != "__syscall_nr"]
    for field in fields:
        if field.name == "__syscall_nr":
            found[field.name] = (record, "nr")
    for number, field in enumerate(arguments):
        found[field.name] = (record, "ret" if record.endswith("exit") else f"args[{number}]")
    return found


def member_name(field: FormatField) -> str:
    """What the struct calls a field: data that lies elsewhere has its place in a member of another name."""
    return f"__{field.dynamic}_loc_{field.name}" if field.dynamic else field.name


def _record(
    event: str, wanted: list[str], events: Collection[str], btf: Btf
) -> tuple[str, frozenset[str]] | None:
    """The struct of an event's class, with its members' names."""
    try:
        own = btf.struct(f"struct {_PREFIX}{event}").id
    except SymbolError:
        pass
    else:
        return _PREFIX + event, frozenset(_names(btf, own))
    # A struct that is called like an event is that event's.
    found = [
        name
        for name, type_id in btf.names(kinds.BTF_KIND_STRUCT)
        if name.startswith(_PREFIX)
        and name.removeprefix(_PREFIX) not in events
        and _names(btf, type_id) == wanted
    ]
    return (found[0], frozenset(wanted)) if len(found) == 1 else None


def _names(btf: Btf, type_id: int) -> list[str]:
    return [m.name for m in btf.type(type_id).members if m.name not in ("ent", "__data")]
