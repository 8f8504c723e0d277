"""``tracebee gen``: files made of object files, and what it says when it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import tracebee
from tracebee.cli.main import guarded
from tracebee.obj.elf_reader import read_object

Compiled = Callable[[str], str]


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = guarded(argv)
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.needs("clang")
def test_objects_are_linked_into_a_file(
    compiled: Compiled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "whole.bpf.o")
    inputs = [compiled("link_main"), compiled("link_library")]
    assert said(capsys, "gen", "object", target, *inputs) == (0, "", "")
    whole = read_object(target)
    assert {p.name for p in whole.programs} == {"calls", "data", "kernel", "fill"}
    assert not [e for e in whole.externs if e.kind == "object"]
    assert said(capsys, "-j", "gen", "object", target, *inputs) == (0, "null\n", "")


@pytest.mark.needs("clang")
def test_the_library_links_too(compiled: Compiled, tmp_path: Path) -> None:
    target = tmp_path / "whole.bpf.o"
    tracebee.link_objects(target, compiled("link_main"), Path(compiled("link_library")))
    with tracebee.Object(target) as obj:
        assert obj.variables["shared"] == 4
    with pytest.raises(tracebee.TracebeeError, match="nothing to link"):
        tracebee.link_objects(target)


@pytest.mark.needs("clang")
def test_what_does_not_fit_names_the_files_and_writes_none(
    compiled: Compiled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "whole.bpf.o"
    one = compiled("link_library")
    other = str(tmp_path / "library.bpf.o")
    Path(other).write_bytes(Path(one).read_bytes())
    code, out, err = said(capsys, "gen", "object", str(target), one, other)
    assert (code, out) == (1, "")
    assert f"is defined in {one} and in {other}\n  hint: make one of them static, or __weak" in err
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["object"], "expected the file to write"),
        (["object", "{0}/x.o"], "expected an object file"),
        (["object", "{0}/x.o", "{0}/none.o"], "{0}/none.o: No such file"),
        (["object", "{0}/x.o", "/etc/passwd"], "/etc/passwd is not an ELF file"),
        (["min_core_btf", "/sys/kernel/btf/vmlinux"], "expected the file to write"),
        (["skeleton", "a.bpf.o"], 'no skeletons: .*\n  hint: with tracebee.Object\\("a.bpf.o"\\)'),
        (["subskeleton", "a.bpf.o"], "there are no skeletons"),
        (["oject"], "there is no command 'oject'\n  hint: did you mean 'object'"),
    ],
)
def test_errors(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, "gen", *(word.format(tmp_path) for word in words))
    assert (code, out) == (1, "")
    assert re.search(message.format(tmp_path), err), err
    assert "Traceback" not in err


@pytest.mark.needs("btf", "clang")
def test_types_for_old_kernels_by_both_spellings(compiled: Compiled, tmp_path: Path) -> None:
    made = []
    for command in ("gen", "btf"):
        target = tmp_path / command
        words = ["min_core_btf", "/sys/kernel/btf/vmlinux", str(target), compiled("core")]
        assert guarded([command, *words]) == 0
        made.append(target.read_bytes())
    assert made[0] == made[1]
    assert len(made[0]) > 100
