"""The cost of a probe to the traced program: kernel engine, user engine, and ltrace and strace beside them.

Nanoseconds that one call of the workload takes more than untraced: for a uprobe on malloc (a malloc and
free pair has one hit) and for a traced system call.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from measure import TRACEBEE, median, tracefs

ROUNDS = 3
TRACERS: dict[str, dict[str, tuple[str, ...]]] = {
    "malloc": {
        "kernel engine": (*TRACEBEE, "--engine", "kernel", "-e", "uprobe:libc:malloc { @ = count(); }", "-c"),
        "user engine": (*TRACEBEE, "--engine", "user", "-e", "uprobe:libc:malloc { @ = count(); }", "-c"),
        "ltrace": ("ltrace", "-c", "-e", "malloc", "--"),
    },
    "getppid": {
        "kernel engine": (
            *(*TRACEBEE, "--engine", "kernel", "-e"),
            *("tracepoint:syscalls:sys_enter_getppid { @ = count(); }", "-c"),
        ),
        "user engine": (
            *(*TRACEBEE, "--engine", "user", "-e"),
            *("tracepoint:syscalls:sys_enter_getppid { @ = count(); }", "-c"),
        ),
        "strace": ("strace", "-f", "-c", "--seccomp-bpf", "-e", "trace=getppid", "--"),
    },
}
COUNTS = {"kernel engine": 200_000, "user engine": 20_000, "ltrace": 5_000, "strace": 20_000}


def _nanoseconds(command: tuple[str, ...], workload: str, kind: str, count: int) -> float:
    """What the workload itself measured for one call, under a tracer."""
    arguments = [workload, kind, str(count)]
    takes_one_word = command[-1:] == ("-c",)
    whole = [*command, " ".join(arguments)] if takes_one_word else [*command, *arguments]
    done = subprocess.run(whole, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return next(float(line) for line in done.stdout.splitlines() if line.replace(".", "").isdigit())


def main() -> None:
    """Print a line for each tracer and workload."""
    folder = tempfile.mkdtemp()
    try:
        workload = f"{folder}/workload"
        source = Path(__file__).with_name("workload.c")
        subprocess.run(["gcc", "-O2", "-o", workload, str(source)], check=True)
        for kind, tracers in TRACERS.items():
            bare = median([_nanoseconds((), workload, kind, 1_000_000) for _ in range(ROUNDS)])
            print(f"{kind}: {bare:.0f} ns untraced")
            for name, command in tracers.items():
                if shutil.which(command[0]) is None:
                    print(f"  {name:<16} not installed")
                    continue
                taken = [_nanoseconds(command, workload, kind, COUNTS[name]) for _ in range(ROUNDS)]
                print(f"  {name:<16} {median(taken) - bare:>10.0f} ns a hit", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    with tracefs():
        main()
