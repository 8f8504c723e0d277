"""The assembler: every form there and back, names, and errors that point."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import SourceError
from tracebee.isa.asm import Symbol, assemble, assemble_functions
from tracebee.isa.disasm import disassemble, format_insn, listing
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import OPCODES, Opcode

S16 = st.integers(-(1 << 15), (1 << 15) - 1)
S32 = st.integers(-(1 << 31), (1 << 31) - 1)
U31 = st.integers(0, (1 << 31) - 1)
WIDE = {
    "lddw": st.integers(0, (1 << 64) - 1),
    "lddw_func": st.integers(0, (1 << 32) - 1),
    "lddw_map_fd": U31,
    "lddw_map_idx": U31,
}


@st.composite
def instructions(draw: st.DrawFn) -> Insn:
    row: Opcode = draw(st.sampled_from(OPCODES))
    register = st.integers(0, 10)
    off = row.off if row.off is not None else draw(S16)
    if row.code == 0x18:
        imm = draw(WIDE.get(row.name, st.builds(lambda low, high: low | high << 32, U31, U31)))
    else:
        imm = row.imm if row.imm is not None else draw(S32)
    return Insn(
        row.code,
        row.dst if row.dst is not None else draw(register),
        row.src if row.src is not None else draw(register),
        off,
        imm,
    )


@given(st.lists(instructions(), min_size=1, max_size=5))
def test_assemble_undoes_disassemble(insns: list[Insn]) -> None:
    text = disassemble(insns)
    again = assemble("\n".join(text))
    assert again == insns
    assert disassemble(again) == text


@given(st.lists(instructions(), min_size=1, max_size=5))
def test_listings_can_be_assembled(insns: list[Insn]) -> None:
    assert assemble(listing(insns)) == insns


@given(st.integers(0, 255), st.integers(0, 15), st.integers(0, 15), S16, S32)
def test_undefined_instructions_survive(code: int, dst: int, src: int, off: int, imm: int) -> None:
    insn = Insn(code, dst, src, off, imm)
    if code != 0x18 and format_insn(insn).startswith(".insn"):
        assert assemble(format_insn(insn)) == [insn]


# Text as kernel/bpf/disasm.c prints it, bytes from the opcode tables of RFC 9669.
KERNEL_TEXT = [
    ("r0 = 1", Insn(0xB7, 0, 0, 0, 1)),
    ("w1 += w2", Insn(0x0C, 1, 2)),
    ("r1 s>>= 3", Insn(0xC7, 1, 0, 0, 3)),
    ("w1 s/= w2", Insn(0x3C, 1, 2, 1)),
    ("r1 = (s16)r2", Insn(0xBF, 1, 2, 16)),
    ("r1 = -r1", Insn(0x87, 1)),
    ("r3 = bswap32 r3", Insn(0xD7, 3, 0, 0, 32)),
    ("r1 = *(u64 *)(r6 +8)", Insn(0x79, 1, 6, 8)),
    ("r1 = *(s8 *)(r10 -1)", Insn(0x91, 1, 10, -1)),
    ("*(u32 *)(r10 -4) = -1", Insn(0x62, 10, 0, -4, -1)),
    ("if r1 s> 0x5 goto pc+3", Insn(0x65, 1, 0, 3, 5)),
    ("if w1 & w2 goto pc-3", Insn(0x4E, 1, 2, -3)),
    ("if r0 != 0xffffffff goto pc+0", Insn(0x55, 0, 0, 0, -1)),
    ("goto pc+1", Insn(0x05, 0, 0, 1)),
    ("gotol pc-70000", Insn(0x06, 0, 0, 0, -70000)),
    ("may_goto pc+2", Insn(0xE5, 0, 0, 2)),
    ("lock *(u64 *)(r1 +0) += r2", Insn(0xDB, 1, 2, 0, 0)),
    ("r2 = atomic64_fetch_and((u64 *)(r1 +8), r2)", Insn(0xDB, 1, 2, 8, 0x51)),
    ("r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)", Insn(0xC3, 1, 2, 0, 0xF1)),
    ("r2 = atomic64_xchg((u64 *)(r1 +0), r2)", Insn(0xDB, 1, 2, 0, 0xE1)),
    ("r1 = load_acquire((u16 *)(r2 +4))", Insn(0xCB, 1, 2, 4, 0x100)),
    ("store_release((u8 *)(r2 +4), r1)", Insn(0xD3, 2, 1, 4, 0x110)),
    ("r1 = addr_space_cast(r2, 1, 0)", Insn(0xBF, 1, 2, 1, 1 << 16)),
    ("r0 = *(u16 *)skb[12]", Insn(0x28, 0, 0, 0, 12)),
    ("r0 = *(u8 *)skb[r3 + -4]", Insn(0x50, 0, 3, 0, -4)),
    ("r1 = 0x123456789", Insn(0x18, 1, 0, 0, 0x123456789)),
    ("r0 = map[id:5][0]+8", Insn(0x18, 0, 2, 0, 5 | 8 << 32)),
    ("r0 = subprog[+7]", Insn(0x18, 0, 4, 0, 7)),
    ("call bpf_map_lookup_elem#1", Insn(0x85, 0, 0, 0, 1)),
    ("call pc+5", Insn(0x85, 0, 1, 0, 5)),
    ("exit", Insn(0x95)),
]


@pytest.mark.parametrize(("text", "insn"), KERNEL_TEXT)
def test_kernel_notation(text: str, insn: Insn) -> None:
    assert format_insn(insn) == text
    assert assemble(text) == [insn]


@pytest.mark.parametrize(
    ("loose", "strict"),
    [
        ("r1 = *(u64*)(r6 + 8)", "r1 = *(u64 *)(r6 +8)"),
        ("if r1 s> 5 goto +3", "if r1 s> 0x5 goto pc+3"),
        ("if r1 s> -5 goto +3", "if r1 s> 0xfffffffb goto pc+3"),
        ("r1 = 5 ll", "r1 = 0x5"),
        ("r1 = -1 ll", "r1 = 0xffffffffffffffff"),
        ("call map_lookup_elem", "call bpf_map_lookup_elem#1"),
        ("call 1", "call bpf_map_lookup_elem#1"),
        ("  12: (b7) r1 = 5   ; R1_w=5", "r1 = 5"),
    ],
)
def test_loose_spellings(loose: str, strict: str) -> None:
    assert disassemble(assemble(loose)) == [strict]


def test_labels_count_slots() -> None:
    insns = assemble(
        """
        top:
            r1 = 0x1 ll
            if r1 == 0 goto top     // back over three slots
            gotol end
            r2 = 0x2
            r3 = 3
        end:
            exit
        """
    )
    assert [insn.off for insn in insns[1:2]] == [-3]
    assert insns[2].imm == 3


def test_functions_and_symbols() -> None:
    main, helper = assemble_functions(
        """
        r1 = map[counts] ; a map
        r2 = map[.rodata][0]+16
        r3 = subprog[twice]
        call twice
        call kfunc bpf_rcu_read_lock
        exit
        .func twice
        r0 = r1
        r0 += r1
        exit
        """
    )
    assert (main.name, helper.name) == ("main", "twice")
    assert main.symbols == (
        Symbol(0, "map", "counts"),
        Symbol(1, "data", ".rodata", 16),
        Symbol(2, "func", "twice"),
        Symbol(3, "call", "twice"),
        Symbol(4, "kfunc", "bpf_rcu_read_lock"),
    )
    assert [main.insns[i].src for i in range(5)] == [1, 2, 4, 1, 2]
    assert main.lines[0] == 2
    assert helper.lines[0] == 9


def test_linked_calls_and_maps() -> None:
    text = "r1 = map[m]\nr2 = map[m][0]+4\nr3 = subprog[f]\ncall f\nexit\n.func f\nexit"
    insns = assemble(text, maps={"m": 7})
    assert [insn.imm for insn in insns[:4]] == [7, 7 | 4 << 32, 3, 1]


ERRORS = [
    ("r1 = 99999999999", 1, 6, "99999999999 does not fit a signed 32-bit immediate"),
    ("r0 = 0\nr1 = w2", 2, 1, "there is no such instruction"),
    ("if r1 == 2 goto nowhere", 1, 17, "there is no label 'nowhere' in main"),
    ("call foo", 1, 6, "there is no helper or function 'foo'"),
    ("r1 ? 2", 1, 4, "unexpected character '?'"),
    ("r1 = -r2", 1, 7, "expected r1 again"),
    ("r1 = *(u64 *)(r2 +40000)", 1, 18, "40000 does not fit a signed 16-bit offset"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), ERRORS)
def test_errors_point(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        assemble(text)
    (finding,) = caught.value.diagnostics
    assert (finding.span.line, finding.span.column, finding.message) == (line, column, message)


def test_all_errors_are_reported() -> None:
    with pytest.raises(SourceError) as caught:
        assemble("r1 = w2\nr0 = 0\ncall nobody\nexit")
    assert [d.span.line for d in caught.value.diagnostics] == [1, 3]


@given(st.text(alphabet="rw0123456789x+-=*()[]<>us &|^%/goto:;,.#\n", max_size=40))
def test_any_text_gives_code_or_our_error(text: str) -> None:
    with contextlib.suppress(SourceError):
        assemble(text)
