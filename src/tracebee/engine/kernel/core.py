"""CO-RE relocations of scripts, which name types and members: resolved in the running kernel's BTF by name.

Kinds are the kernel's ``enum bpf_core_relo_kind`` (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf import kinds
from tracebee.engine.kernel.kernel_symbols import POISON_CALL
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.isa.insn import BPF_ALU, BPF_ALU64, BPF_CALL, BPF_JMP, Insn

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Field
    from tracebee.obj.model import CoreReloc, Reloc

(
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_SIGNED,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_EXISTS,
    TYPE_SIZE,
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    TYPE_MATCHES,
) = range(13)

# Kinds whose answer is yes or no, so that a missing name is an answer too.
_QUESTIONS = frozenset((FIELD_EXISTS, TYPE_EXISTS, ENUMVAL_EXISTS, TYPE_MATCHES))


class ByName:
    """Fills CO-RE relocations in: what ``loader.load_object`` takes as ``core``."""

    def __call__(self, insn: Insn, reloc: Reloc) -> Insn:
        """The instruction with the value in its immediate, or for loads and stores added to its offset."""
        from tracebee.btf.opening import open_vmlinux

        assert reloc.core is not None, reloc
        value = resolve(reloc.core, open_vmlinux())
        if value is None:
            return Insn(BPF_JMP | BPF_CALL, imm=POISON_CALL)
        if insn.is_wide:
            return insn._replace(imm=value & (1 << 64) - 1)
        if insn.opcode & 7 in (BPF_ALU, BPF_ALU64):
            # Unsigned 32-bit values (sizes, enumerators) go into the signed field bit for bit.
            return insn._replace(imm=(value & 0xFFFFFFFF) - ((value & 0x80000000) << 1))
        return insn._replace(off=insn.off + value)


def resolve(reloc: CoreReloc, btf: Btf) -> int | None:
    """The value a relocation stands for; None when the kernel lacks what it names.

    :raises UnsupportedError: an unknown kind.
    """
    try:
        return _value(reloc, btf)
    except SymbolError:
        return 0 if reloc.kind in _QUESTIONS else None


def _value(reloc: CoreReloc, btf: Btf) -> int:
    kind = reloc.kind
    if kind in (ENUMVAL_EXISTS, ENUMVAL_VALUE):
        for name, value in btf.enumerators(reloc.type_name):
            if name == reloc.access:
                return 1 if kind == ENUMVAL_EXISTS else value
        raise SymbolError(f"{reloc.type_name} has no '{reloc.access}'")
    type_id = btf.find(reloc.type_name)
    if kind in (TYPE_EXISTS, TYPE_MATCHES):
        return 1
    if kind in (TYPE_ID_LOCAL, TYPE_ID_TARGET):
        return type_id
    if kind == TYPE_SIZE:
        return btf.size(type_id)
    field = btf.member_path(btf.resolve(type_id), reloc.access)
    if kind == FIELD_BYTE_OFFSET:
        return _storage(field, btf)[0]
    if kind == FIELD_BYTE_SIZE:
        return _storage(field, btf)[1]
    if kind == FIELD_EXISTS:
        return 1
    if kind == FIELD_SIGNED:
        record = btf.type(btf.resolve(field.type_id))
        return int(
            bool(record.encoding & kinds.BTF_INT_SIGNED) or (record.kind in kinds.ENUMS and record.flag)
        )
    if kind in (FIELD_LSHIFT_U64, FIELD_RSHIFT_U64):
        return _shift(field, btf, left=kind == FIELD_LSHIFT_U64)
    raise UnsupportedError(f"unknown CO-RE relocation kind {kind}")


def _storage(field: Field, btf: Btf) -> tuple[int, int]:
    """Offset and size of the aligned word that is read to get at a field."""
    size = btf.size(field.type_id)
    if not field.bit_size:
        return field.bit_offset // 8, size
    while size < 8 and field.bit_offset // (8 * size) != (field.bit_offset + field.bit_size - 1) // (
        8 * size
    ):
        size *= 2
    return field.bit_offset // (8 * size) * size, size


def _shift(field: Field, btf: Btf, *, left: bool) -> int:
    import sys

    offset, size = _storage(field, btf)
    bits = field.bit_size or 8 * size
    if not left:
        return 64 - bits
    start = field.bit_offset - 8 * offset
    return 64 - (bits + start) if sys.byteorder == "little" else (8 - size) * 8 + start
