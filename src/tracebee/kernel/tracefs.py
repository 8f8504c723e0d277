"""Files of tracefs: tracepoints, the functions that can be traced, printed text.

Source: Documentation/trace/events.rst and ftrace.rst.
"""

from __future__ import annotations

import os

from tracebee.kernel.mounts import tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def categories() -> list[str]:
    """The tracepoints' categories, sorted."""
    return _directories(f"{tracefs()}/events")


def events(category: str) -> list[str]:
    """The tracepoints of a category, sorted; none for a category that does not exist."""
    return _directories(f"{tracefs()}/events/{category}")


def tracepoints() -> list[tuple[str, str]]:
    """All tracepoints as (category, event), sorted; one read of ``available_events``."""
    with open(f"{tracefs()}/available_events") as file:
        pairs = [line.rstrip("\n").partition(":") for line in file]
    return sorted((category, event) for category, _, event in pairs)


def event_exists(category: str, event: str) -> bool:
    """Whether there is such a tracepoint: one look, no directory is walked."""
    return os.path.exists(f"{tracefs()}/events/{category}/{event}/format")


def event_id(category: str, event: str) -> int:
    """A tracepoint's number for perf_event_open(2).

    :raises SymbolError: there is no such tracepoint; with the nearest names.
    """
    try:
        with open(f"{tracefs()}/events/{category}/{event}/id") as file:
            return int(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise _no_tracepoint(category, event) from None


def event_format(category: str, event: str) -> str:
    """The text of a tracepoint's ``format`` file: its fields with C types, offsets and sizes.

    :raises SymbolError: there is no such tracepoint; with the nearest names.
    """
    try:
        with open(f"{tracefs()}/events/{category}/{event}/format") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise _no_tracepoint(category, event) from None


def traceable_functions() -> Iterator[tuple[str, str]]:
    """Functions ftrace can hook, as (name, module or empty), from ``available_filter_functions``.

    Nothing on kernels without function tracing, or where it is forbidden.
    """
    try:
        file = open(f"{tracefs()}/available_filter_functions")  # noqa: SIM115 - closed below
    except (FileNotFoundError, PermissionError):
        return
    with file:
        for line in file:
            name, _, module = line.rstrip("\n").partition(" ")
            # Functions of sections that were dropped after boot have placeholders for names.
            if not name.startswith("__ftrace_invalid_address__"):
                yield name, module.strip("[]\t ")


def trace_pipe() -> int:
    """A descriptor that yields, and consumes, what bpf_trace_printk writes; the caller closes it."""
    return os.open(f"{tracefs()}/trace_pipe", os.O_RDONLY | os.O_CLOEXEC)


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _no_tracepoint(category: str, event: str) -> Exception:
    from tracebee.errors import SymbolError
    from tracebee.suggest import nearest

    names = [":".join(pair) for pair in tracepoints()]
    name = f"{category}:{event}"
    return SymbolError(f"there is no tracepoint {name}", nearest(name, names))
