"""The conformance suite's dialect, against the kernel's notation of the same instructions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import SourceError
from tracebee.isa.asm import assemble as assemble_kernel
from tracebee.isa.asm_ubpf import assemble, disassemble

PAIRS = [
    ("mov %r0, 1", "r0 = 1"),
    ("mov r0, 1", "r0 = 1"),
    ("mov32 %r1, %r2", "w1 = w2"),
    ("mov %r1, 0xffffffff", "r1 = -1"),
    ("add %r1, -1", "r1 += -1"),
    ("sdiv32 %r1, %r2", "w1 s/= w2"),
    ("smod %r1, 3", "r1 s%= 3"),
    ("neg %r3", "r3 = -r3"),
    ("arsh %r1, 2", "r1 s>>= 2"),
    ("movsx8 %r1, %r2", "r1 = (s8)r2"),
    ("be16 %r1", "r1 = be16 r1"),
    ("swap32 %r1", "r1 = bswap32 r1"),
    ("bswap32 %r1", "r1 = bswap32 r1"),
    ("lddw %r1, 0x8877665544332211", "r1 = 0x8877665544332211"),
    ("ldxdw %r0, [%r1+8]", "r0 = *(u64 *)(r1 +8)"),
    ("ldxb %r0, [%r1]", "r0 = *(u8 *)(r1 +0)"),
    ("ldxsh %r0, [%r1-2]", "r0 = *(s16 *)(r1 -2)"),
    ("stw [%r10-4], 7", "*(u32 *)(r10 -4) = 7"),
    ("stxh [%r1+0x10], %r3", "*(u16 *)(r1 +16) = r3"),
    ("lock add [%r10-8], %r1", "lock *(u64 *)(r10 -8) += r1"),
    ("lock fetch or32 [%r10-8], %r1", "r1 = atomic_fetch_or((u32 *)(r10 -8), r1)"),
    ("lock xchg [%r1], %r2", "r2 = atomic64_xchg((u64 *)(r1 +0), r2)"),
    ("lock fetch cmpxchg32 [%r1], %r2", "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)"),
    ("ja +3", "goto +3"),
    ("ja32 -3", "gotol -3"),
    ("jne %r1, 5, +1", "if r1 != 5 goto +1"),
    ("jslt32 %r1, %r2, -4", "if w1 s< w2 goto -4"),
    ("call 5", "call 5"),
    ("call helper 5", "call 5"),
    ("call bpf_map_lookup_elem", "call 1"),
    ("call local +2", "call pc+2"),
    ("call runtime 0x2a", "call kernel-function#42"),
    ("ldabsw 14", "r0 = *(u32 *)skb[14]"),
    ("ldindb %r2, -1", "r0 = *(u8 *)skb[r2 + -1]"),
    ("load_acquire dw %r1, [%r2+8]", "r1 = load_acquire((u64 *)(r2 +8))"),
    ("store_release b [%r2+8], %r3", "store_release((u8 *)(r2 +8), r3)"),
    ("exit", "exit"),
]


@pytest.mark.parametrize(("text", "kernel"), PAIRS)
def test_means_the_kernels(text: str, kernel: str) -> None:
    assert assemble(text) == assemble_kernel(kernel)


@given(st.lists(st.sampled_from([kernel for _, kernel in PAIRS]), min_size=1, max_size=8))
def test_round_trip(lines: list[str]) -> None:
    insns = assemble_kernel("\n".join(lines))
    assert assemble("\n".join(disassemble(insns))) == insns


def test_labels() -> None:
    insns = assemble(
        "top:\nlddw %r1, 1\njeq %r1, 1, out # comment\nja top\ncall local f\nout:\nexit\nf:\nexit"
    )
    assert [insn.off for insn in insns[1:3]] == [2, -4]
    assert insns[3].imm == 1


def test_exit_is_a_label_of_its_own() -> None:
    assert assemble("jeq %r0, 0, exit\nmov %r0, 1\nexit\nexit")[0].off == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frob %r1", "there is no instruction 'frob'"),
        ("mov %r1", "'mov' does not take these operands: %r1"),
        ("ja nowhere", "there is no label 'nowhere'"),
        ("mov %r16, 1", "there is no register %r16"),
        ("mov %r1, 0x100000000", "4294967296 does not fit 32 bits"),
        ("ldxb %r1, [%r2+40000]", "40000 does not fit a signed 16-bit offset"),
        ("ldxb %r1, [%r2*3]", "expected [register+offset]"),
        ("call somewhere far away", "expected 'call helper N'"),
        ("lock", "'lock' needs an operation"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        assemble(text)
    assert message in caught.value.diagnostics[0].message


@given(st.text(alphabet="movjaldxst%r0123456789[]+-, #:\nlockcall", max_size=40))
def test_any_text_gives_code_or_our_error(text: str) -> None:
    try:
        assemble(text)
    except SourceError as error:
        assert str(error)  # noqa: PT017
