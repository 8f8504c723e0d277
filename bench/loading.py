"""Loading the ten largest objects of Debian's libbpf-tools that load here, beside ``bpftool prog loadall``.

Process start is excluded: tracebee loads in this process, with the kernel's types opened anew each time; from
bpftool's time that of ``bpftool version`` is taken off.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import ROOT, median, run

sys.path.insert(0, str(ROOT / "tests" / "obj"))

OBJECTS = 10
RUNS = 7
GOAL = 1.5


def ours(path: Path) -> float:
    """Milliseconds to read and load an object and let it go."""
    from tracebee.btf.opening import use_kernel
    from tracebee.engine.kernel.loader import load_object
    from tracebee.obj.elf_reader import read_object

    use_kernel(None)
    start = time.perf_counter()
    with load_object(read_object(str(path))):
        return (time.perf_counter() - start) * 1000


def theirs(path: Path, place: str) -> float:
    """Milliseconds that bpftool takes to load an object and pin it, its own start not counted."""
    start = run(["bpftool", "version"])
    done = run(["bpftool", "prog", "loadall", str(path), place])
    subprocess.run(["rm", "-r", place], check=True)
    if done.status:
        raise SystemExit(f"bpftool refused {path.name}")
    return (done.wall - start.wall) * 1000


@contextlib.contextmanager
def bpffs() -> Iterator[str]:
    """A bpffs of our own, gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


def loadable() -> list[Path]:
    """The largest objects that load here."""
    from test_obj_field import objects

    from tracebee.errors import TracebeeError

    found: list[Path] = []
    for path in sorted(objects("libbpf-tools"), key=lambda p: -p.stat().st_size):
        with contextlib.suppress(TracebeeError):
            ours(path)
            found.append(path)
        if len(found) == OBJECTS:
            break
    return found


def main() -> None:
    """Print both medians and their ratio for each object, and for all."""
    os.environ["PATH"] += ":/usr/sbin"
    print(f"{'object':<28} {'KiB':>5} {'tracebee':>10} {'bpftool':>10} {'ratio':>7}")
    sums = [0.0, 0.0]
    with bpffs() as place:
        for path in loadable():
            pairs = [(ours(path), theirs(path, f"{place}/x")) for _ in range(RUNS)]
            mine, other = (median([p[i] for p in pairs]) for i in (0, 1))
            sums = [sums[0] + mine, sums[1] + other]
            size = path.stat().st_size / 1024
            print(
                f"{path.name:<28} {size:>5.0f} {mine:>7.1f} ms {other:>7.1f} ms {mine / other:>6.2f}x",
                flush=True,
            )
    label = f"all (goal: at most {GOAL}x)"
    print(f"{label:<34} {sums[0]:>7.1f} ms {sums[1]:>7.1f} ms {sums[0] / sums[1]:>6.2f}x")


if __name__ == "__main__":
    main()
