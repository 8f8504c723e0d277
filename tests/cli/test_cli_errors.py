"""What wrong input gives, golden: each ``errors/NAME.txt`` is a session, prompts and all.

A line ``$ tracebee ARGUMENT ...`` (in the shell's words) is run; what follows, up to the next prompt, is
what it prints on standard error, and it ends with status 1. ``$ as nobody: tracebee ...`` runs it without
privileges. Write new ones with ``TRACEBEE_BLESS=1 pytest tests/cli/test_cli_errors.py`` and read them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "errors"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def sessions() -> list[tuple[Path, str, str]]:
    """File, command and expected output of every prompt."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for part in ("\n" + path.read_text()).split("\n$ ")[1:]:
            prompt, _, output = part.partition("\n")
            found.append((path, prompt, output.rstrip("\n")))
    return found


def said(prompt: str) -> tuple[int, str, str]:
    who, _, words = prompt.rpartition("tracebee ")
    command = [sys.executable, "-m", "tracebee", *shlex.split(words)]
    done = subprocess.run(
        [*NOBODY, *command] if who else command, capture_output=True, text=True, timeout=300, check=False
    )
    # The sysctls are the machine's own.
    complaint = re.sub(r"(unprivileged_bpf_disabled is) \d", r"\1 2", done.stderr)
    complaint = re.sub(r"(than the kernel allows:) \d+", r"\1 100000", complaint)
    return done.returncode, done.stdout, complaint.rstrip("\n")


@pytest.mark.needs("bpf", "btf")
@pytest.mark.parametrize(
    ("path", "prompt", "output"),
    [pytest.param(*each, id=f"{each[0].stem}: {each[1]}") for each in sessions()],
)
def test_error(path: Path, prompt: str, output: str) -> None:
    status, printed, complaint = said(prompt)
    if os.environ.get("TRACEBEE_BLESS"):
        text = path.read_text()
        old = f"$ {prompt}\n" + (f"{output}\n" if output else "")
        path.write_text(text.replace(old, f"$ {prompt}\n{complaint}\n", 1))
        output = complaint
    assert complaint == output
    assert "defect" not in complaint
    assert printed in ("", "Attaching 1 probe...\n")
    assert status == 1
