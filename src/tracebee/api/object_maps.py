"""Maps of an object file from Python: what is set before loading, and a dictionary afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracebee.api.object_part import Part, Setting, loaded_one
from tracebee.api.records import follow
from tracebee.api.table import Table
from tracebee.errors import UsageError
from tracebee.obj.model import MapDef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.kernel.map import Map


class ObjectMap(Part[MapDef], Table):
    """A map of an object: a dictionary once it is loaded.

    Keys and values are what the map's types say: integers, strings for ``char`` arrays, lists, dictionaries
    for structs (in keys: tuples of the members, in order). Without types they are as in ``Table``.
    """

    kind, field = "map", "maps"

    def __repr__(self) -> str:
        """Its shape, as the object declares it."""
        d = self.definition
        return (
            f"<map {self.name}: type {d.type}, {d.key_size} -> {d.value_size} bytes, {d.max_entries} entries>"
        )

    @property
    def map(self) -> Map:  # type: ignore[override]
        """The kernel's map."""
        loaded = self._owner.when_loaded(f"read or write in map '{self.name}'")
        return self._owner.reused.get(self.name) or loaded_one(loaded.maps, self.name)

    # Before loading

    map_type = Setting[int]("type", "A number of ``enum bpf_map_type``; may be set, as all below.")
    max_entries = Setting[int]("max_entries", "Its capacity.")
    flags = Setting[int]("flags", "BPF_F_NO_PREALLOC and so on.")
    numa_node = Setting[int | None]("numa_node", "The memory node it lies on; None for any.")
    extra = Setting[int](
        "extra", "``map_extra``: a Bloom filter's number of hash functions, an arena's address."
    )

    @property
    def autoload(self) -> bool:
        """Whether it is made at all; may be set before loading.

        Programs that use it load where the verifier sees that they never come to that.
        """
        return self.name not in self._owner.not_made

    @autoload.setter
    def autoload(self, value: bool) -> None:
        self._owner.before_loading(f"change map '{self.name}'")
        if self.definition.contents is not None:
            raise UsageError(f"map '{self.name}' holds the object's variables, so it is always made")
        (self._owner.not_made.discard if value else self._owner.not_made.add)(self.name)

    @property
    def key_size(self) -> int:
        """Bytes of a key. Another size than its type's makes a map without type information."""
        return self.definition.key_size

    @key_size.setter
    def key_size(self, value: int) -> None:
        self._resize(key_size=value)

    @property
    def value_size(self) -> int:
        """Bytes of a value. Another size than its type's makes a map without type information."""
        return self.definition.value_size

    @value_size.setter
    def value_size(self, value: int) -> None:
        self._resize(value_size=value)

    @property
    def pin_path(self) -> str | None:
        """Where in bpffs ``load`` finds it, or pins a new one; relative to ``pin_root``."""
        return self.definition.pinning

    @pin_path.setter
    def pin_path(self, value: str | os.PathLike[str] | None) -> None:
        self.change(pinning=None if value is None else os.fspath(value))

    @property
    def inner(self) -> MapDef | None:
        """Of a map of maps: what the inner ones look like."""
        return self.definition.inner

    @inner.setter
    def inner(self, value: MapDef | Map | ObjectMap) -> None:
        from tracebee.kernel.map import Map

        if isinstance(value, ObjectMap):
            value = value.definition
        if isinstance(value, Map):
            sizes = (value.key_size, value.value_size, value.max_entries)
            value = MapDef(f"{self.name}.inner", value.type, *sizes, flags=value.flags)
        self.change(inner=value)

    def reuse(self, table: Map | str | os.PathLike[str]) -> None:
        """Take a map that is in the kernel already, in place of a new one.

        :param table: the map, which stays the caller's, or the path where it is pinned.
        :raises UnsupportedError: it has another shape than this one.
        """
        from tracebee.engine.kernel.pinning import check_shape
        from tracebee.kernel.map import Map

        owner = self._owner
        owner.before_loading(f"reuse a map as '{self.name}'")
        path = None if isinstance(table, Map) else os.fspath(table)
        found = table if isinstance(table, Map) else Map.pinned(os.fspath(table))
        try:
            check_shape(
                self.definition, found, f"what is pinned at {path}" if path else f"map '{found.name}'"
            )
        except BaseException:
            if path is not None:
                found.close()
            raise
        owner.reused[self.name] = found
        if path is not None:
            owner.opened.append(found)

    # After it

    def records(self, timeout: float | None = None, *, type_name: str = "") -> Iterator[Any]:
        """Records of a ring buffer or a perf event array as they come.

        What programs send to a perf event array is kept only from the first record asked for.

        :param timeout: seconds without a record after which it ends; None for never.
        :param type_name: what they are in the object's types, ``struct event``; by default they are bytes.
        :raises UsageError: the map has no records. SymbolError: the object has no such type.
        """
        from tracebee import uapi
        from tracebee.obj.variables import decode_value

        btf = self._owner.btf
        type_id = btf.find(type_name) if type_name else 0
        source: Any
        if self.map.type == uapi.BPF_MAP_TYPE_RINGBUF:
            from tracebee.kernel.ringbuf import RingBuffer

            source = RingBuffer(self.map)
        elif self.map.type == uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
            from tracebee.kernel.perfbuf import PerfBuffer

            source = PerfBuffer(self.map)
        else:
            raise UsageError(f"map '{self.name}' has elements, not records")
        with source:
            for record in follow(source, timeout):
                data = record if isinstance(record, bytes) else record[1]
                yield decode_value(btf, type_id, data) if type_id else data

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the loaded map a name in bpffs."""
        self.map.pin(os.fspath(path))

    def _key_bytes(self, key: Any) -> bytes:
        return self._encode(self.definition.key_type_id, key, self.map.key_size, "key", super()._key_bytes)

    def _value_bytes(self, value: Any) -> bytes:
        size = self.map.value_size
        # Maps of maps, and arrays of programs, take what they hold as it is.
        owned = getattr(value, "map", None) or getattr(value, "kernel", None) or value
        if hasattr(owned, "fd"):
            return int(owned.fd).to_bytes(4, sys.byteorder)
        return self._encode(self.definition.value_type_id, value, size, "value", super()._value_bytes)

    def _key(self, data: bytes) -> Any:
        return _hashable(self._decode(self.definition.key_type_id, data, super()._key))

    def _value(self, data: bytes) -> Any:
        return self._decode(self.definition.value_type_id, data, super()._value)

    def _encode(self, type_id: int, value: Any, size: int, what: str, plain: Callable[[Any], bytes]) -> bytes:
        from tracebee.obj.variables import encode_value

        if not type_id:
            return plain(value)
        return encode_value(self._owner.btf, type_id, value, size, f"{what} of map '{self.name}'")

    def _decode(self, type_id: int, data: bytes, plain: Callable[[bytes], Any]) -> Any:
        from tracebee.obj.variables import decode_value

        return decode_value(self._owner.btf, type_id, data) if type_id else plain(data)

    def _resize(self, **size: int) -> None:
        if self.definition.contents is not None:
            raise UsageError(f"map '{self.name}' holds the object's variables: its size is theirs")
        changed = any(getattr(self.definition, field) != value for field, value in size.items())
        self.change(**size, **({"key_type_id": 0, "value_type_id": 0} if changed else {}))


def _hashable(key: Any) -> Any:
    """A key as a dictionary can have it: structs and arrays as tuples."""
    if isinstance(key, (list, dict)):
        items: Iterable[Any] = key.values() if isinstance(key, dict) else key
        return tuple(_hashable(item) for item in items)
    return key
