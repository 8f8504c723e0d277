"""Classic programs to eBPF socket filters, which do the same.

A is r0, X is r7, the context is r6, M[n] is the stack's word n. All arithmetic is 32 bits wide. Packet loads
are eBPF's legacy loads, which end the program with 0 beyond the packet, as classic ones do. Loads from the
negative offsets at which Linux keeps what it knows of a packet (``SKF_AD_OFF``) become loads from the
context or calls of helpers.

Source: ``bpf_convert_filter`` in ``net/core/filter.c``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracebee.errors import UnsupportedError
from tracebee.isa import insn as isa
from tracebee.isa.asm import assemble
from tracebee.isa.insn import Insn
from tracebee.vm.cbpf import program as classic
from tracebee.vm.cbpf.program import ClassicInsn

_AD_OFF = 0xFFFFF000  # SKF_AD_OFF as the unsigned field has it
_M = -4 * classic.MEMORY_WORDS

# Ancillary data: number, what it is, how the translation gets it into r0 (None: it cannot).
_ANCILLARY: tuple[tuple[int, str, str | None], ...] = (
    (0, "protocol", "r0 = *(u32 *)(r6 +16)\nr0 = be16 r0"),
    (4, "packet type", "r0 = *(u32 *)(r6 +4)"),
    (8, "interface", "r0 = *(u32 *)(r6 +40)"),
    (12, "netlink attribute", None),
    (16, "nested netlink attribute", None),
    (20, "mark", "r0 = *(u32 *)(r6 +8)"),
    (24, "queue", "r0 = *(u32 *)(r6 +12)"),
    (28, "hardware type", None),
    (32, "receive hash", "r0 = *(u32 *)(r6 +68)"),
    (36, "CPU", "call get_smp_processor_id"),
    (40, "A xor X", "w0 ^= w7"),
    (44, "VLAN tag", "r0 = *(u32 *)(r6 +24)"),
    (48, "whether there is a VLAN tag", "r0 = *(u32 *)(r6 +20)"),
    (52, "payload offset", None),
    (56, "random number", "call get_prandom_u32"),
    (60, "VLAN protocol", "r0 = *(u32 *)(r6 +28)\nr0 = be16 r0"),
)
_BY_OFFSET = {offset: (name, code) for offset, name, code in _ANCILLARY}

# eBPF's 32-bit jumps: taken when the classic one is, and when it is not (JSET has no opposite).
_JUMPS = {
    classic.JEQ: (isa.BPF_JEQ, isa.BPF_JNE),
    classic.JGT: (isa.BPF_JGT, isa.BPF_JLE),
    classic.JGE: (isa.BPF_JGE, isa.BPF_JLT),
    classic.JSET: (isa.BPF_JSET, None),
}
_JUMP32, _ALU = isa.BPF_JMP32, isa.BPF_ALU
_GOTO = isa.BPF_JMP | isa.BPF_JA


class _Jump:
    """An eBPF jump whose target is still a classic instruction's number."""

    __slots__ = ("insn", "target")

    def __init__(self, insn: Insn, target: int) -> None:
        self.insn, self.target = insn, target


Piece = Insn | _Jump


def translate(program: Sequence[ClassicInsn]) -> list[Insn]:
    """Translate a program that keeps the rules of ``program.check``.

    :raises UnsupportedError: it asks for what eBPF programs cannot know of a packet.
    """
    pieces: list[Piece] = list(assemble("r6 = r1\nw0 = 0\nw7 = 0"))
    starts = []
    for at, insn in enumerate(program):
        starts.append(len(pieces))
        pieces += _translate(insn, at)
    out = []
    for position, piece in enumerate(pieces):
        if isinstance(piece, Insn):
            out.append(piece)
            continue
        distance = starts[piece.target] - position - 1
        is_far = piece.insn.opcode == isa.BPF_JMP32 | isa.BPF_JA
        out.append(piece.insn._replace(imm=distance) if is_far else piece.insn._replace(off=distance))
    return out


