"""First in, first out and last in, first out: QUEUE and STACK.

``max_entries`` elements of ``element_step`` bytes from ``elements``. Value n lies in element n modulo
``max_entries``; those numbered from ``tail`` to below ``head`` are there. Putting one in takes number
``head``, a queue gives out number ``tail`` and a stack number ``head - 1``. The map's lock guards both
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracebee import uapi
from tracebee.vm.maps import layout
from tracebee.vm.maps.base import E2BIG, EINVAL, ENOENT, UserMap


class QueueMap(UserMap):
    """Values without keys."""

    def _refuse_bad_definition(self) -> None:
        if self.key_size != 0 or self.value_size == 0 or self.max_entries == 0:
            self._refuse(uapi.BPF_MAP_CREATE, EINVAL)

    def _plan(self) -> int:
        self.element_step = self.value_step
        return layout.HEADER_BYTES + self.max_entries * self.element_step

    @property
    def is_stack(self) -> bool:
        """Whether the last value in is the first out."""
        return self.type == uapi.BPF_MAP_TYPE_STACK

    def push(self, value: bytes, flags: int = 0) -> int:
        """Put a value in; BPF_EXIST makes room by dropping the oldest of a full map."""
        if flags & ~uapi.BPF_EXIST:
            return -EINVAL
        memory = self.memory
        with self._lock():
            head, tail = memory.u64(layout.HEAD), memory.u64(layout.TAIL)
            if head - tail >= self.max_entries:
                if not flags & uapi.BPF_EXIST:
                    return -E2BIG
                memory.set_u64(layout.TAIL, tail + 1)
            self._write(head, value)
            memory.set_u64(layout.HEAD, head + 1)
        return 0

    def pop(self) -> bytes | int:
        """Take the next value out, -ENOENT when empty."""
        return self._next(take=True)

    def peek(self, value: bytes = b"") -> bytes | int:
        """The next value, which stays, -ENOENT when empty."""
        return self._next(take=False)

    def _next(self, *, take: bool) -> bytes | int:
        memory = self.memory
        with self._lock():
            head, tail = memory.u64(layout.HEAD), memory.u64(layout.TAIL)
            if head == tail:
                return -ENOENT
            value = self._read(head - 1 if self.is_stack else tail)
            if take and self.is_stack:
                memory.set_u64(layout.HEAD, head - 1)
            elif take:
                memory.set_u64(layout.TAIL, tail + 1)
        return value

    def _place(self, number: int) -> int:
        return self.elements + number % self.max_entries * self.element_step

    def _write(self, number: int, value: bytes) -> None:
        start = self._place(number)
        self.memory.view[start : start + self.value_size] = value

    def _read(self, number: int) -> bytes:
        start = self._place(number)
        return bytes(self.memory.view[start : start + self.value_size])

    # For user space: a lookup peeks, an update pushes

    def lookup(self, key: bytes = b"", flags: int = 0) -> bytes | None:
        """The next value, which stays; None when empty."""
        value = self.peek()
        return value if isinstance(value, bytes) else None

    def lookup_and_delete(self, key: bytes = b"", flags: int = 0) -> bytes | None:
        """Take the next value out; None when empty."""
        value = self.pop()
        return value if isinstance(value, bytes) else None

    def _put(self, key: bytes, flags: int, value: bytes, at: int) -> int:
        return self.push(value, flags)

    def _value_at(self, key: bytes) -> int | None:
        return None

    def _remove(self, key: bytes) -> int:
        return -EINVAL

    def _keys(self) -> Iterator[bytes]:
        return iter(())

    def items(self) -> list[tuple[bytes, bytes]]:
        """The values, next first, under empty keys."""
        with self._lock():
            numbers = range(self.memory.u64(layout.TAIL), self.memory.u64(layout.HEAD))
            return [(b"", self._read(n)) for n in (reversed(numbers) if self.is_stack else numbers)]
