"""The table of probe kinds: full name, the short names bpftrace has for it, the module that knows it."""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


class Kind(NamedTuple):
    """A row: ``module`` is under ``tracebee.probes`` and imported only when the kind is used."""

    name: str
    aliases: tuple[str, ...]
    module: str


KINDS = (
    Kind("begin", ("BEGIN",), "begin_end"),  # once, before the first probe is attached
    Kind("end", ("END",), "begin_end"),  # once, after the last probe is detached
    Kind("interval", ("i",), "timer"),  # every so often, on one CPU
    Kind("profile", ("p",), "timer"),  # so many times a second, on all CPUs
    Kind("software", ("s",), "perf_event"),  # the kernel's software events
    Kind("hardware", ("h",), "perf_event"),  # the processor's counters
    Kind("tracepoint", ("t",), "tracepoint"),  # static points in the kernel
    Kind("rawtracepoint", ("rt",), "rawtracepoint"),  # static points in the kernel, unformatted arguments
    Kind("kprobe", ("k",), "kprobe"),  # any kernel function, at its start or an offset
    Kind("kretprobe", ("kr",), "kprobe"),  # the return of any kernel function
    Kind("fentry", ("f", "kfunc"), "fentry"),  # the start of a kernel function, by BPF trampoline
    Kind("fexit", ("fr", "kretfunc"), "fentry"),  # the return of a kernel function, by BPF trampoline
    Kind("iter", ("it",), "iterator"),  # every kernel object of a kind, once
    Kind("uprobe", ("u",), "uprobe"),  # any function of a program or library
    Kind("uretprobe", ("ur",), "uprobe"),  # the return of a function of a program or library
    Kind("usdt", ("U",), "usdt"),  # static points in a program or library
    Kind("watchpoint", ("w",), "watchpoint"),  # a memory address read, written or executed
)

_BY_NAME = {name: kind for kind in KINDS for name in (kind.name, *kind.aliases)}


def kind_of(name: str) -> Kind:
    """The kind spelled ``name``.

    :raises Diagnostic: no kind is called so; with the nearest names.
    """
    kind = _BY_NAME.get(name)
    if kind is None:
        from tracebee.suggest import did_you_mean

        known = ", ".join(k.name for k in KINDS)
        hint = did_you_mean(name, _BY_NAME, count=2) or f"probe kinds: {known}"
        raise Diagnostic(f"unknown probe kind '{name}'", hint=hint)
    return kind


# What programs of object files use, as far as their probes are told: the context, in the form of its kind.
OF_OBJECTS = frozenset(("ctx",))


def module_of(name: str) -> Any:
    """The module that knows the kind spelled ``name``, imported now."""
    import importlib

    module: ModuleType = importlib.import_module(f"tracebee.probes.{kind_of(name).module}")
    return module
