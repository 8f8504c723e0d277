"""Random programs, right and wrong in the ways programs are: the same for the same seed."""

from __future__ import annotations

import random

from tracebee import uapi
from tracebee.isa import insn as isa
from tracebee.isa.helpers import BY_NAME
from tracebee.isa.insn import Insn
from tracebee.obj.model import MapDef

ARRAY, HASH, RING, PERCPU = 101, 102, 103, 104
MAPS = {
    ARRAY: MapDef("array", uapi.BPF_MAP_TYPE_ARRAY, 4, 48, 4),
    HASH: MapDef("hash", uapi.BPF_MAP_TYPE_HASH, 8, 16, 16),
    RING: MapDef("ring", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096),
    PERCPU: MapDef("percpu", uapi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 24, 2),
}
TYPES = (
    uapi.BPF_PROG_TYPE_SOCKET_FILTER,
    uapi.BPF_PROG_TYPE_KPROBE,
    uapi.BPF_PROG_TYPE_TRACEPOINT,
    uapi.BPF_PROG_TYPE_RAW_TRACEPOINT,
    uapi.BPF_PROG_TYPE_PERF_EVENT,
    uapi.BPF_PROG_TYPE_XDP,
    uapi.BPF_PROG_TYPE_SCHED_CLS,
)
A64, A32 = isa.BPF_ALU64, isa.BPF_ALU
K, X = isa.BPF_K, isa.BPF_X
SIZES = {1: isa.BPF_B, 2: isa.BPF_H, 4: isa.BPF_W, 8: isa.BPF_DW}
ALU_OPS = (
    isa.BPF_ADD,
    isa.BPF_SUB,
    isa.BPF_MUL,
    isa.BPF_DIV,
    isa.BPF_OR,
    isa.BPF_AND,
    isa.BPF_LSH,
    isa.BPF_RSH,
    isa.BPF_MOD,
    isa.BPF_XOR,
    isa.BPF_ARSH,
)
JUMP_OPS = (
    isa.BPF_JEQ,
    isa.BPF_JGT,
    isa.BPF_JGE,
    isa.BPF_JSET,
    isa.BPF_JNE,
    isa.BPF_JSGT,
    isa.BPF_JSGE,
    isa.BPF_JLT,
    isa.BPF_JLE,
    isa.BPF_JSLT,
    isa.BPF_JSLE,
)
EDGES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    47,
    48,
    63,
    64,
    127,
    255,
    256,
    4096,
    -1,
    -2,
    -8,
    1 << 30,
    -(1 << 31),
    (1 << 31) - 1,
)


