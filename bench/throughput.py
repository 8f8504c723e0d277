"""Events per second: printf lines delivered, at full speed and at the highest rate without loss.

At full speed a process makes system calls as fast as the tracer lets it, so a cheap probe brings more
events than any reader takes; delivered plus lost must be the number of calls. Then the calls are
paced, faster and faster, until events are lost.
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
RATES = (25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 600_000)
ROUNDS = 3


def _measure(
    command: tuple[str, ...], workload: str, folder: str, calls: int = CALLS, rate: int = 0
) -> tuple[float, float, int]:
    """(lines per second of wall clock, lines per second of the tracer's CPU, lines not delivered)."""
    output = Path(folder, "output")
    with output.open("wb") as out:
        tracer = subprocess.Popen([*command, "-e", SCRIPT], stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 30
        while b"Attach" not in output.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        start = time.monotonic()
        load = subprocess.Popen([workload, "getppid", str(calls), str(rate)], stdout=subprocess.DEVNULL)
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
    if lines + lost != calls:
        print(f"  {Path(command[0]).name}: {lines} delivered + {lost} reported lost is not {calls}")
    return lines / (end - start), lines / cpu, calls - lines


def _highest_rate(command: tuple[str, ...], workload: str, folder: str) -> int:
    """The highest of RATES at which a second of events arrives complete."""
    best = 0
    for rate in RATES:
        if _measure(command, workload, folder, rate, rate)[2]:
            break
        best = rate
    return best


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
            "lines not delivered of 1,000,000",
        )
        for i, name in enumerate(names):
            figures = {peer: median([float(r[i]) for r in rs]) for peer, rs in results.items()}
            print(row(name, figures, "", better="higher" if i < 2 else "lower"), flush=True)
        highest = {peer: float(_highest_rate(c, workload, folder)) for peer, c in PEERS.items()}
        print(row("highest tried rate without loss, per second", highest, "", better="higher"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    with tracefs():
        main()
