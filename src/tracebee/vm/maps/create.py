"""Maps from their definitions: which class a map type has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.kernel.map import entries_here
from tracebee.obj.model import MapDef
from tracebee.vm.maps import layout
from tracebee.vm.maps.array import ArrayMap
from tracebee.vm.maps.base import UserMap
from tracebee.vm.maps.bloom import BloomFilterMap
from tracebee.vm.maps.hash import HashMap
from tracebee.vm.maps.lpm import LpmTrieMap
from tracebee.vm.maps.nested import ArrayOfMaps, HashOfMaps, ProgArrayMap, Registry
from tracebee.vm.maps.queue import QueueMap
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.maps.stacks import StackTraceMap

if TYPE_CHECKING:
    from tracebee.vm.program import Program

_CLASSES: Mapping[int, type[UserMap]] = {
    uapi.BPF_MAP_TYPE_ARRAY: ArrayMap,
    uapi.BPF_MAP_TYPE_PERCPU_ARRAY: ArrayMap,
    uapi.BPF_MAP_TYPE_HASH: HashMap,
    uapi.BPF_MAP_TYPE_PERCPU_HASH: HashMap,
    uapi.BPF_MAP_TYPE_LRU_HASH: HashMap,
    uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH: HashMap,
    uapi.BPF_MAP_TYPE_LPM_TRIE: LpmTrieMap,
    uapi.BPF_MAP_TYPE_QUEUE: QueueMap,
    uapi.BPF_MAP_TYPE_STACK: QueueMap,
    uapi.BPF_MAP_TYPE_BLOOM_FILTER: BloomFilterMap,
    uapi.BPF_MAP_TYPE_RINGBUF: RingBufferMap,
    uapi.BPF_MAP_TYPE_STACK_TRACE: StackTraceMap,
}

_DEFAULT_RING = 256 * 1024


class MapSpace:
    """The maps and programs of one VM: creates maps, and finds them by their pointers."""

    def __init__(self) -> None:
        self.maps: Registry[UserMap] = Registry()
        self.programs: Registry[Program] = Registry()
        self._by_address: dict[int, UserMap] = {}

    def create(self, definition: MapDef) -> UserMap:
        """Create a map, with its initial contents. ``max_entries`` is as ``kernel.map.entries_here`` has it.

        :raises KernelError: the definition is refused, with the kernel's error number.
        :raises UnsupportedError: the map type makes no sense in user space.
        """
        kind = definition.type
        map_: UserMap
        if kind == uapi.BPF_MAP_TYPE_RINGBUF and definition.max_entries == 0:
            definition = definition._replace(max_entries=_DEFAULT_RING)
        definition = definition._replace(max_entries=entries_here(definition))
        if kind == uapi.BPF_MAP_TYPE_PROG_ARRAY:
            map_ = ProgArrayMap(definition, self.programs)
        elif kind == uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS:
            map_ = ArrayOfMaps(definition, self.maps)
        elif kind == uapi.BPF_MAP_TYPE_HASH_OF_MAPS:
            map_ = HashOfMaps(definition, self.maps)
        elif kind in _CLASSES:
            map_ = _CLASSES[kind](definition)
        else:
            raise UnsupportedError(f"map '{definition.name}': maps of type {kind} exist in the kernel only")
        number = self.maps.enter(map_, map_.address)
        map_.memory.set_u32(layout.ID, number)
        self._by_address[map_.address] = map_
        if definition.contents is not None:
            map_.update(bytes(4), definition.contents.ljust(map_.value_size, b"\0"))
        if definition.frozen:
            map_.freeze()
        return map_

    def at(self, address: int) -> UserMap | None:
        """The map a map pointer points to."""
        return self._by_address.get(address)

    def close(self) -> None:
        """Give every map's descriptor back."""
        for map_ in self.maps:
            map_.close()