class Maker:
    """Makes one program."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.type = self.random.choice(TYPES)
        self.insns: list[Insn] = []
        self.scalars: list[int] = []
        self.sloppy = self.random.random() < 0.35
        self.reserved: set[int] = set()  # loop counters

    def slip(self, chance: float) -> bool:
        """Whether to make a mistake here; careful programs make none."""
        return self.random.random() < chance and self.sloppy

    def emit(self, opcode: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        self.insns.append(Insn(opcode, dst, src, off, imm))

    def move(self, dst: int, imm: int) -> None:
        self.emit(A64 | isa.BPF_MOV | K, dst, imm=imm)

    def copy(self, dst: int, src: int) -> None:
        self.emit(A64 | isa.BPF_MOV | X, dst, src)

    def helper(self, name: str) -> None:
        self.emit(isa.BPF_JMP | isa.BPF_CALL, imm=BY_NAME[name].number)
        self.scalars = [r for r in self.scalars if r >= 6]

    def map(self, dst: int, which: int) -> None:
        self.emit(isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW, dst, isa.BPF_PSEUDO_MAP_FD, imm=which)

    def constant(self) -> int:
        r = self.random
        return r.choice(EDGES) if r.random() < 0.7 else r.randint(-1000, 1000)

    def scalar(self) -> int:
        r = self.random
        if self.scalars and not self.slip(0.05):
            return r.choice(self.scalars)
        return r.randint(0, 9) if self.sloppy else 6

    def number(self, dst: int) -> None:
        """A number in a register: known, random, or limited."""
        r = self.random
        kind = r.random()
        if kind < 0.3:
            self.move(dst, self.constant())
        elif kind < 0.6:
            self.helper("get_prandom_u32")
            self.copy(dst, 0)
        else:
            size = r.choice((1, 2, 4, 8))
            offset = {uapi.BPF_PROG_TYPE_XDP: 12, uapi.BPF_PROG_TYPE_TRACEPOINT: 8}.get(self.type, 0)
            size = 4 if self.type == uapi.BPF_PROG_TYPE_XDP else size
            if self.type in (uapi.BPF_PROG_TYPE_SOCKET_FILTER, uapi.BPF_PROG_TYPE_SCHED_CLS):
                size = min(size, 4)
            if self.type == uapi.BPF_PROG_TYPE_PERF_EVENT:
                size = 8
            self.emit(isa.BPF_LDX | isa.BPF_MEM | SIZES[size], dst, 6, offset)
        if dst not in self.scalars:
            self.scalars.append(dst)

    def limited(self, dst: int, below: int) -> None:
        """Limit a number, mostly right."""
        r = self.random
        kind = r.random()
        if self.slip(0.3):
            below += r.choice((1, -1))
        if kind < 0.4:
            mask = (1 << max(below.bit_length() - 1, 0)) - 1
            self.emit(r.choice((A64, A32)) | isa.BPF_AND | K, dst, imm=mask)
        elif kind < 0.7:
            klass = r.choice((isa.BPF_JMP, isa.BPF_JMP, isa.BPF_JMP32))
            self.emit(klass | isa.BPF_JLT | K, dst, off=1, imm=max(below, 1))
            self.move(dst, 0)
        elif kind < 0.8:
            self.emit(isa.BPF_JMP | isa.BPF_JSLE | K, dst, off=1, imm=below)
            self.move(dst, r.choice((0, 0, below)))
        elif kind < 0.9:
            self.emit(A64 | isa.BPF_MOD | K, dst, imm=max(below, 1))
        else:
            self.emit(A64 | isa.BPF_RSH | K, dst, imm=64 - max(below.bit_length() - 1, 1))

    # --- pieces -------------------------------------------------------------------------------------

    def alu(self) -> None:
        r = self.random
        klass = r.choice((A64, A64, A32))
        op = r.choice(ALU_OPS)
        dst = self.scalar()
        if r.random() < 0.1:
            self.emit(klass | isa.BPF_NEG, dst)
            return
        if r.random() < 0.1:
            width = r.choice((8, 16, 32)) if klass == A64 else r.choice((8, 16))
            self.emit(klass | isa.BPF_MOV | X, dst, self.scalar(), off=width)
            return
        if r.random() < 0.1:
            self.emit(klass | isa.BPF_MOV | X, dst, self.scalar())
            return
        if r.random() < 0.05:
            self.emit(isa.BPF_ALU | isa.BPF_END | r.choice((K, X)), dst, imm=r.choice((16, 32, 64)))
            return
        if r.random() < 0.5:
            imm = self.constant()
            if op in (isa.BPF_LSH, isa.BPF_RSH, isa.BPF_ARSH):
                imm = r.choice((0, 1, 4, 16, 31, 32 if klass == A64 else 3, 63 if klass == A64 else 8))
            if op in (isa.BPF_DIV, isa.BPF_MOD) and imm == 0 and r.random() < 0.8:
                imm = 3
            self.emit(klass | op | K, dst, imm=imm)
        else:
            self.emit(klass | op | X, dst, self.scalar())

    def branch(self) -> None:
        r = self.random
        klass = r.choice((isa.BPF_JMP, isa.BPF_JMP, isa.BPF_JMP32))
        at = len(self.insns)
        if r.random() < 0.6:
            self.emit(klass | r.choice(JUMP_OPS) | K, self.scalar(), imm=self.constant())
        else:
            self.emit(klass | r.choice(JUMP_OPS) | X, self.scalar(), self.scalar())
        before = list(self.scalars)
        for _ in range(r.randint(1, 3)):
            r.choice((self.alu, self.alu, self.stack, self.copy_scalar))()
        self.scalars = before
        length = sum(i.slots for i in self.insns[at + 1 :])
        self.insns[at] = self.insns[at]._replace(off=length)

    def copy_scalar(self) -> None:
        source = self.scalar()
        self.copy(self.target(), source)

    def target(self) -> int:
        """A register to overwrite."""
        free = [r for r in (7, 8, 9) if r not in self.reserved]
        return self.random.choice(free or [7] if self.sloppy else free or [5])

    def stack(self) -> None:
        r = self.random
        size = r.choice((1, 2, 4, 8, 8, 8))
        offset = -size * r.randint(1, 64 // size)
        if self.slip(0.08):
            offset += r.choice((1, 2, 4, 64, -520))
        kind = r.random()
        if kind < 0.4:
            self.emit(isa.BPF_STX | isa.BPF_MEM | SIZES[size], 10, self.scalar(), offset)
        elif kind < 0.6:
            self.emit(isa.BPF_ST | isa.BPF_MEM | SIZES[size], 10, off=offset, imm=self.constant())
        else:
            target = self.target()
            mode = r.choice((isa.BPF_MEM, isa.BPF_MEM, isa.BPF_MEMSX if size < 8 else isa.BPF_MEM))
            self.emit(isa.BPF_LDX | mode | SIZES[size], target, 10, offset)
            if target not in self.scalars:
                self.scalars.append(target)

    def lookup(self) -> None:
        r = self.random
        which = r.choice((ARRAY, ARRAY, HASH, PERCPU))
        m = MAPS[which]
        key = 8 * r.randint(1, 4)
        if not self.slip(0.1):
            self.emit(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 10, off=-key, imm=r.randint(0, 3))
        self.copy(2, 10)
        self.emit(A64 | isa.BPF_ADD | K, 2, imm=-key + (r.choice((4, -600, 8)) if self.slip(0.1) else 0))
        self.map(1, which)
        self.helper("map_lookup_elem")
        if not self.slip(0.1):
            at = len(self.insns)
            self.emit(isa.BPF_JMP | isa.BPF_JEQ | K, 0)
            self.value(m.value_size)
            length = sum(i.slots for i in self.insns[at + 1 :])
            self.insns[at] = self.insns[at]._replace(off=length)
        else:
            self.value(m.value_size)
        self.move(0, 0)

    def value(self, size: int) -> None:
        """Use the value in r0."""
        r = self.random
        before = list(self.scalars)
        if r.random() < 0.45 and self.scalars:
            index = r.choice(self.scalars)
            self.copy(3, index)
            if not self.slip(0.2):
                self.limited(3, r.choice((size, size - 7, 8, 8)) if self.sloppy else max(size - 16, 1))
            if self.slip(0.3):
                self.emit(A64 | isa.BPF_LSH | K, 3, imm=r.choice((1, 2, 3)))
            self.emit(A64 | (isa.BPF_SUB if self.slip(0.1) else isa.BPF_ADD) | X, 0, 3)
        if self.slip(0.3):
            self.emit(A64 | isa.BPF_ADD | K, 0, imm=r.choice((0, 4, 8, 16, -8)))
        for _ in range(r.randint(1, 3)):
            width = r.choice((1, 4, 8))
            offset = r.choice((0, 0, 1, 4, 8, 16, size - width, size)) if self.sloppy else 0
            kind = r.random()
            if kind < 0.5:
                self.emit(isa.BPF_LDX | isa.BPF_MEM | SIZES[width], r.choice((4, 5, 7)), 0, offset)
            elif kind < 0.8:
                self.emit(isa.BPF_ST | isa.BPF_MEM | SIZES[width], 0, off=offset, imm=1)
            elif kind < 0.9 and self.scalars:
                operation = r.choice((isa.BPF_ADD, isa.BPF_ADD | isa.BPF_FETCH, isa.BPF_XCHG))
                width = r.choice((isa.BPF_W, isa.BPF_DW))
                self.emit(
                    isa.BPF_STX | isa.BPF_ATOMIC | width, 0, r.choice(self.scalars), offset & ~7, operation
                )
            else:
                self.emit(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 0, self.scalar(), offset)
        self.scalars = before

    def probe_read(self) -> None:
        r = self.random
        size = r.choice((1, 4, 8, 16, 32))
        self.copy(1, 10)
        self.emit(A64 | isa.BPF_ADD | K, 1, imm=-64 + (r.choice((40, 60, -8)) if self.slip(0.2) else 0))
        if r.random() < 0.5 or not self.scalars:
            self.move(2, r.choice((0, -1, 600)) if self.slip(0.2) else size)
        else:
            self.copy(2, r.choice(self.scalars))
            if not self.slip(0.2):
                self.limited(2, 33)
        self.move(3, 0) if not self.scalars else self.copy(3, r.choice(self.scalars))
        if self.type in (
            uapi.BPF_PROG_TYPE_XDP,
            uapi.BPF_PROG_TYPE_SCHED_CLS,
            uapi.BPF_PROG_TYPE_SOCKET_FILTER,
        ):
            self.helper("probe_read_kernel")
        else:
            self.helper(r.choice(("probe_read_kernel", "probe_read_user", "probe_read_kernel_str")))
        self.copy(r.choice((7, 8, 9)), 0)

    def ring(self) -> None:
        r = self.random
        if r.random() < 0.5:
            self.map(1, RING)
            self.copy(2, 10)
            self.emit(A64 | isa.BPF_ADD | K, 2, imm=-16)
            self.move(3, r.choice((8, 16, 24)))
            self.move(4, 0)
            self.helper("ringbuf_output")
            return
        self.map(1, RING)
        size = r.choice((8, 24))
        self.move(2, size)
        self.move(3, 0)
        self.helper("ringbuf_reserve")
        at = len(self.insns)
        self.emit(isa.BPF_JMP | isa.BPF_JEQ | K, 0)
        if r.random() < 0.8:
            offset = r.choice((0, 8, 16, size)) if self.sloppy else 0
            self.emit(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 0, off=offset, imm=7)
        self.copy(1, 0)
        self.move(2, 0)
        if not self.slip(0.15):
            self.helper(r.choice(("ringbuf_submit", "ringbuf_discard")))
            if self.slip(0.1):
                self.emit(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, 3, 0)
        if not self.slip(0.1):
            length = sum(i.slots for i in self.insns[at + 1 :])
            self.insns[at] = self.insns[at]._replace(off=length)
        self.scalars = [x for x in self.scalars if x >= 6]

    def loop(self) -> None:
        r = self.random
        counter = self.target()
        limit = r.choice((1, 2, 5, 17))
        self.move(counter, 0)
        self.scalars = [s for s in self.scalars if s != counter]
        at = len(self.insns)
        before = list(self.scalars)
        self.reserved.add(counter)
        for _ in range(r.randint(1, 3)):
            r.choice((self.alu, self.stack, self.branch))()
        self.reserved.discard(counter)
        self.scalars = before
        if not self.slip(0.05):
            self.emit(A64 | isa.BPF_ADD | K, counter, imm=1)
        length = sum(i.slots for i in self.insns[at:])
        self.emit(
            isa.BPF_JMP | r.choice((isa.BPF_JLT, isa.BPF_JNE, isa.BPF_JSLT)) | K,
            counter,
            off=-length - 1,
            imm=limit,
        )
        self.scalars = [*before, counter]

    def variable_stack(self) -> None:
        r = self.random
        if not self.scalars:
            return
        self.copy(3, r.choice(self.scalars))
        self.limited(3, r.choice((8, 16, 64)) if self.sloppy else 8)
        self.copy(4, 10)
        self.emit(A64 | isa.BPF_ADD | K, 4, imm=r.choice((-64, -64, -32, -16)))
        self.emit(A64 | isa.BPF_ADD | X, 4, 3)
        size = r.choice((1, 1, 8))
        if r.random() < 0.5:
            self.emit(isa.BPF_LDX | isa.BPF_MEM | SIZES[size], 5, 4)
        else:
            self.emit(isa.BPF_ST | isa.BPF_MEM | SIZES[size], 4, imm=r.choice((0, 5)))

    def spill(self) -> None:
        """Save a pointer, load it back and use it."""
        r = self.random
        source = r.choice((6, 10))
        self.emit(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 10, source, -40)
        if self.slip(0.3):
            self.emit(isa.BPF_ST | isa.BPF_MEM | isa.BPF_B, 10, off=-r.choice((33, 40, 41)), imm=0)
        self.emit(isa.BPF_LDX | isa.BPF_MEM | (isa.BPF_W if self.slip(0.3) else isa.BPF_DW), 3, 10, -40)
        if source == 10:
            self.emit(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 3, off=-8, imm=0)
        else:
            offset = 12 if self.type == uapi.BPF_PROG_TYPE_XDP else 8
            self.emit(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_W, 4, 3, offset)

    def context(self) -> None:
        r = self.random
        if not self.sloppy:
            return
        size = r.choice((1, 2, 4, 4, 8))
        offset = r.choice((0, 4, 8, 12, 16, 20, 40, 48, 76, 80, 96, 100, 144, 152, 160, 168, 176, 184, 192))
        if r.random() < 0.85:
            self.emit(isa.BPF_LDX | isa.BPF_MEM | SIZES[size], r.choice((3, 4)), 6, offset)
        else:
            self.emit(isa.BPF_STX | isa.BPF_MEM | SIZES[size], 6, self.scalar(), offset)

    def packet(self) -> None:
        r = self.random
        if self.type not in (uapi.BPF_PROG_TYPE_XDP, uapi.BPF_PROG_TYPE_SCHED_CLS):
            return
        data, end = (0, 4) if self.type == uapi.BPF_PROG_TYPE_XDP else (76, 80)
        self.emit(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_W, 2, 6, data)
        self.emit(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_W, 3, 6, end)
        self.copy(4, 2)
        if r.random() < 0.3 and self.scalars:
            self.copy(5, r.choice(self.scalars))
            self.limited(5, 64)
            self.emit(A64 | isa.BPF_ADD | X, 2, 5)
            self.copy(4, 2)
        need = r.choice((1, 8, 14, 34))
        self.emit(A64 | isa.BPF_ADD | K, 4, imm=need)
        at = len(self.insns)
        if r.random() < 0.8:
            self.emit(isa.BPF_JMP | r.choice((isa.BPF_JGT, isa.BPF_JGT, isa.BPF_JGE)) | X, 4, 3)
        else:
            self.emit(isa.BPF_JMP | r.choice((isa.BPF_JLT, isa.BPF_JLE)) | X, 3, 4)
        width = r.choice((1, 2, 4))
        offset = r.choice((0, need - width, need)) if self.sloppy else max(need - width - 1, 0)
        width = width if self.sloppy or need > width else 1
        self.emit(isa.BPF_LDX | isa.BPF_MEM | SIZES[width], 5, 2, offset)
        self.insns[at] = self.insns[at]._replace(off=1)

    def make(self) -> list[Insn]:
        r = self.random
        self.copy(6, 1)
        for register in r.sample((7, 8, 9), r.randint(1, 3)):
            self.number(register)
        pieces = (
            self.alu,
            self.alu,
            self.alu,
            self.branch,
            self.branch,
            self.stack,
            self.stack,
            self.lookup,
            self.lookup,
            self.probe_read,
            self.ring,
            self.loop,
            self.variable_stack,
            self.spill,
            self.context,
            self.packet,
        )
        for _ in range(r.randint(2, 9)):
            r.choice(pieces)()
        if not self.slip(0.05):
            self.move(0, 0)
        self.emit(isa.BPF_JMP | isa.BPF_EXIT)
        return self.insns
