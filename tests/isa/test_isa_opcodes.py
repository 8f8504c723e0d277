"""The opcode table against the kernel's own counts and against itself."""

import re

from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import BY_CODE, OPCODES, find


def sample(row) -> Insn:
    pick = {"dst": 3, "src": 4, "off": 5, "imm": 6}
    values = [pick[f] if getattr(row, f) is None else getattr(row, f) for f in ("dst", "src", "off", "imm")]
    return Insn(row.code, *values)


def test_every_form_is_found_as_itself() -> None:
    for row in OPCODES:
        assert find(sample(row)) == row


def test_no_two_forms_match_one_instruction_by_chance() -> None:
    for row in OPCODES:
        others = [r.name for r in BY_CODE[row.code] if r is not row and r.matches(sample(row))]
        # A kernel function of the kernel itself is one of a module with descriptor index 0.
        assert others == (["call_module_kfunc"] if row.name == "call_kfunc" else [])


def test_text_names_every_operand() -> None:
    holds = {"uimm": "imm", "low": "imm", "high": "imm", "delta": "imm", "to_as": "imm", "from_as": "imm"}
    for row in OPCODES:
        named = {holds.get(f, f) for f in re.findall(r"\{(\w+)", row.text) if f != "helper"}
        assert named == set(row.operands), row.name


# The opcode bytes the kernel's interpreter table accepts (kernel/bpf/core.c, BPF_INSN_MAP), as the
# ranges of the standard: 12 binary operations x imm/reg x 32/64, neg, end, jumps, memory.
def test_opcode_bytes() -> None:
    alu = {op << 4 | src | cls for op in range(0xD) if op != 8 for src in (0, 8) for cls in (4, 7)}
    unary = {0x84, 0x87, 0xD4, 0xDC, 0xD7}
    conditional = {
        op << 4 | src | cls for op in (*range(1, 8), *range(0xA, 0xE)) for src in (0, 8) for cls in (5, 6)
    }
    flow = {0x05, 0x06, 0x85, 0x95, 0xE5, 0x0D}
    sizes = (0x00, 0x08, 0x10, 0x18)
    memory = {0x60 | size | cls for size in sizes for cls in (1, 2, 3)}
    signed = {0x80 | size | 1 for size in sizes[:3]}
    packet = {mode | size for mode in (0x20, 0x40) for size in sizes[:3]}
    atomic = {0xC0 | size | 3 for size in sizes}
    assert set(BY_CODE) == alu | unary | conditional | flow | memory | signed | packet | atomic | {0x18, 0xC2}


def test_every_conformance_group_is_populated() -> None:
    groups = {row.group for row in OPCODES}
    assert groups == {
        "base32", "base64", "divmul32", "divmul64", "atomic32", "atomic64", "packet", "linux", "internal",
    }  # fmt: skip
