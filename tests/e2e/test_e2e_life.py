"""How tracing ends: exit codes, signals, kill -9, the traced process's end, floods."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import command, gone, owned_ids, wait_for_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Trace, Waiting

pytestmark = pytest.mark.needs("bpf", "gcc")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def test_exit_code(trace: Trace) -> None:
    assert trace("-e", "BEGIN { exit(7) }").returncode == 7


def test_exit_in_begin_attaches_nothing_and_runs_end(trace: Trace) -> None:
    script = (
        'BEGIN { @ = 1; exit() } tracepoint:raw_syscalls:sys_enter { @n = count() } END { printf("end\\n") }'
    )
    done = trace("-e", script)
    assert done.stdout.count("end\n") == 1
    assert "@: 1\n" in done.stdout
    assert "@n: 0\n" in done.stdout or "@n" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_prints_maps_and_leaves(number: int) -> None:
    process = start("-e", 'BEGIN { @ = 42 } interval:ms:1 { printf("ready\\n") }')
    wait_for_line(process, "ready")
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert output.endswith("@: 42\n")
    assert errors == ""
    assert process.returncode == 0


def test_signal_while_attaching_prints_maps(trace: Trace) -> None:
    # BEGIN's message comes before the first of several hundred attachments.
    script = 'BEGIN { @ = 42; printf("ready\\n") } tracepoint:syscalls:sys_enter_* { @n[probe] = count() }'
    process = start("-e", script)
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "@: 42\n" in output
    assert process.returncode == 0


def test_usr1_prints_maps_and_goes_on() -> None:
    process = start("-e", 'BEGIN { @ = 42 } interval:ms:1 { printf("ready\\n") }')
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGUSR1)
    wait_for_line(process, "@: 42")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_ends_with_the_traced_process(waiting: Callable[[int], Waiting], workload: str) -> None:
    target = waiting(20)
    script = f'BEGIN {{ printf("ready\\n") }} uprobe:{workload}:work {{ @ = count() }} '
    process = start("-p", str(target.pid), "-e", script + 'interval:ms:1 { printf("attached\\n") }')
    wait_for_line(process, "attached")
    target.go()
    target.end()
    output, errors = process.communicate(timeout=30)
    assert output.endswith("@: 20\n"), (output, errors)


def test_kill_leaves_nothing(workload: str, waiting: Callable[[int], Waiting]) -> None:
    target = waiting(1)
    before = target.memory(target.work, 1)
    script = (
        f"uprobe:{workload}:work {{ @a[pid] = count() }}"
        "tracepoint:sched:sched_process_exec { @b[comm] = count() }"
        'rawtracepoint:sched_switch { @c = count() } interval:ms:1 { printf("attached\\n") }'
    )
    process = start("-e", script)
    wait_for_line(process, "attached")
    held = owned_ids(process.pid)
    assert len(held["prog_id"]) == 4
    assert len(held["map_id"]) >= 4
    assert held["link_id"]
    assert target.memory(target.work, 1) != before
    process.kill()
    process.communicate()
    gone(held)
    assert target.memory(target.work, 1) == before


def test_killed_before_attaching_the_command_never_runs(tmp_path: os.PathLike[str]) -> None:
    mark = os.path.join(tmp_path, "ran")
    done = subprocess.run(
        command("-e", "uprobe:/no/such/file:f { }", "-c", f"touch {mark}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert not os.path.exists(mark)


def test_every_event_is_printed_or_counted_as_lost(trace: Trace, workload: str) -> None:
    rounds = 30_000
    script = f'uprobe:{workload}:work {{ printf("event %d %s\\n", arg0, str(arg1)) }}'
    output = trace("-e", script, "-c", f"{workload} {rounds}").stdout
    printed = output.count("event ")
    lost = sum(map(int, re.findall(r"^Lost (\d+) events$", output, re.MULTILINE)))
    assert printed + lost == rounds


def test_output_file(trace: Trace, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "out")
    done = trace("-o", path, "-e", 'BEGIN { printf("hello\\n"); exit() }')
    assert done.stdout == ""
    with open(path) as file:
        assert "hello\n" in file.read()


def test_broken_pipe_is_quiet() -> None:
    process = start("-e", 'interval:ms:1 { printf("line\\n") }')
    wait_for_line(process, "line")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in (errors or "")
