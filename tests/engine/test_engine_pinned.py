"""Scripts that stay in the kernel: left by one process, read and ended by others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tracebee.cli.main import guarded
from tracebee.engine.kernel import pinned
from tracebee.engine.kernel.pinned import PinnedEngine
from tracebee.engine.kernel.pinned_directory import pinned_scripts
from tracebee.errors import SymbolError, UsageError
from tracebee.kernel import mounts, pins
from tracebee.kernel.mounts import open_detached
from tracebee.lang import portable

pytestmark = pytest.mark.needs("bpf")

SCRIPT = """
BEGIN { printf("begun\\n"); }
tracepoint:syscalls:sys_enter_getpgid /pid == PID/ { @[comm] = count(); printf("call %d\\n", args.pid); }
END { printf("ended\\n"); }
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bpffs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A private BPF file system in the place of the machine's."""
    with open_detached("bpf") as root:
        place = f"/proc/self/fd/{root.fd}"
        monkeypatch.setattr(mounts, "bpffs", lambda: place)
        mounted = mounts.mounted
        monkeypatch.setattr(mounts, "mounted", lambda kind: [place] if kind == "bpf" else mounted(kind))
        yield place


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str) -> tuple[int, str, str]:
        code = guarded(words)
        out = capfd.readouterr()
        return code, out.out, out.err

    return command


def leave(run: Run, name: str, script: str = SCRIPT) -> None:
    code, out, err = run("--pin", name, "-e", script.replace("PID", str(os.getpid())))
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")


def test_left_read_and_ended(bpffs: str, run: Run) -> None:
    leave(run, "calls")
    os.getpgid(0)
    os.getpgid(1)
    code, out, err = run("attach", "calls", "now")
    assert (code, err) == (0, "")
    comm = Path("/proc/self/comm").read_text().strip()
    assert out.split() == ["begun", "call", "0", "call", "1", f"@[{comm}]:", "2"]
    os.getpgid(0)
    code, out, err = run("detach", "calls")
    assert (code, err) == (0, "")
    assert out.split() == ["call", "0", "ended", f"@[{comm}]:", "3"]
    assert list(pins.walk(bpffs)) == []
    assert os.listdir(f"{bpffs}/tracebee") == []


def test_output_as_json(bpffs: str, run: Run) -> None:
    leave(run, "calls")
    os.getpgid(0)
    _, out, _ = run("detach", "calls", "-j")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["data"] for record in records if record["type"] == "printf"] == [
        "begun\n",
        "call 0\n",
        "ended\n",
    ]


def test_listing(bpffs: str, run: Run) -> None:
    assert run("attach") == (0, "", "")
    leave(run, "two")
    leave(run, "one", "tracepoint:syscalls:sys_enter_getpgid { }")
    (_, out, _) = run("attach", "-j")
    assert [(row["name"], row["probes"], row["source"]) for row in json.loads(out)] == [
        ("one", 1, "-e"),
        ("two", 3, "-e"),
    ]
    assert [script.name for script in pinned_scripts()] == ["one", "two"]
    for name in ("one", "two"):
        assert run("detach", name)[0] == 0


def test_names_that_are_taken_or_unknown(bpffs: str, run: Run) -> None:
    leave(run, "calls")
    code, _, err = run("--pin", "calls", "-e", "BEGIN { }")
    assert code == 1
    assert err == (
        "ERROR: a script is pinned as 'calls' already\n"
        "  hint: 'tracebee attach calls' shows it, 'tracebee detach calls' ends it\n"
    )
    with pytest.raises(SymbolError) as caught:
        PinnedEngine("cals")
    assert caught.value.candidates == ("calls",)
    with pytest.raises(UsageError, match="neither a plain name nor an absolute path"):
        PinnedEngine("a/b")
    assert run("detach", "calls")[0] == 0
    code, _, err = run("detach", "calls")
    assert (code, err.splitlines()[0]) == (1, "ERROR: no script is pinned as 'calls'")


def test_one_reader_at_a_time(bpffs: str, run: Run) -> None:
    leave(run, "calls")
    first = PinnedEngine("calls")
    try:
        with pytest.raises(UsageError, match=f"process {os.getpid()} is reading 'calls'"):
            PinnedEngine("calls")
    finally:
        first.close()
    assert run("detach", "calls")[0] == 0


def test_exit_stops_the_script_in_the_kernel(bpffs: str, run: Run) -> None:
    leave(
        run,
        "few",
        """tracepoint:syscalls:sys_enter_getpgid /pid == PID/ { @n++; if (@n == 2) { exit(7); } }
        END { printf("n %d\\n", @n); }""",
    )
    for _ in range(5):
        os.getpgid(0)
    code, out, err = run("attach", "few")  # returns at once
    assert (code, out.split()) == (7, ["@n:", "2"])
    assert err == "few has stopped: it called exit(); 'tracebee detach few' removes it\n"
    # The record of exit() has been read, and the script has still stopped.
    os.getpgid(0)
    code, out, err = run("attach", "few")
    assert (code, out.split()) == (0, ["@n:", "2"])
    code, out, err = run("detach", "few")
    assert (code, err, out.split()) == (7, "", ["n", "2", "@n:", "2"])


