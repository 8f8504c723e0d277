"""Run every test somewhere: first on this machine, then, in a guest kernel, those it could not run.

    python tests/run.py [--require-all] [--no-guest] [PYTEST ARGUMENT ...]

With --require-all (CI) a test that ran in no environment fails the run. The last line counts
each test once: "N passed, N failed, N skipped".
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUEST_DEADLINE = 2400


def main(arguments: list[str]) -> int:
    """Run both environments and merge what they recorded."""
    require_all = "--require-all" in arguments
    use_guest = "--no-guest" not in arguments
    selection = [a for a in arguments if a not in ("--require-all", "--no-guest")]
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        here = Path(folder) / "here.json"
        host_status = _pytest([f"--record={here}", *selection])
        if not here.exists() or host_status not in (0, 1, 5):
            return host_status or 1
        outcomes: dict[str, str] = json.loads(here.read_text())
        left = [test for test, outcome in outcomes.items() if outcome == "skipped"]
        if left and use_guest:
            outcomes.update(_in_guest(left, Path(folder)))
    counts = {
        name: sum(1 for o in outcomes.values() if o == name) for name in ("passed", "failed", "skipped")
    }
    for test, outcome in sorted(outcomes.items()):
        if outcome == "failed" or (outcome == "skipped" and require_all):
            print(f"{outcome}: {test}")
    if counts["skipped"] and require_all:
        print(f"{counts['skipped']} tests ran in no environment, which --require-all forbids")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or (require_all and counts["skipped"]) or not counts["passed"] else 0


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


def _in_guest(tests: list[str], folder: Path) -> dict[str, str]:
    """Run tests in the guest; a test without an outcome there (guest died) counts as failed."""
    print(f"\n{len(tests)} tests need another kernel: booting the guest", flush=True)
    names = folder / "tests.txt"
    names.write_text("\n".join(tests))
    record = folder / "guest.json"
    boot = [sys.executable, str(ROOT / "tests/guest/boot.py"), "--deadline", str(GUEST_DEADLINE), "--"]
    # Emulation is about ten times slower: so are the limits.
    inside = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=600", f"--record={record}"]
    status = subprocess.run([*boot, *inside, f"@{names}"], cwd=ROOT, check=False).returncode
    if status == 2 and not record.exists():
        return {}
    got: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    return {test: got.get(test, "failed") for test in tests}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
