"""One script, one workload, both engines: the maps agree. The user engine runs as an unprivileged user."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("bpf", "gcc", "x86_64", "unprivileged")
HERE = Path(__file__).parent
SOURCE = Path(__file__).parents[3] / "src" / "tracebee"
NOBODY = 65534


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that anyone may read, with the package and the workload."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        shutil.copytree(SOURCE, folder / "tracebee", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(
            ["gcc", "-O1", "-fno-omit-frame-pointer", "-pthread", "-o", folder / "target", HERE / "target.c"],
            check=True,
        )
        yield folder
    finally:
        shutil.rmtree(folder)


def interpreter() -> str:
    """A Python that the user nobody can run."""
    mine = os.path.realpath(sys.executable)
    # setpriv still has its capabilities when it executes a program, so a shell asks for it.
    ask = ["sh", "-c", 'exec "$0" -c ""', mine]
    probe = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *ask]
    allowed = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    return mine if allowed else "/usr/bin/python3"


def trace(place: Path, engine: str, script: str, command: str) -> dict[str, Any]:
    """The maps a script leaves, by their names."""
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if engine == "user" else []
    run = [interpreter(), "-m", "tracebee", "--engine", engine, "-f", "json", "-e", script, "-c", command]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*drop, *run], capture_output=True, text=True, check=False, env=environment, cwd=place, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        if record["type"] in ("map", "hist", "stats"):
            found |= record["data"]
    return found


# The workload's own process id keeps the kernel engine to what the user engine traces. Addresses differ
# from run to run, so nothing prints any.
CASES = {
    "calls": ("uprobe:{t}:work { @ = count(); @args = hist(arg0); }", "work 300"),
    "returns": ("uretprobe:{t}:work { @r = sum(retval); @l = lhist(retval, 0, 600, 50); }", "work 300"),
    "recursion": (
        "uprobe:{t}:recurse { @in = count(); @max = max(arg0); } "
        "uretprobe:{t}:recurse { @out = sum(retval); }",
        "recurse 30",
    ),
    "longjmp": (
        "uprobe:{t}:jumper { @in = count(); } uretprobe:{t}:jumper { @out = sum(retval); }",
        "jump 60",
    ),
    "threads": ("uprobe:{t}:work { @[tid == pid] = count(); @sum = sum(arg0); }", "threads 100"),
    # With -c the kernel engine's uprobes see the command alone, the user engine's its children too.
    "a forking command": ("uprobe:{t}:work /pid == cpid/ { @ = count(); }", "fork 40"),
    "latency shape": (
        "uprobe:{t}:work { @start[tid] = 1; } "
        "uretprobe:{t}:work /@start[tid]/ { @n = count(); delete(@start[tid]); }",
        "work 50",
    ),
    "strings and predicates": (
        'uprobe:{t}:work /comm == "target" && arg0 % 3 == 0/ '
        '{ @[comm, arg0 < 100 ? "low" : "high"] = count(); }',
        "work 200",
    ),
    "system calls": (
        "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @[str(args.filename)] = count(); } "
        "tracepoint:syscalls:sys_exit_openat /pid == cpid/ { @ret[args.ret >= 0] = count(); }",
        "work 1",
    ),
    "all system calls": (
        "tracepoint:raw_syscalls:sys_enter /pid == cpid/ { @[args.id] = count(); } "
        "tracepoint:raw_syscalls:sys_exit /pid == cpid && args.ret < 0/ { @errors[args.id] = count(); }",
        "work 1",
    ),
    "processes": (
        "tracepoint:sched:sched_process_fork /pid == cpid/ { @forks = count(); } "
        'tracepoint:sched:sched_process_exit /comm == "target"/ { @exits = count(); }',
        "threads 1",
    ),
    "a library": ("uprobe:libc:malloc /pid == cpid/ { @ = count(); @bytes = sum(arg0); }", "threads 1"),
    "control flow": (
        "uprobe:{t}:work { $n = 0; for ($i : 0..5) { if ($i == arg0) { continue; } $n += $i; } "
        "@[$n] = count(); @min = min(arg0); @avg = avg(arg0); @stats = stats(arg0); }",
        "work 20",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_engines_count_the_same(place: Path, case: str) -> None:
    script, arguments = CASES[case]
    script = script.replace("{t}", str(place / "target"))
    command = f"{place / 'target'} {arguments}"
    kernel = trace(place, "kernel", script, command)
    user = trace(place, "user", script, command)
    assert kernel
    assert user == kernel


def test_stacks_have_the_same_functions(place: Path) -> None:
    script = f"uprobe:{place / 'target'}:recurse {{ @[ustack(3)] = count(); }}"
    command = f"{place / 'target'} recurse 6 500"
    stacks = {engine: trace(place, engine, script, command)["@"] for engine in ("kernel", "user")}
    shapes = [
        sorted(
            (tuple(re.split(r"\+|0x", line.strip())[0] for line in key.strip().split("\n")), count)
            for key, count in s.items()
        )
        for s in stacks.values()
    ]
    assert shapes[0] == shapes[1]
    assert (("recurse",) * 3, 4) in shapes[0]  # a function on entry hides its caller from frame pointers


def test_children_are_traced_by_the_user_engine(place: Path) -> None:
    script = f"uprobe:{place / 'target'}:work {{ @[pid == cpid] = count(); }}"
    assert trace(place, "user", script, f"{place / 'target'} fork 40") == {"@": {"false": 40, "true": 40}}


def test_a_real_program_with_every_kind_at_once(place: Path) -> None:
    script = (
        "uprobe:libc:malloc /pid == cpid/ { @m = count(); @h = hist(arg0); } "
        "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @opens[comm] = count(); }"
    )
    command = f"{interpreter()} -I -S -c 'import json'"
    kernel = trace(place, "kernel", script, command)
    assert kernel["@m"] > 100
    assert trace(place, "user", script, command) == kernel
