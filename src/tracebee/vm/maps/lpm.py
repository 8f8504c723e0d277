"""Longest prefix match: LPM_TRIE.

A key is ``struct bpf_lpm_trie_key``: u32 prefix length in bits, then the data, most significant bit
first. The trie is binary and path-compressed, as the kernel's. Nodes, ``2 * max_entries`` of them,
``element_step`` bytes each from ``elements``::

    u32 child[2]    index + 1, 0 for none
    u32 length      of the prefix in bits
    u32 state       0 unused, 1 holds a value, 2 only branches
    data            padded with zeros to 8 bytes
    value           at ``value_offset``

``buckets`` is the offset of a u32: index + 1 of the root. Unused nodes are linked through child[0] from
``free``.
Changes take the map's lock; lookups take none, and start over when the map's ``sequence`` was odd or
has changed. A node is linked in by one store after it is whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tracebee import uapi
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import EEXIST, EINVAL, ENOENT, ENOSPC, UserMap
from tracebee.vm.maps.layout import round_up
from tracebee.vm.maps.memory import PATIENCE
from tracebee.vm.memory import Region

LENGTH, STATE, DATA = 8, 12, 16
HOLDS, BRANCHES = 1, 2


class LpmTrieMap(UserMap):
    """Values by prefix; looking up finds the longest prefix of the key."""

    def _refuse_bad_definition(self) -> None:
        super()._refuse_bad_definition()
        if self.key_size <= 4 or self.key_size > 260 or not self.flags & uapi.BPF_F_NO_PREALLOC:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _plan(self) -> int:
        self.buckets = layout.HEADER_BYTES
        self.elements = layout.HEADER_BYTES + 16
        self.value_offset = DATA + round_up(self.key_size - 4, 8)
        self.element_step = self.value_offset + self.value_step
        return self.elements + 2 * self.max_entries * self.element_step

    def _write_header(self) -> None:
        super()._write_header()
        for index in range(2 * self.max_entries - 1):
            self.memory.set_u32(self._node(index + 1), index + 2)
        self.memory.set_u64(layout.FREE, 1)

    def regions(self) -> list[Region]:
        """All nodes' values."""
        start = self.elements + self.value_offset
        end = self.elements + 2 * self.max_entries * self.element_step
        name = f"a value of map {self.name}"
        return [Region(name, self.memory.view[start:end], stride=self.element_step, extent=self.value_size)]

    def _node(self, index: int) -> int:
        """Offset of the node with an index + 1."""
        return self.elements + (index - 1) * self.element_step

    def _split(self, key: bytes) -> tuple[int, bytes] | None:
        """A key's prefix length and data; None when the length is more than the data has."""
        length = int.from_bytes(key[:4], sys.byteorder)
        return (length, key[4:]) if length <= 8 * (self.key_size - 4) else None

    def _data(self, node: int) -> bytes:
        return bytes(self.memory.view[node + DATA : node + DATA + self.key_size - 4])

    def _common(self, node: int, length: int, data: bytes) -> int:
        """How many bits a node's prefix and another have in common from the start."""
        limit = min(self.memory.u32(node + LENGTH), length)
        bits = 8 * len(data)
        differ = int.from_bytes(self._data(node), "big") ^ int.from_bytes(data, "big")
        return min(limit, bits - differ.bit_length())

    @staticmethod
    def _bit(data: bytes, number: int) -> int:
        return data[number // 8] >> (7 - number % 8) & 1

    def _value_at(self, key: bytes) -> int | None:
        """Offset of the value of the longest prefix."""
        split = self._split(key)
        if split is None:
            return None
        memory = self.memory
        for _ in range(PATIENCE):
            sequence = memory.u32(layout.SEQUENCE)
            found = self._longest(*split)
            if sequence % 2 == 0 and memory.u32(layout.SEQUENCE) == sequence:
                break
        else:
            with self._lock():
                found = self._longest(*split)
        return None if found is None else found + self.value_offset

    def _longest(self, length: int, data: bytes) -> int | None:
        memory, found = self.memory, None
        index = memory.u32(self.buckets)
        for _ in range(length + 2):
            if index == 0:
                break
            node = self._node(index)
            own = memory.u32(node + LENGTH)
            common = self._common(node, length, data)
            if common < own:
                break
            if memory.u32(node + STATE) == HOLDS:
                found = node
            if own == length or own == 8 * len(data):
                break
            index = memory.u32(node + 4 * self._bit(data, own))
        return found

    def _descend(self, length: int, data: bytes) -> tuple[int, int, int]:
        """The link, the node it leads to (0 for none) and the bits in common, where a prefix belongs."""
        memory, link = self.memory, self.buckets
        while True:
            index = memory.u32(link)
            if index == 0:
                return link, 0, 0
            node = self._node(index)
            own = memory.u32(node + LENGTH)
            common = self._common(node, length, data)
            if common < own or own == length:
                return link, index, common
            link = node + 4 * self._bit(data, own)

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        split = self._split(key)
        if split is None:
            return -EINVAL
        length, data = split
        memory = self.memory
        with self._lock():
            link, index, common = self._descend(length, data)
            node = self._node(index) if index else 0
            is_same = bool(index) and common == length == memory.u32(node + LENGTH)
            exists = is_same and memory.u32(node + STATE) == HOLDS
            if exists and flags & uapi.BPF_NOEXIST:
                return -EEXIST
            if not exists and flags & uapi.BPF_EXIST:
                return -ENOENT
            if not exists and memory.u64(layout.COUNT) >= self.max_entries:
                return -ENOSPC
            if is_same:
                # Bits beyond the prefix are kept as given, though nothing looks at them.
                memory.view[node + DATA : node + DATA + len(data)] = data
                self._set_value(node, value)
                memory.set_u32(node + STATE, HOLDS)
            else:
                self._insert(link, index, common, length, data, value)
            if not exists:
                memory.add(layout.COUNT, 1)
        return 0

    def _insert(self, link: int, index: int, common: int, length: int, data: bytes, value: bytes) -> None:
        memory = self.memory
        new = self._new(length, data, HOLDS)
        self._set_value(self._node(new), value)
        if index == 0:
            memory.set_u32(link, new)
        elif common == length:  # the node there continues the new prefix
            memory.set_u32(self._node(new) + 4 * self._bit(self._data(self._node(index)), length), index)
            memory.set_u32(link, new)
        else:  # they part: a node that only branches goes between
            branch = self._new(common, data, BRANCHES)
            side = self._bit(data, common)
            memory.set_u32(self._node(branch) + 4 * side, new)
            memory.set_u32(self._node(branch) + 4 * (1 - side), index)
            memory.set_u32(link, branch)

    def _new(self, length: int, data: bytes, state: int) -> int:
        memory = self.memory
        index = memory.u64(layout.FREE)
        node = self._node(index)
        memory.set_u64(layout.FREE, memory.u32(node))
        memory.set_u64(node, 0)
        memory.set_u32(node + LENGTH, length)
        memory.set_u32(node + STATE, state)
        memory.view[node + DATA : node + self.value_offset] = data.ljust(self.value_offset - DATA, b"\0")
        return index

    def _drop(self, index: int) -> None:
        memory, node = self.memory, self._node(index)
        memory.set_u32(node + STATE, 0)
        memory.set_u64(node, memory.u64(layout.FREE))
        memory.set_u64(layout.FREE, index)

    def _set_value(self, node: int, value: bytes) -> None:
        start = node + self.value_offset
        self.memory.view[start : start + len(value)] = value

    def _remove(self, key: bytes) -> int:
        split = self._split(key)
        if split is None:
            return -EINVAL
        length, data = split
        memory = self.memory
        with self._lock():
            trail = self._trail(length, data)
            if trail is None:
                return -ENOENT
            link, index = trail[-1]
            node = self._node(index)
            children = memory.u32(node), memory.u32(node + 4)
            memory.add(layout.COUNT, -1)
            if all(children):
                memory.set_u32(node + STATE, BRANCHES)
                return 0
            memory.set_u32(link, children[0] or children[1])
            self._drop(index)
            if not any(children) and len(trail) > 1:
                self._shorten(*trail[-2])
        return 0

    def _trail(self, length: int, data: bytes) -> list[tuple[int, int]] | None:
        """Links and nodes from the root to the node that holds a prefix, None where none does."""
        memory, link = self.memory, self.buckets
        trail: list[tuple[int, int]] = []
        while index := memory.u32(link):
            node = self._node(index)
            trail.append((link, index))
            own = memory.u32(node + LENGTH)
            if self._common(node, length, data) < own:
                return None
            if own == length:
                return trail if memory.u32(node + STATE) == HOLDS else None
            link = node + 4 * self._bit(data, own)
        return None

    def _shorten(self, link: int, index: int) -> None:
        """Replace a node that only branches by its one child."""
        memory, node = self.memory, self._node(index)
        children = memory.u32(node), memory.u32(node + 4)
        if memory.u32(node + STATE) == BRANCHES and not all(children):
            memory.set_u32(link, children[0] or children[1])
            self._drop(index)

    def _keys(self) -> Iterator[bytes]:
        """All prefixes, the longer ones before those they continue, as the kernel walks them."""
        memory = self.memory

        def walk(index: int) -> Iterator[bytes]:
            if index:
                node = self._node(index)
                yield from walk(memory.u32(node))
                yield from walk(memory.u32(node + 4))
                if memory.u32(node + STATE) == HOLDS:
                    yield memory.u32(node + LENGTH).to_bytes(4, sys.byteorder) + self._data(node)

        return walk(memory.u32(self.buckets))
