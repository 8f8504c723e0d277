"""Maps whose values are maps or programs: ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY.

They are an array or a hash map of u32 values: numbers in a registry, which is a process's table of the maps
and programs it has. 0 is an empty element. The number of a map is in its header.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from tracebee import uapi
from tracebee.obj.model import MapDef
from tracebee.vm.maps import layout
from tracebee.vm.maps.array import ArrayMap
from tracebee.vm.maps.base import EINVAL, ENOENT, UserMap
from tracebee.vm.maps.hash import HashMap
from tracebee.vm.memory import Region, address_of

if TYPE_CHECKING:
    from tracebee.vm.program import Program

Thing = TypeVar("Thing")

_CAPACITY = 4096


class Registry(Generic[Thing]):
    """Things by number, from 1. ``table`` is the address of an array of u64 for native code.

    It holds what ``enter`` was told: for maps their addresses, for programs those of their machine code.
    """

    def __init__(self) -> None:
        self._things: dict[int, Thing] = {}
        self._addresses = (ctypes.c_uint64 * _CAPACITY)()
        self.table = address_of(self._addresses)

    def enter(self, thing: Thing, address: int = 0) -> int:
        """Give a thing a number; the same thing keeps its number."""
        for number, known in self._things.items():
            if known is thing:
                self._addresses[number] = address
                return number
        number = next(n for n in range(1, _CAPACITY) if n not in self._things)
        self._things[number] = thing
        self._addresses[number] = address
        return number

    def get(self, number: int) -> Thing | None:
        """The thing with a number."""
        return self._things.get(number)

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._things.values())


class ArrayOfMaps(ArrayMap):
    """Maps by index. A program's lookup gives the inner map."""

    def __init__(self, definition: MapDef, registry: Registry[UserMap]) -> None:
        super().__init__(definition)
        self.registry = registry

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        if not _fits(self, value):
            return -EINVAL
        return super()._put(key, flags, value, at)

    def _remove(self, key: bytes) -> int:
        return _empty(self, key)

    def find(self, key: bytes, cpu: int = 0) -> int:
        """The inner map's pointer."""
        return _inner(self, self._value_at(key))

    def set(self, key: bytes, value: bytes, flags: int = 0, cpu: int = 0) -> int:
        """Programs may not."""
        return -EINVAL

    def regions(self) -> list[Region]:
        """None: programs see inner maps only as map pointers."""
        return []


class HashOfMaps(HashMap):
    """Maps by key. A program's lookup gives the inner map."""

    def __init__(self, definition: MapDef, registry: Registry[UserMap]) -> None:
        super().__init__(definition)
        self.registry = registry

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        if not _fits(self, value):
            return -EINVAL
        return super()._put(key, flags, value, at)

    def find(self, key: bytes, cpu: int = 0) -> int:
        """The inner map's pointer."""
        return _inner(self, self._value_at(key))

    def set(self, key: bytes, value: bytes, flags: int = 0, cpu: int = 0) -> int:
        """Programs may not."""
        return -EINVAL

    def regions(self) -> list[Region]:
        """None: programs see inner maps only as map pointers."""
        return []


class ProgArrayMap(ArrayMap):
    """Programs by index, for tail calls."""

    def __init__(self, definition: MapDef, registry: Registry[Program]) -> None:
        super().__init__(definition)
        self.registry = registry

    def program(self, index: int) -> Program | None:
        """The program at an index."""
        at = self._value_at(index.to_bytes(4, sys.byteorder)) if index < self.max_entries else None
        return None if at is None else self.registry.get(self.memory.u32(at))

    def put(self, index: int, program: Program, address: int = 0) -> None:
        """Set the program at an index."""
        self.memory.set_u32(self.elements + index * self.element_step, self.registry.enter(program, address))

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        if self.registry.get(int.from_bytes(value, sys.byteorder)) is None:
            return -EINVAL
        return super()._put(key, flags, value, at)

    def _remove(self, key: bytes) -> int:
        return _empty(self, key)

    def regions(self) -> list[Region]:
        """None: programs do not see programs."""
        return []


def _fits(outer: ArrayOfMaps | HashOfMaps, value: bytes) -> bool:
    """Whether a number is that of a map that is like the template."""
    inner = outer.registry.get(int.from_bytes(value, sys.byteorder))
    like = outer.definition.inner
    if inner is None or like is None:
        return inner is not None
    same = (inner.type, inner.key_size, inner.value_size) == (like.type, like.key_size, like.value_size)
    return same and (inner.max_entries == like.max_entries or bool(inner.flags & uapi.BPF_F_INNER_MAP))


def _inner(outer: ArrayOfMaps | HashOfMaps, at: int | None) -> int:
    inner = None if at is None else outer.registry.get(outer.memory.u32(at))
    return 0 if inner is None else inner.address


def _empty(outer: ArrayMap, key: bytes) -> int:
    at = outer._value_at(key)  # noqa: SLF001 (its own kind)
    if at is None or outer.memory.u32(at) == 0:
        return -ENOENT
    outer.memory.set_u32(at, 0)
    return 0


def number_of(map_: UserMap) -> bytes:
    """The value that stands for a map in maps of maps."""
    return bytes(map_.memory.view[layout.ID : layout.ID + 4])
