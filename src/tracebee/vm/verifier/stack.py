"""The stack: what its bytes hold, saved registers, and what helpers may read of it.

Source: the kernel's ``check_stack_read``, ``check_stack_write`` and ``check_stack_range_initialized``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.isa.insn import MAX_STACK
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    INVALID,
    MISC,
    NULL,
    SCALAR,
    SPILL,
    STACK,
    ZERO,
    Frame,
    Reg,
)

if TYPE_CHECKING:
    from tracebee.vm.verifier.machine import Verifier

_MAX_OFFSET = 1 << 29


def extent(number: int, reg: Reg, offset: int, size: int) -> tuple[int, int]:
    """The bytes an access may touch, as offsets from r10 (low, high exclusive).

    :raises RefusalError: outside of the frame, or unbounded.
    """
    offset += reg.off
    if not reg.is_const and (reg.smax >= _MAX_OFFSET or reg.smin <= -_MAX_OFFSET):
        raise RefusalError(f"invalid unbounded variable-offset access to stack R{number}", register=number)
    low, high = reg.smin + offset, reg.smax + offset + size
    if low < -MAX_STACK or high > 0:
        where = f"off={low}" if reg.is_const else f"var_off {low} to {high}"
        raise RefusalError(
            f"invalid access to stack R{number} {where} size={size}",
            hint=f"a frame has {MAX_STACK} bytes below r10",
            register=number,
        )
    return low, high


def access(
    v: Verifier, number: int, reg: Reg, offset: int, size: int, *, value: Reg | None, write: bool
) -> Reg:
    """A load or store; see ``memory.access``."""
    low, high = extent(number, reg, offset, size)
    frame = v.state.frames[reg.frame]
    v.grow_stack(reg.frame, -low)
    if not reg.is_const:
        if not v.privileged:
            raise RefusalError(
                f"R{number} variable stack access prohibited without privileges", register=number
            )
        if write:
            _write_somewhere(v, frame, reg.frame, low, high, value)
            return ANYTHING
        check_initialised(v, number, reg, offset, size, change=False)
        return NULL if _all_zero(frame, low, high) else ANYTHING
    if write:
        _write(v, frame, reg.frame, low, size, value)
        return ANYTHING
    return _read(v, frame, reg.frame, low, size)


def _read(v: Verifier, frame: Frame, depth: int, low: int, size: int) -> Reg:
    index, byte = low // 8, low % 8
    saved, kinds = frame.slot(index)
    v.mark_read(depth, 1 << -index - 1)
    part = kinds[byte : byte + size]
    if saved is not None and SPILL in kinds:
        spilled = kinds.count(SPILL)
        if size == 8 and spilled == 8:
            return saved
        if saved.kind != SCALAR:
            raise RefusalError("invalid size of register fill", hint="a saved pointer is loaded with 8 bytes")
        if byte == 0 and size <= spilled:
            found = saved if size == spilled else _without_id(saved)
            if size == spilled and size < 8 and saved.umax >> size * 8:
                found = _without_id(saved)
            return found
        if saved.is_zero and part == SPILL * size:
            return NULL
        _readable(v, low, size, part.replace(SPILL, MISC))
        return NULL if part == ZERO * size else ANYTHING
    _readable(v, low, size, part)
    return NULL if part == ZERO * size else ANYTHING


def _without_id(reg: Reg) -> Reg:
    return reg.unlinked() if reg.id else reg


def _readable(v: Verifier, low: int, size: int, part: str) -> None:
    if INVALID in part and not v.uninitialised_stack:
        raise RefusalError(
            f"invalid read from stack off {low}+{part.index(INVALID)} size {size}",
            hint="it was not written on this path",
        )


def _write(v: Verifier, frame: Frame, depth: int, low: int, size: int, value: Reg | None) -> None:
    index, byte = low // 8, low % 8
    bit = 1 << -index - 1
    saved, kinds = frame.slot(index)
    if saved is not None and saved.kind != SCALAR and size != 8 and not v.privileged:
        raise RefusalError("attempt to corrupt spilled pointer on stack")
    if value is not None and value.is_pointer:
        if size != 8:
            raise RefusalError("invalid size of register spill", hint="a pointer is saved with 8 bytes")
        if depth != len(v.state.frames) - 1 and value.kind == STACK:
            raise RefusalError("cannot spill pointers to stack into stack frame of the caller")
        frame.stack[index] = (value, SPILL * 8)
        v.mark_written(depth, bit)
        return
    if value is not None and value.kind == SCALAR and byte == 0 and v.privileged:
        fits = size == 8 or value.umax >> size * 8 == 0
        kept = value if fits else _narrowed(value, size)
        rest = "".join(_scrubbed(k) for k in kinds[size:])
        frame.stack[index] = (kept, SPILL * size + rest)
    else:
        kind = ZERO if value is not None and value.is_zero else MISC
        whole = "".join(_scrubbed(k) for k in kinds)
        frame.stack[index] = (None, whole[:byte] + kind * size + whole[byte + size :])
    if size == 8:
        v.mark_written(depth, bit)


def _narrowed(value: Reg, size: int) -> Reg:
    new = value.unlinked()
    new.truncate(size)
    return new


def _scrubbed(kind: str) -> str:
    return MISC if kind == SPILL else kind


def _write_somewhere(v: Verifier, frame: Frame, depth: int, low: int, high: int, value: Reg | None) -> None:
    zero = value is not None and value.is_zero
    for offset in range(low, high):
        index, byte = offset // 8, offset % 8
        saved, kinds = frame.slot(index)
        kind = kinds[byte]
        if kind == INVALID and not v.uninitialised_stack:
            raise RefusalError("uninit stack in range of var-offset write prohibited")
        if saved is not None:
            zero_scalar = saved.is_zero and zero
            kinds = "".join((ZERO if zero_scalar else MISC) if k == SPILL else k for k in kinds)
            kind = kinds[byte]
        new = ZERO if kind == ZERO and zero else MISC
        frame.stack[index] = (None, kinds[:byte] + new + kinds[byte + 1 :])
        v.mark_read(depth, 1 << -index - 1)  # what was there before may still be


def _all_zero(frame: Frame, low: int, high: int) -> bool:
    for offset in range(low, high):
        saved, kinds = frame.slot(offset // 8)
        if kinds[offset % 8] != ZERO and not (
            saved is not None and saved.is_zero and kinds[offset % 8] == SPILL
        ):
            return False
    return True


def check_initialised(
    v: Verifier, number: int, reg: Reg, offset: int, size: int, *, change: bool
) -> tuple[int, int]:
    """Check that every byte a helper may read was written; returns the extent.

    :param change: whether the helper writes there too: saved registers are lost then.
    """
    low, high = extent(number, reg, offset, size)
    frame = v.state.frames[reg.frame]
    v.grow_stack(reg.frame, -low)
    for index in range(low // 8, -(-high // 8)):
        saved, kinds = frame.slot(index)
        first, last = max(low - index * 8, 0), min(high - index * 8, 8)
        part = kinds[first:last]
        if saved is not None and SPILL in part and saved.is_pointer and not v.privileged:
            raise RefusalError(
                f"invalid read of a saved pointer at stack offset {index * 8}", register=number
            )
        if INVALID in part and not v.uninitialised_stack:
            missing = index * 8 + first + part.index(INVALID) - low
            raise RefusalError(
                f"invalid indirect read from stack R{number} off {low}+{missing} size {size}",
                hint="it was not written on this path",
                register=number,
            )
        if change or INVALID in part:
            lost = part.replace(INVALID, MISC)
            rest = kinds
            if change:
                lost = MISC * len(part)
                if SPILL in part:
                    rest = kinds.replace(SPILL, MISC)
                    saved = None
            frame.stack[index] = (saved, rest[:first] + lost + rest[last:])
        v.mark_read(reg.frame, 1 << -index - 1)
    return low, high


def clobber(v: Verifier, number: int, reg: Reg, offset: int, size: int) -> None:
    """A helper writes unknown bytes."""
    if size <= 0:
        return
    low, high = extent(number, reg, offset, size)
    frame = v.state.frames[reg.frame]
    v.grow_stack(reg.frame, -low)
    for index in range(low // 8, -(-high // 8)):
        saved, kinds = frame.slot(index)
        first, last = max(low - index * 8, 0), min(high - index * 8, 8)
        if saved is not None:
            if saved.is_pointer and not v.privileged:
                raise RefusalError("attempt to corrupt spilled pointer on stack")
            kinds = kinds.replace(SPILL, MISC)
        frame.stack[index] = (None, kinds[:first] + MISC * (last - first) + kinds[last:])
        if first == 0 and last == 8 and reg.is_const:
            v.mark_written(reg.frame, 1 << -index - 1)


def constant(v: Verifier, depth: int, low: int, size: int) -> int | None:
    """The known number in ``size`` bytes of one slot, None when it is not known."""
    saved, kinds = v.state.frames[depth].slot(low // 8)
    byte = low % 8
    if kinds[byte : byte + size] == ZERO * size:
        return 0
    if saved is None or saved.kind != SCALAR or not saved.is_const or byte or kinds.count(SPILL) != size:
        return None
    return saved.umin
