"""A verifier's refusal as a person reads it: on the real verifier, and from logs of other kernels."""

from __future__ import annotations

import pytest

from tracebee.engine.kernel.refusal import MEANINGS, explain
from tracebee.errors import VerifierError
from tracebee.isa.insn import Insn
from tracebee.obj.image import Image
from tracebee.obj.model import Function, LineInfo

LINE = "kprobe:f { $x = *(uint64 *)arg0; @[$y] = count() }"


def image() -> Image:
    """Three slots, the last two from column 19 of line 3."""
    insns = [Insn(0xB7), Insn(0x79), Insn(0x95)]
    lines = [LineInfo(0, "probe.bt", LINE, 3, 1), LineInfo(1, "probe.bt", LINE, 3, 34)]
    return Image(insns, [], [(0, Function("kprobe", tuple(insns)))], lines, [0, 1, 2])


def explained(log: str) -> VerifierError:
    return explain(VerifierError("bpf(BPF_PROG_LOAD)", 13, "refused", log, program="kprobe"), image())


# (log, what the message must say): wording of several kernel versions, from 5.10 to 6.18.
LOGS = [
    (
        "0: (b7) r0 = 0\n1: (79) r0 = *(u64 *)(r0 +0)\nR0 invalid mem access 'scalar'\nprocessed 2 insns",
        "not know to be a pointer",
    ),
    (
        "1: (79) r0 = *(u64 *)(r0 +0)\nR0 invalid mem access 'inv'\nprocessed 2 insns",
        "not know to be a pointer",
    ),
    ("1: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\n", "may not be there"),
    ("1: (0f) r1 += r2\nR2 unbounded memory access, make sure to bounds check any such access\n", "no bound"),
    ("1: (85) call bpf_override_return#58\nunknown func bpf_override_return#58\n", "may not call"),
    ("1: (05) goto pc-2\nback-edge from insn 1 to 0\n", "cannot prove that a loop ends"),
    (
        "1: (05) goto pc-2\ninfinite loop detected at insn 1\ncur state: R0=0\nold state: R0=0\n",
        "cannot prove that a loop ends",
    ),
    (
        "BPF program is too large. Processed 1000001 insn\nprocessed 1000001 insns (limit 1000000)",
        "too complex",
    ),
    ("1: (79) r2 = *(u64 *)(r1 +9)\ninvalid bpf_context access off=9 size=8\n", "context has nothing"),
    ("1: (db) lock *(u64 *)(r1 +0) += r2\nBPF_STX uses reserved fields\nprocessed 0 insns\n", "since 5.12"),
    ("combined stack size of 2 calls is 544. Too large\n", "512 bytes of stack"),
    ("1: (bf) r0 = r5\nR5 !read_ok\n", "never set"),
]


@pytest.mark.parametrize(("log", "words"), LOGS)
def test_causes(log: str, words: str) -> None:
    error = explained(log)
    assert words in error.message
    assert error.hint
    assert error.log == log


def test_place_and_caret() -> None:
    message = explained("1: (79) r0 = *(u64 *)(r0 +0)\nR0 invalid mem access 'scalar'\n").message
    assert message.startswith("probe.bt:3:34: error: ")
    source, caret = message.splitlines()[1:3]
    assert LINE in source
    assert source[caret.index("^") :].startswith("@[$y]")


def test_what_was_known_of_the_register() -> None:
    log = "1: (79) r0 = *(u64 *)(r6 +0) ; R6_w=scalar(umax=255)\nR6 invalid mem access 'scalar'\n"
    assert "known: R6 is scalar(umax=255)" in explained(log).message


def test_unknown_complaints_are_shown_as_they_are() -> None:
    error = explained("1: (95) exit\nsomething nobody has seen\nprocessed 2 insns")
    assert "verifier: something nobody has seen" in error.message
    assert "-v" in (error.hint or "")


def test_every_meaning_is_a_sentence_part() -> None:
    for meaning in MEANINGS:
        assert not meaning.cause.endswith(".")
        assert meaning.advice


@pytest.mark.needs("bpf")
def test_refused_by_this_kernel() -> None:
    from tracebee import BPF

    with (
        BPF(asm="r0 = *(u64 *)(r1 +0)\nr0 = *(u64 *)(r0 +0)\nexit") as bpf,
        pytest.raises(VerifierError) as caught,
    ):
        bpf.attach_raw_tracepoint("sys_enter", "main")
    assert caught.value.message.startswith("asm:2:1: error: ")
    assert "R0 invalid mem access" in caught.value.message
    assert caught.value.program == "main"


@pytest.mark.needs("bpf")
def test_script_that_never_ends() -> None:
    from tracebee import Script

    script = Script("BEGIN { $i = 0; while ($i < 100000000) { $i++ } }", name="loop.bt")
    with pytest.raises(VerifierError) as caught, script:
        pass
    assert caught.value.message.startswith("loop.bt:1:")
    assert "too complex" in caught.value.message
