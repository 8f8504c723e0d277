"""Machine code from a legalized function and its register allocation."""

from __future__ import annotations

from tracebee.errors import EncodeError
from tracebee.ir.contents import Contents
from tracebee.ir.legalize import BPF_CORE_ENUMVAL_VALUE, NEGATED, fits_imm
from tracebee.ir.moves import Place, sequence
from tracebee.ir.regalloc import REGISTERS, Allocation, moves_inside, moves_on_edge
from tracebee.ir.value import BINARY, CALLS, COMMUTATIVE, Function, Value
from tracebee.isa import insn as isa
from tracebee.isa.insn import Insn
from tracebee.obj.model import LineInfo, Reloc, RelocKind
from tracebee.source import NOWHERE, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir.frame import Frame
    from tracebee.ir.intervals import Interval
    from tracebee.ir.value import Block
    from tracebee.obj.model import CoreReloc

ALU = {
    "add": isa.BPF_ADD,
    "sub": isa.BPF_SUB,
    "mul": isa.BPF_MUL,
    "udiv": isa.BPF_DIV,
    "sdiv": isa.BPF_DIV,
    "umod": isa.BPF_MOD,
    "smod": isa.BPF_MOD,
    "and": isa.BPF_AND,
    "or": isa.BPF_OR,
    "xor": isa.BPF_XOR,
    "shl": isa.BPF_LSH,
    "lshr": isa.BPF_RSH,
    "ashr": isa.BPF_ARSH,
}
JUMP = {
    "eq": isa.BPF_JEQ,
    "ne": isa.BPF_JNE,
    "ult": isa.BPF_JLT,
    "ule": isa.BPF_JLE,
    "ugt": isa.BPF_JGT,
    "uge": isa.BPF_JGE,
    "slt": isa.BPF_JSLT,
    "sle": isa.BPF_JSLE,
    "sgt": isa.BPF_JSGT,
    "sge": isa.BPF_JSGE,
    "set": isa.BPF_JSET,
}
SIZE = {1: isa.BPF_B, 2: isa.BPF_H, 4: isa.BPF_W, 8: isa.BPF_DW}
ATOMIC = {
    "add": isa.BPF_ADD,
    "or": isa.BPF_OR,
    "and": isa.BPF_AND,
    "xor": isa.BPF_XOR,
    "xchg": isa.BPF_XCHG,
    "cmpxchg": isa.BPF_CMPXCHG,
}
_MOV64 = isa.BPF_ALU64 | isa.BPF_MOV
_MOV32 = isa.BPF_ALU | isa.BPF_MOV
_LDDW = isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW
_LOAD64 = isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW
_STORE64 = isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW
_JA = isa.BPF_JMP | isa.BPF_JA
_GOTOL = isa.BPF_JMP32 | isa.BPF_JA


class Code:
    """A function's machine code.

    ``spans`` has one source place per instruction; ``spill_size`` is the bytes of stack below the
    function's objects.
    """

    __slots__ = ("insns", "relocs", "spans", "spill_size")

    def __init__(self, insns: list[Insn], relocs: list[Reloc], spans: list[Span], spill_size: int) -> None:
        self.insns = insns
        self.relocs = relocs
        self.spans = spans
        self.spill_size = spill_size

    def lines(self, file: str, text: list[str]) -> tuple[LineInfo, ...]:
        """Line information: an entry wherever the place in the source changes, the first at 0.

        :param text: the source's lines.
        """
        last = next((s for s in self.spans if s != NOWHERE), NOWHERE)
        if last == NOWHERE:
            return ()
        lines: list[LineInfo] = []
        for at, span in enumerate(self.spans):
            place = last if span == NOWHERE else span
            if not lines or place[:2] != last[:2]:
                line = text[place.line - 1] if place.line <= len(text) else ""
                lines.append(LineInfo(at, file, line, place.line, place.column))
                last = place
        return tuple(lines)


