"""A kernel map as a dictionary: BCC's table, with plain Python keys and values."""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracebee.kernel.map import Map

_INTEGER_SIZES = frozenset((1, 2, 4, 8))


class Table(MutableMapping[Any, Any]):
    """Keys and values of 1, 2, 4 or 8 bytes are unsigned integers, others ``bytes``; a per-CPU value is a
    list with one for each possible CPU.

    ``map`` is the map itself, for what a dictionary has no word for.
    """

    def __init__(self, kernel_map: Map) -> None:
        self.map = kernel_map

    def __getitem__(self, key: Any) -> Any:
        value = self.map.lookup(self._key_bytes(key))
        if value is None:
            raise KeyError(key)
        return self._values(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.map.is_per_cpu:
            data = self.map.join_slots([self._value_bytes(v) for v in value])
        else:
            data = self._value_bytes(value)
        self.map.update(self._key_bytes(key), data)

    def __delitem__(self, key: Any) -> None:
        if not self.map.delete(self._key_bytes(key)):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return (self._key(key) for key in self.map.keys())  # noqa: SIM118 - a kernel map is no mapping

    def __len__(self) -> int:
        return sum(1 for _ in self.map.keys())  # noqa: SIM118

    def read(self) -> dict[Any, Any]:
        """All keys and values, read in batches where the kernel can."""
        return {self._key(key): self._values(value) for key, value in self.map.items()}

    def items(self) -> ItemsView[Any, Any]:
        """All keys with their values as they are now: programs may change them meanwhile."""
        return self.read().items()

    def values(self) -> ValuesView[Any]:
        """All values as they are now."""
        return self.read().values()

    def clear(self) -> None:
        """Remove every key; of an array, set each element to zero."""
        self.map.clear()

    def _values(self, value: bytes) -> Any:
        return [self._value(v) for v in self.map.slots(value)] if self.map.is_per_cpu else self._value(value)

    # How bytes are read and written.

    def _key_bytes(self, key: Any) -> bytes:
        return _pack(key, self.map.key_size)

    def _value_bytes(self, value: Any) -> bytes:
        return _pack(value, self.map.value_size)

    def _key(self, data: bytes) -> Any:
        return _unpack(data)

    def _value(self, data: bytes) -> Any:
        return _unpack(data)


def _pack(value: Any, size: int) -> bytes:
    if isinstance(value, int):
        return (value & (1 << 8 * size) - 1).to_bytes(size, sys.byteorder)
    return bytes(value)


def _unpack(data: bytes) -> int | bytes:
    return int.from_bytes(data, sys.byteorder) if len(data) in _INTEGER_SIZES else data
