"""Every benchmark that this machine can run, one after the other."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NEEDS_KPROBES = ("attach.py",)


def main() -> int:
    """Run them; what cannot run here is named."""
    # An installed package has its bytecode compiled; a checkout need not.
    compileall.compile_dir(str(HERE.parent / "src"), quiet=1)
    kprobes = os.path.exists("/sys/bus/event_source/devices/kprobe/type")
    for script in ("startup.py", "events.py", "throughput.py", "loading.py", "user.py", "vm.py", "attach.py"):
        print(f"\n== {script}", flush=True)
        if script in NEEDS_KPROBES and not kprobes:
            print(f"this kernel has no kprobes: make guest CMD='.venv/bin/python bench/{script}'")
            continue
        subprocess.run([sys.executable, str(HERE / script)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
