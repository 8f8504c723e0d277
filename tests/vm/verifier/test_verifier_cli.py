import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracebee", "vm", "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_script_is_accepted() -> None:
    done = run("-e", 'BEGIN { @[comm] = count(); printf("%d\\n", pid); }')
    assert done.returncode == 0, done.stderr
    assert "accepted:" in done.stdout


def test_a_refusal_says_why(tmp_path: Path) -> None:
    path = tmp_path / "bad.asm"
    path.write_text("r0 = *(u64 *)(r10 -600)\nexit\n")
    done = run(str(path))
    assert done.returncode == 1
    assert "invalid access to stack R10 off=-600 size=8" in done.stdout
    assert "hint: a frame has 512 bytes below r10" in done.stdout
    assert "at instruction 0: r0 = *(u64 *)(r10 -600)" in done.stdout


def test_wrong_arguments() -> None:
    assert "unknown option --x" in run("--x").stderr
    assert "there is no file" in run("/none.o").stderr
    assert "name a file, or use -e" in run("--strict-stack").stderr
    assert "--limit needs a value" in run("--limit").stderr
    assert "--limit takes a number, not '1x'" in run("--limit", "1x", "f.asm").stderr
    assert "there is no script 'none.bt'" in run("none.bt").stderr
    assert {run(*words).returncode for words in (("--x",), ("/none.o",), ("--limit",), ("none.bt",))} == {1}


def test_help() -> None:
    for words in ((), ("--help",), ("-h",)):
        done = run(*words)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: tracebee vm verify [OPTIONS] FILE")


def test_the_rules_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "unwritten.asm"
    path.write_text("r0 = *(u64 *)(r10 -8)\nexit\n")
    assert run(str(path)).returncode == 0  # the privileged may read what nobody wrote
    for option in ("--unprivileged", "--strict-stack"):
        done = run(option, str(path))
        assert done.returncode == 1
        assert "invalid read from stack" in done.stdout


def test_looking_ends_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "long.s"
    path.write_text("r0 = 0\n" * 50 + "exit\n")
    assert run(str(path)).returncode == 0
    done = run("--limit", "20", str(path))
    assert done.returncode == 1
    assert "20" in done.stdout


def test_one_program_of_several() -> None:
    script = "BEGIN { } interval:s:1 { @ = count(); }"
    both = run("-e", script).stdout
    assert both.count("accepted") == 2
    one = run("--program", "interval", "-e", script).stdout
    assert one.count("accepted") == 1
    assert one.startswith("interval (")
    wrong = run("--program", "nope", "-e", script)
    assert wrong.returncode == 1
    assert "there is no program 'nope'\n  hint: the programs are begin, interval" in wrong.stderr


def test_a_script_in_a_file_with_parameters(tmp_path: Path) -> None:
    path = tmp_path / "parameters.bt"
    path.write_text("BEGIN { @[$1] = str($2); }")
    done = run(str(path), "7", "word")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("begin (")


@pytest.mark.needs("clang", "btf")
def test_an_object_file(compiled: Callable[[str], str]) -> None:
    done = run(compiled("core"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("exec (raw_tp/sched_process_exec): accepted")
    # What this kernel lacks is refused here too.
    done = run(compiled("missing"))
    assert done.returncode == 1
    assert "program 'exec' needs the field struct task_struct___mine.no_such_member" in done.stdout
    _, line, caret, *_ = done.stdout.splitlines()
    assert line.endswith("| \tseen = BPF_CORE_READ(task, no_such_member);")
    assert line[caret.index("^") :].startswith("no_such_member")
    assert caret.count("\t") == 1
    assert "bpf_core_field_exists()" in done.stdout
