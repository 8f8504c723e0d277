"""Instruction selection: afterwards each IR instruction is one the machine has, or a short fixed sequence.

What changes:

- constants, maps, objects and functions stay operands where an instruction (or a call's argument)
  can hold them, and are brought into a register by a ``mov`` where it cannot;
- a ``br`` and a ``select`` carry their comparison: ``aux`` gets the condition as its last item;
- ``memset`` and ``memcpy`` become stores and loads of the widest size their places are aligned to;
- operations the CPU version lacks are spelled out.
"""

from __future__ import annotations

from tracebee.ir.rewrite import rewrite
from tracebee.ir.types import I64, POINTERS, VOID
from tracebee.ir.value import BINARY, CALLS, COMMUTATIVE, FLOATING, Block, Function, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir.frame import Frame

NEGATED = {
    "eq": "ne",
    "ne": "eq",
    "ult": "uge",
    "uge": "ult",
    "ule": "ugt",
    "ugt": "ule",
    "slt": "sge",
    "sge": "slt",
    "sle": "sgt",
    "sgt": "sle",
}
SWAPPED = {
    "eq": "eq",
    "ne": "ne",
    "set": "set",
    "ult": "ugt",
    "ugt": "ult",
    "ule": "uge",
    "uge": "ule",
    "slt": "sgt",
    "sgt": "slt",
    "sle": "sge",
    "sge": "sle",
}
# Operations that take a CO-RE value as their immediate: offsets are added, shifts of bit-fields are below 64.
_PATCHED = frozenset(("add", "sub", "shl", "lshr", "ashr"))
# The one CO-RE value that may need 64 bits (enum bpf_core_relo_kind).
BPF_CORE_ENUMVAL_VALUE = 11
# Copies longer than this are left to probe_read_kernel.
_LONGEST_INLINE = 256


def fits_imm(number: int) -> bool:
    """Whether a 64-bit constant is its low 32 bits, sign-extended: what an immediate can hold."""
    return number < 1 << 31 or number >= (1 << 64) - (1 << 31)


def legalize(function: Function, frame: Frame, cpu_version: Callable[[], int]) -> None:
    """Rewrite ``function`` in place for BPF CPU version 3 or 4 (kernel 6.6).

    :param frame: where the function's objects lie.
    :param cpu_version: asked only where it matters.
    """
    uses: dict[Value, int] = {}
    values: set[Value] = set()  # used other than as a condition
    for block in function.blocks:
        for insn in block.insns:
            is_choice = insn.op in ("br", "select")
            for number, arg in enumerate(insn.args):
                uses[arg] = uses.get(arg, 0) + 1
                if number or not is_choice:
                    values.add(arg)
    _drop_signs(function)
    _fold_addresses(function)
    selector = _Selector(function, frame, cpu_version, uses, values)
    selector.steps = _argument_steps(function)
    for block in function.blocks:
        selector.select_block(block)
    _drop_fused(function)


