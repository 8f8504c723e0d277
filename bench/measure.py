"""Measuring whole processes, and the two commands that are compared."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# The installed entry point, as a user runs it.
TRACEBEE = (str(Path(sys.executable).parent / "tracebee"),)
BPFTRACE = ("bpftrace",)
PEERS = {"tracebee": TRACEBEE, "bpftrace": BPFTRACE}


class Run(NamedTuple):
    """One finished process: seconds of wall clock and CPU, peak resident memory in MiB."""

    wall: float
    cpu: float
    memory: float
    status: int


def run(command: list[str]) -> Run:
    """Run a command to its end with its output discarded; memory is the kernel's own peak figure."""
    start = time.perf_counter()
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, code)


def median(values: list[float]) -> float:
    """The middle value: machines are noisy, means are not to be trusted."""
    return statistics.median(values)


def drop_caches() -> None:
    """Empty the page cache, so that the next run reads everything from disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def row(name: str, figures: dict[str, float], unit: str, *, better: str = "lower") -> str:
    """One printed line: both figures and the ratio tracebee / bpftrace."""
    ours, theirs = figures["tracebee"], figures["bpftrace"]
    ratio = ours / theirs if theirs else float("nan")
    return f"{name:<44} {ours:>12.1f} {theirs:>12.1f} {unit:<10} {ratio:>6.2f}x  ({better} is better)"


HEADER = f"{'':<44} {'tracebee':>12} {'bpftrace':>12} {'':<10} {'ratio':>7}"


@contextlib.contextmanager
def tracefs() -> Iterator[None]:
    """Have tracefs mounted where bpftrace looks for it; afterwards the machine is as it was."""
    place = "/sys/kernel/tracing"
    mounted = os.path.exists(f"{place}/events")
    if not mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", place], check=True)
    try:
        yield
    finally:
        if not mounted:
            subprocess.run(["umount", place], check=True)
