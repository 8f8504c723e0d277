"""A compiled script: the BPF object, and what user space must know to attach it and print its output.

Plain data throughout: everything but the object itself travels as JSON in ``Object.metadata``, so
that a script built into an ELF file prints what the script would have printed.
"""

from __future__ import annotations

from tracebee.lang.types import Type
from tracebee.obj.model import Object
from tracebee.source import NO_SOURCE, NOWHERE, Source, Span
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Names of the maps every script may have besides its own (which are called as in the script,
# without "@", the nameless one "AT").
EVENTS = "events"  # ring buffer: records of Action.layout behind a header {u32 action, u32 0}
LOST = "lost"  # data section: a u64 for each of Script.lost_causes
# A stack key's id: >= 0 indexes STACKS (``stacks_name(frames)``: one map per number of frames asked
# for); < 0 is the value of one entry of STACKS_MORE, whose key is the stack; NO_STACK says that
# there was none (a kernel thread's user stack) or no room.
STACKS = "stacks"  # BPF_MAP_TYPE_STACK_TRACE: MAX_FRAMES addresses, of kernel and user stacks
STACKS_MORE = "stacks_more"  # hash: whole stack (MAX_FRAMES u64, zero-padded) -> s64 id
NO_STACK = -(1 << 63)
MAX_FRAMES = 127
SCALARS = "scalars"  # data-section map of the values of maps without a key, see MapInfo
RODATA = "rodata"  # data-section map of constants
SCRATCH = "scratch"  # per-CPU array, one element per program: objects too large for the BPF stack


class Target(NamedTuple):
    """One thing a program attaches to, with the name ``probe`` prints and its cookie (the index of
    that name in ``Script.probe_names``). ``spec`` belongs to the probe kind.
    """

    probe: str
    cookie: int
    spec: dict[str, Any]


class Attachment(NamedTuple):
    """A program and everywhere it attaches. ``kind`` names the probe kind (``kprobe``, ``usdt``...), ``span``
    is where the script says so.
    """

    program: str
    kind: str
    targets: tuple[Target, ...]
    span: Span = NOWHERE


class Action(NamedTuple):
    """What user space does when an event record with this action's number arrives.

    ``layout`` is a tuple type for the record's payload after the 8-byte header (u32 action, u32 0),
    ``format`` the format string, ``args`` further constants by name. ``kind`` is one of:

    ==============  ========================================================================
    printf          ``format`` with the payload's fields; so for errorf, warnf (a line and column
                    go with it), cat (a path), system (a command)
    print_value     the payload's one field
    print_map       ``args``: map (with ``@``), top, div (0: not given)
    print_key       one entry: ``args`` map; the payload's two fields are its key and value
    clear, zero     ``args``: map
    exit            the payload's one field is the exit code, a u8
    join            ``args``: sep; payload: u64 number of strings, then an array of strings
    time            ``format`` for strftime(3), of user space's clock; or of the payload's one field,
                    nanoseconds of CLOCK_BOOTTIME
    cgroup_path     never an action: a type; likewise strftime, ksym, usym
    helper_error    ``format`` is a helper's name: its call at this place failed, with the error number
                    that is the payload's one field, negative
    ==============  ========================================================================
    """

    kind: str
    layout: Type
    format: str = ""
    args: dict[str, Any] = {}  # noqa: RUF012 - never changed
    line: int = 0
    column: int = 0


class MapInfo(NamedTuple):
    """How a script's map prints: its name with ``@``, key type (None for a scalar map), value type.

    A scalar map with an aggregation is a per-CPU array of one element. Any other scalar map lies
    in the data map ``map``: its value at byte ``scalar_index``, and in the 8 bytes before that a
    u64 which is 0 until it is first set (and again when deleted): then there is nothing to print.
    A keyed map's key of one integer has that integer's size; values of one integer take 8 bytes.
    """

    name: str
    map: str  # MapDef.name in the object
    key: Type | None
    value: Type
    scalar_index: int = -1  # >= 0: the value lies at this byte offset of the data map ``map``


class Script(NamedTuple):
    """A compiled script; ``source`` is its text, for messages."""

    object: Object
    attachments: tuple[Attachment, ...]
    actions: tuple[Action, ...]
    maps: tuple[MapInfo, ...]
    probe_names: tuple[str, ...]
    strings: tuple[str, ...]
    config: dict[str, Any]
    lost_causes: tuple[str, ...] = ()
    source: Source = NO_SOURCE


def stacks_name(frames: int) -> str:
    """The name of the map that holds stacks cut off after ``frames`` frames."""
    return STACKS if frames >= MAX_FRAMES else f"{STACKS}_{frames}"
