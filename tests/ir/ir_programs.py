"""Random IR programs: arithmetic, branches, bounded loops, locals, small objects, helper calls."""

from __future__ import annotations

from random import Random

from tracebee.ir import Builder, Local, Module, Value
from tracebee.ir.value import BINARY, CONDITIONS

NUMBERS = (0, 1, 2, 3, 7, 8, 63, 64, 255, 256, 65535, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32)
NUMBERS = (*NUMBERS, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 8, 0x123456789ABCDEF0)
UNARY = ("neg", "not", "be16", "be32", "be64", "le16", "le32")
CONTEXT_WORDS = 4
LOCALS = 7
OBJECT_SIZE = 24  # bytes of each object that programs use
SIZES = (OBJECT_SIZE, OBJECT_SIZE, 200)  # the last does not fit the stack's share


class Generator:
    """Writes one program into a module. ``statements`` bounds its size."""

    def __init__(self, rng: Random, statements: int) -> None:
        self.rng = rng
        self.left = statements
        self.module = Module()
        self.function = self.module.function("random")
        self.b = Builder(self.function)
        self.locals = [self.b.local(f"v{n}") for n in range(LOCALS)]
        self.objects = [self.b.alloca(rng.choice(SIZES), 8, f"o{n}") for n in range(2)]
        for obj in self.objects:
            self.b.memset(obj, 0, rng.choice((0, 0x5A, 0xFF)), OBJECT_SIZE)
        self.values: list[Value] = []
        self.loops = 0

    def program(self) -> Module:
        for local in self.locals[:4]:
            self.b.set(local, self.expression(1))
        while self.left > 0:
            self.statement()
        b = self.b
        result: Value = b.const(0)
        for local in self.locals:
            result = b.binary("xor", b.binary("mul", result, 31), b.get(local))
        for obj in self.objects:
            for offset in range(0, OBJECT_SIZE, 8):
                result = b.binary("add", b.binary("mul", result, 31), b.load(obj, offset, 8))
        # A test run returns 32 bits: fold the upper half in.
        b.ret(b.extend(b.binary("xor", result, b.binary("lshr", result, 32)), 32, False))
        return self.module

    def statement(self, depth: int = 0) -> None:
        self.left -= 1
        choice = self.rng.randrange(12)
        if choice < 4 or depth > 3:
            self.b.set(self.rng.choice(self.locals), self.expression(3))
        elif choice < 6:
            size = self.rng.choice((1, 2, 4, 8))
            offset = self.rng.randrange(OBJECT_SIZE // size) * size
            pointer, offset = self.stepped(self.rng.choice(self.objects), offset)
            self.b.store(pointer, offset, size, self.expression(2))
        elif choice < 8:
            self.condition(depth)
        elif choice < 9 and self.loops < 2:
            self.loop(depth)
        elif choice < 11:
            local = self.rng.choice(self.locals)
            noise = self.b.binary("and", self.b.helper("get_prandom_u32"), 0)
            self.b.set(local, self.b.binary("or", self.expression(2), noise))
        else:
            to, size = self.rng.choice((0, 4, 8)), self.rng.choice((3, 4, 8, 12, 16))
            self.b.memcpy(self.objects[0], to, self.objects[1], self.rng.choice((0, 4, 8)), size)

    def stepped(self, pointer: Value, offset: int) -> tuple[Value, int]:
        """The same place, perhaps by way of another pointer."""
        if offset and self.rng.randrange(3) == 0:
            return self.b.binary("add", pointer, offset), 0
        return pointer, offset

    def body(self, depth: int) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            self.statement(depth + 1)

    def condition(self, depth: int) -> None:
        b = self.b
        then, else_, end = b.block("then"), b.block("else"), b.block("end")
        b.branch(self.expression(2), then, else_)
        b.at(then)
        self.body(depth)
        if self.rng.randrange(8) == 0:
            b.ret(b.extend(self.expression(1), 32, False))
        else:
            b.jump(end)
        b.at(else_)
        if self.rng.randrange(2):
            self.body(depth)
        b.jump(end)
        b.at(end)

    def loop(self, depth: int) -> None:
        b = self.b
        self.loops += 1
        counter = Local(f"i{self.loops}")
        head, inside, out = b.block("head"), b.block("body"), b.block("out")
        b.set(counter, 0)
        b.jump(head)
        b.at(head)
        b.branch(b.compare("ult", b.get(counter), self.rng.randrange(1, 4)), inside, out)
        b.at(inside)
        self.body(depth)
        if self.rng.randrange(3) == 0:
            on = b.block("on")
            b.branch(self.expression(1), out, on)
            b.at(on)
        b.set(self.rng.choice(self.locals), b.get(counter))
        b.set(counter, b.binary("add", b.get(counter), 1))
        b.jump(head)
        b.at(out)
        self.loops -= 1

    def expression(self, depth: int) -> Value:
        rng, b = self.rng, self.b
        if self.loops:
            # The verifier walks every way through every round.
            depth = min(depth, 1)
        choice = rng.randrange(14) if depth else rng.randrange(4)
        if choice < 2:
            return b.get(rng.choice(self.locals))
        if choice < 3:
            return b.const(rng.choice(NUMBERS) if rng.randrange(2) else rng.getrandbits(64))
        if choice < 4:
            return b.load(b.param(0), 8 * rng.randrange(CONTEXT_WORDS), 8)
        if choice < 5:
            size = rng.choice((1, 2, 4, 8))
            offset = rng.randrange(OBJECT_SIZE // size) * size
            pointer, offset = self.stepped(rng.choice(self.objects), offset)
            return b.load(pointer, offset, size, signed=rng.randrange(2) == 1)
        x = self.expression(depth - 1)
        if choice < 6:
            return b.unary(rng.choice(UNARY), x)
        if choice < 7:
            return b.extend(x, rng.choice((8, 16, 32)), rng.randrange(2) == 1)
        y = self.expression(depth - 1)
        if choice < 9:
            return b.compare(rng.choice(sorted(CONDITIONS)), x, y)
        if choice < 10:
            return b.select(b.compare(rng.choice(sorted(CONDITIONS)), x, y), self.expression(depth - 1), x)
        return b.binary(rng.choice(sorted(BINARY)), x, y)
