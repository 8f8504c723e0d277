"""What a kernel lacks, asked for without a guard: refused as by libbpf, and named with its C line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tracebee.engine.kernel.loader import load_object
from tracebee.errors import VerifierError
from tracebee.obj.elf_reader import read_object

SOURCE = Path(__file__).parents[1] / "obj" / "programs" / "unguarded.bpf.c"
MINE = "struct task_struct___mine"

# What each CASE of the source is refused for, the word its line has for that, and why.
CASES = {
    0: (f"{MINE}.no_such_member", "no_such_member", "this kernel does not have"),
    1: (f"{MINE}.no_such_member", "no_such_member", "this kernel does not have"),
    2: (f"{MINE}.no_such_bits", "no_such_bits", "this kernel does not have"),
    3: (f"{MINE}.no_such_array[2]", "no_such_array", "this kernel does not have"),
    4: ("struct signal_struct___mine.no_nested_member", "no_nested_member", "this kernel does not have"),
    5: ("enum pid_type___mine::PIDTYPE_NONE_SUCH", "PIDTYPE_NONE_SUCH", "this kernel does not have"),
    6: ("struct no_such_struct.member", "member", "this kernel does not have"),
    7: (f"{MINE}.comm", "comm", "is of another type in this kernel"),
    8: (f"{MINE}.real_parent[1].next", "next", "this kernel does not have"),
    9: (f"{MINE}.prio", "prio", "has another size or sign in this kernel"),
    10: (f"{MINE}.no_such_array", "no_such_array", "this kernel does not have"),
    11: ("bpf_no_such_function", "bpf_no_such_function", "this kernel does not have"),
    12: (f"{MINE}.no_such_member", "no_such_member", "this kernel does not have"),
    13: (f"{MINE}.no_such_member", "no_such_member", "this kernel does not have"),
}
# What libbpf calls the relocations that are not of a field's offset.
RELOCATIONS = {5: "<enumval_value>", 10: "<byte_sz>"}


def build(case: int, folder: Path) -> str:
    target = str(folder / "unguarded.bpf.o")
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", include, f"-DCASE={case}"]
    subprocess.run(["clang", *options, "-c", str(SOURCE), "-o", target], check=True)
    return target


def line_of(case: int, word: str) -> tuple[int, str]:
    """The line of the source that a case is about: behind its ``CASE == n``, or in the function it calls."""
    lines = SOURCE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith(f"CASE == {case}"))
    if "inside(" in lines[start + 1]:
        start = next(i for i, line in enumerate(lines) if "int inside(" in line)
    number = next(i for i, line in enumerate(lines) if i > start and word in line)
    return number + 1, lines[number]


@pytest.mark.needs("bpf", "clang", "bpftool")
@pytest.mark.parametrize("case", CASES)
def test_named_and_refused_as_libbpf_refuses_it(case: int, tmp_path: Path) -> None:
    thing, word, why = CASES[case]
    path = build(case, tmp_path)
    with pytest.raises(VerifierError) as caught:
        load_object(read_object(path))
    number, text = line_of(case, word)
    head, excerpt, caret = caught.value.message.splitlines()
    assert head.startswith(f"{SOURCE}:{number}:")
    assert head.endswith(f"which {why}")
    assert "program 'gather'" in head
    assert thing in head
    assert excerpt.endswith(text)
    assert excerpt[caret.index("^") :].startswith(word)
    assert caught.value.hint
    assert "unknown#195896080" in caught.value.log
    # In a mount namespace of its own: nothing that is pinned stays.
    mount = tmp_path / "bpffs"
    mount.mkdir()
    steps = f"mount -t bpf bpf {mount} && bpftool prog loadall {path} {mount}/p"
    done = subprocess.run(["unshare", "-m", "sh", "-c", steps], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    if word == "bpf_no_such_function":
        assert "invalid kernel function call" in done.stderr
    else:
        assert f"failed to resolve CO-RE relocation {RELOCATIONS.get(case, '<byte_off>')}" in done.stderr
        assert f" {thing} " in done.stderr
