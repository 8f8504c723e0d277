"""A compiled script: the BPF object, and what user space must know to attach it and print its output.

Plain data throughout: everything but the object itself travels as JSON in ``Object.metadata``, so
that a script built into an ELF file prints what the script would have printed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tracebee.lang.types import Type
from tracebee.obj.model import Object

# Names of the maps every script may have besides its own (which are called as in the script,
# without "@", the nameless one "AT").
EVENTS = "events"  # ring buffer: records of Action.layout behind a header {u32 action, u32 0}
LOST = "lost"  # per-CPU array of u64, one per LostCause
STACKS = "stacks"  # BPF_MAP_TYPE_STACK_TRACE; a stack key's id indexes it, or, negated, STACKS_MORE
STACKS_MORE = "stacks_more"  # hash: whole stack -> s64 id, for stacks whose STACKS bucket was taken
SCRATCH = "scratch"  # per-CPU array, one element per program: objects too large for the BPF stack


class Target(NamedTuple):
    """One thing a program attaches to, with the name ``probe`` prints and its cookie (the index of
    that name in ``Script.probe_names``). ``spec`` belongs to the probe kind.
    """

    probe: str
    cookie: int
    spec: dict[str, Any]


class Attachment(NamedTuple):
    """A program and everywhere it attaches. ``kind`` names the probe kind (``kprobe``, ``usdt``...)."""

    program: str
    kind: str
    targets: tuple[Target, ...]


class Action(NamedTuple):
    """What user space does when an event record with this action's number arrives.

    ``kind``: printf, print_value, print_map, clear, zero, exit, join, time, system, cat, errorf,
    strftime, cgroup, runtime_error... ``layout`` is a tuple type for the record's payload, after
    the 8-byte header; ``format`` the format string; ``args`` further constants by name (map, top, div).
    """

    kind: str
    layout: Type
    format: str = ""
    args: dict[str, Any] = {}  # noqa: RUF012 - never changed
    line: int = 0
    column: int = 0


class MapInfo(NamedTuple):
    """How a script's map prints: its name with ``@``, key type (None for a scalar map), value type."""

    name: str
    map: str  # MapDef.name in the object
    key: Type | None
    value: Type
    scalar_index: int = -1  # >= 0: the value lies at this byte offset of the data map ``map``


class Script(NamedTuple):
    """A compiled script."""

    object: Object
    attachments: tuple[Attachment, ...]
    actions: tuple[Action, ...]
    maps: tuple[MapInfo, ...]
    probe_names: tuple[str, ...]
    strings: tuple[str, ...]
    config: dict[str, Any]
    lost_causes: tuple[str, ...] = ()
