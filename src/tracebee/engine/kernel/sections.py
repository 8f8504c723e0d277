"""Attaching a loaded program where its ELF section says, as libbpf's ``bpf_program__attach`` does."""

from __future__ import annotations

import os
import re

from tracebee.errors import UnsupportedError, UsageError
from tracebee.kernel.link import Link
from tracebee.lang.ast import AttachPoint
from tracebee.lang.script import Target
from tracebee.probes.kinds import OF_OBJECTS, module_of
from tracebee.probes.machine import Machine, kernel_has
from tracebee.probes.session import Session, close_all
from tracebee.typed import NamedTuple
from tracebee.uapi import BPF_TRACE_UPROBE_MULTI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.program import Program
    from tracebee.obj.model import Object, ProgramDef

_SYSCALL_PREFIX = {"x86_64": "__x64_sys_", "aarch64": "__arm64_sys_"}
_PATH_AND_PLACE = re.compile(r"(?P<path>/.*?|[^:]+):(?P<place>.+)$")
_OFFSET = re.compile(r"\+(0[xX][0-9a-fA-F]+|\d+)$")


class Wish(NamedTuple):
    """One program to be attached. ``head`` and ``rest`` are its section's name, split at the first slash."""

    loaded: LoadedObject
    program: Program
    definition: ProgramDef
    head: str
    rest: str
    pid: int | None
    cookie: int


class _How(NamedTuple):
    """How programs of a section are attached.

    :param names_place: whether the section (or ``where``) has to say where; others are loaded for a place.
    :param one_process: whether they can be attached to one process.
    :param cookie: whether they can be given one.
    """

    attach: Callable[[Wish], list[Any]]
    names_place: bool = True
    one_process: bool = False
    cookie: bool = True


def for_this_kernel(obj: Object) -> Object:
    """The object with what section names leave to the kernel that programs are loaded into.

    USDT programs are of one type where one link can attach to all places, and of another elsewhere.
    """
    usdt = {p.name for p in obj.programs if _split(p.section)[0] == "usdt"}
    if not usdt or not kernel_has("uprobe_multi"):
        return obj
    return obj._replace(
        programs=tuple(
            p._replace(expected_attach_type=BPF_TRACE_UPROBE_MULTI) if p.name in usdt else p
            for p in obj.programs
        )
    )


def attach_section(
    loaded: LoadedObject, name: str, where: str = "", *, pid: int | None = None, cookie: int = 0
) -> list[Any]:
    """Attach a loaded program by its section's name; the results are closed to detach it.

    :param where: what the section has behind its slash, in place of it.
    :param pid: only in this process, for user code.
    :param cookie: what bpf_get_attach_cookie() answers (bpf_usdt_cookie() in USDT programs).
    :raises UsageError: it cannot be attached to one process, or given a cookie.
    :raises UnsupportedError: the section does not say where, or attaching there needs a target, such as
        a cgroup or a network device.
    :raises SymbolError, Diagnostic: there is nothing of that name to attach to.
    """
    definition = loaded.definition(name)
    head, rest = _split(definition.section)
    rest = where or rest
    how = _BY_SECTION.get(head)
    if how is None or (how.names_place and not rest):
        raise UnsupportedError(
            f"section '{definition.section}' does not say where '{name}' is to be attached",
            hint="attach it by name: 'tracebee prog attach', or from Python",
        )
    if pid is not None and not how.one_process:
        raise UsageError(
            f"'{name}' ({definition.section}) runs in every process",
            hint="let it compare bpf_get_current_pid_tgid() with a global variable",
        )
    if cookie and not how.cookie:
        raise UsageError(f"'{name}' ({definition.section}) cannot be given a cookie")
    return how.attach(Wish(loaded, loaded.programs[name], definition, head, rest, pid, cookie))


def links_of(made: Iterable[Any]) -> list[Any]:
    """The links that attachments are made of: what can be pinned."""
    return [part for whole in made for part in (whole.parts if hasattr(whole, "parts") else [whole])]


def is_attachable(definition: ProgramDef) -> bool:
    """Whether the section alone says where to attach."""
    head, rest = _split(definition.section)
    how = _BY_SECTION.get(head)
    return how is not None and (bool(rest) or not how.names_place)


def _split(section: str) -> tuple[str, str]:
    """A section's kind, the same for programs that may sleep, and what is behind the slash."""
    head, _, rest = section.removeprefix("?").partition("/")
    return head.removesuffix(".s"), rest


def _probe(
    kind: str,
    split: Callable[[Wish], list[str]],
    make: Callable[[Wish, list[Target]], Iterable[Any]] | None = None,
) -> Callable[[Wish], list[Any]]:
    """Attach as a script's probe of that kind: ``split`` gives the parts of its name, ``make`` the links."""

    def attach(wish: Wish) -> list[Any]:
        words = [kind, *split(wish)]
        point = AttachPoint(parts=words, text=":".join(words))
        module, machine = module_of(kind), Machine(wish.pid)
        session = Session(pid=wish.pid)
        session.kind = kind
        session.attach_type = wish.definition.expected_attach_type
        made: list[Any] = []
        try:
            for group in module.expand(point, machine, OF_OBJECTS):
                targets = [Target(name, wish.cookie, spec) for name, spec in group.wanted]
                made += module.attach(wish.program, targets, session) if make is None else make(wish, targets)
        except BaseException:
            close_all(made)
            raise
        return made

    return attach


