"""Putting a CO-RE value into an instruction, as libbpf's ``bpf_core_patch_insn`` does."""

from __future__ import annotations

from tracebee.errors import DecodeError, UnsupportedError
from tracebee.isa.insn import (
    BPF_ALU,
    BPF_ALU64,
    BPF_B,
    BPF_CALL,
    BPF_DW,
    BPF_H,
    BPF_JMP,
    BPF_LDX,
    BPF_ST,
    BPF_STX,
    BPF_W,
    BPF_X,
    Insn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.core import CoreValue

# A call of a helper no kernel has: the verifier refuses it, but only where it can be reached, and its
# message ("invalid func unknown#195896080") tells which kind of failure it was: "bad relo".
POISON = Insn(BPF_JMP | BPF_CALL, imm=0x0BAD2310)

_SIZE_CODES = {1: BPF_B, 2: BPF_H, 4: BPF_W, 8: BPF_DW}
_SIZE_MASK = 0x18
_BYTES = {code: size for size, code in _SIZE_CODES.items()}
_MAX_OFFSET = 0x7FFF


def patch(insn: Insn, value: CoreValue) -> tuple[Insn, ...]:
    """The instruction with the value in its immediate, or in its offset and size for loads and stores.

    :returns: instructions that take as many slots as ``insn``: one, except that a wide load is
        poisoned by two.
    :raises DecodeError: the instruction holds something other than the local value, or is of a class that
        CO-RE does not patch.
    :raises UnsupportedError: an offset beyond 32767.
    """
    if value.poison:
        return (POISON,) * insn.slots
    if insn.is_wide:
        if insn.src:
            raise DecodeError("CO-RE relocation of a wide load that is of a map or a function")
        _check(insn.imm, value, 64)
        return (insn._replace(imm=value.value & (1 << 64) - 1),)
    group = insn.opcode & 7
    if group in (BPF_ALU, BPF_ALU64):
        if insn.opcode & BPF_X:
            raise DecodeError("CO-RE relocation of an instruction without an immediate")
        _check(insn.imm, value, 32)
        low = value.value & 0xFFFFFFFF
        return (insn._replace(imm=low - (1 << 32) if low >> 31 else low),)
    if group in (BPF_LDX, BPF_ST, BPF_STX):
        _check(insn.off, value, 64)  # an offset that did not fit in the compiler's 16 bits is another one
        offset = value.value + (insn.off if value.relative else 0)
        if not 0 <= offset <= _MAX_OFFSET:
            raise UnsupportedError(f"CO-RE offset {offset} does not fit a load or store: at most 32767")
        if not value.resizable:
            return (POISON,)
        insn = insn._replace(off=offset)
        return (insn if value.size == value.original_size else _resize(insn, value),)
    raise DecodeError(f"CO-RE relocation of an instruction with opcode {insn.opcode:#04x}")


def _check(found: int, value: CoreValue, bits: int) -> None:
    if value.original is not None and (found ^ value.original) & ((1 << bits) - 1):
        raise DecodeError(
            f"CO-RE relocation expects {value.original} in its instruction, which holds {found}"
        )


def _resize(insn: Insn, value: CoreValue) -> Insn:
    size = _BYTES[insn.opcode & _SIZE_MASK]
    if size != value.original_size or value.size not in _SIZE_CODES:
        raise DecodeError(
            f"CO-RE relocation of a {size}-byte access to a field of {value.original_size} bytes, "
            f"{value.size} in the target"
        )
    return insn._replace(opcode=insn.opcode & ~_SIZE_MASK | _SIZE_CODES[value.size])
