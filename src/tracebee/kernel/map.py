"""Maps in the kernel: created, found, read and written through one owned descriptor."""

from __future__ import annotations

import mmap
import sys

from tracebee import uapi
from tracebee.kernel import cpus
from tracebee.kernel.attr import MAP_BATCH, MAP_CREATE, MAP_ELEMENT
from tracebee.kernel.bpf import bpf, fd_by_id, ids, pin, pinned, try_bpf
from tracebee.kernel.fd import Fd
from tracebee.kernel.syscall import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from tracebee.kernel.btf import Btf
    from tracebee.kernel.map_info import MapInfo
    from tracebee.obj.model import MapDef

PER_CPU = frozenset(
    (
        uapi.BPF_MAP_TYPE_PERCPU_HASH,
        uapi.BPF_MAP_TYPE_PERCPU_ARRAY,
        uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH,
        uapi.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    )
)

_FD_VALUES = frozenset(
    (
        uapi.BPF_MAP_TYPE_PROG_ARRAY,
        uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
        uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS,
        uapi.BPF_MAP_TYPE_HASH_OF_MAPS,
        uapi.BPF_MAP_TYPE_CGROUP_ARRAY,
    )
)
_ARRAYS = frozenset((uapi.BPF_MAP_TYPE_ARRAY, uapi.BPF_MAP_TYPE_PERCPU_ARRAY))

_ENOENT, _EINVAL, _ENOTSUPP = -2, -22, -524

_RINGS = frozenset((uapi.BPF_MAP_TYPE_RINGBUF, uapi.BPF_MAP_TYPE_USER_RINGBUF))


def entries_here(definition: MapDef) -> int:
    """``max_entries`` for this machine, as libbpf adjusts it.

    A perf event array without a number gets one for every possible CPU; a ring buffer's bytes are rounded up
    to what the kernel takes, a power of two of pages.
    """
    entries = definition.max_entries
    if definition.type == uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY and not entries:
        return cpus.possible_count()
    if definition.type in _RINGS and 0 < entries <= 1 << 31:
        return max(1 << (entries - 1).bit_length(), mmap.PAGESIZE)
    return entries


