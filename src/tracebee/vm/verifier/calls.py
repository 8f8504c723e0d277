"""Calls of helpers: what they may be given, and what they give back.

Source: the kernel's ``check_helper_call`` and ``check_func_arg``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.isa.helpers import BY_NUMBER, FIXED_SIZES, Helper
from tracebee.vm.verifier import helper_sets, map_rules, memory, stack
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    BTF,
    CTX,
    FUNC,
    MAP_KEY,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    NOTHING,
    PACKET,
    PACKET_META,
    SCALAR,
    SOCK,
    STACK,
    UNINIT,
    Reg,
    pointer,
    unknown,
)

if TYPE_CHECKING:
    from tracebee.obj.model import MapDef
    from tracebee.vm.verifier.machine import Verifier

_MAX_SIZE = 1 << 29
_MEMORY = (STACK, PACKET, PACKET_META, MAP_KEY, MAP_VALUE, MEM)
_ALLOWED_UNDER_LOCK = frozenset(("spin_unlock",))
_PACKET_CHANGERS = frozenset(
    (
        "skb_store_bytes",
        "l3_csum_replace",
        "l4_csum_replace",
        "skb_vlan_push",
        "skb_vlan_pop",
        "skb_change_proto",
        "skb_change_tail",
        "skb_change_head",
        "skb_adjust_room",
        "skb_pull_data",
        "xdp_adjust_head",
        "xdp_adjust_tail",
        "xdp_adjust_meta",
        "clone_redirect",
        "lwt_push_encap",
    )
)
# Helpers that return how many bytes they wrote, at most what they were given, or an error.
_COUNTING = frozenset(
    ("get_stack", "get_task_stack", "probe_read_str", "probe_read_kernel_str", "probe_read_user_str")
)
_MAX_ERRNO = 4095
# Numbers of the helpers that run a function of the program.
CALLBACK_HELPERS = frozenset(h.number for h in BY_NUMBER.values() if "PTR_TO_FUNC" in h.args)


class Call:
    """One call while its arguments are checked."""

    def __init__(self, v: Verifier, helper: Helper) -> None:
        self.v = v
        self.helper = helper
        self.map: MapDef | None = None
        self.key: Reg | None = None
        self.written: list[tuple[int, Reg, int]] = []  # memory the helper fills: register, pointer, bytes
        self.released = 0
        self.size = 0  # of what it allocates
        self.limit = 0  # largest value of the last size argument
        self.function = -1

    def check(self) -> None:
        """All arguments.

        :raises RefusalError: an argument does not suit the helper.
        """
        kinds = self.helper.arg_kinds
        for index, kind in enumerate(kinds):
            self._argument(index + 1, kind, kinds[index + 1] if index + 1 < len(kinds) else "")

    def _argument(self, number: int, kind: str, following: str) -> None:
        base, *flags = kind.split("|")
        if base == "DONTCARE":
            return
        v = self.v
        reg = v.state.regs[number]
        if reg.kind == UNINIT:
            raise v.unreadable(number)
        if base == "ANYTHING":
            if reg.is_pointer and not v.privileged:
                raise RefusalError(f"R{number} leaks addr into helper function", register=number)
            return
        if "PTR_MAYBE_NULL" in flags and reg.is_zero and base != "CONST_MAP_PTR":
            if not following.startswith("CONST_SIZE"):
                return
            if base.startswith("PTR_TO_MEM"):
                return
        if base.startswith("CONST_SIZE"):
            self._size(number, zero=base.endswith("OR_ZERO"))
        elif base == "CONST_ALLOC_SIZE_OR_ZERO":
            if reg.kind != SCALAR or not reg.is_const:
                raise self._wrong(number, reg, "a known number")
            if reg.umax >= _MAX_SIZE:
                raise RefusalError(f"R{number} is too large a size", register=number)
            self.size = reg.umin
        else:
            self._pointer(number, reg, base, flags, following)

    def _wrong(self, number: int, reg: Reg, expected: str) -> RefusalError:
        name = reg.kind + ("_or_null" if reg.null else "")
        hint = "compare it with 0 first" if reg.null else ""
        return RefusalError(
            f"R{number} type={name} expected={expected} in the call of {self.helper.name}",
            hint=hint,
            register=number,
        )

    def _pointer(self, number: int, reg: Reg, base: str, flags: list[str], following: str) -> None:
        v = self.v
        if base == "CONST_MAP_PTR":
            if reg.kind != MAP_PTR or reg.null or reg.off:
                raise self._wrong(number, reg, "map_ptr")
            assert reg.map is not None
            if not map_rules.compatible(reg.map.type, self.helper.name):
                raise RefusalError(
                    f"cannot pass map '{reg.map.name}' of type {reg.map.type} into {self.helper.name}",
                    register=number,
                )
            self.map = reg.map
        elif base == "PTR_TO_MAP_KEY":
            self._fixed(number, reg, self._the_map().key_size, write=False, raw=False)
            self.key = reg
        elif base == "PTR_TO_MAP_VALUE":
            raw = "MEM_UNINIT" in flags
            self._fixed(number, reg, self._the_map().value_size, write="MEM_WRITE" in flags, raw=raw)
        elif base == "PTR_TO_MEM":
            self._memory(number, reg, flags, following)
        elif base == "PTR_TO_CTX":
            if reg.kind != CTX:
                raise self._wrong(number, reg, "ctx")
            memory.plain_context(number, reg)
        elif base == "PTR_TO_STACK":
            if reg.kind != STACK:
                raise self._wrong(number, reg, "fp")
        elif base == "PTR_TO_FUNC":
            if reg.kind != FUNC:
                raise self._wrong(number, reg, "func")
            self.function = reg.btf
        elif base == "PTR_TO_RINGBUF_MEM":
            if reg.kind != MEM or "ringbuf" not in reg.flags or reg.null:
                raise self._wrong(number, reg, "ringbuf_mem")
            if reg.off or reg.bits != (0, 0):
                raise RefusalError(
                    f"R{number} must have zero offset when passed to release it", register=number
                )
            self.released = reg.ref
        elif base == "PTR_TO_CONST_STR":
            self._constant_string(number, reg)
        elif base == "PTR_TO_SPIN_LOCK":
            v.take_lock(number, reg, take=self.helper.name == "spin_lock")
        elif base.startswith("PTR_TO_BTF_ID"):
            self._kernel_pointer(number, reg, base, flags)
        elif base == "PTR_TO_SOCK_COMMON":
            if reg.kind != SOCK or reg.null:
                raise self._wrong(number, reg, "sock_common")
        else:
            raise RefusalError(f"arguments of kind {base} are not supported", register=number)

    def _the_map(self) -> MapDef:
        if self.map is None:
            raise RefusalError(f"{self.helper.name} needs a map")
        return self.map

    def _memory(self, number: int, reg: Reg, flags: list[str], following: str) -> None:
        if "MEM_FIXED_SIZE" in flags:
            size = FIXED_SIZES.get(self.helper.name, 8)
            aligned = "MEM_ALIGNED" in flags
            raw = "MEM_UNINIT" in flags
            self._fixed(number, reg, size, write="MEM_WRITE" in flags, raw=raw, aligned=aligned)
        elif not following.startswith("CONST_SIZE"):
            raise RefusalError(f"{self.helper.name} is not supported")
        elif reg.null or (reg.kind not in _MEMORY and not reg.is_zero):
            raise self._wrong(number, reg, "fp, pkt, map_value, mem")

    def _fixed(
        self, number: int, reg: Reg, size: int, *, write: bool, raw: bool, aligned: bool = False
    ) -> None:
        if reg.null or reg.kind not in _MEMORY:
            raise self._wrong(number, reg, "fp, pkt, map_value, mem")
        if aligned and (reg.off | reg.bits[0] | reg.bits[1]) & (size - 1):
            raise RefusalError(f"misaligned access off {reg.off} size {size}", register=number)
        self._reach(number, reg, size, write=write, raw=raw, zero=False)

    def _size(self, number: int, *, zero: bool) -> None:
        v = self.v
        reg = v.state.regs[number]
        if reg.kind != SCALAR:
            raise self._wrong(number, reg, "scalar")
        target = v.state.regs[number - 1]
        flags = self.helper.arg_kinds[number - 2].split("|")
        if reg.smin < 0:
            raise RefusalError(
                f"R{number} min value is negative",
                hint="make the size unsigned, or limit it: size &= constant",
                register=number,
            )
        if reg.umin == 0 and not zero:
            raise RefusalError(
                f"R{number} invalid zero-sized read", hint="check that the size is not 0", register=number
            )
        if reg.umax >= _MAX_SIZE:
            raise RefusalError(
                f"R{number} unbounded memory access",
                hint="limit the size: if (size < constant), or size &= constant",
                register=number,
            )
        self.limit = reg.umax
        raw = "MEM_UNINIT" in flags and reg.is_const
        if target.is_zero and "PTR_MAYBE_NULL" in flags and target.kind == SCALAR:
            if reg.umax == 0:
                return
            raise self._wrong(number - 1, target, "memory of that size")
        if target.is_zero and zero and reg.umax == 0:
            return
        if target.kind not in _MEMORY:
            raise self._wrong(number - 1, target, "fp, pkt, map_value, mem")
        self._reach(number - 1, target, reg.umax, write="MEM_WRITE" in flags, raw=raw, zero=zero)

    def _reach(self, number: int, reg: Reg, size: int, *, write: bool, raw: bool, zero: bool) -> None:
        """Check that a helper may use ``size`` bytes at a pointer."""
        v = self.v
        if reg.kind == STACK:
            if size == 0 and zero:
                low = reg.smin + reg.off
                if reg.is_const and -512 <= low <= 0:
                    return
            if size <= 0 and not zero:
                raise RefusalError(f"invalid zero-sized access to stack R{number}", register=number)
            if raw and reg.is_const:
                stack.extent(number, reg, 0, size)
                self.written.append((number, reg, size))
            else:
                stack.check_initialised(v, number, reg, 0, size, change=write)
            return
        if reg.kind in (PACKET, PACKET_META):
            if "packet" not in self.helper.flags:
                raise RefusalError(
                    f"helper access to the packet is not allowed in {self.helper.name}", register=number
                )
            if write and not v.context.packet:
                raise RefusalError("cannot write into packet", register=number)
            memory.packet(number, reg, 0, size, zero=zero)
            return
        if reg.kind == MAP_VALUE:
            assert reg.map is not None
            if write and reg.map.flags & uapi.BPF_F_RDONLY_PROG:
                raise RefusalError(f"write into map forbidden: '{reg.map.name}'", register=number)
            if not write and reg.map.flags & uapi.BPF_F_WRONLY_PROG:
                raise RefusalError(f"read from map forbidden: '{reg.map.name}'", register=number)
            memory.region(number, reg, 0, size, reg.map.value_size, zero=zero)
            v.check_special_fields(reg.map, reg, 0, size)
            return
        if reg.kind == MAP_KEY:
            assert reg.map is not None
            if write:
                raise RefusalError(f"R{number} cannot write into a map's key", register=number)
            memory.region(number, reg, 0, size, reg.map.key_size, zero=zero)
            return
        if write and "rdonly" in reg.flags:
            raise RefusalError(f"R{number} cannot write into read-only memory", register=number)
        memory.region(number, reg, 0, size, reg.size, zero=zero)

    def _constant_string(self, number: int, reg: Reg) -> None:
        m = reg.map
        if reg.kind != MAP_VALUE or reg.null or m is None:
            raise self._wrong(number, reg, "map_value of a read-only map")
        if not m.frozen or m.contents is None:
            raise RefusalError(f"R{number} does not point to a readonly map", register=number)
        if not reg.is_const:
            raise RefusalError(f"R{number} is not a constant address", register=number)
        if b"\0" not in m.contents[reg.off + reg.smin : m.value_size]:
            raise RefusalError(f"R{number}: string is not zero-terminated", register=number)

    def _kernel_pointer(self, number: int, reg: Reg, base: str, flags: list[str]) -> None:
        if base == "PTR_TO_BTF_ID_SOCK_COMMON" and reg.kind == SOCK and not reg.null:
            if "OBJ_RELEASE" in flags:
                if not reg.ref:
                    raise RefusalError(
                        f"R{number} must be referenced when passed to release it", register=number
                    )
                self.released = reg.ref
            return
        if reg.kind != BTF or reg.null:
            raise self._wrong(number, reg, "a kernel pointer")
        expected = self._struct_of(number)
        if expected and self.v.kernel_types.name(reg.btf) != expected:
            raise self._wrong(number, reg, f"ptr_{expected}")
        if "untrusted" in reg.flags and self.helper.name != "d_path":
            raise RefusalError(
                f"R{number} is untrusted: it was read through another kernel pointer", register=number
            )
        if reg.off or reg.bits != (0, 0):
            raise RefusalError(f"R{number} is a kernel pointer at an offset", register=number)

    def _struct_of(self, number: int) -> str:
        match = re.search(r"struct (\w+) \*", self.helper.params.split(", ")[number - 1])
        return match.group(1) if match else ""


def call(v: Verifier, number: int) -> Call:
    """Check a call and leave its result in r0; returns it for what callbacks need.

    :raises RefusalError: there is no such helper, its arguments do not suit, or it is not allowed here.
    """
    helper = BY_NUMBER.get(number)
    if helper is None:
        raise RefusalError(f"invalid func unknown#{number}")
    if not helper_sets.allowed(v.program_type, number):
        raise RefusalError(
            f"program of this type cannot use helper {helper.name}#{number}",
            hint="see 'tracebee feature' for the helpers of each program type",
        )
    if "gpl" in helper.flags and not v.gpl:
        raise RefusalError(
            f"cannot call GPL-restricted function {helper.name} from a program that is not GPL-compatible"
        )
    if "sleep" in helper.flags and not v.sleepable:
        raise RefusalError(f"helper {helper.name} might sleep in a program that must not")
    if v.state.lock is not None and helper.name not in _ALLOWED_UNDER_LOCK:
        raise RefusalError(f"function calls are not allowed while holding a lock: {helper.name}")
    made = Call(v, helper)
    made.check()
    for register, reg, size in made.written:
        stack.clobber(v, register, reg, 0, size)
    if made.released:
        v.release(made.released)
    elif helper.name in ("ringbuf_submit", "ringbuf_discard"):
        raise RefusalError(f"{helper.name}: its memory was not reserved", register=1)
    regs = v.state.regs
    for register in range(1, 6):
        regs[register] = NOTHING
    regs[0] = _result(v, made)
    if helper.name in _PACKET_CHANGERS:
        v.forget_packet()
    return made


def _result(v: Verifier, made: Call) -> Reg:
    helper = made.helper
    base, *flags = helper.ret.split("|")
    if base == "VOID":
        return NOTHING
    if base == "INTEGER":
        return _integer(v, made)
    found: Reg
    if base == "PTR_TO_MAP_VALUE":
        found = pointer(MAP_VALUE)
        found.map = made.map
        if made.map is not None and made.map.type in (
            uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS,
            uapi.BPF_MAP_TYPE_HASH_OF_MAPS,
        ):
            found.kind = MAP_PTR
            found.map = made.map.inner
    elif base == "PTR_TO_MEM":
        found = pointer(MEM)
        found.size = made.size
        if "MEM_RINGBUF" in flags:
            found.flags = frozenset(("ringbuf",))
            found.ref = v.acquire()
    elif base == "PTR_TO_BTF_ID":
        found = pointer(BTF)
        match = re.search(r"struct (\w+) \*", helper.result)
        name = match.group(1) if match else "task_struct" if "task" in helper.name else ""
        found.btf = v.kernel_types.named(name)
        found.flags = frozenset(("trusted",))
    else:
        raise RefusalError(f"results of kind {base} are not supported")
    if base == "PTR_TO_MAP_VALUE" and _always_there(v, made):
        v.liveness.decide(v.slot)
        return found
    if "PTR_MAYBE_NULL" in flags:
        found.null = True
        found.id = found.ref or v.new_id()
    elif base == "PTR_TO_MAP_VALUE" and made.map is not None:
        found.id = 0
    return found


def _always_there(v: Verifier, made: Call) -> bool:
    """Whether a lookup is of a known element of an array, which is never missing."""
    m, key = made.map, made.key
    if made.helper.name != "map_lookup_elem" or m is None or key is None or key.kind != STACK:
        return False
    if m.type not in (uapi.BPF_MAP_TYPE_ARRAY, uapi.BPF_MAP_TYPE_PERCPU_ARRAY) or not key.is_const:
        return False
    value = stack.constant(v, key.frame, key.off + key.smin, 4)
    return value is not None and value < m.max_entries


def _integer(v: Verifier, made: Call) -> Reg:
    found = unknown()
    if made.helper.name == "get_smp_processor_id":
        found.umin = found.smin = found.umin32 = found.smin32 = 0
        found.umax = found.smax = found.umax32 = found.smax32 = v.cpus - 1
        found.sync()
    elif made.helper.name in _COUNTING:
        found.smin = found.smin32 = -_MAX_ERRNO
        found.smax = found.smax32 = made.limit
        found.sync()
    return found
