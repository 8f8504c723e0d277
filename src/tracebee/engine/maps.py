"""A script's maps as reporters and the library read them, whatever engine keeps them."""

from __future__ import annotations

import struct
import sys

from tracebee.lang.script import STACKS_MORE, stacks_name
from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Table(Protocol):
    """What a kernel map (``kernel.map.Map``) and one in shared memory (``vm.maps``) have in common."""

    @property
    def is_per_cpu(self) -> bool:
        """Whether values have one slot per possible CPU."""

    @property
    def value_bytes(self) -> int:
        """Bytes of a value, all slots of a per-CPU one."""

    def items(self) -> list[tuple[bytes, bytes]]:
        """All keys and values."""

    def slots(self, value: bytes) -> list[bytes]:
        """A per-CPU value cut into one value per possible CPU."""

    def lookup(self, key: bytes) -> bytes | None:
        """The value under a key."""

    def update_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set many values."""

    def clear(self) -> None:
        """Remove all keys of a hash; set all elements of an array to zero."""


class TableReader:
    """One map; see ``engine.api.MapReader``. An engine adds ``write``."""

    __slots__ = ("_table",)

    def __init__(self, table: Table) -> None:
        self._table = table

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        """Every (key, value) now."""
        pairs = self._table.items()
        if not self._table.is_per_cpu:
            return pairs
        slots = self._table.slots
        return [(key, slots(value)) for key, value in pairs]

    def clear(self) -> None:
        """Delete every element; of an array, set each to zeros."""
        self._table.clear()

    def zero(self) -> None:
        """Set every value to zeros, on every CPU."""
        zeros = bytes(self._table.value_bytes)
        self._table.update_many([(key, zeros) for key, _ in self._table.items()])


class StackMaps:
    """The stack maps; see ``stacks.table.StackReader``."""

    def __init__(self, maps: Mapping[str, Table]) -> None:
        self._maps = maps

    def stack(self, frames: int, number: int) -> bytes | None:
        """One element of the stack map for ``frames`` frames."""
        found = self._maps.get(stacks_name(frames))
        return None if found is None else found.lookup(number.to_bytes(4, sys.byteorder))

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        """The stacks whose bucket was taken."""
        found = self._maps.get(STACKS_MORE)
        return [] if found is None else found.items()


def lost_events(counters: bytes) -> int:
    """The sum of a script's loss counters, the value of its map LOST: one u64 for each cause."""
    return sum(count for (count,) in struct.iter_unpack("=Q", counters))
