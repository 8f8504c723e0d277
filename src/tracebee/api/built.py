"""A script out of an object file, made ready for this machine: the numbers that its code takes from here, and
the links that this kernel has.
"""

from __future__ import annotations

import os
import time

from tracebee.api import this_machine
from tracebee.errors import SymbolError, TracebeeError, UnsupportedError
from tracebee.lang.script import RODATA
from tracebee.lang.types import NONE, Type, TypeField

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from tracebee.lang.script import Attachment, Script


def for_this_machine(
    script: Script, *, command_pid: int | None = None, user: bool = False, without: Collection[str] = ()
) -> Script:
    """The script with this machine's numbers in its constants, attached in bulk where that can be.

    :param command_pid: the process of ``-c``.
    :param user: for the user engine.
    :param without: kernel features to do without (``--no-feature``), by their names in ``probes.machine``.
    :raises SymbolError: it names something that is not here.
    :raises UnsupportedError: it reads something that lies elsewhere here, and has not been told where.
    """
    maps = tuple(
        m._replace(contents=_constants(m.contents or b"", script, command_pid)) if m.name == RODATA else m
        for m in script.object.maps
    )
    for attachment in script.attachments:
        script = _attached_here(script, attachment, user=user)
    bulk = _attach_types(script, without)
    programs = tuple(
        p._replace(expected_attach_type=bulk[p.name]) if bulk.get(p.name) else p
        for p in script.object.programs
    )
    obj = script.object._replace(maps=maps, programs=programs)
    return script._replace(
        object=obj,
        actions=tuple(a._replace(layout=_named(a.layout)) for a in script.actions),
        maps=tuple(
            m._replace(key=None if m.key is None else _named(m.key), value=_named(m.value))
            for m in script.maps
        ),
    )


def _named(t: Type) -> Type:
    """The type with the names that this kernel's enumerations have for their values."""
    if t.kind == "enum" and t.number and t.fields:
        from tracebee.btf.reader import Btf

        try:
            found = Btf.vmlinux().enumerators(t.name)
        except (SymbolError, UnsupportedError):
            return t
        return t._replace(fields=tuple(TypeField(e.name, NONE, e.value) for e in found))
    element = None if t.element is None else _named(t.element)
    return t._replace(fields=tuple(f._replace(type=_named(f.type)) for f in t.fields), element=element)


def _attached_here(script: Script, built: Attachment, *, user: bool) -> Script:
    """The script with an attachment's targets as they are here, and its program reading what they have."""
    from tracebee.engine.records import with_records
    from tracebee.probes.built_places import found_here

    obj = script.object
    try:
        if built.kind == "tracepoint":
            from tracebee.probes.machine import Machine
            from tracebee.probes.tracepoint import check_layout

            events = Machine(user=user).events
            for target in built.targets:
                check_layout(target.spec, events)
            obj = with_records(obj, built, events)
        targets = tuple(t._replace(spec=found_here(built.kind, t.spec)) for t in built.targets)
    except TracebeeError as error:
        error.place(script.source, built.span)
        raise
    here = built._replace(targets=targets)
    attachments = tuple(here if a is built else a for a in script.attachments)
    return script._replace(object=obj, attachments=attachments)


def _constants(contents: bytes, script: Script, command_pid: int | None) -> bytes:
    filled = bytearray(contents)
    values: list[list[Any]] = script.config.get("machine_values", [])
    for offset, kind, *words in values:
        number = (command_pid or 0) if kind == "cpid" else _VALUES[kind](*words)
        filled[offset : offset + 8] = number.to_bytes(8, "little")
    return bytes(filled)


def _attach_types(script: Script, without: Collection[str]) -> dict[str, int]:
    """By program: what this kernel attaches many targets at once with; 0 for one by one."""
    from tracebee.probes.bulk import attach_type
    from tracebee.probes.machine import Machine

    machine = Machine(without=without)
    return {a.program: attach_type(a.kind, [t.spec for t in a.targets], machine) for a in script.attachments}


def _pid_namespace(what: str) -> int:
    device, inode = this_machine.pid_namespace() or (0, 0)
    return inode if what == "inode" else device


def _kaddr(name: str) -> int:
    address = this_machine.kernel_address(name)
    if not address:
        raise SymbolError(
            f"the script asks for the address of '{name}', which this kernel does not have",
            hint="/proc/kallsyms has all names there are; reading addresses there takes root",
        )
    return address


def _uaddr(path: str, name: str) -> int:
    address, _ = this_machine.user_symbol(path, name)
    if not address:
        raise SymbolError(f"the script asks for the address of '{name}', which {path} does not have here")
    return address


def _cgroupid(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        raise SymbolError(
            f"the script asks for the id of cgroup '{path}', which does not exist here"
        ) from None


# What ``lang.unit.Unit.machine_value`` may ask for.
_VALUES: dict[str, Callable[..., int]] = {
    "start": lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    "ncpus": this_machine.possible_cpus,
    "pid_namespace": _pid_namespace,
    "kaddr": _kaddr,
    "uaddr": _uaddr,
    "cgroupid": _cgroupid,
}