def _translate(insn: ClassicInsn, at: int) -> Iterator[Piece]:
    code, _, _, k = insn
    klass, mode = code & 7, code & 0xE0
    k32 = k - (1 << 32) if k >> 31 else k
    if klass in (classic.LD, classic.LDX):
        yield from _load(insn, klass == classic.LDX, mode, k32)
    elif klass == classic.ST:
        yield from assemble(f"*(u32 *)(r10 {_M + 4 * k:+}) = r0")
    elif klass == classic.STX:
        yield from assemble(f"*(u32 *)(r10 {_M + 4 * k:+}) = r7")
    elif klass == classic.ALU:
        yield from _arithmetic(code, k32)
    elif klass == classic.JMP:
        yield from _jump(insn, at, k32)
    elif klass == classic.RET:
        if code & 0x18 == classic.K:
            yield Insn(_ALU | isa.BPF_MOV | isa.BPF_K, 0, imm=k32)
        yield Insn(isa.BPF_JMP | isa.BPF_EXIT)
    else:
        yield from assemble("w0 = w7" if code & 0xF8 == classic.TXA else "w7 = w0")


def _load(insn: ClassicInsn, to_x: bool, mode: int, k32: int) -> Iterator[Piece]:
    size, k, register = insn.code & 0x18, insn.k, 7 if to_x else 0
    if mode == classic.IMM:
        yield Insn(_ALU | isa.BPF_MOV | isa.BPF_K, register, imm=k32)
    elif mode == classic.MEM:
        yield from assemble(f"r{register} = *(u32 *)(r10 {_M + 4 * k:+})")
    elif mode == classic.LEN:
        yield from assemble(f"r{register} = *(u32 *)(r6 +0)")
    elif mode == classic.MSH:
        # A must survive: the load goes through r0.
        yield from assemble(f"r8 = r0\nr0 = *(u8 *)skb[{k32}]\nw0 &= 15\nw0 <<= 2\nw7 = w0\nr0 = r8")
    elif mode == classic.ABS and k >= _AD_OFF:
        yield from _ancillary(k - _AD_OFF)
    elif mode == classic.ABS:
        yield Insn(isa.BPF_LD | isa.BPF_ABS | size, imm=k32)
    else:
        yield Insn(isa.BPF_LD | isa.BPF_IND | size, src=7, imm=k32)


def _ancillary(offset: int) -> Iterator[Piece]:
    name, code = _BY_OFFSET.get(offset, ("ancillary data", None))
    if code is None:
        raise UnsupportedError(f"the filter loads the {name} (offset {offset}), which eBPF filters cannot")
    yield from assemble(code)


def _arithmetic(code: int, k32: int) -> Iterator[Piece]:
    op, by_x = code & 0xF0, code & classic.X
    if op in (classic.DIV, classic.MOD) and by_x:
        # Dividing by zero ends a classic program with 0.
        yield from assemble("if w7 != 0 goto +2\nw0 = 0\nexit")
    if op == classic.NEG:
        yield from assemble("w0 = -w0")
    elif by_x:
        yield Insn(_ALU | op | isa.BPF_X, 0, 7)
    else:
        yield Insn(_ALU | op | isa.BPF_K, 0, imm=k32)


def _jump(insn: ClassicInsn, at: int, k32: int) -> Iterator[Piece]:
    op = insn.code & 0xF0
    if op == classic.JA:
        yield _Jump(Insn(isa.BPF_JMP32 | isa.BPF_JA), at + 1 + insn.k)
        return
    yes, no = _JUMPS[op]
    source = isa.BPF_X if insn.code & classic.X else isa.BPF_K
    operands = {"src": 7} if source else {"imm": k32}
    if insn.jt == insn.jf:
        yield _Jump(Insn(_GOTO), at + 1 + insn.jt)
    elif insn.jt == 0 and no is not None:
        yield _Jump(Insn(_JUMP32 | no | source, 0, **operands), at + 1 + insn.jf)
    else:
        yield _Jump(Insn(_JUMP32 | yes | source, 0, **operands), at + 1 + insn.jt)
        if insn.jf:
            yield _Jump(Insn(_GOTO), at + 1 + insn.jf)