class _Selector:
    def __init__(
        self,
        function: Function,
        frame: Frame,
        cpu_version: Callable[[], int],
        uses: dict[Value, int],
        values: set[Value],
    ) -> None:
        self.function = function
        self.frame = frame
        self.cpu_version = cpu_version
        self.uses = uses
        self.values = values
        self.steps: set[Value] = set()
        self.out: list[Value] = []
        self.block: Block = function.entry

    def select_block(self, block: Block) -> None:
        self.block = block
        self.out = []
        for insn in block.insns:
            handler = _HANDLERS.get(insn.op)
            if handler is not None:
                handler(self, insn)
            else:
                self.out.append(insn)
        block.insns = self.out

    # Operands.

    def emit(
        self,
        like: Value,
        op: str,
        args: tuple[Value, ...],
        aux: object = None,
        type: str = I64,  # noqa: A002
    ) -> Value:
        value = Value(op, args, aux, type, like.span)
        value.block = self.block
        self.out.append(value)
        return value

    def register(self, insn: Value, value: Value) -> Value:
        """The value in a register of its own, if it is one that needs none."""
        if value.op == "param" or (value.op not in FLOATING and value.op not in ("alloca", "address")):
            return value
        place = self.in_scratch(value)
        if place is not None:
            return self.scratch_pointer(insn, place)
        return self.emit(insn, "mov", (value,), None, value.type)

    def in_scratch(self, value: Value) -> int | None:
        """Offset of what an object, or a constant step into one, points to, if it lies in scratch."""
        if value.op != "address":
            return self.frame.scratch.get(value)
        place = self.frame.scratch.get(value.aux[0])
        return None if place is None else place + int(value.aux[1])

    def scratch_pointer(self, insn: Value, offset: int) -> Value:
        base = self.frame.scratch_base
        assert base is not None
        if not offset:
            return base
        return self.emit(insn, "add", (base, self.function.const(offset)), None, base.type)

    def operand(self, insn: Value, value: Value) -> Value:
        """The value as the second operand of arithmetic: an immediate if it fits."""
        if value.op == "const" and fits_imm(value.aux):
            return value
        return self.register(insn, value)

    def argument(self, insn: Value, value: Value) -> Value:
        """The value as a call's argument or a return's: anything but an object in scratch."""
        if value in self.steps:
            base, step = value.args
            return self.emit(insn, "add", (self.register(insn, base), step), None, value.type)
        place = self.in_scratch(value)
        return value if place is None else self.scratch_pointer(insn, place)

    def address(self, insn: Value, pointer: Value, offset: int) -> tuple[Value, int]:
        """A base and offset an access can be made with: stack objects are addressed from r10."""
        if pointer.op == "address":
            pointer, offset = pointer.aux[0], offset + pointer.aux[1]
        if pointer.op == "alloca":
            place = self.frame.scratch.get(pointer)
            if place is None:
                return pointer, offset
            base = self.frame.scratch_base
            assert base is not None
            pointer, offset = base, offset + place
        if not -32768 <= offset <= 32767:
            moved = self.emit(insn, "add", (self.register(insn, pointer), self.function.const(offset)))
            return moved, 0
        return self.register(insn, pointer), offset

    # Operations.

    def binary(self, insn: Value) -> None:
        if insn in self.steps:
            return
        x, y = insn.args
        if insn.op in ("sdiv", "smod") and self.cpu_version() < 4 and y is not self.function.consts.get(0):
            self.signed_division(insn)
            return
        if y.op == "const":
            # The verifier refuses these as immediates; their meaning is defined all the same.
            if insn.op in ("shl", "lshr", "ashr") and y.aux > 63:
                y = self.function.const(y.aux & 63)
            elif y.aux == 0 and insn.op in ("udiv", "sdiv", "umod", "smod"):
                insn.args = [self.function.const(0) if insn.op in ("udiv", "sdiv") else x]
                insn.op = "mov"
                self.out.append(insn)
                return
        if insn.op in COMMUTATIVE and x.op in FLOATING and y.op not in FLOATING:
            x, y = y, x
        if y.op == "core" and insn.op in _PATCHED and y.aux.kind != BPF_CORE_ENUMVAL_VALUE:
            insn.args = [self.register(insn, x), y]
        else:
            insn.args = [self.register(insn, x), self.operand(insn, y)]
        self.out.append(insn)

    def signed_division(self, insn: Value) -> None:
        """Division of magnitudes, the sign put on afterwards; by 0 gives 0, modulo 0 the dividend."""
        x, y = (self.register(insn, a) for a in insn.args)
        c63 = self.function.const(63)
        sx = self.emit(insn, "ashr", (x, c63))
        sy = self.emit(insn, "ashr", (y, c63))
        ax = self.emit(insn, "sub", (self.emit(insn, "xor", (x, sx)), sx))
        ay = self.emit(insn, "sub", (self.emit(insn, "xor", (y, sy)), sy))
        magnitude = self.emit(insn, "udiv" if insn.op == "sdiv" else "umod", (ax, ay))
        sign = self.emit(insn, "xor", (sx, sy)) if insn.op == "sdiv" else sx
        insn.op = "sub"
        insn.args = [self.emit(insn, "xor", (magnitude, sign)), sign]
        self.out.append(insn)

    def unary(self, insn: Value) -> None:
        x = self.register(insn, insn.args[0])
        if insn.op == "not":
            insn.op, insn.args = "xor", [x, self.function.const(-1)]
        else:
            insn.args = [x]
        self.out.append(insn)

    def extend(self, insn: Value) -> None:
        x = self.register(insn, insn.args[0])
        bits, signed = insn.aux
        insn.args = [x]
        if signed and self.cpu_version() < 4:
            count = self.function.const(64 - bits)
            insn.op, insn.args = "ashr", [self.emit(insn, "shl", (x, count)), count]
            insn.aux = None
        elif not signed and bits < 32:
            insn.op, insn.args, insn.aux = "and", [x, self.function.const((1 << bits) - 1)], None
        self.out.append(insn)

    def comparison(self, insn: Value, condition: Value) -> tuple[str, Value, Value]:
        """Condition and operands of a branch on a value, taking in the comparison that made it."""
        if condition.op == "compare":
            cond, x, y = condition.aux, *condition.args
        else:
            cond, x, y = "ne", condition, self.function.const(0)
        if x.op in FLOATING and y.op not in FLOATING:
            cond, x, y = SWAPPED[cond], y, x
        if y.op == "const" and y.aux == 0 and x.op == "and" and cond == "ne" and self.uses.get(x) == 1:
            cond, x, y = "set", x.args[0], x.args[1]
        return cond, self.register(insn, x), self.operand(insn, y)

    def branch(self, insn: Value) -> None:
        then, else_ = insn.aux
        condition = insn.args[0]
        # There is no jump on "no bit set": turn the branch round.
        if condition.op == "compare" and condition.aux == "eq" and _is_mask_test(condition, self.uses):
            then, else_ = else_, then
            condition = Value("compare", condition.args, "ne")
        cond, x, y = self.comparison(insn, condition)
        insn.args, insn.aux = [x, y], (then, else_, cond)
        self.out.append(insn)

    def compare(self, insn: Value) -> None:
        if insn not in self.values:
            return
        insn.aux, x, y = self.comparison(insn, insn)
        insn.args = [x, y]
        self.out.append(insn)

    def select(self, insn: Value) -> None:
        c, a, b = insn.args
        cond, x, y = self.comparison(insn, c)
        if a.op in FLOATING and b.op not in FLOATING and cond in NEGATED:
            cond, a, b = NEGATED[cond], b, a
        # Each side must be one instruction to load, so that a jump can skip it.
        insn.args = [x, y, self.operand(insn, a), self.operand(insn, b)]
        insn.aux = cond
        self.out.append(insn)

    # Memory.

    def load(self, insn: Value) -> None:
        offset, size, signed, core = insn.aux
        pointer, offset = self.address(insn, insn.args[0], offset)
        if signed and size < 8 and self.cpu_version() < 4:
            raw = self.emit(insn, "load", (pointer,), (offset, size, False, core))
            count = self.function.const(64 - 8 * size)
            insn.op, insn.aux = "ashr", None
            insn.args = [self.emit(insn, "shl", (raw, count)), count]
        else:
            insn.args, insn.aux = [pointer], (offset, size, signed and size < 8, core)
        self.out.append(insn)

    def store(self, insn: Value) -> None:
        offset, size, core = insn.aux
        value = insn.args[1]
        if value.op == "const" and size < 8:
            # Only the low bytes are stored: any of the constants that share them will do.
            low = value.aux & ((1 << 8 * size) - 1)
            value = self.function.const(low - (1 << 32) if size == 4 and low >> 31 else low)
        pointer, offset = self.address(insn, insn.args[0], offset)
        insn.args, insn.aux = [pointer, self.operand(insn, value)], (offset, size, core)
        self.out.append(insn)

    def memset(self, insn: Value) -> None:
        offset, byte, size = insn.aux
        pointer, offset = self.address(insn, insn.args[0], offset)
        pattern = int.from_bytes(bytes([byte]) * 8, "little")
        value = self.operand(insn, self.function.const(pattern if size >= 8 else pattern & 0xFFFFFFFF))
        for at, width in _pieces(size, self.frame.alignment(pointer, offset)):
            piece = value
            if value.op == "const" or width < 8:
                piece = self.function.const(_stored(pattern, width))
                piece = self.operand(insn, piece) if width == 8 else piece
            self.emit(insn, "store", (pointer, piece), (offset + at, width, None), VOID)

    def memcpy(self, insn: Value) -> None:
        to, from_, size = insn.aux
        if size > _LONGEST_INLINE:
            self.long_copy(insn)
            return
        dst, to = self.address(insn, insn.args[0], to)
        src, from_ = self.address(insn, insn.args[1], from_)
        align = min(self.frame.alignment(dst, to), self.frame.alignment(src, from_))
        for at, width in _pieces(size, align):
            loaded = self.emit(insn, "load", (src,), (from_ + at, width, False, None))
            self.emit(insn, "store", (dst, loaded), (to + at, width, None), VOID)

    def long_copy(self, insn: Value) -> None:
        to, from_, size = insn.aux
        dst, src = insn.args
        insn.op, insn.aux, insn.type = "helper", "probe_read_kernel", I64
        insn.args = [
            self.moved(insn, dst, to),
            self.function.const(size),
            self.moved(insn, src, from_),
        ]
        self.out.append(insn)

    def moved(self, insn: Value, pointer: Value, offset: int) -> Value:
        pointer = self.argument(insn, pointer)
        if not offset:
            return pointer
        return self.emit(insn, "add", (self.register(insn, pointer), self.function.const(offset)))

    def atomic(self, insn: Value) -> None:
        op, offset, size, fetch = insn.aux
        pointer, offset = self.address(insn, insn.args[0], offset)
        insn.args = [pointer, *(self.register(insn, a) for a in insn.args[1:])]
        insn.aux = (op, offset, size, fetch)
        self.out.append(insn)

    def call(self, insn: Value) -> None:
        """Calls and returns."""
        insn.args = [self.argument(insn, a) for a in insn.args]
        self.out.append(insn)

    def phi(self, insn: Value) -> None:
        """Inputs that are scratch objects are made in the predecessors."""
        for number, (arg, pred) in enumerate(zip(insn.args, insn.aux, strict=True)):
            if arg.op == "const":
                insn.args[number] = self.same_as(arg, pred)
        for number, (arg, pred) in enumerate(zip(insn.args, insn.aux, strict=True)):
            place = self.in_scratch(arg)
            if place is not None:
                base = self.frame.scratch_base
                assert base is not None
                pointer = Value("add", (base, self.function.const(place)), None, base.type, insn.span)
                pointer.block = pred
                pred.insns.insert(len(pred.insns) - 1, pointer)
                insn.args[number] = pointer
        self.out.append(insn)

    def same_as(self, constant: Value, pred: Block) -> Value:
        """What the branch at ``pred``'s end has found equal to the constant, so that no move makes it."""
        last = pred.insns[-1]
        if last.op != "br" or len(last.aux) != 3 or last.args[1] is not constant:
            return constant
        then, else_, condition = last.aux
        equal = then if condition == "eq" else else_ if condition == "ne" else None
        return last.args[0] if equal is self.block and then is not else_ else constant


