"""Maps, global variables and struct_ops variables of an object file from Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from tracebee.api.object_programs import loaded_one
from tracebee.api.table import Table
from tracebee.errors import SymbolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.api.objects import Object
    from tracebee.kernel.map import Map
    from tracebee.obj import model


class ObjectMap(Table):
    """A map of an object: a dictionary once it is loaded.

    Keys and values are what the map's types say: integers, strings for ``char`` arrays, lists, dictionaries
    for structs (in keys: tuples of the members, in order). Without types they are as in ``Table``.
    """

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

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

    @property
    def definition(self) -> model.MapDef:
        """What is, or will be, created."""
        return next(m for m in self._owner.definition.maps if m.name == self.name)

    # Before loading

    @property
    def map_type(self) -> int:
        """A number of ``enum bpf_map_type``; may be set before loading, as all below."""
        return self.definition.type

    @map_type.setter
    def map_type(self, value: int) -> None:
        self._change(type=value)

    @property
    def max_entries(self) -> int:
        """Its capacity."""
        return self.definition.max_entries

    @max_entries.setter
    def max_entries(self, value: int) -> None:
        self._change(max_entries=value)

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
    def flags(self) -> int:
        """BPF_F_NO_PREALLOC and so on."""
        return self.definition.flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._change(flags=value)

    @property
    def numa_node(self) -> int | None:
        """The memory node it lies on; None for any."""
        return self.definition.numa_node

    @numa_node.setter
    def numa_node(self, value: int | None) -> None:
        self._change(numa_node=value)

    @property
    def extra(self) -> int:
        """``map_extra``: a Bloom filter's number of hash functions, an arena's address."""
        return self.definition.extra

    @extra.setter
    def extra(self, value: int) -> None:
        self._change(extra=value)

    @property
    def pin_path(self) -> str | None:
        """Where in bpffs ``load`` finds it, or pins a new one; relative to ``pin_root``."""
        return self.definition.pinning

    @pin_path.setter
    def pin_path(self, value: str | os.PathLike[str] | None) -> None:
        self._change(pinning=None if value is None else os.fspath(value))

    @property
    def inner(self) -> model.MapDef | None:
        """Of a map of maps: what the inner ones look like."""
        return self.definition.inner

    @inner.setter
    def inner(self, value: model.MapDef | Map | ObjectMap) -> None:
        from tracebee.kernel.map import Map
        from tracebee.obj.model import MapDef

        if isinstance(value, ObjectMap):
            value = value.definition
        if isinstance(value, Map):
            sizes = (value.key_size, value.value_size, value.max_entries)
            value = MapDef(f"{self.name}.inner", value.type, *sizes, flags=value.flags)
        self._change(inner=value)

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
            while True:
                batch = source.drain()
                for record in batch:
                    data = record if isinstance(record, bytes) else record[1]
                    yield decode_value(btf, type_id, data) if type_id else data
                if not batch and not source.wait(timeout):
                    return

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
        self._change(**size, **({"key_type_id": 0, "value_type_id": 0} if changed else {}))

    def _change(self, **fields: Any) -> None:
        owner = self._owner
        owner.before_loading(f"change map '{self.name}'")
        maps = tuple(m._replace(**fields) if m.name == self.name else m for m in owner.definition.maps)
        owner.definition = owner.definition._replace(maps=maps)


class Variables(MutableMapping[str, Any]):
    """Global variables by name: initial values before loading, afterwards the memory that programs share.

    A part of one is named as in C: ``rules[1].port``.
    """

    def __init__(self, owner: Object) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        from tracebee.obj.variables import read_value, split_name

        variable, path = split_name(self._owner.definition, name)
        data = self._contents(variable)[variable.offset : variable.offset + variable.size]
        return read_value(self._owner.btf, variable.type_id, bytes(data), path, name)

    def __setitem__(self, name: str, value: Any) -> None:
        from tracebee.obj.variables import split_name, with_variable, write_value

        owner = self._owner
        if owner.loaded is None:
            owner.definition = with_variable(owner.definition, name, value)
            return
        variable, path = split_name(owner.definition, name)
        if owner.maps[variable.map].definition.frozen:
            raise UsageError(
                f"'{variable.name}' is read-only once {owner.name} is loaded", hint="set it before load()"
            )
        whole = self._contents(variable)
        data = bytearray(whole[variable.offset : variable.offset + variable.size])
        part = write_value(owner.btf, variable.type_id, data, path, value, name)
        # What is not meant is not written: a program may be changing it.
        place = slice(variable.offset + part.start, variable.offset + part.stop)
        if variable.map in owner.loaded.memory:
            owner.loaded.memory[variable.map][place] = bytes(data[part])
            return
        contents = bytearray(whole)
        contents[place] = data[part]
        owner.maps[variable.map].map.update(bytes(4), bytes(contents))

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"variable '{name}' cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(v.name for v in self._owner.definition.variables))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _contents(self, variable: model.Variable) -> bytes | memoryview:
        owner = self._owner
        if owner.loaded is None:
            return owner.maps[variable.map].definition.contents or b""
        if variable.map in owner.loaded.memory:
            return memoryview(owner.loaded.memory[variable.map])
        return owner.maps[variable.map].map.lookup(bytes(4)) or b""


class StructOpsVariable(MutableMapping[str, Any]):
    """The members of a struct_ops variable by name: values as in ``Variables``, programs by their names.

    They may be set before loading; a member that is a function takes None for no program.
    """

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

    @property
    def definition(self) -> model.StructOps:
        """The variable as it is now."""
        return next(s for s in self._owner.definition.struct_ops if s.map == self.name)

    @property
    def autoload(self) -> bool:
        """Whether ``load`` makes it, and loads its programs: by default not in ``?.struct_ops`` sections."""
        return self.name not in self._owner.not_made

    @autoload.setter
    def autoload(self, value: bool) -> None:
        self._owner.before_loading(f"change '{self.name}'")
        (self._owner.not_made.discard if value else self._owner.not_made.add)(self.name)

    def __getitem__(self, name: str) -> Any:
        from tracebee.obj.variables import decode_value

        offset, size, type_id = self._place(name)
        if self._is_function(type_id):
            return dict(self.definition.members).get(offset)
        return decode_value(self._owner.btf, type_id, self.definition.data[offset : offset + size])

    def __setitem__(self, name: str, value: Any) -> None:
        from tracebee.obj.variables import encode_value

        owner, definition = self._owner, self.definition
        owner.before_loading(f"change '{self.name}'")
        offset, size, type_id = self._place(name)
        replaced: str | None = None
        if self._is_function(type_id):
            replaced = dict(definition.members).get(offset)
            members = {o: n for o, n in definition.members if o != offset}
            if value is not None:
                members[offset] = owner.programs[str(value)].name
            changed = definition._replace(members=tuple(sorted(members.items())))
        else:
            data = bytearray(definition.data)
            data[offset : offset + size] = encode_value(
                owner.btf, type_id, value, size, f"{self.name}.{name}"
            )
            changed = definition._replace(data=bytes(data))
        owner.definition = owner.definition._replace(
            struct_ops=tuple(changed if s.map == self.name else s for s in owner.definition.struct_ops)
        )
        used = {n for s in owner.definition.struct_ops for _, n in s.members}
        if replaced is not None and replaced not in used:
            owner.programs[replaced].autoload = False  # the kernel takes it only as what it was

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"member '{name}' of '{self.name}' cannot be deleted", hint="a function may be None")

    def __iter__(self) -> Iterator[str]:
        return (member.name for member in self._owner.btf.struct(self.definition.type_id).members)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _place(self, name: str) -> tuple[int, int, int]:
        """(offset, size, type) of a member."""
        btf = self._owner.btf
        for member in btf.struct(self.definition.type_id).members:
            if member.name == name:
                return member.bit_offset // 8, btf.size(member.type_id), member.type_id
        raise SymbolError(f"struct {self.definition.type_name} has no member '{name}'", list(self))

    def _is_function(self, type_id: int) -> bool:
        from tracebee.btf.kinds import BTF_KIND_FUNC_PROTO, BTF_KIND_PTR

        btf = self._owner.btf
        record = btf.type(btf.resolve(type_id))
        return (
            record.kind == BTF_KIND_PTR and btf.type(btf.resolve(record.type_id)).kind == BTF_KIND_FUNC_PROTO
        )


def _hashable(key: Any) -> Any:
    """A key as a dictionary can have it: structs and arrays as tuples."""
    if isinstance(key, (list, dict)):
        items: Iterable[Any] = key.values() if isinstance(key, dict) else key
        return tuple(_hashable(item) for item in items)
    return key
