"""The conformance cases on every engine there is: the interpreter and the running kernel."""

from pathlib import Path

import pytest

from tracebee.cli.vm import run as run_vm
from tracebee.errors import DecodeError
from tracebee.isa.codec import decode
from tracebee.isa.opcodes import OPCODES, find
from tracebee.vm.conformance import Case, check, interpret, parse, run_in_kernel

FILES = sorted((Path(__file__).parent / "conformance").glob("*.data"))
CASES = [parse(path.read_text(), path.stem) for path in FILES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_interpreter(case: Case) -> None:
    verdict = check(case, interpret)
    assert verdict.passed, verdict


@pytest.mark.needs("bpf")
def test_kernel() -> None:
    """Every result is the kernel's own, and what must be refused it refuses."""
    failed = {case.name: verdict for case in CASES if not (verdict := check(case, run_in_kernel)).passed}
    assert failed == {}


def test_cases_cover_every_instruction_of_every_group() -> None:
    used = {
        row.name for case in CASES if case.result is not None for row in map(find, decode(case.code)) if row
    }
    # These need something beside a program and its memory: maps, helpers, kernel functions, arenas.
    outside = {
        "call_helper", "call_kfunc", "call_module_kfunc", "addr_space_cast", "gotox", "may_goto",
        "mov_percpu_addr", "nospec",
    }  # fmt: skip
    missing = {row.name for row in OPCODES} - used - outside
    assert {name for name in missing if not name.startswith("lddw_")} == set()


@pytest.mark.needs("x86_64")
def test_machine_code_is_not_given_what_must_be_refused(capfd: pytest.CaptureFixture[str]) -> None:
    names = ("fibonacci", "gcd", "error-infinite-loop", "error-null")
    files = [str(path) for path in FILES if path.stem in names]
    assert len(files) == 4
    assert run_vm(["conformance", "--jit", *files]) == 0
    out = capfd.readouterr().out
    assert "2 of 2 cases passed" in out
    assert "2 left out: they must be refused" in out


def test_there_are_many() -> None:
    assert len(CASES) > 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- asm\nexit\n", "neither a result nor an error"),
        ("-- result\n1\n", "there is no program"),
        ("-- asm\nexit\n-- result\nseven\n", "seven"),
        ("-- asm\nexit\n-- mem\nzz\n-- result\n1\n", "hexadecimal"),
        ("-- poem\nexit\n", "unknown section 'poem'"),
        ("-- raw\n1 2 x\n-- result\n1\n", "'x'"),
    ],
)
def test_broken_files(text: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse(text, "broken")