def _is_mask_test(compare: Value, uses: dict[Value, int]) -> bool:
    x, y = compare.args
    return x.op == "and" and y.op == "const" and y.aux == 0 and uses.get(x) == 1


def _pieces(size: int, align: int) -> list[tuple[int, int]]:
    """(offset, width) of the accesses that cover ``size`` bytes."""
    pieces = []
    at = 0
    while at < size:
        width = min(align, 8)
        while width > size - at:
            width //= 2
        pieces.append((at, width))
        at += width
    return pieces


def _stored(pattern: int, width: int) -> int:
    """The immediate that stores the low ``width`` bytes of a pattern."""
    low = pattern & ((1 << 8 * width) - 1)
    return low - (1 << 32) if width == 4 and low >> 31 else low


def _drop_signs(function: Function) -> None:
    """Load without sign extension what is only stored again, no wider, or masked."""
    loads = [i for b in function.blocks for i in b.insns if i.op == "load" and i.aux[2]]
    if not loads:
        return
    extended: set[Value] = set()  # those whose upper bits count
    for block in function.blocks:
        for insn in block.insns:
            for number, arg in enumerate(insn.args):
                if arg.op != "load" or not arg.aux[2]:
                    continue
                is_stored = insn.op == "store" and number == 1 and insn.aux[1] <= arg.aux[1]
                if not is_stored and not _masks(insn, 8 * arg.aux[1]):
                    extended.add(arg)
    for load in loads:
        if load not in extended:
            offset, size, _, core = load.aux
            load.aux = (offset, size, False, core)


