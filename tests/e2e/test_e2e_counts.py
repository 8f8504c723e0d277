"""Scripts on a known workload: the numbers they print are the numbers that happened."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from conftest import maps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Trace, Waiting

pytestmark = pytest.mark.needs("bpf", "gcc")
ROUNDS = 200
# A machine that others keep busy takes its time to sample a command.
ENOUGH_SAMPLES = "if (@samples++ > 60) { exit() }"
SUM = ROUNDS * (ROUNDS - 1) // 2  # of 0, 1, 2, ...


def counted(trace: Trace, script: str, command: str) -> dict[str, Any]:
    done = trace("-f", "json", "-e", script, "-c", command)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return maps(done.stdout)


def test_syscall_tracepoint(trace: Trace, workload: str) -> None:
    script = "tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { @[comm] = count() }"
    assert counted(trace, script, f"{workload} {ROUNDS}") == {"@": {"workload": ROUNDS}}


def test_wildcard_tracepoints_name_themselves(trace: Trace, workload: str) -> None:
    script = "tracepoint:syscalls:sys_*_getppid /pid == cpid/ { @[probe] = count() }"
    assert counted(trace, script, f"{workload} {ROUNDS}")["@"] == {
        "tracepoint:syscalls:sys_enter_getppid": ROUNDS,
        "tracepoint:syscalls:sys_exit_getppid": ROUNDS,
    }


def test_args_of_events_with_different_layouts(trace: Trace) -> None:
    script = (
        "tracepoint:syscalls:sys_enter_openat, tracepoint:syscalls:sys_enter_openat2 /pid == cpid/ "
        "{ @[str(args.filename)] = count() }"
    )
    assert counted(trace, script, "cat /etc/hostname")["@"]["/etc/hostname"] == 1


def test_negative_int_argument(trace: Trace) -> None:
    script = "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @[args.dfd] = count() }"
    assert set(counted(trace, script, "cat /etc/hostname")["@"]) == {"-100"}  # AT_FDCWD


def test_data_loc_string(trace: Trace, workload: str) -> None:
    script = "tracepoint:sched:sched_process_exec /pid == cpid/ { @[str(args.filename)] = count() }"
    assert counted(trace, script, f"{workload} 1") == {"@": {workload: 1}}


def test_exec_is_seen_because_the_command_is_held(trace: Trace, workload: str) -> None:
    script = 'tracepoint:sched:sched_process_exec /pid == cpid/ { printf("exec by %s\\n", comm); }'
    done = trace("-e", script, "-c", f"{workload} 1")
    assert "exec by workload\n" in done.stdout


def test_histogram_of_all_returns(trace: Trace, workload: str) -> None:
    script = "tracepoint:raw_syscalls:sys_exit /args.id == NR && pid == cpid/ { @[comm] = hist(args.ret) }"
    script = script.replace("NR", str({"x86_64": 110, "aarch64": 173}[os.uname().machine]))
    buckets = counted(trace, script, f"{workload} {ROUNDS}")["@"]["workload"]
    assert sum(bucket["count"] for bucket in buckets) == ROUNDS


def test_raw_tracepoint_arguments(trace: Trace, workload: str) -> None:
    number = {"x86_64": 110, "aarch64": 173}[os.uname().machine]
    script = (
        f"rawtracepoint:sys_enter /arg1 == {number} && pid == cpid/ {{ @raw = count() }} "
        f"rawtracepoint:sys_enter /args.id == {number} && pid == cpid/ {{ @typed = count() }}"
    )
    assert counted(trace, script, f"{workload} {ROUNDS}") == {"@raw": ROUNDS, "@typed": ROUNDS}


def test_raw_tracepoint_follows_struct_pointers(trace: Trace) -> None:
    script = (
        'rawtracepoint:sched_switch { @[args.prev.comm == "workload-no" ? 1 : 0] = count() } '
        "interval:ms:200 { exit() }"
    )
    assert counted(trace, script, "sleep 10")["@"]["0"] > 0


def test_uprobe_counts_and_arguments(trace: Trace, workload: str) -> None:
    script = (
        f"uprobe:{workload}:work {{ @calls = count(); @sum = sum(arg0); @text[str(arg1)] = count() }}"
        f"uretprobe:{workload}:work {{ @returned = sum(retval) }}"
    )
    assert counted(trace, script, f"{workload} {ROUNDS}") == {
        "@calls": ROUNDS,
        "@sum": SUM,
        "@text": {"hello": ROUNDS},
        "@returned": 2 * SUM,
    }


def test_uretprobe_histogram(trace: Trace, workload: str) -> None:
    script = f"uretprobe:{workload}:work {{ @ = lhist(retval, 0, {2 * ROUNDS}, 100) }}"
    buckets = counted(trace, script, f"{workload} {ROUNDS}")["@"]
    assert [b["count"] for b in buckets if b["count"]] == [50] * (2 * ROUNDS // 100)


def test_uprobe_at_offset_and_address(trace: Trace, workload: str) -> None:
    import subprocess

    symbols = subprocess.run(["nm", workload], capture_output=True, text=True, check=True).stdout
    address = next(line.split()[0] for line in symbols.splitlines() if line.endswith(" T work"))
    script = f"uprobe:{workload}:work+0 {{ @o = count() }} uprobe:{workload}:0x{address} {{ @a = count() }}"
    assert counted(trace, script, f"{workload} {ROUNDS}") == {"@o": ROUNDS, "@a": ROUNDS}


def test_uprobe_wildcard_names_functions(waiting: Callable[[int], Waiting], workload: str) -> None:
    from tracebee import Script

    script = (
        f"uprobe:{workload}:wor* {{ @[probe] = count() }} uprobe:{workload}:wor? {{ @f[func] = count() }}"
    )
    process = waiting(ROUNDS)
    with Script(script, pid=process.pid) as running:
        process.go()
        assert running.maps["@"] == {f"uprobe:{workload}:work": ROUNDS}
        assert running.maps["@f"] == {"work": ROUNDS}


def test_library_by_name(trace: Trace) -> None:
    script = "uprobe:libc:malloc { @m = count() } uretprobe:libc:malloc { @r = lhist(retval, 0, 10, 1) }"
    found = counted(trace, script, "/bin/ls /")
    assert found["@m"] == sum(b["count"] for b in found["@r"]) > 0


def test_usdt_arguments_at_every_place(trace: Trace, workload: str) -> None:
    script = (
        f"usdt:{workload}:test:plain {{ @n = count(); @i = sum(arg0) }}"
        f"usdt:{workload}:test:plain {{ @neg = sum((int64)arg1); @k = sum(arg2) }}"
        f"usdt:{workload}:counted {{ @short = sum((int64)arg0); @j = sum(arg1) }}"
    )
    assert counted(trace, script, f"{workload} {ROUNDS}") == {
        "@n": 2 * ROUNDS,  # two places
        "@i": 2 * SUM,
        "@neg": -2 * SUM,
        "@k": 2 * 7 * ROUNDS,
        "@short": -3 * ROUNDS,
        "@j": SUM,
    }


def test_usdt_semaphore_is_raised_while_attached(trace: Trace, waiting: Callable[[int], Waiting]) -> None:
    from tracebee import Script

    process = waiting(1)
    path = f"/proc/{process.pid}/exe"
    assert process.memory(process.semaphore, 2) == b"\0\0"
    with Script(f"usdt:{path}:counted {{ @ = count() }}", pid=process.pid) as script:
        assert process.memory(process.semaphore, 2) == b"\1\0"
        assert process.go() == "done 1"
        assert script.maps["@"] == 1
    assert process.memory(process.semaphore, 2) == b"\0\0"


def test_only_the_process_asked_for(waiting: Callable[[int], Waiting], workload: str) -> None:
    from tracebee import Script

    first, second = waiting(30), waiting(50)
    with Script(f"uprobe:{workload}:work {{ @[pid] = count() }}", pid=first.pid) as script:
        first.go()
        second.go()
        assert script.maps["@"] == {first.pid: 30}


@pytest.mark.needs("x86_64")
def test_breakpoint_is_there_and_goes(waiting: Callable[[int], Waiting], workload: str) -> None:
    from tracebee import Script

    process = waiting(5)
    before = process.memory(process.work, 16)
    with Script(f"uprobe:{workload}:work {{ @ = count() }}", pid=process.pid) as script:
        assert process.memory(process.work, 1) == b"\xcc"
        process.go()
        assert script.maps["@"] == 5
    assert process.memory(process.work, 16) == before


def test_profile_stacks_have_kernel_symbols(trace: Trace) -> None:
    script = f"profile:hz:499 {{ @[kstack] = count(); {ENOUGH_SAMPLES} }} interval:s:20 {{ exit() }}"
    done = trace("-e", script, "-c", "sh -c 'while :; do read line </proc/self/maps; done'")
    assert re.search(r"^    \w+\+\d+$", done.stdout, re.MULTILINE), done.stdout[:2000]


def test_profile_of_one_process_sees_it_alone(trace: Trace) -> None:
    script = f"profile:hz:499 {{ @[comm] = count(); {ENOUGH_SAMPLES} }} interval:s:20 {{ exit() }}"
    found = counted(trace, script, "sh -c 'while :; do :; done'")["@"]
    assert set(found) <= {"sh", "python3", "python"}
    assert found["sh"] > 0


def test_software_event_period(trace: Trace, workload: str) -> None:
    found = counted(trace, "software:page-faults:1 { @[pid] = count() }", f"{workload} 1")["@"]
    assert len(found) == 1


def test_begin_and_end_run_here(trace: Trace) -> None:
    script = 'BEGIN { printf("begin %s %d\\n", comm, pid) } interval:ms:1 { exit() } END { printf("end\\n") }'
    output = trace("-e", script).stdout
    assert re.search(r"begin python[\d.]* \d+\n(.*\n)*end\n", output)


@pytest.mark.needs("kprobe")
def test_kprobe_counts(trace: Trace, workload: str) -> None:
    script = "kprobe:__x64_sys_getppid /pid == cpid/ { @[probe] = count() }"
    assert counted(trace, script, f"{workload} {ROUNDS}") == {"@": {"kprobe:__x64_sys_getppid": ROUNDS}}


@pytest.mark.needs("kprobe_multi")
def test_kprobe_wildcard_in_bulk(trace: Trace, workload: str) -> None:
    script = "kprobe:vfs_* { @[probe] = count() } kretprobe:vfs_* { @r[func] = count() }"
    found = counted(trace, script, "cat /etc/hostname")
    assert found["@"]["kprobe:vfs_read"] > 0
    assert found["@r"]["vfs_read"] > 0


@pytest.mark.needs("kprobe")
def test_latency_by_kretprobe(trace: Trace) -> None:
    script = (
        "kprobe:vfs_read { @start[tid] = nsecs } "
        "kretprobe:vfs_read /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]) }"
    )
    assert sum(b["count"] for b in counted(trace, script, "cat /etc/hostname")["@ns"]) > 0


@pytest.mark.needs("fentry")
def test_fentry_and_fexit(trace: Trace, workload: str) -> None:
    script = (
        "fentry:vfs_write /pid == cpid/ { @n[args.count] = count() } "
        "fexit:vfs_write /pid == cpid/ { @r[retval] = count(); @again[args.count] = count() }"
    )
    found = counted(trace, script, "sh -c 'printf 12345 >/dev/null'")
    assert found == {"@n": {"5": 1}, "@r": {"5": 1}, "@again": {"5": 1}}


@pytest.mark.needs("fentry")
def test_fentry_wildcard(trace: Trace) -> None:
    found = counted(trace, "fentry:vfs_r* { @[probe] = count() }", "cat /etc/hostname")["@"]
    assert found["fentry:vmlinux:vfs_read"] > 0


def test_gethostlatency(trace: Trace) -> None:
    done = trace("gethostlatency", "-c", "getent ahosts localhost")
    header = next(line for line in done.stdout.splitlines() if line.startswith("TIME"))
    assert header.split() == ["TIME", "PID", "COMM", "LATms", "HOST"]
    assert re.search(r"^\d\d:\d\d:\d\d +\d+ +getent +\d+ localhost$", done.stdout, re.MULTILINE)


def test_iterator_walks_over_every_process_and_ends(trace: Trace) -> None:
    done = trace("-e", "iter:task { @[args.task.tgid] = count() }")
    seen = set(map(int, re.findall(r"^@\[(\d+)\]: \d+$", done.stdout, re.MULTILINE)))
    assert {os.getpid(), os.getppid()} <= seen


def test_iterator_of_one_process(trace: Trace) -> None:
    script = "iter:task_file { @[args.fd] = count() }"
    done = trace("-f", "json", "-p", str(os.getpid()), "-e", script)
    assert {int(fd) for fd in maps(done.stdout)["@"]} >= {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "type_"),
    [((), "uprobe_multi"), (("--no-feature", "kprobe_multi,uprobe_multi"), "perf_event")],
)
@pytest.mark.needs("uprobe_multi")
@pytest.mark.parametrize("built", [False, True])
def test_without_a_feature(
    trace: Trace, workload: str, options: tuple[str, ...], type_: str, built: bool, tmp_path: Path
) -> None:
    shown = f"{sys.executable} -m tracebee -j link show"
    script = f'uprobe:{workload}:work {{ @ = count() }} interval:ms:100 {{ system("{shown}"); exit() }}'
    target = str(tmp_path / "script.bpf.o")
    if built:
        assert trace("build", "--unsafe", "-e", script, "-o", target).returncode == 0
    done = trace("run", target, *options) if built else trace("--unsafe", *options, "-e", script)
    assert done.returncode == 0, done.stderr
    (links,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [link["type"] for link in links if workload in (link.get("path"), link.get("file"))] == [type_]


@pytest.mark.parametrize(
    ("options", "helpers"),
    [
        ((), []),
        (("-k",), ["map_update_elem", "map_delete_elem"]),
        (("-kk",), ["map_update_elem", "map_delete_elem", "probe_read_kernel"]),
        (("-k", "-k"), ["map_update_elem", "map_delete_elem", "probe_read_kernel"]),
    ],
)
def test_failed_helper_calls_are_told(trace: Trace, options: tuple[str, ...], helpers: list[str]) -> None:
    script = (
        "config = { max_map_keys = 1 } BEGIN { @x[1] = 1; @x[2] = 1;\n"
        "delete(@x, 3);\n$x = *(uint64 *)16; exit() }"
    )
    done = trace(*options, "-f", "json", "-e", script)
    assert done.returncode == 0, done.stderr
    told = [r for r in map(json.loads, done.stdout.splitlines()) if r["type"] == "helper_error"]
    assert [r["helper"] for r in told] == helpers
    assert [r["line"] for r in told] == [1, 2, 3][: len(helpers)]
    assert all(r["retcode"] < 0 and r["msg"] == os.strerror(-r["retcode"]) for r in told)


def test_failed_helper_calls_show_the_script(trace: Trace) -> None:
    done = trace("-kk", "-e", "BEGIN { @ = *(uint64 *)16; exit() }")
    warning, line, caret = done.stderr.splitlines()
    assert re.fullmatch(r"stdin:1:13: WARNING: Failed to probe_read_kernel: .* \(-\d+\)", warning)
    assert line == "    1 | BEGIN { @ = *(uint64 *)16; exit() }"
    assert caret.index("^") == line.index("*(uint64")
