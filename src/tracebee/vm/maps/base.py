"""What all user-space maps share: the kernel maps' interface for user space, and the one for programs.

The methods for programs take a CPU number and give what a helper returns: an address (0: there is none)
or 0 and negative error numbers. Those for user space behave as the methods of ``kernel.map.Map`` do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from tracebee import uapi
from tracebee.errors import KernelError
from tracebee.kernel import cpus
from tracebee.obj.model import MapDef
from tracebee.vm.maps import layout
from tracebee.vm.maps.layout import round_up
from tracebee.vm.maps.memory import Lock, SharedMemory
from tracebee.vm.memory import Region

EPERM, ENOENT, E2BIG, ENOMEM, EBUSY, EEXIST, EINVAL, ENOSPC = 1, 2, 7, 12, 16, 17, 22, 28
EOPNOTSUPP, EAGAIN = 95, 11
ENOTSUPP = 524  # the kernel's own number for an operation a map type does not have

PER_CPU = frozenset(
    (uapi.BPF_MAP_TYPE_PERCPU_HASH, uapi.BPF_MAP_TYPE_PERCPU_ARRAY, uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH)
)


class UserMap:
    """A map in this process's memory. Keys and values are bytes, as programs see them.

    Made by ``create.create_map``.
    """

    def __init__(self, definition: MapDef) -> None:
        self.definition = definition
        self.name = definition.name
        self.type = definition.type
        self.key_size = definition.key_size
        self.value_size = definition.value_size
        self.max_entries = definition.max_entries
        self.flags = definition.flags
        self.frozen = False
        self.cpus = cpus.possible_count() if self.is_per_cpu else 1
        self.value_step = round_up(self.value_size, 8)
        self._refuse_bad_definition()
        self.memory = self._allocate(self._plan())
        self._write_header()

    # What a type defines

    # Whether one call looks up and deletes.
    can_take = False
    # Bytes of an element, where the first starts and where its value is in it: ``_plan`` sets them.
    element_step = 0
    elements = layout.HEADER_BYTES
    value_offset = 0
    buckets = 0
    bucket_mask = 0

    def _plan(self) -> int:
        """Place the parts; gives the map's size in bytes."""
        raise NotImplementedError

    def _value_at(self, key: bytes) -> int | None:
        """Offset of the value under a key (of its slot for CPU 0), None where there is none."""
        raise NotImplementedError

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        """Store bytes of a value from byte ``at`` on under a key, making it if need be: 0 or -errno."""
        raise NotImplementedError

    def _remove(self, key: bytes) -> int:
        """Take a key out: 0 or -errno."""
        raise NotImplementedError

    def _keys(self) -> Iterator[bytes]:
        """All keys there are."""
        raise NotImplementedError

    # Creation

    def _refuse_bad_definition(self) -> None:
        if self.key_size == 0 or self.value_size == 0 or self.max_entries == 0:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _allocate(self, size: int) -> SharedMemory:
        return SharedMemory(size, f"bpf-{self.name}"[:31])

    def _write_header(self) -> None:
        memory = self.memory
        for offset, value in (
            (0, layout.MAGIC),
            (layout.TYPE, self.type),
            (layout.KEY_SIZE, self.key_size),
            (layout.VALUE_SIZE, self.value_size),
            (layout.MAX_ENTRIES, self.max_entries),
            (layout.FLAGS, self.flags),
            (layout.VALUE_STEP, self.value_step),
            (layout.CPUS, self.cpus),
            (layout.ELEMENT_STEP, self.element_step),
            (layout.BUCKET_MASK, self.bucket_mask),
            (layout.VALUE_OFFSET, self.value_offset),
        ):
            memory.set_u32(offset, value)
        memory.set_u64(layout.ELEMENTS, self.elements)
        memory.set_u64(layout.BUCKETS, self.buckets)
        memory.set_u64(layout.SIZE, memory.size)
        memory.set_u64(layout.EXTRA, self.definition.extra)

    @property
    def address(self) -> int:
        """The map pointer: the header's address."""
        return self.memory.address

    @property
    def is_per_cpu(self) -> bool:
        """Whether values have one slot per possible CPU."""
        return self.type in PER_CPU

    @property
    def value_bytes(self) -> int:
        """Bytes of a value as user space sees it: all slots of a per-CPU value."""
        return self.value_step * self.cpus if self.is_per_cpu else self.value_size

    def close(self) -> None:
        """Give the descriptor back; the memory goes with the last reference."""
        self.memory.close()

    def regions(self) -> list[Region]:
        """The memory a program may reach through values of this map."""
        start = self.elements + self.value_offset
        end = start + (self.max_entries - 1) * self.element_step + self.value_step * self.cpus
        uniform = self.value_step == self.element_step
        region = Region(
            f"a value of map {self.name}",
            self.memory.view[start:end],
            writable=not self.flags & uapi.BPF_F_RDONLY_PROG,
            stride=self.element_step,
            extent=self.value_size if self.cpus == 1 or uniform else self.value_step * self.cpus,
        )
        return [region]

    # For programs

    def find(self, key: bytes, cpu: int = 0) -> int:
        """Address of the value under a key, for one CPU; 0 when there is none."""
        at = self._value_at(key)
        return 0 if at is None else self.address + at + (cpu * self.value_step if self.cpus > 1 else 0)

    def set(self, key: bytes, value: bytes, flags: int = 0, cpu: int = 0) -> int:
        """Store a value (one CPU's in a per-CPU map): 0 or -errno, as ``bpf_map_update_elem``."""
        if flags & ~(uapi.BPF_EXIST | uapi.BPF_NOEXIST) or flags == 3:
            return -EINVAL
        return self._put(key, flags, value, cpu * self.value_step if self.cpus > 1 else 0)

    def remove(self, key: bytes) -> int:
        """Delete a key: 0 or -errno, as ``bpf_map_delete_elem``."""
        return self._remove(key)

    def push(self, value: bytes, flags: int = 0) -> int:
        """Put a value in: 0 or -errno, as ``bpf_map_push_elem``."""
        return -EOPNOTSUPP

    def pop(self) -> bytes | int:
        """Take the next value out, or -errno, as ``bpf_map_pop_elem``."""
        return -EOPNOTSUPP

    def peek(self, value: bytes = b"") -> bytes | int:
        """Look at the next value (of a bloom filter: ask for one), or -errno."""
        return -EOPNOTSUPP

    # For user space

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """The value under a key, with all its CPU slots; None when there is none."""
        self._readable(uapi.BPF_MAP_LOOKUP_ELEM)
        at = self._value_at(self._sized_key(key))
        return None if at is None else bytes(self.memory.view[at : at + self.value_bytes])

    def lookup_and_delete(self, key: bytes = b"", flags: int = 0) -> bytes | None:
        """Take a value out."""
        if not self.can_take:
            self._refuse(uapi.BPF_MAP_LOOKUP_AND_DELETE_ELEM, ENOTSUPP)
        value = self.lookup(key, flags)
        if value is not None:
            self._done(uapi.BPF_MAP_LOOKUP_AND_DELETE_ELEM, self._remove(key))
        return value

    def update(self, key: bytes, value: bytes, flags: int = uapi.BPF_ANY) -> None:
        """Set the value under a key, all its CPU slots at once.

        :raises ValueError: a size is wrong; KernelError: refused by the flags, full, or frozen.
        """
        if len(value) != self.value_bytes:
            raise ValueError(f"map '{self.name}' has values of {self.value_bytes} bytes, not {len(value)}")
        command = uapi.BPF_MAP_UPDATE_ELEM
        self._writable(command)
        if flags & ~3 or flags == 3:
            self._refuse(command, EINVAL)
        self._done(command, self._put(self._sized_key(key), flags, value, 0))

    def delete(self, key: bytes) -> bool:
        """Remove a key; False when it was not there."""
        self._writable(uapi.BPF_MAP_DELETE_ELEM)
        result = self._remove(self._sized_key(key))
        if result == -ENOENT:
            return False
        self._done(uapi.BPF_MAP_DELETE_ELEM, result)
        return True

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key after one, the first for None or a key that is not there; None after the last."""
        keys = list(self._keys())
        if key is None or key not in keys:
            return keys[0] if keys else None
        at = keys.index(key) + 1
        return keys[at] if at < len(keys) else None

    def keys(self) -> Iterator[bytes]:
        """All keys, as they are now."""
        return iter(list(self._keys()))

    def items(self) -> list[tuple[bytes, bytes]]:
        """All keys and values."""
        return [(key, value) for key in self.keys() if (value := self.lookup(key)) is not None]

    def update_many(self, pairs: Sequence[tuple[bytes, bytes]], flags: int = uapi.BPF_ANY) -> None:
        """Set many values."""
        for key, value in pairs:
            self.update(key, value, flags)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Remove many keys; those that are missing are passed over."""
        for key in keys:
            self.delete(key)

    def drain(self) -> list[tuple[bytes, bytes]]:
        """Take everything out."""
        pairs = self.items()
        self.delete_many([key for key, _ in pairs])
        return pairs

    def clear(self) -> None:
        """Remove all keys."""
        self.delete_many(list(self.keys()))

    def freeze(self) -> None:
        """Forbid changes from user space from now on."""
        self.frozen = True

    def slots(self, value: bytes) -> list[bytes]:
        """A per-CPU value cut into one value per possible CPU, without padding."""
        return [value[at : at + self.value_size] for at in range(0, len(value), self.value_step)]

    def join_slots(self, values: Sequence[bytes]) -> bytes:
        """The opposite of ``slots``."""
        return b"".join(value.ljust(self.value_step, b"\0") for value in values)

    # Shared by the types

    def _sized_key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"map '{self.name}' has keys of {self.key_size} bytes, not {len(key)}")
        return key

    def _readable(self, command: int) -> None:
        if self.flags & uapi.BPF_F_WRONLY:
            self._refuse(command, EPERM)

    def _writable(self, command: int) -> None:
        if self.frozen or self.flags & uapi.BPF_F_RDONLY:
            self._refuse(command, EPERM)

    def _done(self, command: int, result: int) -> None:
        if result < 0:
            self._refuse(command, -result)

    def _refuse(self, command: int, errno: int) -> None:
        meaning = "not offered by this map type" if errno == ENOTSUPP else os.strerror(errno).lower()
        raise KernelError(f"bpf({_COMMANDS[command]})", errno, f"map '{self.name}': {meaning}")

    def _lock(self) -> Lock:
        """The lock of the map as a whole."""
        return Lock(self.memory, layout.LOCK)


_COMMANDS = {
    uapi.BPF_MAP_CREATE: "BPF_MAP_CREATE",
    uapi.BPF_MAP_LOOKUP_ELEM: "BPF_MAP_LOOKUP_ELEM",
    uapi.BPF_MAP_UPDATE_ELEM: "BPF_MAP_UPDATE_ELEM",
    uapi.BPF_MAP_DELETE_ELEM: "BPF_MAP_DELETE_ELEM",
    uapi.BPF_MAP_LOOKUP_AND_DELETE_ELEM: "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
}
