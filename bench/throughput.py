"""Events per second: printf lines delivered while a process makes system calls as fast as it can.

Delivered plus lost must be the number of calls made: the benchmark checks the sum. Without loss
means the rate at which lines arrive, not the rate at which they are dropped.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from measure import HEADER, PEERS, median, row, tracefs

SCRIPT = 'tracepoint:syscalls:sys_enter_getppid { printf("%d %s %d\\n", pid, comm, nsecs); }'
CALLS = 1_000_000
ROUNDS = 3


def _measure(command: tuple[str, ...], workload: str, folder: str) -> tuple[float, float, int]:
    """(lines per second of wall clock, lines per second of the tracer's CPU, lines lost)."""
    output = Path(folder, "output")
    with output.open("wb") as out:
        tracer = subprocess.Popen([*command, "-e", SCRIPT], stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while b"Attach" not in output.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        start = time.monotonic()
        load = subprocess.Popen([workload, "getppid", str(CALLS)], stdout=subprocess.DEVNULL)
        load.wait()
        # Drained when the output stops growing.
        size, end = -1, time.monotonic()
        while (now := output.stat().st_size) != size:
            size, end = now, time.monotonic()
            time.sleep(0.2)
        ticks = Path(f"/proc/{tracer.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        cpu = (int(ticks[11]) + int(ticks[12])) / 100
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    text = output.read_bytes()
    lines = len(re.findall(rb"^\d+ workload \d+$", text, re.MULTILINE))
    lost = sum(int(n) for n in re.findall(rb"[Ll]ost (\d+) events", text))
    if lines + lost != CALLS:
        print(f"  {command[0]}: {lines} delivered + {lost} reported lost is not {CALLS}")
    return lines / (end - start), lines / cpu, lost


def main() -> None:
    """Print delivered lines per second of both programs, and what each lost."""
    folder = tempfile.mkdtemp()
    try:
        workload = f"{folder}/workload"
        source = Path(__file__).with_name("workload.c")
        subprocess.run(["gcc", "-O2", "-o", workload, str(source)], check=True)
        results = {peer: [_measure(c, workload, folder) for _ in range(ROUNDS)] for peer, c in PEERS.items()}
        print(HEADER)
        names = (
            "printf lines delivered per second",
            "printf lines per second of CPU",
            "lines lost of 1,000,000",
        )
        for i, name in enumerate(names):
            figures = {peer: median([float(r[i]) for r in rs]) for peer, rs in results.items()}
            print(row(name, figures, "", better="higher" if i < 2 else "lower"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    with tracefs():
        main()
