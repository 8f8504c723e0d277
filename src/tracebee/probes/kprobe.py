"""kprobe and kretprobe: kernel functions.

Spellings: ``kprobe:FUNCTION``, ``:MODULE:FUNCTION``, ``:FUNCTION+OFFSET``, ``:ADDRESS``, wildcards in
function and module. Many functions attach in bulk by kprobe.multi where the kernel has it.
"""

from __future__ import annotations

import errno
import re

from tracebee.errors import Diagnostic, KernelError, MissingProbe, TracebeeError
from tracebee.kernel import kallsyms, tracefs
from tracebee.kernel.link import Link
from tracebee.kernel.perf import PerfEvent
from tracebee.probes import kernel_functions
from tracebee.probes.bulk import attach_type
from tracebee.probes.group import CallGroup
from tracebee.probes.kinds import kind_of
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.uapi import BPF_PROG_TYPE_KPROBE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.probes.machine import Machine

_PLACE = re.compile(r"(?P<name>[^+]+?)(?:\+(?P<offset>0[xX][0-9a-fA-F]+|\d+))?$")
_PER_LINK = 1 << 16  # functions of one kprobe.multi link


class KernelFunction(CallGroup):
    """Kernel functions; the context is the registers at the function's start or end."""

    program_type = BPF_PROG_TYPE_KPROBE


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[KernelFunction]:
    """One group; specs have ``function``, perhaps ``offset``, or an ``address``."""
    kind = kind_of(point.parts[0]).name
    module, place = _split(point, kind)
    wanted = [(f"{kind}:{name}", spec) for name, spec in _places(module, place, kind, machine)]
    multi = attach_type(kind, [spec for _, spec in wanted], machine)
    name = f"{kind}.multi" if multi else kind
    section = f"{name}/{place}" if len(wanted) == 1 or multi else name
    group = KernelFunction(kind, section, wanted, machine.regs, returns=kind == "kretprobe")
    group.expected_attach_type = multi
    return [group]


def _split(point: AttachPoint, kind: str) -> tuple[str, str]:
    parts = point.parts[1:]
    if len(parts) == 1 and parts[0]:
        return "", parts[0]
    if len(parts) == 2 and parts[1]:
        return parts[0], parts[1]
    raise Diagnostic(f"{kind} needs a function", hint=f"write {kind}:FUNCTION or {kind}:MODULE:FUNCTION")


def _places(module: str, place: str, kind: str, machine: Machine) -> Iterator[tuple[str, dict[str, Any]]]:
    if place[:1].isdigit():
        try:
            yield place, {"address": int(place, 0)}
        except ValueError:
            raise Diagnostic(f"'{place}' is neither an address nor a function") from None
    elif is_wild(place) or is_wild(module):
        yield from _wild(module, place)
    else:
        yield _one(module, place, kind, machine)


def _wild(module: str, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    known = kernel_functions.traceable()
    forbidden = kallsyms.kprobe_blacklist()
    count = 0
    for name in matching(place, known):
        if name in forbidden or (module and not any(matching(module, [known[name] or "vmlinux"]))):
            continue
        count += 1
        yield name, {"function": name}
    if not count:
        raise MissingProbe(
            f"no kernel function matches '{place}'" + (f" in module '{module}'" if module else ""),
            hint="tracebee -l 'kprobe:*' lists functions",
        )


def _one(module: str, place: str, kind: str, machine: Machine) -> tuple[str, dict[str, Any]]:
    match = _PLACE.match(place)
    if match is None:
        raise Diagnostic(f"'{place}' is not a function")
    name, offset = match["name"], int(match["offset"] or "0", 0)
    if offset and kind == "kretprobe":
        raise Diagnostic("kretprobe cannot have an offset: it fires when the function returns")
    symbols = [s for s in kallsyms.find(name) if s.kind in "tTwW"]
    if not symbols:
        raise _not_found(name)
    where = symbols[0].module or "vmlinux"
    if module and not any(matching(module, [s.module or "vmlinux" for s in symbols])):
        raise MissingProbe(f"'{name}' is not in module '{module}' but in '{where}'")
    if name in kallsyms.kprobe_blacklist():
        raise Diagnostic(f"'{name}' cannot be probed: it is on the kernel's kprobe blacklist")
    if all(s.kind == "t" for s in symbols) and not _takes_probes(name):
        raise MissingProbe(
            f"the kernel takes no probes on '{name}'",
            hint="the source says inline or notrace there; probe a caller of it",
        )
    spec: dict[str, Any] = {"function": name}
    if offset:
        spec["offset"] = offset
    copies = kernel_functions.copies(name)
    if copies:
        machine.warn(
            f"{kind}:{name} misses calls of the copies that the compiler made of it: {', '.join(copies)}; "
            f"{kind}:{name}* traces them too"
        )
    return place, spec


def _takes_probes(name: str) -> bool:
    """Whether a function may be probed. The kernel refuses those that ftrace cannot hook.

    Unless it has CONFIG_KPROBE_EVENTS_ON_NOTRACE: so what is not in ftrace's list is tried. Functions
    meant are copies of inline ones, which no other file can name.
    """
    known = dict(tracefs.traceable_functions())
    if not known or name in known:
        return True
    try:
        PerfEvent.kprobe(name).close()
    except KernelError as error:
        return error.errno != errno.EINVAL
    except TracebeeError:
        pass  # no right to, no kprobes: attaching says it better
    return True


def _not_found(name: str) -> Diagnostic:
    copies = kernel_functions.copies(name)
    if copies:
        return MissingProbe(
            f"the compiler has replaced '{name}' by {', '.join(copies)}", hint=f"use '{copies[0]}'"
        )
    inlined = "it may have been inlined; tracebee -l 'kprobe:*' lists functions"
    return missing(f"no kernel function is called '{name}'", name, kernel_functions.traceable(), inlined)


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """In bulk where the program was loaded for it, else one perf event for each function."""
    returns = session.kind == "kretprobe"
    if session.is_multi:
        for part in session.steps([targets[i : i + _PER_LINK] for i in range(0, len(targets), _PER_LINK)]):
            yield Link.kprobe_multi(
                program,
                symbols=[t.spec["function"] for t in part],
                cookies=[t.cookie for t in part],
                retprobe=returns,
            )
        return
    for target in session.steps(targets):
        spec = target.spec
        event = PerfEvent.kprobe(
            spec["address"] if "address" in spec else spec["function"],
            offset=spec.get("offset", 0),
            retprobe=returns,
            what=target.probe,
        )
        yield session.perf_link(program, event, target.cookie)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every function that can be probed."""
    kind = "kretprobe" if pattern.startswith("kretprobe") else "kprobe"
    forbidden = kallsyms.kprobe_blacklist()
    for name in kernel_functions.traceable():
        if name not in forbidden:
            yield f"{kind}:{name}"