def _whole(wish: Wish) -> list[str]:
    return [wish.rest]


def _event(wish: Wish) -> list[str]:
    return wish.rest.split("/", 1)


def _syscall(wish: Wish) -> list[str]:
    return [_SYSCALL_PREFIX[os.uname().machine] + wish.rest]


def _path(wish: Wish) -> list[str]:
    match = _PATH_AND_PLACE.match(wish.rest)
    if match is None:
        raise UnsupportedError(
            f"'{wish.head}/{wish.rest}' has no function", hint=f"write {wish.head}/PATH:FUNCTION"
        )
    if wish.head.startswith("uretprobe") and _OFFSET.search(match["place"]):
        raise UnsupportedError(
            f"'{wish.head}/{wish.rest}': a return probe fires when the function returns, it takes no offset"
        )
    return [match["path"], match["place"]]


def _kprobe_session(wish: Wish, targets: list[Target]) -> Iterable[Any]:
    names = [target.spec["function"] for target in targets]
    cookies = [wish.cookie] * len(names) if wish.cookie else []
    yield Link.kprobe_multi(wish.program, symbols=names, cookies=cookies, session=True)


def _uprobe_session(wish: Wish, targets: list[Target]) -> Iterable[Any]:
    by_path: dict[str, list[int]] = {}
    for target in targets:
        by_path.setdefault(target.spec["path"], []).append(target.spec["offset"])
    for path, offsets in by_path.items():
        cookies = [wish.cookie] * len(offsets) if wish.cookie else []
        yield Link.uprobe_multi(wish.program, path, offsets, cookies=cookies, pid=wish.pid or 0, session=True)


def _usdt(wish: Wish) -> list[Any]:
    from tracebee.engine.kernel.usdt import attach_usdt  # only for such programs

    parts = wish.rest.rsplit(":", 2)
    if len(parts) != 3 or not all(parts):
        raise UnsupportedError(
            f"'{wish.head}/{wish.rest}' does not name a USDT probe",
            hint=f"write {wish.head}/PATH:PROVIDER:NAME",
        )
    path, provider, name = parts
    return [
        attach_usdt(
            wish.loaded,
            wish.program,
            (path, provider, name),
            attach_type=wish.definition.expected_attach_type,
            pid=wish.pid,
            cookie=wish.cookie,
        )
    ]


def _raw_tracepoint(wish: Wish) -> list[Any]:
    return [Link.raw_tracepoint(wish.program, wish.rest, cookie=wish.cookie)]


def _tracing(wish: Wish) -> list[Any]:
    """The target was given when the program was loaded."""
    if wish.cookie:
        return [Link.tracing(wish.program, wish.definition.expected_attach_type, cookie=wish.cookie)]
    return [Link.raw_tracepoint(wish.program)]


def _iterator(wish: Wish) -> list[Any]:
    return [Link.iterator(wish.program, pid=wish.pid or 0)]


_RAW_TRACEPOINT = _How(_raw_tracepoint)
_TRACING = _How(_tracing, names_place=False)

_BY_SECTION: dict[str, _How] = {
    "kprobe": _How(_probe("kprobe", _whole)),
    "kretprobe": _How(_probe("kretprobe", _whole)),
    "kprobe.multi": _How(_probe("kprobe", _whole)),
    "kretprobe.multi": _How(_probe("kretprobe", _whole)),
    "kprobe.session": _How(_probe("kprobe", _whole, _kprobe_session)),
    "ksyscall": _How(_probe("kprobe", _syscall)),
    "kretsyscall": _How(_probe("kretprobe", _syscall)),
    "uprobe": _How(_probe("uprobe", _path), one_process=True),
    "uretprobe": _How(_probe("uretprobe", _path), one_process=True),
    "uprobe.multi": _How(_probe("uprobe", _path), one_process=True),
    "uretprobe.multi": _How(_probe("uretprobe", _path), one_process=True),
    "uprobe.session": _How(_probe("uprobe", _path, _uprobe_session), one_process=True),
    "usdt": _How(_usdt, one_process=True),
    "tracepoint": _How(_probe("tracepoint", _event)),
    "tp": _How(_probe("tracepoint", _event)),
    "raw_tracepoint": _RAW_TRACEPOINT,
    "raw_tp": _RAW_TRACEPOINT,
    "raw_tracepoint.w": _RAW_TRACEPOINT,
    "raw_tp.w": _RAW_TRACEPOINT,
    "tp_btf": _TRACING,
    "fentry": _TRACING,
    "fexit": _TRACING,
    "fmod_ret": _TRACING,
    "lsm": _TRACING,
    "freplace": _How(_tracing, names_place=False, cookie=False),
    "iter": _How(_iterator, names_place=False, one_process=True, cookie=False),
}
