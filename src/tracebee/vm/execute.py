"""Each instruction as a function of the machine: does its work, returns the slot to go on at.

``compile_slot`` is called once for an instruction, so that running it later decodes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tracebee.errors import ProgramFaultError
from tracebee.isa import insn as isa
from tracebee.isa.insn import Insn
from tracebee.vm.semantics import (
    ALU32,
    ALU64,
    JUMP32,
    JUMP64,
    MASK32,
    MASK64,
    SIGNED_ALU32,
    SIGNED_ALU64,
    atomic,
    byte_swap,
    sign_extend,
    to_order,
)

if TYPE_CHECKING:
    from tracebee.vm.interpreter import Machine

Operation = Callable[["Machine"], int]

_BYTES = {isa.BPF_B: 1, isa.BPF_H: 2, isa.BPF_W: 4, isa.BPF_DW: 8}


def compile_slot(insn: Insn, slot: int) -> Operation:
    """The function of one instruction at a slot. The encoding was checked before."""
    return _CLASSES[insn.opcode & 7](insn, slot + 1)


def _alu(insn: Insn, after: int) -> Operation:
    code, dst, src, off, imm = insn
    wide = code & 7 == isa.BPF_ALU64
    op = code & 0xF0
    if op == isa.BPF_END:
        return _byte_order(insn, after)
    if op == isa.BPF_NEG:
        mask = MASK64 if wide else MASK32

        def negate(m: Machine) -> int:
            m.regs[dst] = -m.regs[dst] & mask
            return after

        return negate
    if op == isa.BPF_MOV and code & isa.BPF_X and off:
        return _extending_move(insn, after)
    table, signed_table = (ALU64, SIGNED_ALU64) if wide else (ALU32, SIGNED_ALU32)
    compute = signed_table[op] if off == 1 else table[op]
    is_move = op == isa.BPF_MOV
    if code & isa.BPF_X:

        def with_register(m: Machine) -> int:
            regs = m.regs
            regs[dst] = compute(0 if is_move else regs[dst], regs[src])
            return after

        return with_register
    operand = imm & (MASK64 if wide else MASK32)

    def with_immediate(m: Machine) -> int:
        m.regs[dst] = compute(0 if is_move else m.regs[dst], operand)
        return after

    return with_immediate


def _byte_order(insn: Insn, after: int) -> Operation:
    code, dst, _, _, bits = insn
    if code & 7 == isa.BPF_ALU64:

        def swap(m: Machine) -> int:
            m.regs[dst] = byte_swap(m.regs[dst], bits)
            return after

        return swap
    order = "big" if code & isa.BPF_X else "little"

    def convert(m: Machine) -> int:
        m.regs[dst] = to_order(m.regs[dst], bits, order)
        return after

    return convert


def _extending_move(insn: Insn, after: int) -> Operation:
    code, dst, src, off, _ = insn
    if off == 1:  # addr_space_cast: the VM has one address space

        def cast(m: Machine) -> int:
            m.regs[dst] = m.regs[src] + 0
            return after

        return cast
    to = 64 if code & 7 == isa.BPF_ALU64 else 32

    def extend(m: Machine) -> int:
        m.regs[dst] = sign_extend(m.regs[src], off, to)
        return after

    return extend


def _jump(insn: Insn, after: int) -> Operation:
    code, dst, src, off, imm = insn
    op = code & 0xF0
    if op == isa.BPF_CALL:
        return _call(insn, after)
    if op == isa.BPF_EXIT:
        return lambda m: m.leave()
    if op == isa.BPF_JA:
        if code & isa.BPF_X:
            raise ProgramFaultError("indirect jumps are not supported by the VM", slot=after - 1)
        target = after + (imm if code & 7 == isa.BPF_JMP32 else off)
        return lambda _: target
    target = after + off
    if op == isa.BPF_JCOND:
        return lambda m: after if m.may_go() else target
    wide = code & 7 == isa.BPF_JMP
    test = (JUMP64 if wide else JUMP32)[op]
    if code & isa.BPF_X:
        return lambda m: target if test(m.regs[dst], m.regs[src]) else after
    operand = imm & (MASK64 if wide else MASK32)
    return lambda m: target if test(m.regs[dst], operand) else after


def _call(insn: Insn, after: int) -> Operation:
    number = insn.imm
    if insn.src == isa.BPF_PSEUDO_CALL:
        target = after + number
        return lambda m: m.enter(target, after)
    if insn.src == isa.BPF_PSEUDO_KFUNC_CALL:
        return lambda m: m.call_kfunc(number, after)
    return lambda m: m.call_helper(number, after)


def _load(insn: Insn, after: int) -> Operation:
    code, dst, src, off, _ = insn
    size = _BYTES[code & 0x18]
    if code & 0xE0 == isa.BPF_MEMSX:

        def load_signed(m: Machine) -> int:
            m.regs[dst] = sign_extend(m.memory.load(m.regs[src] + off & MASK64, size), 8 * size)
            return after

        return load_signed

    def load(m: Machine) -> int:
        m.regs[dst] = m.memory.load(m.regs[src] + off & MASK64, size)
        return after

    return load


def _store(insn: Insn, after: int) -> Operation:
    code, dst, _, off, imm = insn
    size = _BYTES[code & 0x18]

    def store(m: Machine) -> int:
        m.memory.store(m.regs[dst] + off & MASK64, size, imm)
        return after

    return store


def _store_register(insn: Insn, after: int) -> Operation:
    code, dst, src, off, _ = insn
    size = _BYTES[code & 0x18]
    if code & 0xE0 != isa.BPF_MEM:
        return _atomic(insn, after)

    def store(m: Machine) -> int:
        m.memory.store(m.regs[dst] + off & MASK64, size, m.regs[src])
        return after

    return store


def _atomic(insn: Insn, after: int) -> Operation:
    code, dst, src, off, operation = insn
    size = _BYTES[code & 0x18]
    mask = (1 << 8 * size) - 1
    if operation == isa.BPF_LOAD_ACQ:
        return _load(insn._replace(opcode=code & 0x18 | isa.BPF_LDX | isa.BPF_MEM), after)
    if operation == isa.BPF_STORE_REL:
        return _store_register(insn._replace(opcode=code & 0x18 | isa.BPF_STX | isa.BPF_MEM), after)

    def modify(m: Machine) -> int:
        regs = m.regs
        address = regs[dst] + off & MASK64
        compares = operation == isa.BPF_CMPXCHG
        expected = regs[0] & mask if compares else 0
        operand = regs[src] & mask
        old = m.memory.load(address, size)
        m.memory.store(address, size, atomic(operation, old, operand, expected))
        if compares:
            regs[0] = old
        elif operation & isa.BPF_FETCH:
            regs[src] = old
        return after

    return modify


def _load_constant(insn: Insn, after: int) -> Operation:
    code, dst, src, _, imm = insn
    if code & 0xE0 != isa.BPF_IMM:
        return _packet_load(insn, after)
    if src == isa.BPF_PSEUDO_FUNC:
        target = after + ((imm & MASK32 ^ 0x80000000) - 0x80000000)

        def load_function(m: Machine) -> int:
            m.regs[dst] = m.function_pointer(target)
            return after + 1

        return load_function
    if src:

        def load_object(m: Machine) -> int:
            m.regs[dst] = m.resolve_wide(src, imm)
            return after + 1

        return load_object

    def load(m: Machine) -> int:
        m.regs[dst] = imm
        return after + 1

    return load


def _packet_load(insn: Insn, after: int) -> Operation:
    """``LD_ABS`` and ``LD_IND``: a big-endian load from the packet, which ends the program beyond its end."""
    code, _, src, _, imm = insn
    size = _BYTES[code & 0x18]
    indirect = code & 0xE0 == isa.BPF_IND

    def load(m: Machine) -> int:
        regs = m.regs
        offset = imm
        if indirect:
            offset = (imm + (regs[src] & MASK32) ^ 0x80000000) - 0x80000000
        if regs[6] - m.context:  # a subtraction, so that an uninitialised r6 (None) fails as such
            raise ProgramFaultError("a packet load needs the context in r6")
        data = m.packet_bytes(offset, size)
        m.clobber()
        if data is None:
            regs[0] = 0
            return m.leave_program()
        regs[0] = int.from_bytes(data, "big")
        return after

    return load


_CLASSES: dict[int, Callable[[Insn, int], Operation]] = {
    isa.BPF_LD: _load_constant,
    isa.BPF_LDX: _load,
    isa.BPF_ST: _store,
    isa.BPF_STX: _store_register,
    isa.BPF_ALU: _alu,
    isa.BPF_JMP: _jump,
    isa.BPF_JMP32: _jump,
    isa.BPF_ALU64: _alu,
}
