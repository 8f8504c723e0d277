"""``-l``: probes by pattern, with ``-v`` their arguments; and kernel types by name.

``-l PATTERN`` takes shell wildcards; a pattern without a colon is looked for anywhere in the names.
``-l 'struct NAME'`` prints a type's definition. ``-l FILE`` lists what a script would attach to.
"""

from __future__ import annotations

import os

from tracebee.errors import Diagnostic, TracebeeError
from tracebee.probes.kinds import KINDS, kind_of, module_of
from tracebee.probes.machine import Machine, is_wild, matching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.cli.arguments import Arguments

_TYPE_WORDS = ("struct ", "union ", "enum ")
# Kinds that need a path to list anything, and those that only repeat another's names.
_NOT_SEARCHED = frozenset(
    ("uprobe", "uretprobe", "usdt", "kretprobe", "fexit", "profile", "watchpoint", "self")
)


# Kinds whose names have paths, which a pattern may spell otherwise: they choose the names themselves.
_FILTERED = frozenset(("uprobe", "uretprobe", "usdt"))
# Kinds whose names have a module that a pattern may leave out.
_WITH_MODULE = frozenset(("rawtracepoint", "fentry", "fexit"))


def list_probes(arguments: Arguments) -> int:
    """Print what matches; the exit code is 1 when nothing does."""
    pattern = arguments.script or (arguments.parameters[0] if arguments.parameters else "*")
    verbose = arguments.flag("verbose")
    if pattern.startswith(_TYPE_WORDS):
        return _list_types(pattern)
    machine = Machine(int(arguments.text("pid") or 0) or None)
    lines = _of_script(pattern, machine, arguments) if os.path.isfile(pattern) else matches(pattern, machine)
    found = 0
    for name in lines:
        found += 1
        print(name)
        if verbose:
            for line in _describe(name, machine):
                print(f"    {line}")
    return 0 if found else 1


def matches(pattern: str, machine: Machine) -> Iterator[str]:
    """Names of the probes that a pattern matches, kind by kind."""
    if pattern.endswith(".bt"):
        raise Diagnostic(f"there is no script '{pattern}'")
    head, colon, _ = pattern.partition(":")
    if colon and not is_wild(head):
        kind = kind_of(head)
        full = kind.name + pattern[len(head) :]
        names = module_of(kind.name).listing(machine, full)
        if kind.name not in _FILTERED:
            if kind.name in _WITH_MODULE and full.count(":") == 1:
                full = full.replace(":", ":*:")
            names = _matching(full, names)
        yield from names
        return
    if machine.pid is not None and pattern == "*":
        yield from module_of("usdt").listing(machine, "usdt:")
    done = set()
    for kind in KINDS:
        if kind.module in done or kind.name in _NOT_SEARCHED:
            continue
        done.add(kind.module)
        try:
            names = module_of(kind.name).listing(machine, f"{kind.name}:*")
            yield from _matching(pattern if colon or is_wild(pattern) else f"*{pattern}*", names)
        except (TracebeeError, OSError):
            continue  # a kind that this kernel or this user does not have is not in the list


def _matching(pattern: str, names: Iterable[str]) -> Iterator[str]:
    if is_wild(pattern):
        return matching(pattern, names)
    # "tracepoint:sched" and "tracepoint:sched:" mean all of it.
    return (name for name in names if name == pattern or name.startswith(pattern.rstrip(":") + ":"))


def _describe(name: str, machine: Machine) -> Iterator[str]:
    describe: Any = getattr(module_of(name.partition(":")[0]), "describe", None)
    if describe is not None:
        try:
            yield from describe(machine, name)
        except (TracebeeError, OSError):
            return  # the name stands alone: nothing more is known of it


def _of_script(path: str, machine: Machine, arguments: Arguments) -> Iterator[str]:
    from tracebee.lang import ast
    from tracebee.lang.frontend import load
    from tracebee.source import Source

    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        loaded = load(Source(path, file.read()), params=arguments.parameters[1:])
    for probe in loaded.program.of(ast.Probe):
        for point in probe.points:
            for group in module_of(point.parts[0]).expand(point, machine, frozenset()):
                yield from dict.fromkeys(name for name, _ in group.wanted)


def _list_types(pattern: str) -> int:
    from tracebee.btf.opening import open_vmlinux

    btf = open_vmlinux()
    word, _, name = pattern.partition(" ")
    if is_wild(name):
        found = sorted(_type_names(word, name))
        print("\n".join(found))
        return 0 if found else 1
    print(definition(btf, btf.resolve(btf.find(pattern))))
    return 0


def definition(btf: Btf, type_id: int) -> str:
    """A struct, union or enum as C defines it, its members' types by name."""
    record = btf.type(type_id)
    name = btf.name_of(type_id)
    if record.enumerators:
        body = [f"\t{e.name} = {e.value}," for e in record.enumerators]
    else:
        body = [
            f"\t{btf.declare(m.type_id, m.name)}{f':{m.bit_size}' if m.bit_size else ''};"
            for m in record.members
        ]
    return "\n".join([f"{name} {{", *body, "};"])


def _type_names(word: str, pattern: str) -> Iterator[str]:
    from tracebee.btf import kinds
    from tracebee.btf.opening import open_vmlinux

    kind = {"struct": kinds.BTF_KIND_STRUCT, "union": kinds.BTF_KIND_UNION, "enum": kinds.BTF_KIND_ENUM}[word]
    names = dict.fromkeys(n for n, _ in open_vmlinux().names(kind) if n)
    return (f"{word} {n}" for n in matching(pattern, names))