class Map(Fd):
    """A map held by its descriptor. Keys and values are bytes, exactly as the kernel holds them.

    In per-CPU maps a value is one slot for every possible CPU, each padded to 8 bytes;
    :meth:`slots` cuts it up.
    """

    __slots__ = (
        "_can_batch",
        "flags",
        "key_size",
        "max_entries",
        "name",
        "type",
        "value_size",
    )

    def __init__(
        self,
        fd: int,
        map_type: int,
        name: str,
        key_size: int,
        value_size: int,
        max_entries: int,
        flags: int = 0,
    ) -> None:
        super().__init__(fd)
        self.type = map_type
        self.name = name
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self._can_batch = True

    # Creating and finding

    @classmethod
    def create(
        cls,
        definition: MapDef,
        *,
        btf: Btf | None = None,
        inner: Map | None = None,
        btf_vmlinux_value_type_id: int = 0,
        value_type_btf_fd: int = 0,
        token_fd: int = 0,
    ) -> Self:
        """Create a map (``BPF_MAP_CREATE``).

        ``max_entries`` is as :func:`entries_here` has it; ``contents`` and ``values`` are the caller's.

        :param btf: the object's types, needed when the definition has type ids.
        :param inner: a template for the elements of a map of maps.
        :raises KernelError, PrivilegeError: the kernel refuses.
        """
        entries = entries_here(definition)
        flags = definition.flags
        values: dict[str, int | bytes] = {
            "map_type": definition.type,
            "key_size": definition.key_size,
            "value_size": definition.value_size,
            "max_entries": entries,
            "map_name": kernel_name(definition.name),
            "map_extra": definition.extra,
        }
        if definition.numa_node is not None:
            flags |= uapi.BPF_F_NUMA_NODE
            values["numa_node"] = definition.numa_node
        if inner is not None:
            values["inner_map_fd"] = inner.fd
        if btf is not None:
            values["btf_fd"] = btf.fd
            values["btf_key_type_id"] = definition.key_type_id
            values["btf_value_type_id"] = definition.value_type_id
        if btf_vmlinux_value_type_id:
            values["btf_vmlinux_value_type_id"] = btf_vmlinux_value_type_id
        if value_type_btf_fd:
            flags |= uapi.BPF_F_VTYPE_BTF_OBJ_FD
            values["value_type_btf_obj_fd"] = value_type_btf_fd
        if token_fd:
            flags |= uapi.BPF_F_TOKEN_FD
            values["map_token_fd"] = token_fd
        values["map_flags"] = flags
        fd = try_bpf(uapi.BPF_MAP_CREATE, MAP_CREATE.pack(**values))
        if fd < 0:
            from tracebee.kernel.explain import map_error  # only failures pay for it

            raise map_error(definition, entries, -fd)
        return cls(
            fd, definition.type, definition.name, definition.key_size, definition.value_size, entries, flags
        )

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Own a descriptor of an existing map; its sizes come from the kernel."""
        from tracebee.kernel.map_info import read

        try:
            info = read(fd)
        except BaseException:
            Fd(fd).close()
            raise
        return cls(fd, info.type, info.name, info.key_size, info.value_size, info.max_entries, info.map_flags)

    @classmethod
    def by_id(cls, object_id: int) -> Self:
        """The map with an id."""
        return cls.from_fd(fd_by_id(uapi.BPF_MAP_GET_FD_BY_ID, object_id, f"map {object_id}"))

    @classmethod
    def pinned(cls, path: str, file_flags: int = 0) -> Self:
        """The map pinned at a path of bpffs; ``file_flags`` may be BPF_F_RDONLY or BPF_F_WRONLY."""
        return cls.from_fd(pinned(path, file_flags, "map"))

    @staticmethod
    def ids() -> Iterator[int]:
        """Ids of all maps in the kernel."""
        return ids(uapi.BPF_MAP_GET_NEXT_ID)

    def info(self) -> MapInfo:
        """What the kernel says of it."""
        from tracebee.kernel.map_info import read  # only administration asks

        return read(self.fd)

    def pin(self, path: str) -> None:
        """Give it a name in bpffs."""
        pin(self.fd, path)

    def freeze(self) -> None:
        """Forbid further changes from user space (``BPF_MAP_FREEZE``)."""
        bpf(uapi.BPF_MAP_FREEZE, MAP_ELEMENT.pack(map_fd=self.fd), self.what)

    # Elements

    @property
    def is_per_cpu(self) -> bool:
        """Whether values have one slot per possible CPU."""
        return self.type in PER_CPU

    @property
    def value_bytes(self) -> int:
        """Bytes of a value as the system call sees it: all slots of a per-CPU value."""
        if self.type in PER_CPU:
            return (self.value_size + 7 & ~7) * cpus.possible_count()
        return 4 if self.type in _FD_VALUES else self.value_size

    def slots(self, value: bytes) -> list[bytes]:
        """A per-CPU value cut into one value per possible CPU, without padding."""
        step = self.value_size + 7 & ~7
        return [value[at : at + self.value_size] for at in range(0, len(value), step)]

    def join_slots(self, values: Sequence[bytes]) -> bytes:
        """The opposite of :meth:`slots`."""
        step = self.value_size + 7 & ~7
        return b"".join(value.ljust(step, b"\0") for value in values)

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """The value under a key; None when there is none."""
        value = bytearray(self.value_bytes)
        return bytes(value) if self._element(uapi.BPF_MAP_LOOKUP_ELEM, key, value, flags) else None

    def lookup_and_delete(self, key: bytes = b"", flags: int = 0) -> bytes | None:
        """Take a value out: of a hash under ``key``, of a queue or stack its next one."""
        value = bytearray(self.value_bytes)
        done = self._element(uapi.BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, value, flags)
        return bytes(value) if done else None

    def update(self, key: bytes, value: bytes, flags: int = uapi.BPF_ANY) -> None:
        """Set the value under a key.

        :param value: :attr:`value_bytes` bytes; a descriptor as 4 bytes in maps of maps or programs.
        :param flags: BPF_ANY, BPF_NOEXIST (only new keys) or BPF_EXIST (only existing ones).
        :raises ValueError: a size is wrong; KernelError: full, or refused by the flags.
        """
        if len(value) != self.value_bytes:
            raise ValueError(f"map '{self.name}' has values of {self.value_bytes} bytes, not {len(value)}")
        attr = MAP_ELEMENT.pack(map_fd=self.fd, key=self._key(key), value=address(value), flags=flags)
        bpf(uapi.BPF_MAP_UPDATE_ELEM, attr, self.what)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False when it was not there."""
        return self._element(uapi.BPF_MAP_DELETE_ELEM, key, None, 0)

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key after one, the first for None; None after the last."""
        found = bytearray(self.key_size)
        at = 0 if key is None else self._key(key)
        attr = MAP_ELEMENT.pack(map_fd=self.fd, key=at, next_key=address(found))
        result = try_bpf(uapi.BPF_MAP_GET_NEXT_KEY, attr)
        if result == _ENOENT:
            return None
        self._check(uapi.BPF_MAP_GET_NEXT_KEY, result)
        return bytes(found)

    def keys(self) -> Iterator[bytes]:
        """All keys, one system call each. A key removed meanwhile may make a hash start over."""
        key = self.next_key(None)
        while key is not None:
            yield key
            key = self.next_key(key)

    def items(self) -> list[tuple[bytes, bytes]]:
        """All keys and values: in batches where the kernel has them for this map type."""
        if self._can_batch:
            found = self._read_batches(uapi.BPF_MAP_LOOKUP_BATCH)
            if found is not None:
                return found
        pairs: dict[bytes, bytes] = {}
        for key in self.keys():
            if key in pairs:
                break  # the hash started over: everything reachable has been seen
            value = self.lookup(key)
            if value is not None:
                pairs[key] = value
        return list(pairs.items())

    def update_many(self, pairs: Sequence[tuple[bytes, bytes]], flags: int = uapi.BPF_ANY) -> None:
        """Set many values, in one call where the kernel can."""
        if not pairs:
            return
        if self._can_batch:
            keys = b"".join(key for key, _ in pairs)
            values = b"".join(value for _, value in pairs)
            attr = MAP_BATCH.pack(
                keys=address(keys), values=address(values), count=len(pairs), map_fd=self.fd, elem_flags=flags
            )
            result = try_bpf(uapi.BPF_MAP_UPDATE_BATCH, attr)
            if result >= 0:
                return
            if result not in (_ENOTSUPP, _EINVAL):
                self._check(uapi.BPF_MAP_UPDATE_BATCH, result)
        for key, value in pairs:
            self.update(key, value, flags)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Remove many keys, in one call where the kernel can; those that are missing are passed over."""
        done = 0
        if self._can_batch and keys:
            joined = b"".join(keys)
            attr = MAP_BATCH.pack(keys=address(joined), count=len(keys), map_fd=self.fd)
            if try_bpf(uapi.BPF_MAP_DELETE_BATCH, attr) >= 0:
                return
            done = MAP_BATCH.get(attr, "count") if MAP_BATCH.get(attr, "count") < len(keys) else 0
        for key in keys[done:]:
            self.delete(key)

    def drain(self) -> list[tuple[bytes, bytes]]:
        """Take everything out of a hash: read and delete as one step where the kernel can."""
        if self._can_batch:
            found = self._read_batches(uapi.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
            if found is not None:
                return found
        pairs = self.items()
        self.delete_many([key for key, _ in pairs])
        return pairs

    def clear(self) -> None:
        """Remove all keys of a hash; set all elements of an array to zero."""
        if self.type in _ARRAYS:
            zero = bytes(self.value_bytes)
            self.update_many([(index.to_bytes(4, sys.byteorder), zero) for index in range(self.max_entries)])
        else:
            self.delete_many(list(dict.fromkeys(self.keys())))

    def map_memory(self, *, writable: bool = True) -> mmap.mmap:
        """The elements of an array created with BPF_F_MMAPABLE as shared memory, 8-byte aligned each; all
        pages of an arena, which has its address from here on.
        """
        page = mmap.PAGESIZE
        element = page if self.type == uapi.BPF_MAP_TYPE_ARENA else self.value_size + 7 & ~7
        size = element * self.max_entries
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        return mmap.mmap(self.fd, (size + page - 1) // page * page, mmap.MAP_SHARED, prot)

    # How the calls are made

    @property
    def what(self) -> str:
        """How errors name it."""
        return f"map '{self.name}'"

    def _key(self, key: bytes) -> int:
        if len(key) != self.key_size:
            raise ValueError(f"map '{self.name}' has keys of {self.key_size} bytes, not {len(key)}")
        return address(key)

    def _check(self, command: int, result: int) -> None:
        if result < 0:
            from tracebee.kernel.explain import bpf_error

            raise bpf_error(command, -result, self.what)

    def _element(self, command: int, key: bytes, value: bytearray | None, flags: int) -> bool:
        attr = MAP_ELEMENT.pack(
            map_fd=self.fd, key=self._key(key), value=0 if value is None else address(value), flags=flags
        )
        result = try_bpf(command, attr)
        if result == _ENOENT:
            return False
        self._check(command, result)
        return True

    def _read_batches(self, command: int) -> list[tuple[bytes, bytes]] | None:
        """All elements through a batch command; None when this map has none."""
        from tracebee.kernel.map_batch import read_batches  # at the end of a script, not at its start

        found = read_batches(self, command)
        self._can_batch = found is not None
        return found


def kernel_name(name: str) -> bytes:
    """A name as the kernel accepts it: 15 bytes of letters, digits, ``_`` and ``.``."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)[:15].encode()
