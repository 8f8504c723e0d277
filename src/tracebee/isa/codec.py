"""Instructions to bytes and back (RFC 9669, "Instruction Encoding").

A slot is 8 bytes: opcode, one byte of register numbers, a signed 16-bit offset and a signed 32-bit
immediate, multi-byte fields in the target's byte order. In the register byte a little-endian
target has the destination in the low four bits, a big-endian one in the high four bits.
"""

from __future__ import annotations

import struct

from tracebee.errors import DecodeError, EncodeError
from tracebee.isa.insn import BPF_DW, BPF_IMM, BPF_LD, Insn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    ByteOrder = Literal["little", "big"]

SLOT_BYTES = 8

_LDDW = BPF_LD | BPF_IMM | BPF_DW
_SLOT = {"little": struct.Struct("<BBhi"), "big": struct.Struct(">BBhi")}
# A wide load: the low half, then a slot that is zero except for the high half.
_WIDE = {"little": struct.Struct("<BBhI4xI"), "big": struct.Struct(">BBhI4xI")}


def encode(insns: Iterable[Insn], order: ByteOrder = "little") -> bytes:
    """Encode instructions as the kernel reads them: 8 bytes a slot, wide loads take two slots.

    :param order: byte order of the target, not of the host.
    :raises EncodeError: a register, offset or immediate does not fit its field; says which
        instruction, by its position in ``insns``.
    Source: RFC 9669, sections 3.1 and 3.2.
    """
    insns = insns if isinstance(insns, (list, tuple)) else tuple(insns)
    slot, wide = _SLOT[order].pack, _WIDE[order].pack
    try:
        # -1 for a register out of range makes pack refuse it, at no cost for the others.
        if order == "little":
            return b"".join(
                [
                    slot(op, dst | src << 4 if 0 <= dst < 16 else -1, off, imm)
                    if op != _LDDW
                    else wide(op, dst | src << 4 if 0 <= dst < 16 else -1, off, imm & 0xFFFFFFFF, imm >> 32)
                    for op, dst, src, off, imm in insns
                ]
            )
        return b"".join(
            [
                slot(op, dst << 4 | src if 0 <= src < 16 else -1, off, imm)
                if op != _LDDW
                else wide(op, dst << 4 | src if 0 <= src < 16 else -1, off, imm & 0xFFFFFFFF, imm >> 32)
                for op, dst, src, off, imm in insns
            ]
        )
    except struct.error as error:
        raise _misfit(insns) from error


def _misfit(insns: Sequence[Insn]) -> EncodeError:
    """The error for the first instruction with a field out of range."""
    for index, insn in enumerate(insns):
        imm_range = range(1 << 64) if insn.opcode == _LDDW else range(-(1 << 31), 1 << 31)
        for name, value, allowed in (
            ("opcode", insn.opcode, range(256)),
            ("destination register", insn.dst, range(16)),
            ("source register", insn.src, range(16)),
            ("offset", insn.off, range(-(1 << 15), 1 << 15)),
            ("immediate", insn.imm, imm_range),
        ):
            if value not in allowed:
                return EncodeError(
                    f"instruction {index}: {name} {value} is not in "
                    f"{allowed.start}..{allowed.stop - 1} (opcode {insn.opcode:#04x})"
                )
    return EncodeError("an instruction has a field that is not an integer")


def decode(data: bytes | bytearray | memoryview, order: ByteOrder = "little") -> list[Insn]:
    """Decode bytecode; a wide load's two slots become one Insn. Opcodes need not be defined.

    :param order: byte order the code was encoded in.
    :raises DecodeError: the length is not a multiple of 8, or a wide load lacks its second slot
        or has fields there that must be zero; says which slot.
    Source: RFC 9669, sections 3.1 and 3.2.
    """
    if len(data) % SLOT_BYTES:
        raise DecodeError(f"bytecode is {len(data)} bytes, which is not a multiple of {SLOT_BYTES}")
    big = order == "big"
    make = Insn._make
    insns: list[Insn] = []
    append = insns.append
    slots = _SLOT[order].iter_unpack(data)
    for op, regs, off, imm in slots:
        dst, src = (regs >> 4, regs & 15) if big else (regs & 15, regs >> 4)
        if op == _LDDW:
            second = next(slots, None)
            if second is None or second[0] or second[1] or second[2]:
                at = sum(insn.slots for insn in insns) + 1
                raise DecodeError(
                    f"slot {at}: expected the second half of a 64-bit immediate load, "
                    "zero except for its immediate"
                )
            imm = imm & 0xFFFFFFFF | (second[3] & 0xFFFFFFFF) << 32
        append(make((op, dst, src, off, imm)))
    return insns