def _masks(insn: Value, bits: int) -> bool:
    """Whether an instruction looks at no more than so many low bits."""
    return insn.op == "and" and insn.args[1].op == "const" and insn.args[1].aux >> bits == 0


def _argument_steps(function: Function) -> set[Value]:
    """Constant steps from pointers that only calls use: made right at the call, in its register."""
    steps: set[Value] = set()
    for block in function.blocks:
        for insn in block.insns:
            if insn.op != "add" or insn.type not in POINTERS:
                continue
            if insn.args[1].op == "const" and fits_imm(insn.args[1].aux):
                steps.add(insn)
    if steps:
        for block in function.blocks:
            for insn in block.insns:
                if insn.op not in CALLS:
                    steps.difference_update(insn.args)
    return steps


def _fold_addresses(function: Function) -> None:
    """Constant steps from an object become one value that is made where it is needed."""
    replaced: dict[Value, Value] = {}
    for block in function.blocks:
        for insn in block.insns:
            if insn.op == "add" and insn.args[1].op == "const":
                base = replaced.get(insn.args[0], insn.args[0])
                root, offset = base.aux if base.op == "address" else (base, 0)
                if root.op == "alloca":
                    step = insn.args[1].aux
                    offset += step if step < 1 << 63 else step - (1 << 64)
                    replaced[insn] = Value("address", (), (root, offset), insn.type, insn.span)
    if replaced:
        for block in function.blocks:
            block.insns = [i for i in block.insns if i not in replaced]
        rewrite(function, replaced)


def _drop_fused(function: Function) -> None:
    """Drop masks that only branches used: the branches hold their operands now."""
    used: set[Value] = set()
    for block in function.blocks:
        for insn in block.insns:
            used.update(insn.args)
    for block in function.blocks:
        if any(i.op == "and" and i not in used for i in block.insns):
            block.insns = [i for i in block.insns if i.op != "and" or i in used]


_HANDLERS = {
    **dict.fromkeys(BINARY, _Selector.binary),
    "neg": _Selector.unary,
    "not": _Selector.unary,
    "extend": _Selector.extend,
    "compare": _Selector.compare,
    "br": _Selector.branch,
    "select": _Selector.select,
    "load": _Selector.load,
    "store": _Selector.store,
    "memset": _Selector.memset,
    "memcpy": _Selector.memcpy,
    "atomic": _Selector.atomic,
    **dict.fromkeys((*CALLS, "ret"), _Selector.call),
    "phi": _Selector.phi,
}
