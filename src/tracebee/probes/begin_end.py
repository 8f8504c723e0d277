"""BEGIN and END: run by tracebee itself, through BPF_PROG_TEST_RUN of a raw tracepoint program.

A test run executes in the calling thread, so ``pid``, ``comm`` and the stacks are tracebee's own, and
nothing has to be attached: no uprobe on our own binary, hence no symbol in it that must not be stripped.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.probes.group import Group
from tracebee.probes.kinds import kind_of
from tracebee.uapi import BPF_PROG_TYPE_RAW_TRACEPOINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tracebee.lang.ast import AttachPoint
    from tracebee.probes.machine import Machine


class BeginEnd(Group):
    """A program with nothing in its context."""

    program_type = BPF_PROG_TYPE_RAW_TRACEPOINT


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Group]:
    """One group; the target's name is spelled as the script spells it (``BEGIN`` or ``begin``)."""
    if len(point.parts) != 1:
        raise Diagnostic(f"{point.parts[0]} takes no arguments")
    kind = kind_of(point.parts[0]).name
    return [BeginEnd(kind, f"raw_tp/{kind}", [(point.parts[0], {})])]


def attach(program: Any, targets: Any, session: Any) -> Iterator[Any]:
    """Nothing: the engine runs these programs itself, before attaching the others and after."""
    yield from ()


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Both names."""
    yield from ("BEGIN", "END")
