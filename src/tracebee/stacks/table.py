"""Stack keys to addresses: the stack maps of a script as one table (``lang.script.STACKS``)."""

from __future__ import annotations

import struct

from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NO_STACK = -(1 << 63)


class StackReader(Protocol):
    """What the table asks of an engine. Both calls read the maps as they are now."""

    def stack(self, frames: int, number: int) -> bytes | None:
        """The value of one element of the stack trace map for ``frames`` frames: u64 addresses,
        zero-padded; None when there is no such element.
        """

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (stack, s64 id) of the map of stacks whose bucket was taken."""


class StackTable:
    """Looks up stacks by key and keeps them: a program never changes the stack behind an id."""

    def __init__(self, reader: StackReader) -> None:
        self._reader = reader
        self._known: dict[tuple[int, int], tuple[int, ...]] = {}
        self._more: dict[int, tuple[int, ...]] = {}

    def frames(self, stack_id: int, limit: int) -> tuple[int, ...]:
        """The return addresses of a stack, innermost first.

        :param stack_id: the first 8 bytes of a stack key, signed.
        :param limit: the number of frames that the script asked for, which chooses the map.
        """
        if stack_id == NO_STACK:
            return ()
        if stack_id < 0:
            if stack_id not in self._more:
                self._more = {
                    struct.unpack("=q", number)[0]: addresses(stack) for stack, number in self._reader.more()
                }
            return self._more.get(stack_id, ())[: limit or None]
        key = (limit, stack_id)
        found = self._known.get(key)
        if found is None:
            value = self._reader.stack(limit, stack_id)
            if value is None:
                return ()
            found = self._known[key] = addresses(value)[: limit or None]
        return found


def addresses(stack: bytes) -> tuple[int, ...]:
    """The u64 addresses of a zero-padded stack, without the padding."""
    frames: tuple[int, ...] = struct.unpack(f"={len(stack) // 8}Q", stack[: len(stack) // 8 * 8])
    return frames[: frames.index(0)] if 0 in frames else frames
