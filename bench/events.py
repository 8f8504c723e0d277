"""Cost per event: nanoseconds and instructions of the loaded programs, from the kernel's BPF statistics.

Each script runs under both programs on the same workload. ``run_time_ns / run_cnt`` is the kernel's
own measurement; the instruction count is that of the translated program; "slowdown" is what the
workload itself saw.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from measure import HEADER, PEERS, median, row, tracefs

SCRIPTS = {
    "count by comm": (
        "getppid",
        'tracepoint:raw_syscalls:sys_enter /comm == "workload"/ { @[comm] = count(); }',
    ),
    "histogram of return values": (
        "getppid",
        "tracepoint:raw_syscalls:sys_exit { @[comm] = hist(args->ret); }",
    ),
    "latency by thread": (
        "getppid",
        "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; } "
        "tracepoint:raw_syscalls:sys_exit /@start[tid]/ "
        "{ @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }",
    ),
    "printf of opened files": (
        "open",
        'tracepoint:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args->filename)); }',
    ),
    "kernel stacks": ("getppid", "tracepoint:syscalls:sys_enter_getppid { @[kstack] = count(); }"),
    "uprobe on malloc": ("malloc", "uprobe:libc:malloc { @ = lhist(arg0, 0, 4096, 256); }"),
}
COUNT = {"getppid": 400_000, "open": 40_000, "malloc": 50_000}
ROUNDS = 3


class Cost(NamedTuple):
    """Sums over a script's programs, weighted by how often each ran."""

    nanoseconds: float
    instructions: float


def _programs() -> dict[int, dict[str, int]]:
    shown = subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, check=True, text=True)
    return {program["id"]: program for program in json.loads(shown.stdout)}


def _cost(before: set[int]) -> Cost:
    """Cost per event of the programs loaded since; those that never ran do not count."""
    programs = [p for i, p in _programs().items() if i not in before and p.get("run_cnt", 0) > 1000]
    if not programs:
        raise SystemExit("no program of the script ran: nothing to measure")
    per_event = sum(p["run_time_ns"] / p["run_cnt"] for p in programs)
    return Cost(per_event, sum(p["bytes_xlated"] / 8 for p in programs))


def _measure(command: tuple[str, ...], script: str, workload: str, kind: str) -> Cost:
    before = set(_programs())
    tracer = subprocess.Popen([*command, "-e", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not set(_programs()) - before:
            if tracer.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not load {script!r}")
            time.sleep(0.1)
        time.sleep(1)
        subprocess.run([workload, kind, str(COUNT[kind])], check=True, stdout=subprocess.DEVNULL)
        return _cost(before)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)


def main() -> None:
    """Print nanoseconds and instructions per event for each script."""
    os.environ["PATH"] += ":/usr/sbin"
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    was = switch.read_text()
    switch.write_text("1")
    folder = tempfile.mkdtemp()
    try:
        workload = f"{folder}/workload"
        source = Path(__file__).with_name("workload.c")
        subprocess.run(["gcc", "-O2", "-o", workload, str(source)], check=True)
        print(HEADER)
        for name, (kind, script) in SCRIPTS.items():
            costs: dict[str, list[Cost]] = {peer: [] for peer in PEERS}
            for _ in range(ROUNDS):
                for peer, command in PEERS.items():
                    costs[peer].append(_measure(command, script, workload, kind))
            for figure, unit in (("nanoseconds", "ns"), ("instructions", "insns")):
                figures = {peer: median([getattr(c, figure) for c in cs]) for peer, cs in costs.items()}
                print(row(f"{name}: {figure}", figures, unit), flush=True)
    finally:
        switch.write_text(was)
        shutil.rmtree(folder)


if __name__ == "__main__":
    with tracefs():
        main()
