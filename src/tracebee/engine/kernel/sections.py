"""Attaching a loaded program where its ELF section says, as libbpf's ``bpf_program__attach`` does."""

from __future__ import annotations

import os
import re

from tracebee.errors import UnsupportedError
from tracebee.kernel.link import Link
from tracebee.lang.ast import AttachPoint
from tracebee.lang.script import Target
from tracebee.probes.kinds import module_of
from tracebee.probes.machine import Machine
from tracebee.probes.session import Session, close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.kernel.program import Program
    from tracebee.obj.model import ProgramDef

_SYSCALL_PREFIX = {"x86_64": "__x64_sys_", "aarch64": "__arm64_sys_"}
_PATH_AND_PLACE = re.compile(r"(?P<path>/.*?|[^:]+):(?P<place>.+)$")


def attach_section(program: Program, definition: ProgramDef) -> list[Any]:
    """Attach a program by its section's name; the results are closed to detach it.

    :raises UnsupportedError: the section does not say where, or attaching there needs a target, such as
        a cgroup or a network device.
    :raises SymbolError, Diagnostic: there is nothing of that name to attach to.
    """
    head, _, rest = definition.section.removeprefix("?").partition("/")
    head = head.removesuffix(".s")
    attach = _BY_SECTION.get(head)
    if attach is None or (not rest and head in _NEEDS_TARGET):
        raise UnsupportedError(
            f"section '{definition.section}' does not say where '{program.name}' is to be attached",
            hint="attach it by name: 'tracebee prog attach', or from Python",
        )
    return attach(program, definition, head, rest)


def _probe(kind: str, *parts: str) -> Callable[[Program, ProgramDef, str, str], list[Any]]:
    """Attach as a script's probe of that kind is; ``parts`` are formats of what follows the kind."""

    def attach(program: Program, definition: ProgramDef, head: str, rest: str) -> list[Any]:
        words = [kind, *(part for text in parts for part in _split(text, head, rest))]
        point = AttachPoint(parts=words, text=":".join(words))
        session = Session()
        session.kind = kind
        session.attach_type = definition.expected_attach_type
        session.attach_target = definition.attach_target
        module, machine = module_of(kind), Machine()
        made: list[Any] = []
        try:
            for group in module.expand(point, machine, frozenset()):
                targets = [Target(name, 0, spec) for name, spec in group.wanted]
                made += module.attach(program, targets, session)
        except BaseException:
            close_all(made)
            raise
        return made

    return attach


def _split(text: str, head: str, rest: str) -> list[str]:
    if text == "syscall":
        return [_SYSCALL_PREFIX[os.uname().machine] + rest]
    if text == "category":
        return rest.split("/", 1)
    if text == "path":
        match = _PATH_AND_PLACE.match(rest)
        if match is None:
            raise UnsupportedError(f"'{head}/{rest}' has no function", hint=f"write {head}/PATH:FUNCTION")
        return [match["path"], match["place"]]
    return [rest]


def _raw_tracepoint(program: Program, definition: ProgramDef, head: str, rest: str) -> list[Any]:
    del definition, head
    return [Link.raw_tracepoint(program, rest)]


def _tracing(program: Program, definition: ProgramDef, head: str, rest: str) -> list[Any]:
    """The target was given when the program was loaded."""
    del definition, head, rest
    return [Link.raw_tracepoint(program)]


def _iterator(program: Program, definition: ProgramDef, head: str, rest: str) -> list[Any]:
    del definition, head, rest
    return [Link.iterator(program)]


def _session(program: Program, definition: ProgramDef, head: str, rest: str) -> list[Any]:
    del definition, head
    from tracebee.probes.kernel_functions import traceable
    from tracebee.probes.machine import matching

    return [Link.kprobe_multi(program, symbols=list(matching(rest, traceable())), session=True)]


_BY_SECTION: dict[str, Callable[[Program, ProgramDef, str, str], list[Any]]] = {
    "kprobe": _probe("kprobe", "rest"),
    "kretprobe": _probe("kretprobe", "rest"),
    "kprobe.multi": _probe("kprobe", "rest"),
    "kretprobe.multi": _probe("kretprobe", "rest"),
    "ksyscall": _probe("kprobe", "syscall"),
    "kretsyscall": _probe("kretprobe", "syscall"),
    "kprobe.session": _session,
    "uprobe": _probe("uprobe", "path"),
    "uretprobe": _probe("uretprobe", "path"),
    "uprobe.multi": _probe("uprobe", "path"),
    "uretprobe.multi": _probe("uretprobe", "path"),
    "tracepoint": _probe("tracepoint", "category"),
    "tp": _probe("tracepoint", "category"),
    "raw_tracepoint": _raw_tracepoint,
    "raw_tp": _raw_tracepoint,
    "raw_tracepoint.w": _raw_tracepoint,
    "raw_tp.w": _raw_tracepoint,
    "tp_btf": _tracing,
    "fentry": _tracing,
    "fexit": _tracing,
    "fmod_ret": _tracing,
    "freplace": _tracing,
    "lsm": _tracing,
    "iter": _iterator,
}
_NEEDS_TARGET = frozenset(_BY_SECTION) - {"freplace"}


def is_attachable(definition: ProgramDef) -> bool:
    """Whether the section alone says where to attach."""
    head, _, rest = definition.section.removeprefix("?").partition("/")
    head = head.removesuffix(".s")
    return head in _BY_SECTION and (bool(rest) or head not in _NEEDS_TARGET)
