"""BPF to x86-64, with the Linux kernel's register assignment (``arch/x86/net/bpf_jit_comp.c``):
r1 to r5 are where C passes arguments, so that a helper call moves nothing.

r12 holds the context (``target.CONTEXT``); r9 to r11 are scratch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from itertools import accumulate

from tracebee.errors import UnsupportedError
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import Insn
from tracebee.vm.jit import x86_encode as x86
from tracebee.vm.jit.target import (
    ADDRESS,
    CALL,
    CONTEXT,
    JUMP,
    MAX_GOTOS,
    MAX_TAIL_CALLS,
    Branch,
    Environment,
    Piece,
)
from tracebee.vm.jit.x86_encode import R9, R10, R11, R12, RAX, RBP, RCX, RDX, RSP
from tracebee.vm.maps import layout

# r0 to r10
REGISTERS = (RAX, x86.RDI, x86.RSI, RDX, RCX, x86.R8, x86.RBX, x86.R13, x86.R14, x86.R15, RBP)
_SAVED = (6, 7, 8, 9)  # BPF registers that live in ones a C function preserves
_BITS = {isa.BPF_B: 8, isa.BPF_H: 16, isa.BPF_W: 32, isa.BPF_DW: 64}

_ALU = {
    isa.BPF_ADD: x86.ADD,
    isa.BPF_SUB: x86.SUB,
    isa.BPF_OR: x86.OR,
    isa.BPF_AND: x86.AND,
    isa.BPF_XOR: x86.XOR,
}
_SHIFTS = {isa.BPF_LSH: x86.SHL, isa.BPF_RSH: x86.SHR, isa.BPF_ARSH: x86.SAR}
_CONDITIONS = {
    isa.BPF_JEQ: x86.EQUAL,
    isa.BPF_JNE: x86.NOT_EQUAL,
    isa.BPF_JSET: x86.NOT_EQUAL,
    isa.BPF_JGT: x86.ABOVE,
    isa.BPF_JGE: x86.ABOVE_EQUAL,
    isa.BPF_JLT: x86.BELOW,
    isa.BPF_JLE: x86.BELOW_EQUAL,
    isa.BPF_JSGT: x86.GREATER,
    isa.BPF_JSGE: x86.GREATER_EQUAL,
    isa.BPF_JSLT: x86.LESS,
    isa.BPF_JSLE: x86.LESS_EQUAL,
}
_ATOMICS = {isa.BPF_ADD: x86.ADD, isa.BPF_OR: x86.OR, isa.BPF_AND: x86.AND, isa.BPF_XOR: x86.XOR}


class X8664:
    """The target machine.

    :param bmi2: whether shifts by a register may use the BMI2 instructions.
    """

    def __init__(self, *, bmi2: bool = False) -> None:
        self._bmi2 = bmi2
        # Straight-line code by instruction: programs repeat themselves, and 10,000 must take 100 ms.
        self._known: dict[Insn, list[Piece]] = {}

    def function(self, uses: frozenset[int], environment: Environment) -> _Function:
        """Code for a function that uses these BPF registers."""
        return _Function(uses, environment, self._known, bmi2=self._bmi2)

    def place(
        self, pieces: list[Piece], functions: Mapping[int, int], slots: Mapping[int, int]
    ) -> tuple[bytes, list[int]]:
        """Lay pieces out with jumps as short as their targets allow."""
        sizes = [len(piece) if isinstance(piece, bytes) else _FIXED.get(piece.kind, 2) for piece in pieces]
        branches = [
            (at, piece, (functions if piece.kind in _FIXED else slots)[piece.target])
            for at, piece in enumerate(pieces)
            if isinstance(piece, Branch)
        ]
        short = [b for b in branches if b[1].kind not in _FIXED]
        while True:
            ends = list(accumulate(sizes))
            growing = []
            for branch in short:
                at, _, to = branch
                if not -128 <= ends[to] - sizes[to] - ends[at] < 128:
                    growing.append(branch)
            if not growing:
                break
            for at, piece, _ in growing:
                sizes[at] = 5 if piece.kind == JUMP else 6
            grown = {branch[0] for branch in growing}
            short = [branch for branch in short if branch[0] not in grown]
        code = list(pieces)
        for at, piece, to in branches:
            code[at] = _branch(piece, ends[to] - sizes[to] - ends[at], sizes[at])
        starts = [end - size for end, size in zip(ends, sizes, strict=True)]
        return b"".join(code), starts  # type: ignore[arg-type]

    def invoker(self) -> bytes:
        """See ``target.Machine``."""
        # With the return address these are 48 bytes, so that the stack stays aligned to 16.
        saved = (x86.RBX, R12, x86.R13, x86.R14, x86.R15)
        given = (
            (CONTEXT.entry, x86.RDI),
            (CONTEXT.r1, x86.RSI),
            (CONTEXT.r2, RDX),
            (CONTEXT.repeat, RCX),
            (CONTEXT.packet, x86.R8),
            (CONTEXT.packet_length, R9),
        )
        cleared = [REGISTERS[n] for n in (0, 3, 4, 5, 6, 7, 8, 9)]
        loop = (
            x86.store_immediate(R12, CONTEXT.tail_calls, 0, 64)
            + x86.store_immediate(R12, CONTEXT.gotos, MAX_GOTOS, 64)
            + x86.load(REGISTERS[1], R12, CONTEXT.r1, 64)
            + x86.load(REGISTERS[2], R12, CONTEXT.r2, 64)
            + b"".join([x86.move_immediate(register, 0) for register in cleared])
            + x86.memory(b"\xff", 2, R12, CONTEXT.entry, 0)  # call
            + x86.memory(b"\x83", x86.SUB, R12, CONTEXT.repeat, 1)
            + b"\x01"
        )
        return (
            b"".join([x86.push(register) for register in saved])
            + x86.arithmetic_immediate(x86.SUB, RSP, CONTEXT.size, 1)
            + x86.move(R12, RSP, 1)
            + b"".join([x86.store(R12, place, register, 64) for place, register in given])
            + loop
            + bytes((0x70 | x86.NOT_EQUAL, -(len(loop) + 2) & 0xFF))
            + x86.arithmetic_immediate(x86.ADD, RSP, CONTEXT.size, 1)
            + b"".join([x86.pop(register) for register in reversed(saved)])
            + x86.RETURN
        )


_FIXED = {CALL: 5, ADDRESS: 7}  # sizes of the branches that have but one


def _branch(branch: Branch, distance: int, size: int) -> bytes:
    if branch.kind == CALL:
        return b"\xe8" + struct.pack("<i", distance)
    if branch.kind == ADDRESS:
        return (
            bytes((0x48 | branch.register >> 3 << 2, 0x8D, (branch.register & 7) << 3 | 5))
        ) + struct.pack("<i", distance)
    if size == 2:
        opcode = 0xEB if branch.kind == JUMP else 0x70 | branch.kind
        return bytes((opcode, distance & 0xFF))
    opcode_bytes = b"\xe9" if branch.kind == JUMP else bytes((0x0F, 0x80 | branch.kind))
    return opcode_bytes + struct.pack("<i", distance)


class _Function:
    """Code of one function."""

    def __init__(
        self, uses: frozenset[int], environment: Environment, known: dict[Insn, list[Piece]], *, bmi2: bool
    ) -> None:
        self._environment = environment
        self._known = known
        self._bmi2 = bmi2
        self._saved = [REGISTERS[n] for n in _SAVED if n in uses]
        # r10 is rbp: what is saved there must survive a program that writes just above its stack, as some
        # conformance suites have it, so functions that use r10 save it once more above.
        self._margin = isa.R10 in uses
        # Calls want the stack aligned to 16 bytes: the return address and rbp are, then so must the rest be.
        odd = 8 * ((len(self._saved) + self._margin) % 2)
        self._frame = (isa.MAX_STACK if isa.R10 in uses else 0) + odd

    def prologue(self) -> bytes:
        """Save what C expects back, make room for the stack."""
        room = x86.arithmetic_immediate(x86.SUB, RSP, self._frame, 1) if self._frame else b""
        return (
            x86.push(RBP) * (1 + self._margin)
            + x86.move(RBP, RSP, 1)
            + room
            + b"".join([x86.push(register) for register in self._saved])
        )

    def _restore(self) -> bytes:
        saved = b"".join([x86.pop(register) for register in reversed(self._saved)])
        return saved + x86.LEAVE + x86.pop(RBP) * self._margin

    def instruction(self, insn: Insn, slot: int) -> list[Piece]:
        """One instruction's code."""
        known = self._known.get(insn)
        if known is not None:
            return known
        klass = insn.opcode & 7
        if klass in (isa.BPF_JMP, isa.BPF_JMP32):
            return self._jump(insn, slot)
        if klass == isa.BPF_LD:
            return self._constant(insn, slot)
        pieces: list[Piece] = [_CLASSES[klass](self, insn)]
        self._known[insn] = pieces
        return pieces

    def _alu(self, insn: Insn) -> bytes:
        code, _, _, off, imm = insn
        op, wide, by_register = code & 0xF0, code & 7 == isa.BPF_ALU64, code & isa.BPF_X
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        if op == isa.BPF_END:
            return self._byte_order(insn, dst)
        if op == isa.BPF_NEG:
            return x86.negate(dst, wide)
        if op in (isa.BPF_DIV, isa.BPF_MOD):
            return self._divide(insn)
        if op in _SHIFTS:
            if by_register:
                return self._shift(_SHIFTS[op], dst, src, wide)
            return x86.shift_immediate(_SHIFTS[op], dst, imm & (63 if wide else 31), wide)
        if op == isa.BPF_MOV:
            if not by_register:
                return x86.move_immediate(dst, imm if wide else imm & 0xFFFFFFFF)
            if off > 1:
                return x86.sign_extend(dst, src, off, wide)
            return x86.move(dst, src, wide)
        if op == isa.BPF_MUL:
            return x86.multiply(dst, src, wide) if by_register else x86.multiply_immediate(dst, imm, wide)
        if by_register:
            return x86.arithmetic(_ALU[op], dst, src, wide)
        return x86.arithmetic_immediate(_ALU[op], dst, imm, wide)

    def _byte_order(self, insn: Insn, dst: int) -> bytes:
        swaps = insn.opcode & 7 == isa.BPF_ALU64 or insn.opcode & isa.BPF_X
        if insn.imm == 64:
            return x86.byte_swap(dst, 1) if swaps else b""
        if insn.imm == 32:
            return x86.byte_swap(dst, 0) if swaps else x86.move(dst, dst, 0)
        return (x86.rotate_word(dst) if swaps else b"") + x86.zero_extend(dst, dst, 16)

    def _shift(self, operation: int, dst: int, count: int, wide: int) -> bytes:
        if self._bmi2:
            return x86.shift_by_register(operation, dst, count, wide)
        if count == RCX and dst != RCX:
            return x86.shift_by_cl(operation, dst, wide)
        if dst == RCX:
            return (
                x86.move(R11, RCX, 1)
                + (x86.move(RCX, count, 1) if count != RCX else b"")
                + x86.shift_by_cl(operation, R11, wide)
                + x86.move(RCX, R11, 1)
            )
        return (
            x86.move(R11, RCX, 1)
            + x86.move(RCX, count, 1)
            + x86.shift_by_cl(operation, dst, wide)
            + x86.move(RCX, R11, 1)
        )

    def _divide(self, insn: Insn) -> bytes:
        """Division gives 0 by zero, modulo its dividend; the least number by -1 does not overflow."""
        wide, modulo = insn.opcode & 7 == isa.BPF_ALU64, insn.opcode & 0xF0 == isa.BPF_MOD
        signed, constant = insn.off == 1, not insn.opcode & isa.BPF_X
        dst = REGISTERS[insn.dst]
        by_zero = (x86.move(dst, dst, 0) if not wide else b"") if modulo else x86.move_immediate(dst, 0)
        by_minus_one = x86.move_immediate(dst, 0) if modulo else x86.negate(dst, wide)
        if constant and insn.imm == 0:
            return by_zero
        if constant and insn.imm == -1 and signed:
            return by_minus_one
        keep = [register for register in (RAX, RDX) if register != dst]
        scratch = (R10, R9)
        work = b"".join([x86.move(s, r, 1) for s, r in zip(scratch, keep, strict=False)])
        work += x86.move(RAX, dst, 1) if dst != RAX else b""
        work += x86.sign_to_rdx(wide) if signed else x86.registers(b"\x31", RDX, RDX, 0)
        work += x86.divide(R11, wide, signed=signed)
        result = RDX if modulo else RAX
        work += x86.move(dst, result, 1) if dst != result else b""
        work += b"".join([x86.move(r, s, 1) for s, r in zip(scratch, keep, strict=False)])
        if constant:
            return x86.move_immediate(R11, insn.imm if wide else insn.imm & 0xFFFFFFFF) + work
        if signed:
            work = (
                x86.arithmetic_immediate(x86.CMP, R11, -1, wide)
                + x86.skip_if(x86.NOT_EQUAL, by_minus_one + bytes((0xEB, len(work))))
                + work
            )
        # The divisor is copied first: it may be rax or rdx.
        return (
            x86.move(R11, REGISTERS[insn.src], 1)
            + x86.test(R11, R11, wide)
            + x86.skip_if(x86.NOT_EQUAL, by_zero + bytes((0xEB, len(work))))
            + work
        )

    def _load(self, insn: Insn) -> bytes:
        bits = _BITS[insn.opcode & 0x18]
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        if insn.opcode & 0xE0 == isa.BPF_MEMSX:
            return x86.load_signed(dst, src, insn.off, bits)
        return x86.load(dst, src, insn.off, bits)

    def _store(self, insn: Insn) -> bytes:
        return x86.store_immediate(REGISTERS[insn.dst], insn.off, insn.imm, _BITS[insn.opcode & 0x18])

    def _store_register(self, insn: Insn) -> bytes:
        if insn.opcode & 0xE0 == isa.BPF_ATOMIC:
            return self._atomic(insn)
        bits = _BITS[insn.opcode & 0x18]
        return x86.store(REGISTERS[insn.dst], insn.off, REGISTERS[insn.src], bits)

    def _atomic(self, insn: Insn) -> bytes:
        bits, operation, off = _BITS[insn.opcode & 0x18], insn.imm, insn.off
        wide = bits == 64
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        # Plain loads and stores of x86 have acquire and release semantics.
        if operation == isa.BPF_LOAD_ACQ:
            return x86.load(dst, src, off, bits)
        if operation == isa.BPF_STORE_REL:
            return x86.store(dst, off, src, bits)
        if operation == isa.BPF_XCHG:
            return x86.exchange(dst, off, src, wide)
        if operation == isa.BPF_CMPXCHG:
            # Equal 32-bit values leave rax as it was: its upper half must go.
            return x86.compare_exchange(dst, off, src, wide) + (b"" if wide else x86.move(RAX, RAX, 0))
        if operation == isa.BPF_ADD | isa.BPF_FETCH:
            return x86.exchange_add(dst, off, src, wide)
        if not operation & isa.BPF_FETCH:
            return x86.LOCK + x86.arithmetic_memory(_ATOMICS[operation], dst, off, src, wide)
        base = R10 if dst == RAX else dst
        again = (
            x86.move(R11, RAX, 1)
            + x86.arithmetic(_ATOMICS[operation & ~isa.BPF_FETCH], R11, R9, wide)
            + x86.compare_exchange(base, off, R11, wide)
        )
        return (
            x86.move(R9, src, 1)
            + x86.move(R10, RAX, 1)
            + x86.load(RAX, base, off, bits)
            + again
            + bytes((0x70 | x86.NOT_EQUAL, -(len(again) + 2) & 0xFF))
            + (x86.move(src, RAX, wide) + x86.move(RAX, R10, 1) if src != RAX else x86.move(RAX, RAX, wide))
        )

    def _constant(self, insn: Insn, slot: int) -> list[Piece]:
        dst = REGISTERS[insn.dst]
        if not insn.is_wide:
            return [self._packet_load(insn)]
        if insn.src == isa.BPF_PSEUDO_FUNC:
            distance = (insn.imm & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
            return [Branch(ADDRESS, slot + 1 + distance, dst)]
        if insn.src:
            raise UnsupportedError(f"the JIT takes programs whose maps are addresses: {format_insn(insn)}")
        return [x86.move_immediate(dst, insn.imm)]

    def _packet_load(self, insn: Insn) -> bytes:
        """A big-endian load from the packet into r0; beyond its end the program ends with 0."""
        bits = _BITS[insn.opcode & 0x18]
        place = x86.move_immediate(R11, insn.imm & 0xFFFFFFFF)
        if insn.opcode & 0xE0 == isa.BPF_IND:
            place += x86.arithmetic(x86.ADD, R11, REGISTERS[insn.src], 0)
        place += x86.sign_extend(R11, R11, 32, 1)
        stop = x86.move_immediate(RAX, 0) + self._restore() + x86.RETURN
        # As unsigned numbers, an offset below 0 is beyond the end as well.
        bound = (
            x86.load(R10, R12, CONTEXT.packet_length, 64)
            + x86.arithmetic_immediate(x86.SUB, R10, bits // 8, 1)
            + x86.skip_if(x86.ABOVE_EQUAL, stop)
            + x86.arithmetic(x86.CMP, R11, R10, 1)
            + x86.skip_if(x86.BELOW_EQUAL, stop)
        )
        load = x86.load(R10, R12, CONTEXT.packet, 64) + x86.arithmetic(x86.ADD, R10, R11, 1)
        swap = {8: b"", 16: x86.rotate_word(RAX) + x86.zero_extend(RAX, RAX, 16), 32: x86.byte_swap(RAX, 0)}
        return place + bound + load + x86.load(RAX, R10, 0, bits) + swap[bits]

    def _jump(self, insn: Insn, slot: int) -> list[Piece]:
        code, _, _, off, imm = insn
        op, wide = code & 0xF0, code & 7 == isa.BPF_JMP
        if op == isa.BPF_EXIT:
            return [self._restore() + x86.RETURN]
        if op == isa.BPF_CALL:
            return self._call(insn, slot)
        if op == isa.BPF_JA:
            if code & isa.BPF_X:
                raise UnsupportedError(f"the JIT has no indirect jumps: {format_insn(insn)}")
            return [Branch(JUMP, slot + 1 + (off if wide else imm))]
        if op == isa.BPF_JCOND:
            left = x86.memory(b"\x83", x86.CMP, R12, CONTEXT.gotos, 1) + b"\x01"
            count = x86.memory(b"\x83", x86.SUB, R12, CONTEXT.gotos, 1) + b"\x01"
            return [left, Branch(x86.BELOW, slot + 1 + off), count]
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        branch = Branch(_CONDITIONS[op], slot + 1 + off)
        if code & isa.BPF_X:
            compare = (
                x86.test(dst, src, wide) if op == isa.BPF_JSET else x86.arithmetic(x86.CMP, dst, src, wide)
            )
        elif op == isa.BPF_JSET:
            compare = x86.test_immediate(dst, imm, wide)
        elif imm == 0:
            compare = x86.test(dst, dst, wide)
        else:
            compare = x86.arithmetic_immediate(x86.CMP, dst, imm, wide)
        return [compare, branch]

    def _call(self, insn: Insn, slot: int) -> list[Piece]:
        number = insn.imm
        if insn.src == isa.BPF_PSEUDO_CALL:
            return [Branch(CALL, slot + 1 + number)]
        if insn.src == 0 and number == _TAIL_CALL and self._environment.programs:
            return [self._tail_call()]
        table = self._environment.kfuncs if insn.src else self._environment.helpers
        address = table.get(number)
        if address is None:
            kind = "kernel function" if insn.src else "helper"
            raise UnsupportedError(f"no native code for {kind} {number}: {format_insn(insn)}")
        # A C function that kernel functions stand for may have a sixth argument: it gets 0.
        sixth = x86.move_immediate(R9, 0) if insn.src else b""
        return [sixth + x86.move_immediate(R11, address) + x86.call_register(R11)]

    def _tail_call(self) -> bytes:
        """Go on in another program, or fall through: r2 is the prog array, r3 the index."""
        array, index = REGISTERS[2], REGISTERS[3]
        # Backwards, so that each jump to the end knows its distance.
        code = x86.memory(b"\x83", x86.ADD, R12, CONTEXT.tail_calls, 1) + b"\x01"
        code += self._restore() + x86.jump_register(R11)
        number = (
            x86.load(R11, array, layout.ELEMENT_STEP, 32)
            + x86.multiply(R11, index, 1)
            + x86.memory(b"\x03", R11, array, layout.ELEMENTS, 1)  # add
            + x86.arithmetic(x86.ADD, R11, array, 1)
            + x86.load(R11, R11, 0, 32)
        )
        # The table's first entry is empty, as number 0 is no program's.
        entry = x86.move_immediate(R10, self._environment.programs) + _LOAD_ENTRY
        code = number + entry + x86.test(R11, R11, 1) + x86.skip_if(x86.EQUAL, code)
        limit = x86.memory(b"\x83", x86.CMP, R12, CONTEXT.tail_calls, 1) + bytes((MAX_TAIL_CALLS,))
        code = limit + x86.skip_if(x86.ABOVE_EQUAL, code)
        bound = x86.memory(b"\x3b", index, array, layout.MAX_ENTRIES, 0)  # cmp
        return x86.move(index, index, 0) + bound + x86.skip_if(x86.ABOVE_EQUAL, code)


_LOAD_ENTRY = b"\x4f\x8b\x1c\xda"  # mov r11, [r10 + r11 * 8]
_TAIL_CALL = 12  # BPF_FUNC_tail_call

_CLASSES: dict[int, Callable[[_Function, Insn], bytes]] = {
    isa.BPF_ALU: _Function._alu,  # noqa: SLF001 - the table belongs to the class
    isa.BPF_ALU64: _Function._alu,  # noqa: SLF001
    isa.BPF_LDX: _Function._load,  # noqa: SLF001
    isa.BPF_ST: _Function._store,  # noqa: SLF001
    isa.BPF_STX: _Function._store_register,  # noqa: SLF001
}
