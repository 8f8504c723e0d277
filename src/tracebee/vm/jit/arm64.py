"""BPF to arm64, with the Linux kernel's register assignment (``arch/arm64/net/bpf_jit_comp.c``).

x26 holds the context (``target.CONTEXT``); x9 to x12 are scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate

from tracebee.errors import UnsupportedError
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import Insn
from tracebee.vm.jit import arm64_encode as arm
from tracebee.vm.jit.arm64_encode import FRAME, LINK, SP, ZERO, words
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
from tracebee.vm.maps import layout

# r0 to r10
REGISTERS = (7, 0, 1, 2, 3, 4, 19, 20, 21, 22, 25)
_RESULT = 7
_CONTEXT = 26
_T0, _T1, _T2, _T3 = 9, 10, 11, 12
_BITS = {isa.BPF_B: 8, isa.BPF_H: 16, isa.BPF_W: 32, isa.BPF_DW: 64}

_ALU = {
    isa.BPF_ADD: arm.ADD,
    isa.BPF_SUB: arm.SUB,
    isa.BPF_AND: arm.AND,
    isa.BPF_OR: arm.OR,
    isa.BPF_XOR: arm.XOR,
    isa.BPF_LSH: arm.SHIFT_LEFT,
    isa.BPF_RSH: arm.SHIFT_RIGHT,
    isa.BPF_ARSH: arm.SHIFT_RIGHT_SIGNED,
}
_SHIFTS = (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH)
_CONDITIONS = {
    isa.BPF_JEQ: arm.EQUAL,
    isa.BPF_JNE: arm.NOT_EQUAL,
    isa.BPF_JSET: arm.NOT_EQUAL,
    isa.BPF_JGT: arm.HIGHER,
    isa.BPF_JGE: arm.HIGHER_SAME,
    isa.BPF_JLT: arm.LOWER,
    isa.BPF_JLE: arm.LOWER_SAME,
    isa.BPF_JSGT: arm.GREATER,
    isa.BPF_JSGE: arm.GREATER_EQUAL,
    isa.BPF_JSLT: arm.LESS,
    isa.BPF_JSLE: arm.LESS_EQUAL,
}
_ATOMICS = {isa.BPF_ADD: arm.ADD, isa.BPF_OR: arm.OR, isa.BPF_AND: arm.AND, isa.BPF_XOR: arm.XOR}
_NEAR = 1 << 20  # bytes a conditional branch reaches


class Arm64:
    """The target machine."""

    def __init__(self) -> None:
        self._known: dict[Insn, list[Piece]] = {}

    def function(self, uses: frozenset[int], environment: Environment) -> _Function:
        """Code for a function that uses these BPF registers."""
        return _Function(uses, environment, self._known)

    def place(
        self, pieces: list[Piece], functions: Mapping[int, int], slots: Mapping[int, int]
    ) -> tuple[bytes, list[int]]:
        """Lay pieces out; in code of more than a megabyte every conditional branch jumps over a far one."""
        far = sum([len(piece) if isinstance(piece, bytes) else 16 for piece in pieces]) >= _NEAR
        sizes = [len(piece) if isinstance(piece, bytes) else _size(piece, far=far) for piece in pieces]
        ends = list(accumulate(sizes))
        starts = [end - size for end, size in zip(ends, sizes, strict=True)]
        code = list(pieces)
        for at, piece in enumerate(pieces):
            if isinstance(piece, Branch):
                to = (functions if piece.kind in (CALL, ADDRESS) else slots)[piece.target]
                code[at] = _branch(piece, starts[to] - starts[at], far=far)
        return b"".join(code), starts  # type: ignore[arg-type]

    def invoker(self) -> bytes:
        """See ``target.Machine``."""
        pairs = ((FRAME, LINK), (19, 20), (21, 22), (25, _CONTEXT))
        places = (
            *(CONTEXT.entry, CONTEXT.r1, CONTEXT.r2, CONTEXT.repeat),
            *(CONTEXT.packet, CONTEXT.packet_length),
        )

        def keep(register: int, place: int) -> tuple[int]:
            return _plain(arm.access(arm.STORE, register, _CONTEXT, place, 64))

        def take(register: int, place: int) -> tuple[int]:
            return _plain(arm.access(arm.LOAD, register, _CONTEXT, place, 64))

        loop = [
            *keep(ZERO, CONTEXT.tail_calls),
            *arm.move_immediate(_T0, MAX_GOTOS),
            *keep(_T0, CONTEXT.gotos),
            *take(REGISTERS[1], CONTEXT.r1),
            *take(REGISTERS[2], CONTEXT.r2),
            *[arm.move(REGISTERS[n], ZERO, 1) for n in (0, 3, 4, 5, 6, 7, 8, 9)],
            *take(_T0, CONTEXT.entry),
            arm.call_register(_T0),
            *take(_T0, CONTEXT.repeat),
            arm.immediate(arm.SUBS_IMMEDIATE, _T0, _T0, 1, 1),
            *keep(_T0, CONTEXT.repeat),
        ]
        return words(
            *[arm.push(*pair) for pair in pairs],
            arm.immediate(arm.SUB_IMMEDIATE, SP, SP, CONTEXT.size, 1),
            arm.immediate(arm.ADD_IMMEDIATE, _CONTEXT, SP, 0, 1),
            *[keep(register, place)[0] for register, place in enumerate(places)],
            *loop,
            arm.branch_if(arm.NOT_EQUAL, -4 * len(loop)),
            arm.immediate(arm.ADD_IMMEDIATE, SP, SP, CONTEXT.size, 1),
            *[arm.pop(*pair) for pair in reversed(pairs)],
            arm.RETURN,
        )


def _size(branch: Branch, *, far: bool) -> int:
    if branch.kind == ADDRESS:
        return 16
    return 8 if branch.kind == CALL or (branch.kind >= 0 and far) else 4


def _branch(branch: Branch, distance: int, *, far: bool) -> bytes:
    if branch.kind == JUMP:
        return words(arm.branch(distance))
    if branch.kind == CALL:
        return words(arm.branch_link(distance), arm.move(_RESULT, 0, 1))
    if branch.kind == ADDRESS:
        low, high = distance & 0xFFFF, distance >> 16 & 0xFFFF
        return words(
            arm.here(branch.register),
            0x52800000 | low << 5 | _T0,  # movz
            0x72A00000 | high << 5 | _T0,  # movk, shifted by 16
            arm.add_signed_word(branch.register, branch.register, _T0),
        )
    if far:
        return words(arm.branch_if(branch.kind ^ 1, 8), arm.branch(distance - 4))
    return words(arm.branch_if(branch.kind, distance))


def _plain(instruction: int | None) -> tuple[int]:
    assert instruction is not None, "offsets into contexts and map headers fit"
    return (instruction,)


class _Function:
    """Code of one function."""

    def __init__(
        self, uses: frozenset[int], environment: Environment, known: dict[Insn, list[Piece]]
    ) -> None:
        self._environment = environment
        self._known = known
        candidates = (((6, 7), (19, 20)), ((8, 9), (21, 22)), ((10,), (25, _CONTEXT)))
        self._pairs = [(FRAME, LINK)] + [pair for bpf, pair in candidates if uses.intersection(bpf)]
        self._stack = isa.MAX_STACK if isa.R10 in uses else 0

    def prologue(self) -> bytes:
        """Save what C expects back, make room for the stack."""
        code = [arm.push(*pair) for pair in self._pairs]
        code.insert(1, arm.immediate(arm.ADD_IMMEDIATE, FRAME, SP, 0, 1))
        if self._stack:
            code.append(arm.immediate(arm.ADD_IMMEDIATE, REGISTERS[isa.R10], SP, 0, 1))
            code.append(arm.immediate(arm.SUB_IMMEDIATE, SP, SP, self._stack, 1))
        return words(*code)

    def _restore(self) -> list[int]:
        room = [arm.immediate(arm.ADD_IMMEDIATE, SP, SP, self._stack, 1)] if self._stack else []
        return room + [arm.pop(*pair) for pair in reversed(self._pairs)]

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
        pieces: list[Piece] = [words(*_CLASSES[klass](self, insn))]
        self._known[insn] = pieces
        return pieces

    def _operand(self, value: int, wide: int) -> list[int]:
        return arm.move_immediate(_T0, value if wide else value & 0xFFFFFFFF)

    def _alu(self, insn: Insn) -> list[int]:
        code, _, _, off, imm = insn
        op, wide, by_register = code & 0xF0, int(code & 7 == isa.BPF_ALU64), code & isa.BPF_X
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        if op == isa.BPF_END:
            return self._byte_order(insn, dst)
        if op == isa.BPF_NEG:
            return [arm.register(arm.SUB, dst, ZERO, dst, wide)]
        if op == isa.BPF_MOV:
            if not by_register:
                return arm.move_immediate(dst, imm if wide else imm & 0xFFFFFFFF)
            return [arm.extend(dst, src, off, wide, signed=True) if off > 1 else arm.move(dst, src, wide)]
        before: list[int] = []
        if not by_register:
            if op in _SHIFTS:
                return [arm.shift_immediate(_ALU[op], dst, dst, imm & (63 if wide else 31), wide)]
            if op in (isa.BPF_ADD, isa.BPF_SUB) and -4096 < imm < 4096:
                adds = (op == isa.BPF_ADD) == (imm >= 0)
                return [
                    arm.immediate(arm.ADD_IMMEDIATE if adds else arm.SUB_IMMEDIATE, dst, dst, abs(imm), wide)
                ]
            before, src = self._operand(imm, wide), _T0
        if op == isa.BPF_MUL:
            return [*before, arm.multiply(dst, dst, src, wide)]
        if op in (isa.BPF_DIV, isa.BPF_MOD):
            # By zero, division gives 0 here as in BPF; so modulo, the rest, gives the dividend.
            divide = arm.DIVIDE_SIGNED if off == 1 else arm.DIVIDE
            if op == isa.BPF_DIV:
                return [*before, arm.register(divide, dst, dst, src, wide)]
            quotient = arm.register(divide, _T1, dst, src, wide)
            return [*before, quotient, arm.multiply_subtract(dst, _T1, src, dst, wide)]
        return [*before, arm.register(_ALU[op], dst, dst, src, wide)]

    def _byte_order(self, insn: Insn, dst: int) -> list[int]:
        bits = insn.imm
        swaps = insn.opcode & 7 == isa.BPF_ALU64 or insn.opcode & isa.BPF_X
        code = [arm.reverse(dst, dst, bits)] if swaps else []
        if bits == 16 or (bits == 32 and not swaps):
            code.append(arm.extend(dst, dst, bits, 0, signed=False))
        return code

    def _access(self, kind: int, register: int, base: int, offset: int, bits: int) -> list[int]:
        direct = arm.access(kind, register, base, offset, bits)
        if direct is not None:
            return [direct]
        return [*arm.move_immediate(_T1, offset), arm.access_indexed(kind, register, base, _T1, bits)]

    def _load(self, insn: Insn) -> list[int]:
        kind = arm.LOAD_SIGNED if insn.opcode & 0xE0 == isa.BPF_MEMSX else arm.LOAD
        bits = _BITS[insn.opcode & 0x18]
        return self._access(kind, REGISTERS[insn.dst], REGISTERS[insn.src], insn.off, bits)

    def _store(self, insn: Insn) -> list[int]:
        bits = _BITS[insn.opcode & 0x18]
        value = arm.move_immediate(_T0, insn.imm) if insn.imm else []
        return value + self._access(arm.STORE, _T0 if insn.imm else ZERO, REGISTERS[insn.dst], insn.off, bits)

    def _store_register(self, insn: Insn) -> list[int]:
        if insn.opcode & 0xE0 == isa.BPF_ATOMIC:
            return self._atomic(insn)
        bits = _BITS[insn.opcode & 0x18]
        return self._access(arm.STORE, REGISTERS[insn.src], REGISTERS[insn.dst], insn.off, bits)

    def _atomic(self, insn: Insn) -> list[int]:
        bits, operation = _BITS[insn.opcode & 0x18], insn.imm
        wide = int(bits == 64)
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        loads = operation == isa.BPF_LOAD_ACQ
        place, base = self._address(src if loads else dst, insn.off)
        if loads:
            return [*place, arm.load_acquire(dst, base, bits)]
        if operation == isa.BPF_STORE_REL:
            return [*place, arm.store_release(src, base, bits)]
        fetches = bool(operation & isa.BPF_FETCH)
        load = arm.load_exclusive(_T1, base, bits, acquire=fetches)
        if operation == isa.BPF_CMPXCHG:
            store = arm.store_exclusive(_T3, src, base, bits, release=True)
            return [
                *place,
                load,
                arm.register(arm.SUBS, ZERO, _T1, _RESULT, wide),
                arm.branch_if(arm.NOT_EQUAL, 12),
                store,
                arm.branch_if_not_zero(_T3, -16, 0),
                arm.BARRIER,
                arm.move(_RESULT, _T1, wide),
            ]
        if operation == isa.BPF_XCHG:
            change, value = [], src
        else:
            name = _ATOMICS[operation & ~isa.BPF_FETCH]
            change, value = [arm.register(name, _T2, _T1, src, wide)], _T2
        store = arm.store_exclusive(_T3, value, base, bits, release=fetches)
        again = arm.branch_if_not_zero(_T3, -4 * (2 + len(change)), 0)
        after = [arm.BARRIER, arm.move(src, _T1, wide)] if fetches else []
        return [*place, load, *change, store, again, *after]

    def _address(self, base: int, offset: int) -> tuple[list[int], int]:
        """Exclusive accesses take no offset."""
        if not offset:
            return [], base
        if -4096 < offset < 4096:
            operation = arm.ADD_IMMEDIATE if offset > 0 else arm.SUB_IMMEDIATE
            return [arm.immediate(operation, _T0, base, abs(offset), 1)], _T0
        return [*arm.move_immediate(_T0, offset), arm.register(arm.ADD, _T0, _T0, base, 1)], _T0

    def _constant(self, insn: Insn, slot: int) -> list[Piece]:
        dst = REGISTERS[insn.dst]
        if not insn.is_wide:
            return [words(*self._packet_load(insn))]
        if insn.src == isa.BPF_PSEUDO_FUNC:
            distance = (insn.imm & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
            return [Branch(ADDRESS, slot + 1 + distance, dst)]
        if insn.src:
            raise UnsupportedError(f"the JIT takes programs whose maps are addresses: {format_insn(insn)}")
        return [words(*arm.move_immediate(dst, insn.imm))]

    def _packet_load(self, insn: Insn) -> list[int]:
        """A big-endian load from the packet into r0; beyond its end the program ends with 0."""
        bits = _BITS[insn.opcode & 0x18]
        place = arm.move_immediate(_T2, insn.imm & 0xFFFFFFFF)
        if insn.opcode & 0xE0 == isa.BPF_IND:
            place.append(arm.register(arm.ADD, _T2, _T2, REGISTERS[insn.src], 0))
        place.append(arm.extend(_T2, _T2, 32, 1, signed=True))
        stop = [arm.move(0, ZERO, 1), *self._restore(), arm.RETURN]
        over = 4 * (len(stop) + 1)
        swap = {8: [], 16: [arm.reverse(_RESULT, _RESULT, 16)], 32: [arm.reverse(_RESULT, _RESULT, 32)]}
        return [
            *place,
            *_plain(arm.access(arm.LOAD, _T1, _CONTEXT, CONTEXT.packet_length, 64)),
            arm.immediate(arm.SUBS_IMMEDIATE, _T1, _T1, bits // 8, 1),
            arm.branch_if(arm.HIGHER_SAME, over),
            *stop,
            # As unsigned numbers, an offset below 0 is beyond the end as well.
            arm.register(arm.SUBS, ZERO, _T2, _T1, 1),
            arm.branch_if(arm.LOWER_SAME, over),
            *stop,
            *_plain(arm.access(arm.LOAD, _T1, _CONTEXT, CONTEXT.packet, 64)),
            arm.access_indexed(arm.LOAD, _RESULT, _T1, _T2, bits),
            *swap[bits],
        ]

    def _jump(self, insn: Insn, slot: int) -> list[Piece]:
        code, _, _, off, imm = insn
        op, wide = code & 0xF0, int(code & 7 == isa.BPF_JMP)
        if op == isa.BPF_EXIT:
            return [words(arm.move(0, _RESULT, 1), *self._restore(), arm.RETURN)]
        if op == isa.BPF_CALL:
            return self._call(insn, slot)
        if op == isa.BPF_JA:
            if code & isa.BPF_X:
                raise UnsupportedError(f"the JIT has no indirect jumps: {format_insn(insn)}")
            return [Branch(JUMP, slot + 1 + (off if wide else imm))]
        if op == isa.BPF_JCOND:
            left = _plain(arm.access(arm.LOAD, _T1, _CONTEXT, CONTEXT.gotos, 64))
            less = arm.immediate(arm.SUB_IMMEDIATE, _T1, _T1, 1, 1)
            kept = _plain(arm.access(arm.STORE, _T1, _CONTEXT, CONTEXT.gotos, 64))
            compare = arm.immediate(arm.SUBS_IMMEDIATE, ZERO, _T1, 1, 1)
            return [words(*left, compare), Branch(arm.LOWER, slot + 1 + off), words(less, *kept)]
        dst, src = REGISTERS[insn.dst], REGISTERS[insn.src]
        branch = Branch(_CONDITIONS[op], slot + 1 + off)
        before: list[int] = []
        if not code & isa.BPF_X:
            if op != isa.BPF_JSET and -4096 < imm < 4096:
                operation = arm.SUBS_IMMEDIATE if imm >= 0 else arm.ADDS_IMMEDIATE
                return [words(arm.immediate(operation, ZERO, dst, abs(imm), wide)), branch]
            before, src = self._operand(imm, wide), _T0
        operation = arm.ANDS if op == isa.BPF_JSET else arm.SUBS
        return [words(*before, arm.register(operation, ZERO, dst, src, wide)), branch]

    def _call(self, insn: Insn, slot: int) -> list[Piece]:
        number = insn.imm
        if insn.src == isa.BPF_PSEUDO_CALL:
            return [Branch(CALL, slot + 1 + number)]
        if insn.src == 0 and number == _TAIL_CALL and self._environment.programs:
            return [words(*self._tail_call())]
        table = self._environment.kfuncs if insn.src else self._environment.helpers
        address = table.get(number)
        if address is None:
            kind = "kernel function" if insn.src else "helper"
            raise UnsupportedError(f"no native code for {kind} {number}: {format_insn(insn)}")
        # A C function that kernel functions stand for may have a sixth argument: it gets 0.
        sixth = [arm.move(5, ZERO, 1)] if insn.src else []
        call = [*arm.move_immediate(_T0, address), arm.call_register(_T0), arm.move(_RESULT, 0, 1)]
        return [words(*sixth, *call)]

    def _tail_call(self) -> list[int]:
        """Go on in another program, or fall through: r2 is the prog array, r3 the index."""
        array, index = REGISTERS[2], REGISTERS[3]
        jump = [
            arm.immediate(arm.ADD_IMMEDIATE, _T1, _T1, 1, 1),
            *_plain(arm.access(arm.STORE, _T1, _CONTEXT, CONTEXT.tail_calls, 64)),
            *self._restore(),
            arm.branch_register(_T2),
        ]
        find = [
            *_plain(arm.access(arm.LOAD, _T0, array, layout.ELEMENT_STEP, 32)),
            arm.multiply(_T2, _T0, index, 1),
            *_plain(arm.access(arm.LOAD, _T0, array, layout.ELEMENTS, 64)),
            arm.register(arm.ADD, _T2, _T2, _T0, 1),
            arm.access_indexed(arm.LOAD, _T2, _T2, array, 32),
            # The table's first entry is empty, as number 0 is no program's.
            *arm.move_immediate(_T0, self._environment.programs),
            arm.register(arm.ADD, _T2, _T0, _T2, 1, 3),
            *_plain(arm.access(arm.LOAD, _T2, _T2, 0, 64)),
            arm.branch_if_zero(_T2, 4 * (len(jump) + 1), 1),
            *jump,
        ]
        limit = [
            *_plain(arm.access(arm.LOAD, _T1, _CONTEXT, CONTEXT.tail_calls, 64)),
            arm.immediate(arm.SUBS_IMMEDIATE, ZERO, _T1, MAX_TAIL_CALLS, 1),
            arm.branch_if(arm.HIGHER_SAME, 4 * (len(find) + 1)),
            *find,
        ]
        return [
            arm.move(index, index, 0),
            *_plain(arm.access(arm.LOAD, _T0, array, layout.MAX_ENTRIES, 32)),
            arm.register(arm.SUBS, ZERO, index, _T0, 0),
            arm.branch_if(arm.HIGHER_SAME, 4 * (len(limit) + 1)),
            *limit,
        ]


_TAIL_CALL = 12  # BPF_FUNC_tail_call

_CLASSES: dict[int, Callable[[_Function, Insn], list[int]]] = {
    isa.BPF_ALU: _Function._alu,  # noqa: SLF001 - the table belongs to the class
    isa.BPF_ALU64: _Function._alu,  # noqa: SLF001
    isa.BPF_LDX: _Function._load,  # noqa: SLF001
    isa.BPF_ST: _Function._store,  # noqa: SLF001
    isa.BPF_STX: _Function._store_register,  # noqa: SLF001
}
