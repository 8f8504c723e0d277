"""Attaching in bulk: seconds until ``kprobe:vfs_*`` is attached and the script has ended.

For a kernel with kprobes: ``make guest CMD='.venv/bin/python bench/attach.py'``.
"""

from __future__ import annotations

from measure import HEADER, PEERS, Run, median, row, run

SCRIPT = "kprobe:vfs_* { @[probe] = count(); } interval:ms:1 { exit(); }"
BASE = "BEGIN { exit(); }"


def main() -> None:
    """Print the whole run's time for both, and the same less each one's smallest script."""
    print(HEADER)
    runs: dict[str, list[Run]] = {peer: [] for peer in PEERS}
    bases: dict[str, list[Run]] = {peer: [] for peer in PEERS}
    for _ in range(3):
        for peer, command in PEERS.items():
            bases[peer].append(run([*command, "-e", BASE]))
            runs[peer].append(run([*command, "-e", SCRIPT]))
            if runs[peer][-1].status:
                raise SystemExit(f"{peer} failed on {SCRIPT!r}")
    whole = {peer: median([r.wall for r in rs]) for peer, rs in runs.items()}
    print(row("kprobe:vfs_* attached and detached", whole, "s"))
    base = {peer: median([r.wall for r in rs]) for peer, rs in bases.items()}
    print(row("the same, less BEGIN { exit(); }", {p: whole[p] - base[p] for p in whole}, "s"))


if __name__ == "__main__":
    main()
