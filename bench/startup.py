"""Startup: wall time, CPU time and peak memory of the smallest script and of attaching one tracepoint."""

from __future__ import annotations

from measure import HEADER, PEERS, Run, drop_caches, median, row, run, tracefs

SCRIPTS = {
    "BEGIN { exit(); }": "BEGIN { exit(); }",
    "one tracepoint": "tracepoint:sched:sched_process_exec { @ = count(); } interval:ms:1 { exit(); }",
}
RUNS = 9


def main() -> None:
    """Print a table: every figure of both programs, run in turn so that drift hits both."""
    print(HEADER)
    for cache in ("warm", "cold"):
        for name, script in SCRIPTS.items():
            runs: dict[str, list[Run]] = {peer: [] for peer in PEERS}
            for _ in range(RUNS if cache == "warm" else 5):
                for peer, command in PEERS.items():
                    if cache == "cold":
                        drop_caches()
                    result = run([*command, "-e", script])
                    if result.status:
                        raise SystemExit(f"{peer} failed with status {result.status} on {script!r}")
                    runs[peer].append(result)
            label = f"{name} ({cache})"
            for figure, unit, scale in (("wall", "ms", 1000), ("cpu", "ms", 1000), ("memory", "MiB", 1)):
                figures = {p: median([getattr(r, figure) * scale for r in rs]) for p, rs in runs.items()}
                print(row(f"{label} {figure}", figures, unit))


if __name__ == "__main__":
    with tracefs():
        main()
