"""Maps that ask to be pinned by their name: what loading leaves in bpffs, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.engine.kernel.loader import load_object
from tracebee.errors import VerifierError
from tracebee.obj.elf_reader import read_object

pytestmark = [pytest.mark.needs("bpf", "clang")]


def test_a_refused_object_leaves_no_name(compiled: Callable[[str], str], bpffs: str) -> None:
    obj = read_object(compiled("kept"))
    before = set(os.listdir(bpffs))
    with pytest.raises(VerifierError):
        load_object(obj, pin_root=bpffs, programs=lambda _: True)
    assert set(os.listdir(bpffs)) == before
    with load_object(obj, pin_root=bpffs):
        pass
    assert set(os.listdir(bpffs)) - before == {"kept"}
    with pytest.raises(VerifierError):  # what was there before stays
        load_object(obj, pin_root=bpffs, programs=lambda _: True)
    assert "kept" in os.listdir(bpffs)


def in_a_mount_of_its_own(*words: str) -> list[str]:
    """What is in /sys/fs/bpf after a command."""
    tracebee = Path(sys.executable).with_name("tracebee")
    command = f"mount -t bpf bpf /sys/fs/bpf && {tracebee} {' '.join(words)} >&2 && ls /sys/fs/bpf"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if not name.endswith(".debug")]


def test_a_question_leaves_no_name(compiled: Callable[[str], str]) -> None:
    assert in_a_mount_of_its_own("prog", "loadall", compiled("kept")) == []
    assert in_a_mount_of_its_own("prog", "loadall", compiled("kept"), "/sys/fs/bpf/all") == ["all", "kept"]