def emit(
    function: Function,
    frame: Frame,
    allocation: Allocation,
    helper_number: Callable[[str], int],
    cpu_version: Callable[[], int],
) -> Code:
    """Emit a legalized, allocated function.

    :raises EncodeError: a jump is too long for its field, and the CPU version has no longer one.
    """
    emitter = _Emitter(function, frame, allocation, helper_number)
    emitter.run()
    if not emitter.resolve_jumps():
        if cpu_version() < 4:
            raise EncodeError(
                f"{function.name}: {len(emitter.insns)} instructions are too many for 16-bit jumps",
                hint="split the program into several probes or functions, or use a kernel from 6.6 on",
            )
        emitter = _Emitter(function, frame, allocation, helper_number, is_far=True)
        emitter.run()
        emitter.resolve_jumps()
    return Code(emitter.insns, emitter.relocs, emitter.spans, 8 * emitter.slot_count)


class _Emitter:
    """Emits one function, block after block."""

    def __init__(
        self,
        function: Function,
        frame: Frame,
        allocation: Allocation,
        helper_number: Callable[[str], int],
        *,
        is_far: bool = False,
    ) -> None:
        self.function = function
        self.frame = frame
        self.allocation = allocation
        self.helper_number = helper_number
        self.is_far = is_far  # jumps need 32-bit offsets
        self.contents = Contents()
        self.insns: list[Insn] = []
        self.relocs: list[Reloc] = []
        self.spans: list[Span] = []
        self.span: Span = NOWHERE
        self.labels: dict[object, int] = {}
        self.jumps: list[tuple[int, object]] = []
        self.inside = moves_inside(allocation)
        self.slot_count = allocation.slot_count
        self.temporary, self.is_saved = 0, False  # for moves from memory to memory, on an edge
        self.stores = self._stores_at_definitions()

    # Places.

    def slot(self, value: Value) -> int:
        return self.slot_at(self.allocation.slots[value])

    def place_of(self, part: Interval) -> int:
        return part.reg if part.reg >= 0 else self.slot(part.value)

    def place(self, value: Value, position: int) -> Place:
        interval = self.allocation.numbering.intervals.get(value)
        return value if interval is None else self.place_of(interval.location_at(position))

    def reg(self, value: Value, position: int) -> int:
        place = self.place(value, position)
        assert isinstance(place, int), value
        assert place >= 0, value
        return place

    def _stores_at_definitions(self) -> set[Value]:
        """Values that are put into their spill slot where they are defined."""
        return {v for v in self.allocation.slots if self.allocation.numbering.intervals[v].parts[0].reg >= 0}

    # Code.

    def put(self, opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self.contents.note(opcode, dst, src, off, imm)
        self.insns.append(Insn(opcode, dst, src, off, imm))
        self.spans.append(self.span)

    def run(self) -> None:
        blocks = self.function.blocks
        numbering = self.allocation.numbering
        params = [p for p in self.function.params if p in numbering.intervals]
        self.parallel([(1 + p.aux, self.place_of(numbering.intervals[p])) for p in params])
        for param in self.function.params:
            self.store_spilled(param)
        for number, block in enumerate(blocks):
            following = blocks[number + 1] if number + 1 < len(blocks) else None
            self.block(block, following)

    def block(self, block: Block, following: Block | None) -> None:
        self.labels[block] = len(self.insns)
        if block.preds:
            self.contents.forget()
        position = self.allocation.numbering.block_start[block]
        if len(block.preds) == 1 and len(block.preds[0].succs) > 1:
            self.along(block.preds[0], block)
        for insn in block.insns:
            if insn.op == "phi":
                self.store_spilled(insn)
                continue
            position += 2
            self.span = insn.span
            moves = self.inside.get(position)
            if moves is not None:
                self.parallel([(self.place_of(a), self.place_of(b)) for a, b in moves])
            if insn.op == "jump":
                self.along(block, insn.aux)
                if insn.aux is not following:
                    self.jump(insn.aux)
            elif insn.op == "br":
                self.branch(block, insn, position, following)
            elif insn.op != "alloca":
                _EMITTERS[insn.op](self, insn, position)
                if insn in self.stores:
                    self.store_spilled(insn)

    def store_spilled(self, value: Value) -> None:
        if value in self.stores:
            part = self.allocation.numbering.intervals[value].parts[0]
            self.put(_STORE64, 10, part.reg, self.slot(value))

    def edge(self, pred: Block, succ: Block) -> list[tuple[Place, int]]:
        """Moves between the end of one block and the start of the next."""
        moves: list[tuple[Place, int]] = []
        for value, before, after in moves_on_edge(self.allocation, pred, succ):
            source: Place = value if before is None else self.place_of(before)
            target = self.place_of(after)
            if source != target:
                moves.append((source, target))
        return moves

    def along(self, pred: Block, succ: Block, moves: list[tuple[Place, int]] | None = None) -> None:
        """Emit the moves of an edge."""
        moves = self.edge(pred, succ) if moves is None else moves
        ordered = sequence(moves, self.slot_at(self.allocation.slot_count))
        if any(t < 0 and not _is_stored(s) for s, t in ordered):
            self.temporary, self.is_saved = self._register_for(moves, pred, succ)
        self.do_moves(ordered)

    def _register_for(self, moves: list[tuple[Place, int]], pred: Block, succ: Block) -> tuple[int, bool]:
        """A register for what moves from memory to memory, and whether its value must be kept."""
        numbering = self.allocation.numbering
        end, start = numbering.block_end[pred] - 1, numbering.block_start[succ]
        lives = [numbering.intervals[v] for v in numbering.live_in[succ]]
        before = {i.location_at(end).reg for i in lives} | {s for s, _ in moves if isinstance(s, int)}
        after = {i.location_at(start).reg for i in lives} | {t for _, t in moves}
        after.update(numbering.intervals[phi].location_at(start).reg for phi in succ.phis())
        free = [reg for reg in REGISTERS if reg not in before and reg not in after]
        if free:
            return free[0], False
        # One that holds a value already: the verifier refuses to store one that nobody wrote.
        return next(reg for reg in REGISTERS if reg in before), True

    def parallel(self, moves: list[tuple[Place, int]]) -> None:
        """Do moves as if at the same time. Targets are all different."""
        if moves:
            self.do_moves(sequence(moves, self.slot_at(self.allocation.slot_count)))

    def do_moves(self, ordered: list[tuple[Place, int]]) -> None:
        aside = self.slot_at(self.allocation.slot_count)
        for source, target in ordered:
            if target == aside:
                self.slot_count = max(self.slot_count, self.allocation.slot_count + 1)
            self.move(source, target)

    def slot_at(self, number: int) -> int:
        """Offset from r10 of a spill slot."""
        return -self.frame.stack_size - 8 * (number + 1)

    def move(self, source: Place, target: int) -> None:
        if target < 0:
            self._move_to_slot(source, target)
        elif isinstance(source, Value):
            self.make(source, target)
        elif source < 0:
            self.put(_LOAD64, target, 10, source)
        elif not self.contents.same(source, target):
            self.put(_MOV64 | isa.BPF_X, target, source)

    def _move_to_slot(self, source: Place, target: int) -> None:
        if isinstance(source, Value) and _is_stored(source):
            self.put(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 10, 0, target, _signed(source.aux))
        elif isinstance(source, int) and source >= 0:
            self.put(_STORE64, 10, source, target)
        else:
            temporary = self.temporary
            aside = self.slot_at(self.allocation.slot_count + 1)
            if self.is_saved:
                self.slot_count = self.allocation.slot_count + 2
                self.put(_STORE64, 10, temporary, aside)
            self.move(source, temporary)
            self.put(_STORE64, 10, temporary, target)
            if self.is_saved:
                self.put(_LOAD64, temporary, 10, aside)

    def make(self, value: Value, reg: int) -> None:
        """Bring a value that has no place into a register."""
        aux = value.aux
        match value.op:
            case "const":
                if fits_imm(aux):
                    self.put(_MOV64, reg, 0, 0, _signed(aux))
                elif aux < 1 << 32:
                    self.put(_MOV32, reg, 0, 0, aux - (1 << 32))
                else:
                    self.put(_LDDW, reg, 0, 0, aux)
            case "alloca" | "address":
                place, offset = (value, 0) if value.op == "alloca" else aux
                self.put(_MOV64 | isa.BPF_X, reg, 10)
                self.put(isa.BPF_ALU64 | isa.BPF_ADD, reg, 0, 0, self.frame.stack[place] + offset)
            case "map_ref":
                self.reloc(RelocKind.MAP, aux)
                self.put(_LDDW, reg, isa.BPF_PSEUDO_MAP_FD)
            case "data_ref":
                self.reloc(RelocKind.DATA, aux[0], aux[1])
                self.put(_LDDW, reg, isa.BPF_PSEUDO_MAP_VALUE, 0, aux[1] << 32)
            case "func_ref":
                self.reloc(RelocKind.FUNC, aux.name)
                self.put(_LDDW, reg, isa.BPF_PSEUDO_FUNC)
            case "core":
                self.core_reloc(aux)
                self.put(_LDDW if aux.kind == BPF_CORE_ENUMVAL_VALUE else _MOV64, reg)
            case _:
                raise AssertionError(value)

    def reloc(self, kind: str, symbol: str, addend: int = 0) -> None:
        self.relocs.append(Reloc(len(self.insns), kind, symbol, addend))

    def core_reloc(self, core: CoreReloc | None) -> None:
        if core is not None:
            self.relocs.append(Reloc(len(self.insns), RelocKind.CORE, core.type_name, 0, core))

    def base(self, pointer: Value, offset: int, position: int) -> tuple[int, int]:
        if pointer.op == "alloca":
            return 10, self.frame.stack[pointer] + offset
        return self.reg(pointer, position), offset

    # Instructions.

    def binary(self, insn: Value, position: int) -> None:
        x, y = insn.args
        dst = self.reg(insn, position + 1)
        a = self.reg(x, position)
        off = 1 if insn.op in ("sdiv", "smod") else 0
        opcode = isa.BPF_ALU64 | ALU[insn.op]
        b = self.place(y, position)
        if isinstance(b, int):
            if dst == b and dst != a:
                assert insn.op in COMMUTATIVE
                b = a
            elif dst != a:
                self.put(_MOV64 | isa.BPF_X, dst, a)
            self.put(opcode | isa.BPF_X, dst, b, off)
            return
        if dst != a:
            self.put(_MOV64 | isa.BPF_X, dst, a)
        if b.op == "core":
            self.core_reloc(b.aux)
            self.put(opcode, dst)
        else:
            self.put(opcode, dst, 0, off, _signed(b.aux))

    def mov(self, insn: Value, position: int) -> None:
        self.move(self.place(insn.args[0], position), self.reg(insn, position + 1))

    def neg(self, insn: Value, position: int) -> None:
        dst = self.reg(insn, position + 1)
        self.move(self.place(insn.args[0], position), dst)
        self.put(isa.BPF_ALU64 | isa.BPF_NEG, dst)

    def swap(self, insn: Value, position: int) -> None:
        """``leN`` and ``beN`` convert between host and that order; ``bswapN`` always swaps (CPU v4)."""
        dst = self.reg(insn, position + 1)
        self.move(self.place(insn.args[0], position), dst)
        kind = insn.op.rstrip("0123456789")
        bits = int(insn.op[len(kind) :])
        opcode = {
            "le": isa.BPF_ALU | isa.BPF_END,
            "be": isa.BPF_ALU | isa.BPF_END | isa.BPF_X,
            "bswap": isa.BPF_ALU64 | isa.BPF_END,
        }[kind]
        self.put(opcode, dst, 0, 0, bits)

    def extend(self, insn: Value, position: int) -> None:
        bits, signed = insn.aux
        dst, src = self.reg(insn, position + 1), self.reg(insn.args[0], position)
        if signed:
            self.put(_MOV64 | isa.BPF_X, dst, src, bits)
        else:
            self.put(_MOV32 | isa.BPF_X, dst, src)

    def compare(self, insn: Value, position: int) -> None:
        dst = self.reg(insn, position + 1)
        self.put(_MOV64, dst, 0, 0, 1)
        self.conditional(insn.aux, insn.args[0], insn.args[1], position, 1)
        self.put(_MOV64, dst, 0, 0, 0)

    def select(self, insn: Value, position: int) -> None:
        x, y, a, b = insn.args
        dst = self.reg(insn, position + 1)
        self.move(self.place(a, position), dst)
        self.conditional(insn.aux, x, y, position, 1)
        before = len(self.insns)
        self.move(self.place(b, position), dst)
        assert len(self.insns) - before == 1, "a select's side is one instruction"
        self.contents.write(dst)

    def conditional(self, condition: str, x: Value, y: Value, position: int, off: int) -> None:
        right = self.place(y, position)
        left = self.reg(x, position)
        opcode = isa.BPF_JMP | JUMP[condition]
        if isinstance(right, int):
            self.put(opcode | isa.BPF_X, left, right, off)
        else:
            self.put(opcode, left, 0, off, _signed(right.aux))

    def load(self, insn: Value, position: int) -> None:
        offset, size, signed, core = insn.aux
        dst = self.reg(insn, position + 1)
        base, offset = self.base(insn.args[0], offset, position)
        self.core_reloc(core)
        mode = isa.BPF_MEMSX if signed else isa.BPF_MEM
        self.put(isa.BPF_LDX | mode | SIZE[size], dst, base, offset)

    def store(self, insn: Value, position: int) -> None:
        offset, size, core = insn.aux
        base, offset = self.base(insn.args[0], offset, position)
        value = self.place(insn.args[1], position)
        self.core_reloc(core)
        if isinstance(value, int):
            self.put(isa.BPF_STX | isa.BPF_MEM | SIZE[size], base, value, offset)
        else:
            self.put(isa.BPF_ST | isa.BPF_MEM | SIZE[size], base, 0, offset, _signed(value.aux))

    def atomic(self, insn: Value, position: int) -> None:
        op, offset, size, fetch = insn.aux
        base, offset = self.base(insn.args[0], offset, position)
        source = self.reg(insn.args[1], position)
        opcode = isa.BPF_STX | isa.BPF_ATOMIC | SIZE[size]
        if op == "cmpxchg":
            self.move(self.place(insn.args[2], position), 0)
            self.put(opcode, base, source, offset, ATOMIC[op])
            self.move(0, self.reg(insn, position + 1))
        elif fetch:
            dst = self.reg(insn, position + 1)
            self.move(source, dst)
            self.put(opcode, base, dst, offset, ATOMIC[op] | isa.BPF_FETCH)
        else:
            self.put(opcode, base, source, offset, ATOMIC[op])

    def call(self, insn: Value, position: int) -> None:
        moves = [(self.place(arg, position), number + 1) for number, arg in enumerate(insn.args)]
        # r0 is free: the call is about to write it.
        for source, target in sequence(moves, 0):
            self.move(source, target)
        opcode = isa.BPF_JMP | isa.BPF_CALL
        if insn.op == "helper":
            self.put(opcode, imm=self.helper_number(insn.aux))
        elif insn.op == "kfunc":
            self.reloc(RelocKind.KFUNC, insn.aux)
            self.put(opcode, 0, isa.BPF_PSEUDO_KFUNC_CALL, 0, -1)
        else:
            self.reloc(RelocKind.CALL, insn.aux.name)
            self.put(opcode, 0, isa.BPF_PSEUDO_CALL, 0, -1)
        if insn in self.allocation.numbering.intervals:
            self.move(0, self.reg(insn, position + 1))

    def ret(self, insn: Value, position: int) -> None:
        self.move(self.place(insn.args[0], position), 0)
        self.put(isa.BPF_JMP | isa.BPF_EXIT)

    # Jumps.

    def jump(self, label: object) -> None:
        """Go on at a block, or another label."""
        self.jumps.append((len(self.insns), label))
        self.put(_GOTOL if self.is_far else _JA)

    def jump_if(self, condition: str, x: Value, y: Value, position: int, label: object) -> None:
        """Go on at a label when the comparison holds."""
        if self.is_far:
            # The condition reaches the long jump, the short one skips it.
            self.conditional(condition, x, y, position, 1)
            self.put(_JA, off=1)
            self.jump(label)
        else:
            self.jumps.append((len(self.insns), label))
            self.conditional(condition, x, y, position, 0)

    def branch(self, block: Block, insn: Value, position: int, following: Block | None) -> None:
        then, else_, condition = insn.aux
        x, y = insn.args
        then_moves = self._own_moves(block, then)
        else_moves = self._own_moves(block, else_)
        if condition in NEGATED and (then_moves or then is following) and not else_moves:
            then, else_, condition = else_, then, NEGATED[condition]
            then_moves, else_moves = else_moves, then_moves
        label: object = object() if then_moves else then
        self.jump_if(condition, x, y, position, label)
        self.along(block, else_, else_moves)
        if else_ is not following or then_moves:
            self.jump(else_)
        if then_moves:
            self.labels[label] = len(self.insns)
            self.contents.forget()
            self.along(block, then, then_moves)
            if then is not following:
                self.jump(then)

    def _own_moves(self, block: Block, succ: Block) -> list[tuple[Place, int]]:
        """Moves that belong to the edge alone: the block has other ways out, ``succ`` other ways in."""
        return self.edge(block, succ) if len(succ.preds) > 1 else []

    def resolve_jumps(self) -> bool:
        """Fill in the jumps' offsets. False when one does not fit."""
        slots = [0]
        for insn in self.insns:
            slots.append(slots[-1] + (2 if insn.opcode == _LDDW else 1))
        for at, label in self.jumps:
            off = slots[self.labels[label]] - slots[at] - 1
            if self.is_far:
                self.insns[at] = self.insns[at]._replace(imm=off)
            elif -32768 <= off <= 32767:
                self.insns[at] = self.insns[at]._replace(off=off)
            else:
                return False
        return True


def _is_stored(source: Place) -> bool:
    """Whether one instruction puts the value into memory."""
    if isinstance(source, int):
        return source >= 0
    return source.op == "const" and fits_imm(source.aux)


def _signed(number: int) -> int:
    """A 64-bit constant that fits an immediate, as its signed number."""
    return number if number < 1 << 31 else number - (1 << 64)


_EMITTERS: dict[str, Callable[[_Emitter, Value, int], None]] = {
    **dict.fromkeys(BINARY, _Emitter.binary),
    **dict.fromkeys(CALLS, _Emitter.call),
    "mov": _Emitter.mov,
    "neg": _Emitter.neg,
    **{f"{kind}{bits}": _Emitter.swap for kind in ("le", "be", "bswap") for bits in (16, 32, 64)},
    "extend": _Emitter.extend,
    "compare": _Emitter.compare,
    "select": _Emitter.select,
    "load": _Emitter.load,
    "store": _Emitter.store,
    "atomic": _Emitter.atomic,
    "ret": _Emitter.ret,
}
