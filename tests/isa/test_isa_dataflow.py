"""Registers read and written, checked against what each form's text says of its operands."""

import re

import pytest

from tracebee.isa.asm import assemble
from tracebee.isa.dataflow import reads, writes
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import OPCODES

# (instruction, registers read, registers written)
CASES = [
    ("r1 = 5", (), (1,)),
    ("r1 = r2", (2,), (1,)),
    ("w1 += w2", (1, 2), (1,)),
    ("r1 += 3", (1,), (1,)),
    ("r1 = -r1", (1,), (1,)),
    ("r1 = be16 r1", (1,), (1,)),
    ("r1 = 0x5", (), (1,)),
    ("r1 = *(u8 *)(r2 +0)", (2,), (1,)),
    ("*(u8 *)(r2 +0) = 1", (2,), ()),
    ("*(u8 *)(r2 +0) = r3", (2, 3), ()),
    ("lock *(u64 *)(r1 +0) += r2", (1, 2), ()),
    ("r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)", (1, 2), (2,)),
    ("r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)", (0, 1, 2), (0,)),
    ("r1 = load_acquire((u64 *)(r2 +0))", (2,), (1,)),
    ("store_release((u64 *)(r2 +0), r1)", (1, 2), ()),
    ("if r1 == r2 goto +0", (1, 2), ()),
    ("if w1 == 5 goto +0", (1,), ()),
    ("goto +0", (), ()),
    ("may_goto +0", (), ()),
    ("exit", (0,), ()),
    ("call map_lookup_elem", (1, 2), (0, 1, 2, 3, 4, 5)),
    ("call ktime_get_ns", (), (0, 1, 2, 3, 4, 5)),
    ("call pc+0", (1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5)),
    ("r0 = *(u8 *)skb[3]", (6,), (0, 1, 2, 3, 4, 5)),
    ("r0 = *(u8 *)skb[r7 + 3]", (6, 7), (0, 1, 2, 3, 4, 5)),
]


@pytest.mark.parametrize(("text", "read", "written"), CASES)
def test_registers(text: str, read: tuple[int, ...], written: tuple[int, ...]) -> None:
    (insn,) = assemble(text)
    assert tuple(sorted(reads(insn))) == read
    assert tuple(sorted(writes(insn))) == written


def test_every_register_in_a_text_is_read_or_written() -> None:
    for row in OPCODES:
        if row.insn_class in (5, 6) and row.code & 0xF0 == 0x80:
            continue  # calls name none
        pick = {"dst": 7, "src": 8, "off": 1, "imm": 1}
        fields = [pick[f] if getattr(row, f) is None else getattr(row, f) for f in pick]
        insn = Insn(row.code, *fields)
        named = {int(n) for n in re.findall(r"\b[rw](\d+)\b", format_insn(insn))}
        assert named - {0} <= {*reads(insn), *writes(insn)}, row.name
