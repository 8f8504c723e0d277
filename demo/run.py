"""The main job on real input: one script, traced live over a real command, its result printed and checked.

The script counts the files a Python interpreter opens and the memory it asks malloc for. Files are
counted by a second witness as well, the command itself, so that the demo fails when the numbers are wrong.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRACEBEE = str(Path(sys.executable).parent / "tracebee")
WORKLOAD = Path(__file__).with_name("workload.py")
OPENS = 1000
SCRIPT = """
tracepoint:syscalls:sys_enter_openat /pid == cpid/ {
    @opened[str(args.filename)] = count();
}
uprobe:libc:malloc /pid == cpid/ { @malloc_bytes = hist(arg0); }
END { print(@opened, 5); clear(@opened); }
"""


def main() -> int:
    """Trace, show what was printed, check the count that is known."""
    traced = f"{sys.executable} -I {WORKLOAD}"
    print(f"tracing: {traced}\nwith:{SCRIPT}", flush=True)
    command = [TRACEBEE, "-e", SCRIPT, "-c", traced]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    if done.returncode:
        return done.returncode
    expected = f"@opened[/etc/hostname]: {OPENS}"
    if expected not in done.stdout:
        print(f"the count is wrong: expected '{expected}'", file=sys.stderr)
        return 1
    print(f"right: the workload opened /etc/hostname {OPENS} times, and so says the map")
    return 0


if __name__ == "__main__":
    sys.exit(main())
