"""What the programs of one script share while they are written: actions, constants, losses, slots."""

from __future__ import annotations

from tracebee.ir import Builder, Function, Module
from tracebee.lang.script import EVENTS, LOST, RODATA, SCALARS, Action
from tracebee.lang.types import AGGREGATIONS, Type, alignment, tuple_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.ir import Value
    from tracebee.lang.analyse import MapState
    from tracebee.source import Source, Span

# Map names of the object that a script's own map must not take.
RESERVED = frozenset(("AT", EVENTS, LOST, "stacks", "stacks_more", SCALARS, RODATA, "scratch"))


class Unit:
    """The script being compiled."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.module = Module(source)
        self.actions: list[Action] = []
        self.callbacks = 0
        self.subprograms: dict[str, Function] = {}
        self.lost: dict[str, int] = {}
        self.rodata = bytearray()
        self.frames: set[int] = set()  # sizes of stack maps
        self._constants: dict[tuple[bytes, int], int] = {}
        self._zeros = (0, -1)  # size and place of the longest run of zeros
        self._slots: dict[str, int] = {}
        self.scalars_size = 0
        self.next_stack_id = -1
        self.stop_offset = -1  # a lasting script's exit() leaves its code + 1 here
        # Numbers of the machine that runs the script, in RODATA: what each is, and its offset there.
        self.machine_values: dict[tuple[str, ...], int] = {}

    def action(
        self, kind: str, types: Sequence[Type], text: str = "", span: Span | None = None, **args: Any
    ) -> tuple[int, Type]:
        """A new action: its number, and the layout of its record's payload."""
        layout = tuple_of(types)
        line, column = (span.line, span.column) if span is not None else (0, 0)
        action = Action(kind, layout, text, args, line, column)
        for number, known in enumerate(self.actions[-64:], max(0, len(self.actions) - 64)):
            if known == action:
                return number, layout
        self.actions.append(action)
        return len(self.actions) - 1, layout

    def constant(self, data: bytes, align: int = 8) -> int:
        """The offset of these bytes in RODATA."""
        found = self._constants.get((data, align))
        if found is None:
            self.rodata.extend(bytes(-len(self.rodata) % align))
            found = self._constants[(data, align)] = len(self.rodata)
            self.rodata.extend(data)
        return found

    def zeros(self, size: int) -> int:
        """The offset of this many zero bytes in RODATA."""
        if self._zeros[0] < size or self._zeros[1] < 0:
            self._zeros = (size, self.constant(bytes(size)))
        return self._zeros[1]

    def slot(self, state: MapState) -> int:
        """The offset of a scalar map's value in SCALARS; a u64 before it says whether it was set."""
        found = self._slots.get(state.name)
        if found is None:
            size, align = max(1, state.value.size), max(8, alignment(state.value))
            found = -(-(self.scalars_size + 8) // align) * align
            self._slots[state.name] = found
            self.scalars_size = -(-(found + size) // 8) * 8
        return found

    @property
    def slots(self) -> dict[str, int]:
        """The scalar maps that programs use, with their places."""
        return self._slots

    def stack_id(self) -> int:
        """The place in SCALARS of the counter of stacks in STACKS_MORE."""
        if self.next_stack_id < 0:
            self.next_stack_id = self.scalars_size
            self.scalars_size += 8
        return self.next_stack_id

    def stop_slot(self) -> int:
        """The place in SCALARS of what exit() leaves for the other programs: its code + 1."""
        if self.stop_offset < 0:
            self.stop_offset = self.scalars_size
            self.scalars_size += 8
        return self.stop_offset

    def machine_value(self, b: Builder, *what: str, here: int = 0) -> Value:
        """A number that the runner of a built script writes into RODATA (``api.built`` has a row for each).

        :param here: what it is unless a runner says otherwise.
        """
        offset = self.machine_values.get(what)
        if offset is None:
            self.rodata.extend(bytes(-len(self.rodata) % 8))
            offset = self.machine_values[what] = len(self.rodata)
            self.rodata.extend(here.to_bytes(8, "little"))
        return b.load(b.data_ref(RODATA, offset), 0, 8)

    def count_loss(self, b: Builder, cause: str) -> None:
        """Add one to the counter of a cause of loss."""
        b.atomic("add", b.data_ref(LOST, 8 * self.lost.setdefault(cause, len(self.lost))), 0, 8, 1)


def map_name(name: str) -> str:
    """The name of a script's map in the object."""
    if not name:
        return "AT"
    return f"{name}_" if name in RESERVED else name


def is_aggregation(state: MapState) -> bool:
    """Whether a map's values are kept per CPU."""
    return state.value.kind in AGGREGATIONS
