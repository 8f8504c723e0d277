"""``-d``: the stages of a script's way to machine code."""

from __future__ import annotations

import pytest

from tracebee.api.compiling import compile_text
from tracebee.cli.dump import dump
from tracebee.errors import UsageError
from tracebee.lang.script import Script
from tracebee.source import Source

SCRIPT = Source("stdin", "BEGIN { $x = 1 + 2; exit(); }")


def _dump(stages: str) -> int:
    def compile_script(after_pass) -> Script:  # type: ignore[no-untyped-def]
        return compile_text(SCRIPT, after_pass=after_pass)

    return dump(SCRIPT, compile_script, stages)


def test_all_is_tree_ir_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert _dump("all") == 0
    shown = capsys.readouterr().out
    tree, rest = shown.split("func begin(ctx %ctx) -> i64\n")
    ir, code = rest.split("begin:\n")
    assert "exit" in tree
    assert "; 1:21" in ir
    assert "(95) exit" in code


def test_passes_show_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    _dump("passes")
    lowered, *later = capsys.readouterr().out.split("; after ")[1:]
    assert lowered.startswith("lowering\n")
    assert "set x" in lowered or "set $x" in lowered
    assert "set" not in later[-1]


def test_cfg_is_dot(capsys: pytest.CaptureFixture[str]) -> None:
    _dump("cfg")
    assert capsys.readouterr().out.startswith('digraph "begin" {')


def test_an_unknown_stage() -> None:
    with pytest.raises(UsageError, match="no stage is called 'llvm'"):
        _dump("llvm")
