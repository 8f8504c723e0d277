"""Arithmetic instructions: numbers, and pointers moved by numbers.

Source: the kernel's ``check_alu_op``, ``adjust_reg_min_max_vals`` and ``adjust_ptr_min_max_vals``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.isa import insn as isa
from tracebee.vm.verifier import arithmetic, tnum
from tracebee.vm.verifier.bounds import S64_MAX, S64_MIN, s32
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import (
    ANYTHING,
    BTF,
    CTX,
    FUNC,
    MAP_KEY,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    PACKET,
    PACKET_META,
    SCALAR,
    STACK,
    Reg,
    known,
)
from tracebee.vm.verifier.tnum import M64

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.vm.verifier.machine import Verifier

_MAX_OFFSET = 1 << 29
_MOVABLE = (CTX, MAP_VALUE, MAP_KEY, STACK, PACKET, PACKET_META, BTF, MEM, FUNC)
_SHIFTS = (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH)
_NAMES = {
    isa.BPF_ADD: "+=",
    isa.BPF_SUB: "-=",
    isa.BPF_MUL: "*=",
    isa.BPF_DIV: "/=",
    isa.BPF_OR: "|=",
    isa.BPF_AND: "&=",
    isa.BPF_LSH: "<<=",
    isa.BPF_RSH: ">>=",
    isa.BPF_MOD: "%=",
    isa.BPF_XOR: "^=",
    isa.BPF_ARSH: "s>>=",
}


def alu(v: Verifier, insn: Insn) -> None:
    """Carry out an arithmetic instruction on the state.

    :raises RefusalError: a pointer is treated as it must not be.
    """
    if insn.dst == isa.R10:
        raise RefusalError("frame pointer is read only", register=10)
    op = insn.opcode & 0xF0
    bits = 64 if insn.opcode & 7 == isa.BPF_ALU64 else 32
    regs = v.state.regs
    if op == isa.BPF_END:
        reg = v.read(insn.dst)
        if reg.is_pointer and not v.privileged:
            raise RefusalError(f"R{insn.dst} pointer arithmetic prohibited", register=insn.dst)
        if reg.is_pointer:
            regs[insn.dst] = ANYTHING
            return
        new = reg.unlinked()
        always = insn.opcode & 7 == isa.BPF_ALU64  # bswap; else to the named order
        big = bool(insn.opcode & isa.BPF_X)
        arithmetic.swap_bytes(new, insn.imm, swap=always or big == (v.order == "little"))
        regs[insn.dst] = new
    elif op == isa.BPF_NEG:
        reg = v.read(insn.dst)
        if reg.is_pointer:
            if not v.privileged:
                raise RefusalError(f"R{insn.dst} pointer arithmetic prohibited", register=insn.dst)
            regs[insn.dst] = ANYTHING
            return
        new = reg.unlinked()
        arithmetic.apply(op, new, new, bits)
        regs[insn.dst] = new
    elif op == isa.BPF_MOV:
        _move(v, insn, bits)
    else:
        _operate(v, insn, op, bits)


def _move(v: Verifier, insn: Insn, bits: int) -> None:
    regs = v.state.regs
    if not insn.opcode & isa.BPF_X:
        regs[insn.dst] = known(insn.imm if bits == 64 else insn.imm & 0xFFFFFFFF)
        return
    src = v.read(insn.src)
    if bits == 64 and insn.off == 0:
        regs[insn.dst] = _shared(v, insn.src, src)
        return
    if src.is_pointer:
        if not v.privileged:
            raise RefusalError(f"R{insn.src} partial copy of pointer", register=insn.src)
        new = ANYTHING.copy()
        if bits == 32:
            new.zero_extend32()
        regs[insn.dst] = new
        return
    if insn.off:
        new = src.unlinked()
        new.sign_extend(insn.off // 8, to32=bits == 32)
        regs[insn.dst] = new
        return
    if src.umax >> 32 == 0:
        regs[insn.dst] = _shared(v, insn.src, src)
        return
    new = merge_32(src)
    regs[insn.dst] = new


def merge_32(src: Reg) -> Reg:
    """The low half of a number, as a register of its own."""
    new = src.unlinked()
    new.zero_extend32()
    return new


def _shared(v: Verifier, number: int, src: Reg) -> Reg:
    """A copy that learns whatever is learnt of its origin."""
    if src.kind == SCALAR and not src.is_const and not src.id:
        src = src.copy()
        src.id = v.new_id()
        v.state.regs[number] = src
    return src


def _operate(v: Verifier, insn: Insn, op: int, bits: int) -> None:
    regs = v.state.regs
    by_register = insn.opcode & isa.BPF_X
    src = v.read(insn.src) if by_register else known(insn.imm)
    dst = v.read(insn.dst)
    if not by_register:
        if op in (isa.BPF_DIV, isa.BPF_MOD) and insn.imm == 0:
            raise RefusalError("div by zero", hint="dividing by the constant 0")
        if op in _SHIFTS and not 0 <= insn.imm < bits:
            raise RefusalError(f"invalid shift {insn.imm}")
    if dst.kind == SCALAR and src.kind == SCALAR:
        new = dst.unlinked()
        arithmetic.apply(op, new, src, bits)
        step = src.smin if op == isa.BPF_ADD else -src.smin
        linked = bits == 64 and op in (isa.BPF_ADD, isa.BPF_SUB) and src.is_const and dst.id and not dst.off
        if linked and v.privileged and -(1 << 31) <= step < 1 << 31:
            new.id, new.off = dst.id, step  # still known by what is learnt of the others
        regs[insn.dst] = new
        return
    if dst.is_pointer and src.is_pointer:
        if op == isa.BPF_SUB and v.privileged:
            regs[insn.dst] = ANYTHING
            return
        raise RefusalError(f"R{insn.dst} pointer {_NAMES[op]} pointer prohibited", register=insn.dst)
    v.liveness.decide(v.slot)
    regs[insn.dst] = _move_pointer(v, insn, op, bits, dst, src)


def _move_pointer(v: Verifier, insn: Insn, op: int, bits: int, dst: Reg, src: Reg) -> Reg:
    """A pointer plus or minus a number."""
    base, number = (dst, src) if dst.is_pointer else (src, dst)
    register = insn.dst
    known_offset = number.is_const
    if (known_offset and (number.smin != number.smax or number.umin != number.umax)) or number.is_empty():
        return ANYTHING
    if bits == 32:
        if op == isa.BPF_SUB and v.privileged:
            return ANYTHING
        raise RefusalError(f"R{register} 32-bit pointer arithmetic prohibited", register=register)
    if base.null:
        raise RefusalError(
            f"R{register} pointer arithmetic on {base.kind}_or_null prohibited, null-check it first",
            hint="compare it with 0 before adding to it",
            register=register,
        )
    harmless = base.kind == MAP_PTR and known_offset and number.smin == 0 and op == isa.BPF_ADD
    if base.kind not in _MOVABLE and not harmless:
        raise RefusalError(f"R{register} pointer arithmetic on {base.kind} prohibited", register=register)
    _sane(number, base)
    _sane(base, base)
    new = base.copy()
    new.unbound32()
    if op == isa.BPF_ADD:
        _advance(v, new, base, number)
    elif op == isa.BPF_SUB:
        if not dst.is_pointer:
            raise RefusalError(f"R{register} tried to subtract pointer from scalar", register=register)
        if base.kind == STACK:
            raise RefusalError(f"R{register} subtraction from stack pointer prohibited", register=register)
        _retreat(v, new, base, number)
    else:
        what = "bitwise operator" if op in (isa.BPF_AND, isa.BPF_OR, isa.BPF_XOR) else "operator"
        raise RefusalError(
            f"R{register} {what} {_NAMES[op]} on pointer prohibited",
            hint="only adding to and subtracting from addresses is possible",
            register=register,
        )
    _sane(new, new)
    new.sync()
    if not v.privileged:
        _within_frame(new, register)
    return new


def _advance(v: Verifier, new: Reg, base: Reg, number: Reg) -> None:
    if number.is_const and base.off + number.smin == s32(base.off + number.smin):
        new.off = base.off + number.smin
        return
    low, high = base.smin + number.smin, base.smax + number.smax
    new.smin, new.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)
    low, high = base.umin + number.umin, base.umax + number.umax
    new.umin, new.umax = (low, high) if high <= M64 else (0, M64)
    new.bits = tnum.add(base.bits, number.bits)
    if base.kind in (PACKET, PACKET_META):
        new.id = v.new_id()
        new.size = 0


def _retreat(v: Verifier, new: Reg, base: Reg, number: Reg) -> None:
    if number.is_const and base.off - number.smin == s32(base.off - number.smin):
        new.off = base.off - number.smin
        return
    low, high = base.smin - number.smax, base.smax - number.smin
    new.smin, new.smax = (low, high) if low >= S64_MIN and high <= S64_MAX else (S64_MIN, S64_MAX)
    if base.umin < number.umax:
        new.umin, new.umax = 0, M64
    else:
        new.umin, new.umax = base.umin - number.umax, base.umax - number.umin
    new.bits = tnum.sub(base.bits, number.bits)
    if base.kind in (PACKET, PACKET_META):
        new.id = v.new_id()
        if number.smin < 0:
            new.size = 0


def _sane(reg: Reg, base: Reg) -> None:
    """Offsets beyond 2**29 are refused, so that sums of them never wrap around."""
    kind = base.kind
    if reg.is_const and not -_MAX_OFFSET < reg.smin < _MAX_OFFSET:
        raise RefusalError(f"math between {kind} pointer and {reg.smin} is not allowed")
    if reg.is_pointer and not -_MAX_OFFSET < reg.off < _MAX_OFFSET:
        raise RefusalError(f"{kind} pointer offset {reg.off} is not allowed")
    if reg.smin == S64_MIN:
        raise RefusalError(
            f"math between {kind} pointer and register with unbounded min value is not allowed",
            hint="limit the number before adding it: index &= constant, or if (index < constant)",
        )
    if not -_MAX_OFFSET < reg.smin < _MAX_OFFSET:
        raise RefusalError(f"value {reg.smin} makes {kind} pointer be out of bounds")


def _within_frame(reg: Reg, register: int) -> None:
    """Without privileges a stack address may not even be formed outside of its frame."""
    if reg.kind == STACK and not (reg.is_const and -isa.MAX_STACK <= reg.off + reg.smin < 0):
        raise RefusalError(f"R{register} stack pointer arithmetic goes out of range", register=register)
    if reg.kind == MAP_VALUE and reg.map is not None:
        low, high = reg.off + reg.smin, reg.off + reg.umax
        if low < 0 or high >= reg.map.value_size:
            raise RefusalError(
                f"R{register} pointer arithmetic of map value goes out of range", register=register
            )