def test_time_is_the_time_of_the_event(bpffs: str, run: Run) -> None:
    leave(run, "calls", 'tracepoint:syscalls:sys_enter_getpgid /pid == PID/ { time("%s\\n"); }')
    before = int(time.time())
    os.getpgid(0)
    after = int(time.time())
    time.sleep(1.1)
    code, out, _ = run("detach", "calls")
    assert code == 0
    assert before <= int(out) <= after


def test_losses_are_told(bpffs: str, run: Run) -> None:
    text = "config = { perf_rb_pages = 1 } "
    text += 'tracepoint:syscalls:sys_enter_getpgid /pid == PID/ { printf("call %d\\n", args.pid); }'
    leave(run, "calls", text)
    for number in range(1000):
        os.getpgid(0 if number else 1)
    code, out, _ = run("attach", "calls", "now")
    lines = out.split("\n")
    seen = sum(line.startswith("call") for line in lines)
    lost = next(int(line.split()[1]) for line in lines if line.startswith("Lost"))
    assert (code, lines[0], seen + lost) == (0, "call 1", 1000)
    assert "Lost" not in run("attach", "calls", "now")[1]  # they have been told of
    for _ in range(1000):
        os.getpgid(0)
    code, out, _ = run("detach", "calls")
    lines = out.split("\n")
    seen = sum(line.startswith("call") for line in lines)
    assert seen + next(int(line.split()[1]) for line in lines if line.startswith("Lost")) == 1000


def test_an_interrupted_pinning_is_cleared_away(bpffs: str, run: Run) -> None:
    leave(run, "half")
    os.unlink(f"{bpffs}/tracebee/half/script")
    assert run("attach") == (0, "", "")
    code, _, err = run("--pin", "half", "-e", "BEGIN { }")
    assert code == 1
    assert err == (
        "ERROR: what is left of 'half' is in the way: its pinning was interrupted, or is going on\n"
        "  hint: 'tracebee detach half' removes it\n"
    )
    assert run("detach", "half") == (0, "", "half was not pinned whole; what there was is removed\n")
    assert os.listdir(f"{bpffs}/tracebee") == []


def test_scripts_of_other_versions(bpffs: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(run, "old")
    monkeypatch.setattr(portable, "_VERSION", 99)
    for command in ("attach", "detach"):
        code, out, err = run(command, "old")
        assert (code, out) == (1, "")
        assert err == (
            "ERROR: 'old' was left by another version of tracebee, which alone can read it\n"
            f"  hint: rm -r {bpffs}/tracebee/old ends it, and prints nothing\n"
        )
    shutil.rmtree(f"{bpffs}/tracebee/old")
    assert list(pins.walk(bpffs)) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a.b", "/", "a" * 256])
def test_names_that_bpffs_does_not_take(bpffs: str, run: Run, name: str) -> None:
    code, _, err = run("--pin", name, "-e", "BEGIN { }")
    assert code == 1
    assert "no name for a pinned script" in err or "256 bytes of at most 255" in err
    assert list(pins.walk(bpffs)) == []


def test_options_that_are_the_readers(bpffs: str, run: Run, tmp_path: Path) -> None:
    for words in (("-f", "json"), ("-o", "x"), ("--dry-run",)):
        code, _, err = run("--pin", "x", *words, "-e", "BEGIN { }")
        assert (code, err.splitlines()[0]) == (1, f"ERROR: {words[0]} is of no use with --pin")
    assert "there is no process 4194303" in run("--pin", "x", "-p", "4194303", "-e", "BEGIN { }")[2]
    assert list(pins.walk(bpffs)) == []
    header = tmp_path / "numbers.h"
    header.write_text("#define ANSWER 42\n")
    code, _, err = run("--pin", "x", "--include", str(header), "-e", 'BEGIN { printf("%d\\n", ANSWER); }')
    assert (code, err) == (0, "")
    assert run("detach", "x")[1].split() == ["42"]


def test_failure_leaves_nothing(bpffs: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pinned, "to_object", full)
    code, _, err = run("--pin", "calls", "-e", SCRIPT.replace("PID", "1"))
    assert code == 1
    assert "No space left" in err
    assert os.listdir(f"{bpffs}/tracebee") == []
    assert list(pins.walk(bpffs)) == []


def test_what_cannot_be_left(bpffs: str, run: Run) -> None:
    assert "without a process" in run("--pin", "x", "-c", "true", "-e", "BEGIN { }")[2]
    place = f"{bpffs}/no/such/directory"
    code, _, err = run("--pin", place, "-e", "tracepoint:syscalls:sys_enter_getpgid { }")
    assert (code, err) == (1, f"ERROR: cannot pin as '{place}': {place}: no such file or directory\n")
    code, _, err = run("--pin", "/tmp/tracebee-no-bpffs", "-e", "tracepoint:syscalls:sys_enter_getpgid { }")
    assert code == 1
    assert "the directory is not on a BPF file system" in err
    assert not os.path.exists("/tmp/tracebee-no-bpffs")


UNSHARED = """
mount -t bpf bpf /sys/fs/bpf
{python} -m tracebee --pin ticks -e 'profile:hz:99 {{ @ = count(); }}'
{python} -c 'import time; time.sleep(0.3)'
{python} -m tracebee detach ticks
"""


def test_it_runs_on_without_its_process() -> None:
    script = UNSHARED.format(python=sys.executable)
    out = subprocess.run(["unshare", "-m", "sh", "-ec", script], capture_output=True, text=True, check=True)
    words = out.stdout.split()
    assert words[-2] == "@:"
    assert int(words[-1]) > 1
