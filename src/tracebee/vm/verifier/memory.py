"""Loads and stores: which memory a pointer reaches, and what is found there.

Source: the kernel's ``check_mem_access`` and what it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.vm.verifier import contexts, stack, tnum
from tracebee.vm.verifier.bounds import S64_MIN, s32
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    BTF,
    CTX,
    MAP_KEY,
    MAP_VALUE,
    MEM,
    PACKET,
    PACKET_META,
    SCALAR,
    SOCK,
    STACK,
    Reg,
    known,
    pointer,
)

if TYPE_CHECKING:
    from tracebee.vm.verifier.machine import Verifier

MAX_OFFSET = 1 << 29


def access(
    v: Verifier,
    number: int,
    reg: Reg,
    offset: int,
    size: int,
    *,
    value: Reg | None = None,
    write: bool = False,
    strict: bool = False,
) -> Reg:
    """Check an access of ``size`` bytes at ``reg + offset``; returns what a read finds.

    :param number: the register's number, for messages.
    :param value: what is written; None for unknown bytes.
    :raises RefusalError: the memory is not the program's to use so.
    """
    if not write and value is None:
        pass
    _check_alignment(v, reg, offset, size, strict=strict)
    if reg.null:
        raise _bad_pointer(number, reg)
    kind = reg.kind
    if kind == STACK:
        return stack.access(v, number, reg, offset, size, value=value, write=write)
    if write and value is not None and value.is_pointer and not v.privileged:
        raise RefusalError(f"R{number} leaks addr into memory", register=number)
    if kind == MAP_VALUE:
        return _map_value(v, number, reg, offset, size, write=write)
    if kind == MEM:
        if write and "rdonly" in reg.flags:
            raise RefusalError(f"R{number} cannot write into read-only memory", register=number)
        region(number, reg, offset, size, reg.size)
        return ANYTHING
    if kind == CTX:
        return _context(v, number, reg, offset, size, value, write=write)
    if kind in (PACKET, PACKET_META):
        if write and not v.context.packet:
            raise RefusalError("cannot write into packet", register=number)
        packet(number, reg, offset, size)
        return ANYTHING
    if kind == MAP_KEY:
        if write:
            raise RefusalError(f"write to change key R{number} not allowed", register=number)
        assert reg.map is not None
        region(number, reg, offset, size, reg.map.key_size)
        return ANYTHING
    if kind == BTF:
        return v.kernel_types.load(number, reg, offset, size, write=write)
    raise _bad_pointer(number, reg)


def _bad_pointer(number: int, reg: Reg) -> RefusalError:
    name = reg.kind + ("_or_null" if reg.null else "")
    hint = "compare it with 0 first: it is NULL when nothing was found" if reg.null else ""
    if reg.kind == SCALAR:
        name = "scalar"
        hint = "a number is no address; read other memory with a probe_read helper"
    return RefusalError(f"R{number} invalid mem access '{name}'", hint=hint, register=number)


def _check_alignment(v: Verifier, reg: Reg, offset: int, size: int, *, strict: bool) -> None:
    strict = strict or reg.kind == STACK or v.strict_alignment
    if not strict or size == 1:
        return
    base = 2 if reg.kind == PACKET and v.strict_alignment else 0  # NET_IP_ALIGN
    total = tnum.add(reg.bits, tnum.const(base + reg.off + offset))
    if not tnum.is_aligned(total, size):
        what = _NAMES.get(reg.kind, "value")
        raise RefusalError(f"misaligned {what} access off {tnum.text(total)} size {size}")


_NAMES = {STACK: "stack", PACKET: "packet", CTX: "context"}


def region(number: int, reg: Reg, offset: int, size: int, limit: int, *, zero: bool = False) -> None:
    """Check that ``size`` bytes at any value of ``reg + offset`` lie within ``limit`` bytes.

    :param zero: whether an access of no bytes is one.
    """
    offset += reg.off
    low = reg.smin + offset
    if reg.smin < 0 and (reg.smin == S64_MIN or low != s32(low) or low < 0):
        raise RefusalError(
            f"R{number} min value is negative",
            hint="use an unsigned index, or check that it is not negative first",
            register=number,
        )
    _within(number, reg, low, size, limit, zero=zero)
    if reg.umax >= MAX_OFFSET:
        raise RefusalError(
            f"R{number} unbounded memory access",
            hint="check the offset against the size before using it",
            register=number,
        )
    _within(number, reg, reg.umax + offset, size, limit, zero=zero)


def _within(number: int, reg: Reg, offset: int, size: int, limit: int, *, zero: bool) -> None:
    if offset >= 0 and offset + size <= limit and (size > 0 or zero):
        return
    what = {MAP_VALUE: "map value", MAP_KEY: "map key", PACKET: "packet"}.get(reg.kind, "memory")
    raise RefusalError(
        f"invalid access to {what}, size={limit} off={offset} size={size}",
        hint=f"bytes {offset} to {offset + size - 1} are outside of its {limit}",
        register=number,
    )


def packet(number: int, reg: Reg, offset: int, size: int, *, zero: bool = False) -> None:
    """Check an access of packet bytes against what comparisons with the packet's end proved."""
    if reg.smin < 0:
        raise RefusalError(f"R{number} min value is negative", register=number)
    offset += reg.off
    if reg.size < 0:
        raise RefusalError(f"R{number} offset is outside of the packet", register=number)
    if offset < 0 or offset + size > reg.size or (size == 0 and not zero):
        raise RefusalError(
            f"invalid access to packet, off={offset} size={size}, R{number}(r={reg.size})",
            hint="compare the address behind the last byte with data_end first",
            register=number,
        )


def _map_value(v: Verifier, number: int, reg: Reg, offset: int, size: int, *, write: bool) -> Reg:
    m = reg.map
    assert m is not None
    if write and (m.flags & uapi.BPF_F_RDONLY_PROG):
        raise RefusalError(f"write into map forbidden: '{m.name}' is read-only for programs", register=number)
    if not write and m.flags & uapi.BPF_F_WRONLY_PROG:
        raise RefusalError(f"read from map forbidden: '{m.name}' is write-only for programs", register=number)
    region(number, reg, offset, size, m.value_size)
    v.check_special_fields(m, reg, offset, size)
    if not write and m.frozen and m.contents is not None and reg.is_const and reg.map in v.constant_maps:
        at = reg.smin + reg.off + offset
        return known(int.from_bytes(m.contents[at : at + size], v.order))
    return ANYTHING


def _context(
    v: Verifier, number: int, reg: Reg, offset: int, size: int, value: Reg | None, *, write: bool
) -> Reg:
    if write and value is not None and value.is_pointer:
        raise RefusalError(f"R{number} leaks addr into ctx", register=number)
    plain_context(number, reg)
    kind = contexts.access(v.context, offset, size, write=write)
    if kind == SCALAR:
        field = v.kernel_types.context_field(offset, size)
        if field is not None and field.null:
            field.id = v.new_id()
        return field or ANYTHING
    found = pointer(kind)
    if kind == SOCK:
        found.null = True
        found.id = v.new_id()
    return found


def plain_context(number: int, reg: Reg) -> None:
    """Refuse a context pointer that was moved."""
    if reg.off:
        raise RefusalError(
            f"dereference of modified ctx ptr R{number} off={reg.off} disallowed",
            hint="add the offset in the access itself",
            register=number,
        )
    if reg.bits != (0, 0):
        raise RefusalError(f"variable ctx access var_off={tnum.text(reg.bits)} disallowed", register=number)
