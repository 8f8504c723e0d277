"""A tiny evaluator of IR, written from the documentation of the operations, not from the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracebee.ir import Function, Value

M = (1 << 64) - 1


def s64(x: int) -> int:
    x &= M
    return x - (1 << 64) if x >> 63 else x


def quotient(a: int, b: int) -> int:
    """C division of signed numbers, by zero giving zero."""
    if b == 0:
        return 0
    q = abs(a) // abs(b)
    return -q if (a < 0) != (b < 0) else q


BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "udiv": lambda a, b: a // b if b else 0,
    "umod": lambda a, b: a % b if b else a,
    "sdiv": lambda a, b: quotient(s64(a), s64(b)),
    "smod": lambda a, b: s64(a) - quotient(s64(a), s64(b)) * s64(b),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": lambda a, b: a << (b & 63),
    "lshr": lambda a, b: a >> (b & 63),
    "ashr": lambda a, b: s64(a) >> (b & 63),
}
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ult": lambda a, b: a < b,
    "ule": lambda a, b: a <= b,
    "ugt": lambda a, b: a > b,
    "uge": lambda a, b: a >= b,
    "slt": lambda a, b: s64(a) < s64(b),
    "sle": lambda a, b: s64(a) <= s64(b),
    "sgt": lambda a, b: s64(a) > s64(b),
    "sge": lambda a, b: s64(a) >= s64(b),
    "set": lambda a, b: a & b != 0,
}


def swap(x: int, bits: int) -> int:
    size = bits // 8
    return int.from_bytes((x & ((1 << bits) - 1)).to_bytes(size, "little"), "big")


def unary(op: str, x: int) -> int:
    if op == "neg":
        return -x
    if op == "not":
        return ~x
    kind, bits = op.rstrip("0123456789"), int(op.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == "le":  # the tests run on little-endian machines
        return x & ((1 << bits) - 1)
    return swap(x, bits)


def low(x: int, bits: int, signed: bool) -> int:
    x &= (1 << bits) - 1
    return x - (1 << bits) if signed and x >> (bits - 1) else x


class Evaluator:
    """Runs one function on 64-bit context words. Objects are bytearrays; helpers return 0."""

    def __init__(self, function: Function, words: Sequence[int]) -> None:
        self.function = function
        self.context = b"".join(w.to_bytes(8, "little") for w in words)
        self.values: dict[Value, int] = {}
        self.memory: dict[Value, bytearray] = {}
        self.locals: dict[object, int] = {}

    def value(self, v: Value) -> int:
        return int(v.aux) if v.op == "const" else self.values[v]

    def run(self) -> int:
        block = self.function.entry
        while True:
            for insn in block.insns:
                args = insn.args
                match insn.op:
                    case "ret":
                        return self.value(args[0])
                    case "jump":
                        block = insn.aux
                        break
                    case "br":
                        block = insn.aux[0 if self.value(args[0]) else 1]
                        break
                    case _:
                        self.values[insn] = self.evaluate(insn) & M

    def memory_at(self, pointer: Value, offset: int) -> tuple[bytes | bytearray, int]:
        """What a pointer points into, and the offset there: constant steps from an object are followed."""
        while pointer.op == "add":
            offset += self.value(pointer.args[1])
            pointer = pointer.args[0]
        return (self.context if pointer.op == "param" else self.memory[pointer]), offset

    def evaluate(self, insn: Value) -> int:
        op, aux, args = insn.op, insn.aux, insn.args
        if op == "add" and insn.type != "i64":
            return 0  # a pointer: only memory_at looks into it
        if op in BINARY:
            return BINARY[op](self.value(args[0]), self.value(args[1]))
        match op:
            case "extend":
                return low(self.value(args[0]), *aux)
            case "compare":
                return int(COMPARE[aux](self.value(args[0]), self.value(args[1])))
            case "select":
                return self.value(args[1] if self.value(args[0]) else args[2])
            case "get":
                return self.locals.get(aux, 0)
            case "set":
                self.locals[aux] = self.value(args[0])
            case "alloca":
                self.memory[insn] = bytearray(aux[0])
            case "load":
                offset, size, signed, _ = aux
                memory, offset = self.memory_at(args[0], offset)
                return int.from_bytes(memory[offset : offset + size], "little", signed=signed)
            case "store":
                offset, size, _ = aux
                memory, offset = self.memory_at(args[0], offset)
                assert isinstance(memory, bytearray)
                memory[offset : offset + size] = self.value(args[1]).to_bytes(8, "little")[:size]
            case "memset":
                offset, byte, size = aux
                self.memory[args[0]][offset : offset + size] = bytes([byte]) * size
            case "memcpy":
                to, from_, size = aux
                self.memory[args[0]][to : to + size] = self.memory[args[1]][from_ : from_ + size]
            case "helper":
                return 0
            case _:
                return unary(op, self.value(args[0]))
        return 0
