"""Writes src/tracebee/probes/syscalls_MACHINE.txt: system calls with their numbers and parameters.

    python scripts/syscall_table.py        (as root, on a kernel with CONFIG_FTRACE_SYSCALLS)

The user engine has no right to read tracefs; this is what tracefs says, taken along. Numbers come from
the C compiler's headers, parameters from the format files of the running kernel.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tracebee.kernel import tracefs

TARGET = Path(__file__).parents[1] / "src" / "tracebee" / "probes" / f"syscalls_{os.uname().machine}.txt"


def numbers() -> dict[str, int]:
    """Every __NR_ constant of the C library's headers."""
    done = subprocess.run(
        ["gcc", "-dM", "-E", "-include", "sys/syscall.h", "-"],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: int(n) for name, n in re.findall(r"^#define __NR_(\w+) (\d+)$", done.stdout, re.MULTILINE)}


def main() -> None:
    """Write the table, a line a call: number, name, then the parameters with a comma between."""
    known = numbers()
    lines = [
        f"# Written by scripts/syscall_table.py on Linux {os.uname().release.split('-')[0]}: do not edit."
    ]
    rows = []
    for event in tracefs.events("syscalls"):
        name = event.removeprefix("sys_enter_")
        # Events carry the function's name, which for a few calls is not the number's.
        number = known.get(name, known.get(name.removeprefix("new"), -1))
        if event == name or number < 0:
            continue
        fields = re.findall(r"\tfield:([^;]+);\s*offset:(\d+)", tracefs.event_format("syscalls", event))
        parameters = [declaration for declaration, offset in fields if int(offset) >= 16]
        rows.append((number, name, ", ".join(parameters)))
    lines += [f"{number} {name} {parameters}".rstrip() for number, name, parameters in sorted(rows)]
    TARGET.write_text("\n".join(lines) + "\n")
    print(f"{len(rows)} calls written to {TARGET.name}")


if __name__ == "__main__":
    main()
