"""The command line: how it is parsed, and what is printed when it is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.cli.arguments import OPTIONS, parse, usage
from tracebee.cli.main import COMMANDS, guarded
from tracebee.errors import UsageError


def test_script_and_parameters() -> None:
    found = parse(["-v", "probe.bt", "1", "two", "-5"])
    assert (found.script, found.parameters, found.flag("verbose")) == ("probe.bt", ["1", "two", "-5"], True)


def test_program_and_parameters() -> None:
    found = parse(["-e", "BEGIN {}", "42"])
    assert (found.text("program"), found.script, found.parameters) == ("BEGIN {}", None, ["42"])


def test_options_may_stand_behind_the_script() -> None:
    found = parse(["opensnoop", "-p", "7", "x"])
    assert (found.script, found.text("pid"), found.parameters) == ("opensnoop", "7", ["x"])


def test_named_parameters() -> None:
    found = parse(["probe.bt", "--", "--top=5", "--all", "x"])
    assert (found.named, found.parameters) == ({"top": "5", "all": "true"}, ["x"])


@pytest.mark.parametrize("words", [["-lv", "x"], ["-l", "-v", "x"], ["-l", "x", "-v"], ["x", "-l", "-v"]])
def test_short_options_run_together(words: list[str]) -> None:
    found = parse(words)
    assert found.flag("list")
    assert found.flag("verbose")
    assert found.parameters == ["x"]


@pytest.mark.parametrize("words", [["-p", "42"], ["-p42"]])
def test_values(words: list[str]) -> None:
    assert parse([*words, "s"]).text("pid") == "42"


def test_repeated_options() -> None:
    assert parse(["--include", "a.h", "--include=b.h", "s"]).many("include") == ["a.h", "b.h"]


def test_standard_input() -> None:
    assert parse(["-"]).script == "-"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frobnicate"], "unknown option '--frobnicate'"),
        (["-Z"], "unknown option '-Z'"),
        (["-e"], "needs a value"),
        (["--unsafe=1"], "takes no value"),
        (["-p", "1", "-p", "2"], "given twice"),
    ],
)
def test_wrong_options(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(words)


def test_help_names_every_option() -> None:
    assert all(name in usage() for option in OPTIONS for name in option.names)


def test_every_subcommand_has_a_module() -> None:
    here = os.path.dirname(sys.modules["tracebee.cli.main"].__file__ or "")
    missing = [name for name, module in COMMANDS.items() if not os.path.exists(f"{here}/{module}.py")]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_is_in_the_help_and_has_its_own(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    subcommands = usage().partition("subcommands, each with --help:")[2]
    assert re.search(rf"\b{name}\b", subcommands)
    assert guarded([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: tracebee")


# Errors print one clear text on stderr, and the exit code is 1; {0} is a directory of the test's own.
ERRORS = [
    (["--bad"], "ERROR: unknown option '--bad'\n  hint: tracebee --help lists the options\n"),
    (["no_such_tool"], "ERROR: 'no_such_tool' is neither a file nor a tool\n"),
    (["/no/such/script.bt"], "ERROR: there is no script '/no/such/script.bt'\n"),
    (["-p", "4194303", "-e", "BEGIN {}"], "ERROR: there is no process 4194303\n"),
    (["-p", "x", "-e", "BEGIN {}"], "ERROR: 'x' is not a process id\n"),
    (["-p", "1", "-c", "true", "-e", "BEGIN {}"], "ERROR: -p and -c exclude each other"),
    (["-c", "no_such_program", "-e", "BEGIN {}"], "ERROR: no program 'no_such_program' on PATH\n"),
    (["--engine", "magic", "-e", "BEGIN {}"], "ERROR: 'magic' is not an engine\n"),
    (["-f", "xml", "-e", "BEGIN { exit() }"], "ERROR: 'xml' is not one of text, json, folded, svg\n"),
    (["-o", "/no/such/dir/out", "-e", "BEGIN { exit() }"], "ERROR: /no/such/dir/out: No such file"),
    (
        ["-e", "kprobee:f { }"],
        "stdin:1:1: error: unknown probe kind 'kprobee'\n"
        "    1 | kprobee:f { }\n"
        "      | ^~~~~~~~~\n"
        "  hint: did you mean 'kprobe'",
    ),
    (
        ["-e", "software:page-fault:1 { }"],
        "stdin:1:1: error: no software event is called 'page-fault'\n"
        "    1 | software:page-fault:1 { }\n"
        "      | ^~~~~~~~~~~~~~~~~~~~~\n"
        "  hint: did you mean 'page-faults'?\n",
    ),
    (
        ["-e", "uprobe:libc:mallok { }"],
        "stdin:1:1: error: /lib/x86_64-linux-gnu/libc.so.6 has no function 'mallok'\n"
        "    1 | uprobe:libc:mallok { }\n"
        "      | ^~~~~~~~~~~~~~~~~~\n"
        "  hint: did you mean 'malloc'?\n",
    ),
    (
        ["-e", "interval:s:1 { @ = arg0 }"],
        "stdin:1:20: error: interval probes have no argN\n"
        "    1 | interval:s:1 { @ = arg0 }\n"
        "      |                    ^~~~\n"
        "  hint: argN exists in: kprobe, uprobe, usdt, rawtracepoint, fentry\n",
    ),
    (
        ["-e", 'BEGIN { @x = 1; @x = "a" }'],
        "stdin:1:17: error: ",
    ),
]


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(
    ("words", "text"), ERRORS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_errors(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(words) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(text)
    assert "Traceback" not in errors


@pytest.mark.needs("bpf")
def test_unknown_tracepoint_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["-e", "tracepoint:sched:sched_proces_exec { }"]) == 1
    assert capsys.readouterr().err == (
        "stdin:1:1: error: no tracepoint matches 'sched:sched_proces_exec'\n"
        "    1 | tracepoint:sched:sched_proces_exec { }\n"
        "      | ^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\n"
        "  hint: did you mean 'sched_process_exec'?\n"
    )


@pytest.mark.needs("bpf")
def test_unknown_argument_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    script = "tracepoint:syscalls:sys_enter_openat { @ = str(args.filname) }"
    assert guarded(["-e", script]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("stdin:1:53: error: ")
    assert "  hint: did you mean 'filename'?" in errors


@pytest.mark.needs("no_kprobe")
def test_no_kprobes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["-e", "kprobe:vfs_read { }"]) == 1
    assert "this kernel has no kprobes" in capsys.readouterr().err


@pytest.mark.needs("no_hardware")
def test_no_counters_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["-e", "hardware:cycles { }"]) == 1
    assert "hardware event cpu-cycles" in capsys.readouterr().err


def _as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    # The interpreter may lie where nobody may not look: that much is still allowed.
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    drop += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = [*drop, sys.executable, "-m", "tracebee", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.needs("unprivileged")
def test_missing_privileges_name_the_capability() -> None:
    done = _as_nobody("--engine", "kernel", "-e", "BEGIN { exit() }")
    assert done.returncode == 1
    assert "CAP_BPF" in done.stderr
    assert "Traceback" not in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import tracebee

    assert guarded(["--version"]) == 0
    assert capsys.readouterr().out == f"tracebee v{tracebee.__version__}\n"


def test_defects_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tracebee.cli.main.main", lambda _argv: 1 // 0)
    assert guarded([]) == 1
    assert capsys.readouterr().err.startswith("ERROR: ZeroDivisionError: ")
    monkeypatch.setenv("TRACEBEE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        guarded([])


@pytest.mark.needs("bpf")
def test_building_warns_with_the_place(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = ["-e", "tracepoint:sched:no_such,interval:s:1 { exit(); }", "-o", str(tmp_path / "a.o")]
    assert guarded(["build", *script]) == 0
    assert "stdin:1:1: warning: " in capfd.readouterr().err
    assert guarded(["build", *script, "--no-warnings"]) == 0
    assert capfd.readouterr().err == ""
