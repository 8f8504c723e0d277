"""``-l``: what is listed is what can be traced."""

from __future__ import annotations

import subprocess

import pytest

from tracebee.cli.main import guarded

pytestmark = pytest.mark.needs("bpf")


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert guarded(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_tracepoints_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "-l", "tracepoint:sched:sched_process_*")
    assert {"tracepoint:sched:sched_process_exec", "tracepoint:sched:sched_process_fork"} <= set(found)
    assert all(name.startswith("tracepoint:sched:sched_process_") for name in found)


@pytest.mark.needs("bpftrace")
def test_tracepoints_are_bpftraces(capsys: pytest.CaptureFixture[str]) -> None:
    mounts = " && ".join(
        f"(mountpoint -q {place} || mount -t {kind} {kind} {place})"
        for kind, place in (("tracefs", "/sys/kernel/tracing"), ("debugfs", "/sys/kernel/debug"))
    )
    done = subprocess.run(
        ["sh", "-c", f"{mounts} && bpftrace -l 'tracepoint:sched:*'"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_own_mounts,
    )
    theirs = {line for line in done.stdout.splitlines() if line.startswith("tracepoint:")}
    assert theirs, done.stderr
    assert set(listed(capsys, "-l", "tracepoint:sched:*")) == theirs


def _own_mounts() -> None:
    """A mount namespace that mounts of this child stay in."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.unshare(0x00020000)  # CLONE_NEWNS
    libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE


def test_arguments_with_v(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "-lv", "tracepoint:syscalls:sys_enter_openat")
    assert found[0] == "tracepoint:syscalls:sys_enter_openat"
    assert "    const char * filename" in found


def test_raw_tracepoint_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "-lv", "rawtracepoint:sched_switch")
    assert found[0] == "rawtracepoint:vmlinux:sched_switch"
    assert "    struct task_struct *prev" in found


def test_functions_of_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "-l", "uprobe:libc:malloc*")
    assert any(name.endswith(":malloc") for name in found)


def test_word_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tracepoint:sched:sched_process_exec" in listed(capsys, "-l", "*process_exec*")


def test_types(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "-l", "struct list_head")
    assert [line.split()[-1] for line in found] == ["{", "*next;", "*prev;", "};"]


def test_nothing_found_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["-l", "tracepoint:no_such:*"]) == 1
    assert capsys.readouterr().out == ""


def test_probes_of_a_script(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    path = f"{tmp_path}/probe.bt"
    with open(path, "w") as file:
        file.write("interval:s:1, software:*-faults:7 { @ = count() }\n")
    assert listed(capsys, "-l", path) == [
        "interval:s:1",
        *(f"software:{kind}-faults:7" for kind in ("alignment", "emulation", "major", "minor", "page")),
    ]
