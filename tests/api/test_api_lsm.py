"""Programs on security hooks."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import tracebee
from tracebee.kernel.mounts import open_detached

pytestmark = [pytest.mark.needs("bpf", "clang", "lsm")]

BIND = 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0))'


def test_hooks_of_the_system(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("lsm")) as obj:
        obj.programs["of_group"].autoload = False
        obj.variables["watched"] = os.getpid()
        obj.load()
        with obj.attach() as attachment:
            assert attachment.probes == ("system_wide", "sleepable")
            subprocess.run(["true"], check=True)
            Path("/dev/null").read_bytes()
        before = obj.variables["hits"]
        assert before[0] > 0
        assert before[2] > 0
        Path("/dev/null").read_bytes()
        assert obj.variables["hits"] == before


def test_hooks_of_a_control_group(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("lsm")) as obj, open_detached("cgroup2") as root:
        for name, program in obj.programs.items():
            program.autoload = name == "of_group"
        obj.load()
        group = Path(f"/proc/{os.getpid()}/fd/{root.fd}/tracebee_lsm_{os.getpid()}")
        group.mkdir()
        try:
            with obj.programs["of_group"].attach_cgroup(group):
                command = f"echo $$ > {group}/cgroup.procs && exec python3 -c '{BIND}'"
                subprocess.run(["sh", "-c", command], check=True)
                assert obj.variables["hits[1]"] == 1
                with socket.socket() as outside:
                    outside.bind(("127.0.0.1", 0))
                assert obj.variables["hits[1]"] == 1
        finally:
            group.rmdir()
