"""The helpers the VM offers, in Python: what the interpreter calls, and what native ones must agree with.

A helper takes the machine and the five argument registers, and gives r0 (negative numbers are errors). It
reads and writes the program's memory only through the machine's, so that its bounds are checked like the
program's own accesses; other memory is the environment's.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.errors import ProgramFaultError
from tracebee.isa.helpers import BY_NAME
from tracebee.vm.environment import Environment
from tracebee.vm.interpreter import Callback, Helper, Outcome, TailCall
from tracebee.vm.maps.base import UserMap
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.maps.nested import ProgArrayMap
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.maps.stacks import StackTraceMap
from tracebee.vm.memory import Region
from tracebee.vm.printk import format_text
from tracebee.vm.semantics import MASK64, signed

if TYPE_CHECKING:
    from tracebee.vm.interpreter import Machine

_EPERM, _ENOENT, _E2BIG, _EFAULT, _EINVAL, _ERANGE = 1, 2, 7, 14, 22, 34
_MAX_LOOPS = 8 << 20
_USER_STACK, _SKIP_MASK = 1 << 8, 0xFF


class Helpers:
    """Helpers bound to one VM's maps and environment. ``table`` is what a Machine takes."""

    def __init__(self, space: MapSpace, environment: Environment | None = None) -> None:
        self.space = space
        self.environment = environment or Environment()
        self._samples: dict[int, Region] = {}
        self.table: Mapping[int, Helper] = {
            BY_NAME[name.removeprefix("bpf_")].number: getattr(self, name)
            for name in dir(self)
            if name.startswith("bpf_")
        }

    def _map(self, address: int) -> UserMap:
        map_ = self.space.at(address)
        if map_ is None:
            raise ProgramFaultError(f"{address:#x} is no map", address=address)
        return map_

    def _ring(self, address: int) -> RingBufferMap:
        map_ = self._map(address)
        if not isinstance(map_, RingBufferMap):
            raise ProgramFaultError(f"map {map_.name} is no ring buffer", address=address)
        return map_

    # Maps

    def bpf_map_lookup_elem(self, m: Machine, map_: int, key: int, *_: int) -> Outcome:
        """Address of the value, or 0."""
        found = self._map(map_)
        return found.find(m.memory.read(key, found.key_size), self.environment.cpu())

    def bpf_map_lookup_percpu_elem(self, m: Machine, map_: int, key: int, cpu: int, *_: int) -> Outcome:
        """Address of a CPU's value, or 0."""
        found = self._map(map_)
        cpu &= 0xFFFFFFFF
        return found.find(m.memory.read(key, found.key_size), cpu) if cpu < found.cpus else 0

    def bpf_map_update_elem(
        self, m: Machine, map_: int, key: int, value: int, flags: int, *_: int
    ) -> Outcome:
        """Store a value."""
        found = self._map(map_)
        data = m.memory.read(value, found.value_size)
        return found.set(m.memory.read(key, found.key_size), data, flags, self.environment.cpu())

    def bpf_map_delete_elem(self, m: Machine, map_: int, key: int, *_: int) -> Outcome:
        """Delete a key."""
        found = self._map(map_)
        return found.remove(m.memory.read(key, found.key_size))

    def bpf_map_push_elem(self, m: Machine, map_: int, value: int, flags: int, *_: int) -> Outcome:
        """Put a value in."""
        found = self._map(map_)
        return found.push(m.memory.read(value, found.value_size), flags)

    def bpf_map_pop_elem(self, m: Machine, map_: int, value: int, *_: int) -> Outcome:
        """Take a value out."""
        return self._give(m, value, self._map(map_).pop())

    def bpf_map_peek_elem(self, m: Machine, map_: int, value: int, *_: int) -> Outcome:
        """Look at the next value, or ask a bloom filter for one."""
        found = self._map(map_)
        asks = found.type == uapi.BPF_MAP_TYPE_BLOOM_FILTER
        given = m.memory.read(value, found.value_size) if asks else b""
        return self._give(m, value, found.peek(given))

    @staticmethod
    def _give(m: Machine, address: int, result: bytes | int) -> int:
        if isinstance(result, int):
            return result
        m.memory.write(address, result)
        return 0

    def bpf_for_each_map_elem(
        self, m: Machine, map_: int, function: int, context: int, flags: int, *_: int
    ) -> Outcome:
        """Call a function for every element until it gives 1: the number of calls."""
        if flags:
            return -_EINVAL
        found = self._map(map_)
        # The function gets a pointer to a copy of the key, which the program may read.
        room = m.memory.add(Region(f"key of map {found.name}", bytearray(found.key_size)))
        keys, count, cpu = list(found.keys()), 0, self.environment.cpu()

        def go_on(result: int) -> Outcome:
            nonlocal count
            while keys and result == 0:
                key = keys.pop(0)
                if address := found.find(key, cpu):
                    room.view[:] = key
                    count += 1
                    return Callback(function, (map_, room.base, address, context), go_on)
            m.memory.remove(room)
            return count

        return go_on(0)

    def bpf_loop(
        self, _: Machine, iterations: int, function: int, context: int, flags: int, *__: int
    ) -> Outcome:
        """Call a function with 0, 1, ... until it gives 1: the number of calls."""
        iterations &= 0xFFFFFFFF
        if flags:
            return -_EINVAL
        if iterations > _MAX_LOOPS:
            return -_E2BIG
        done = 0

        def go_on(result: int) -> Outcome:
            nonlocal done
            if result or done == iterations:
                return done
            done += 1
            return Callback(function, (done - 1, context), go_on)

        return go_on(0)

    def bpf_tail_call(self, _: Machine, __: int, map_: int, index: int, *___: int) -> Outcome:
        """Go on in another program; without one at the index, in this."""
        found = self._map(map_)
        if not isinstance(found, ProgArrayMap):
            raise ProgramFaultError(f"map {found.name} holds no programs", address=map_)
        program = found.program(index & 0xFFFFFFFF)
        return None if program is None else TailCall(program)

    # Ring buffer

    def bpf_ringbuf_output(self, m: Machine, ring: int, data: int, size: int, flags: int, *_: int) -> Outcome:
        """Copy a record out."""
        return self._ring(ring).output(m.memory.read(data, size), flags)

    def bpf_ringbuf_reserve(self, m: Machine, ring: int, size: int, flags: int, *_: int) -> Outcome:
        """Room for a record, which the program may access until it submits or discards it."""
        found = self._ring(ring)
        address = 0 if flags else found.reserve(size)
        if address:
            at, length = found.record(address)
            region = Region(f"record of {found.name}", found.memory.view[at : at + length])
            self._samples[address] = m.memory.add(region)
        return address

    def bpf_ringbuf_submit(self, m: Machine, record: int, flags: int, *_: int) -> Outcome:
        """Hand a record to the reader."""
        self._end_record(m, record).submit(record, flags)
        return None

    def bpf_ringbuf_discard(self, m: Machine, record: int, flags: int, *_: int) -> Outcome:
        """Give a record up."""
        self._end_record(m, record).discard(record, flags)
        return None

    def _end_record(self, m: Machine, record: int) -> RingBufferMap:
        region = self._samples.pop(record, None)
        if region is None:
            raise ProgramFaultError(f"{record:#x} is no reserved record", address=record)
        m.memory.remove(region)
        for map_ in self.space.maps:
            if (
                isinstance(map_, RingBufferMap)
                and map_.address <= record < map_.address + map_.memory.size * 2
            ):
                return map_
        raise ProgramFaultError(f"{record:#x} is in no ring buffer", address=record)

    def bpf_ringbuf_query(self, _: Machine, ring: int, what: int, *__: int) -> Outcome:
        """A number about a ring buffer."""
        return self._ring(ring).query(what)

    # Time and place

    def bpf_ktime_get_ns(self, *_: object) -> Outcome:
        """CLOCK_MONOTONIC."""
        return self.environment.clock(time.CLOCK_MONOTONIC)

    def bpf_ktime_get_boot_ns(self, *_: object) -> Outcome:
        """CLOCK_BOOTTIME."""
        return self.environment.clock(time.CLOCK_BOOTTIME)

    def bpf_ktime_get_coarse_ns(self, *_: object) -> Outcome:
        """CLOCK_MONOTONIC_COARSE."""
        return self.environment.clock(6)

    def bpf_ktime_get_tai_ns(self, *_: object) -> Outcome:
        """CLOCK_TAI."""
        return self.environment.clock(time.CLOCK_TAI)

    def bpf_jiffies64(self, *_: object) -> Outcome:
        """Ticks of 4 milliseconds."""
        return self.environment.clock(time.CLOCK_MONOTONIC) // 4_000_000

    def bpf_get_prandom_u32(self, *_: object) -> Outcome:
        """32 random bits."""
        return self.environment.random()

    def bpf_get_smp_processor_id(self, *_: object) -> Outcome:
        """The CPU."""
        return self.environment.cpu()

    def bpf_get_numa_node_id(self, *_: object) -> Outcome:
        """Memory nodes are not told apart."""
        return 0

    def bpf_get_current_pid_tgid(self, *_: object) -> Outcome:
        """Process and thread."""
        return self.environment.pid_tgid()

    def bpf_get_current_uid_gid(self, *_: object) -> Outcome:
        """Group and user."""
        return self.environment.uid_gid()

    def bpf_get_current_comm(self, m: Machine, buffer: int, size: int, *_: int) -> Outcome:
        """The thread's name, cut to the buffer and closed by a NUL."""
        size &= 0xFFFFFFFF
        m.memory.write(buffer, self.environment.comm()[: size - 1].ljust(size, b"\0"))
        return 0

    # Memory of others

    def bpf_probe_read(self, m: Machine, to: int, size: int, source: int, *_: int) -> Outcome:
        """Copy memory that may not be there; then the destination is zeroed."""
        size &= 0xFFFFFFFF
        data = self.environment.read(source, size) if size else b""
        m.memory.write(to, bytes(size) if data is None else data)
        return -_EFAULT if data is None else 0

    bpf_probe_read_user = bpf_probe_read
    bpf_probe_read_kernel = bpf_probe_read
    bpf_copy_from_user = bpf_probe_read

    def bpf_probe_read_str(self, m: Machine, to: int, size: int, source: int, *_: int) -> Outcome:
        """Copy a string with its NUL: the number of bytes."""
        size &= 0xFFFFFFFF
        if size == 0:
            return 0
        data = self.environment.read_string(source, size)
        if data is None:
            m.memory.write(to, bytes(size))
            return -_EFAULT
        m.memory.write(to, data)
        return len(data)

    bpf_probe_read_user_str = bpf_probe_read_str
    bpf_probe_read_kernel_str = bpf_probe_read_str

    def bpf_get_stackid(self, _: Machine, __: int, map_: int, flags: int, *___: int) -> Outcome:
        """The number of the current stack in a map."""
        found = self._map(map_)
        if not isinstance(found, StackTraceMap):
            raise ProgramFaultError(f"map {found.name} holds no stacks", address=map_)
        frames = self.environment.frames(bool(flags & _USER_STACK))
        return found.intern(frames[flags & _SKIP_MASK :], flags)

    def bpf_get_stack(self, m: Machine, _: int, buffer: int, size: int, flags: int, *__: int) -> Outcome:
        """The current stack's return addresses: the number of bytes."""
        frames = self.environment.frames(bool(flags & _USER_STACK))[flags & _SKIP_MASK :]
        data = b"".join(struct.pack("=Q", frame) for frame in frames)[: (size & 0xFFFFFFFF) & ~7]
        m.memory.write(buffer, data)
        return len(data)

    # Text

    def bpf_trace_printk(self, m: Machine, template: int, size: int, a: int, b: int, c: int) -> Outcome:
        """Print a line: the number of characters."""
        return self._print(m, template, size, iter((a, b, c)))

    def bpf_trace_vprintk(
        self, m: Machine, template: int, size: int, data: int, length: int, *_: int
    ) -> Outcome:
        """Print a line with its values in an array."""
        return self._print(m, template, size, self._values(m, data, length))

    def _print(self, m: Machine, template: int, size: int, values: Iterator[int]) -> int:
        text = m.memory.read(template, size & 0xFFFFFFFF)
        done = format_text(text.split(b"\0")[0], values, lambda address: self._string(m, address))
        if done is None or not text.endswith(b"\0"):
            return -_EINVAL
        self.environment.printk(done.decode(errors="replace"))
        return len(done)

    def bpf_snprintf(self, m: Machine, to: int, size: int, template: int, data: int, length: int) -> Outcome:
        """Format into a buffer: the length with the NUL, had there been room."""
        text = self._string(m, template)
        done = format_text(text, self._values(m, data, length), lambda address: self._string(m, address))
        if done is None or length % 8:
            return -_EINVAL
        size &= 0xFFFFFFFF
        if size:
            m.memory.write(to, done[: size - 1] + b"\0")
        return len(done) + 1

    @staticmethod
    def _values(m: Machine, data: int, length: int) -> Iterator[int]:
        length &= 0xFFFFFFFF
        return (value for (value,) in struct.iter_unpack("=Q", m.memory.read(data, length & ~7)))

    def _string(self, m: Machine, address: int) -> bytes:
        """A NUL-terminated string in the program's memory or the environment's, without its NUL."""
        out = b""
        try:
            while (byte := m.memory.read(address + len(out), 1)) != b"\0":
                out += byte
        except ProgramFaultError:
            return (self.environment.read_string(address, 512) or b"(fault)\0")[:-1]
        return out

    def bpf_strncmp(self, m: Machine, left: int, size: int, right: int, *_: int) -> Outcome:
        """The order of two strings: the difference of the first bytes that differ."""
        size &= 0xFFFFFFFF
        a = m.memory.read(left, size).split(b"\0")[0]
        b = self._string(m, right)[:size]
        for x, y in zip(a.ljust(size, b"\0"), b.ljust(size, b"\0"), strict=True):
            if x != y:
                return x - y
        return 0

    def bpf_strtol(self, m: Machine, text: int, size: int, flags: int, to: int, *_: int) -> Outcome:
        """A signed number at the start of a text: the characters it takes."""
        return self._number(m, text, size, flags, to, low=-(1 << 63), high=(1 << 63) - 1)

    def bpf_strtoul(self, m: Machine, text: int, size: int, flags: int, to: int, *_: int) -> Outcome:
        """An unsigned number at the start of a text: the characters it takes."""
        return self._number(m, text, size, flags, to, low=0, high=MASK64)

    def _number(self, m: Machine, text: int, size: int, flags: int, to: int, *, low: int, high: int) -> int:
        base = flags & 0x1F
        if base not in (0, 8, 10, 16) or flags & ~0x1F:
            return -_EINVAL
        data = m.memory.read(text, size).split(b"\0")[0].decode("latin-1")
        rest = data.lstrip(" \t\n\v\f\r")
        sign = rest.startswith("-")
        digits = rest[1:] if sign else rest
        if sign and low == 0:
            return -_EINVAL
        prefix = ""
        if base in (0, 16) and digits[:2].lower() == "0x":
            base, prefix = 16, digits[:2]
        elif base == 0:
            base = 8 if digits.startswith("0") else 10
        allowed = "0123456789abcdef"[:base]
        body = digits[len(prefix) :]
        taken = next((i for i, c in enumerate(body) if c.lower() not in allowed), len(body))
        if taken == 0:
            return -_EINVAL
        value = int(body[:taken], base) * (-1 if sign else 1)
        if not low <= value <= high:
            return -_ERANGE
        m.memory.write(to, (value & MASK64).to_bytes(8, sys.byteorder))
        return len(data) - len(rest) + sign + len(prefix) + taken

    # Locks and packets

    def bpf_spin_lock(self, *_: object) -> Outcome:
        """The interpreter runs one program at a time: there is nothing to wait for."""
        return None

    bpf_spin_unlock = bpf_spin_lock

    def bpf_skb_load_bytes(self, m: Machine, _: int, offset: int, to: int, size: int, *__: int) -> Outcome:
        """Copy bytes of the packet; where they are not there the destination is zeroed."""
        start, size = signed(offset, 32), size & 0xFFFFFFFF
        data = bytes(m.packet[start : start + size]) if start >= 0 else b""
        m.memory.write(to, data if len(data) == size else bytes(size))
        return 0 if len(data) == size else -_EFAULT

    bpf_xdp_load_bytes = bpf_skb_load_bytes
