"""A script's kernel maps as reporters and the library read them."""

from __future__ import annotations

import sys

from tracebee.lang.script import STACKS_MORE, stacks_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracebee.kernel.map import Map


class KernelMap:
    """One map; see ``engine.api.MapReader``."""

    __slots__ = ("map",)

    def __init__(self, kernel_map: Map) -> None:
        self.map = kernel_map

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        """Every (key, value) now."""
        pairs = self.map.items()
        if not self.map.is_per_cpu:
            return pairs
        slots = self.map.slots
        return [(key, slots(value)) for key, value in pairs]

    def clear(self) -> None:
        """Delete every element; of an array, set each to zeros."""
        self.map.clear()

    def zero(self) -> None:
        """Set every value to zeros, on every CPU."""
        zeros = bytes(self.map.value_bytes)
        self.map.update_many([(key, zeros) for key, _ in self.map.items()])

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value."""
        # An update of the whole value would undo what programs write meanwhile.
        memory = self.map.map_memory()
        try:
            memory[offset : offset + len(data)] = data
        finally:
            memory.close()


class KernelStacks:
    """The stack maps; see ``engine.api.StackReader``."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._maps = maps

    def stack(self, frames: int, number: int) -> bytes | None:
        """One element of the stack map for ``frames`` frames."""
        found = self._maps.get(stacks_name(frames))
        return None if found is None else found.lookup(number.to_bytes(4, sys.byteorder))

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        """The stacks whose bucket was taken."""
        found = self._maps.get(STACKS_MORE)
        return [] if found is None else found.items()
