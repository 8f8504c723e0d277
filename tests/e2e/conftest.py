"""The command line and a workload with known numbers, for tests from script to output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
Trace = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of tests/programs/workload.c, compiled."""
    target = tmp_path_factory.mktemp("programs") / "workload"
    subprocess.run(["gcc", "-O2", "-g", "-o", target, PROGRAMS / "workload.c"], check=True)
    return str(target)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tracebee", *arguments]


@pytest.fixture
def trace() -> Trace:
    """Run tracebee with arguments to its end."""

    def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


class Waiting:
    """The workload waiting for a line: where its function and semaphore are, and how to go on."""

    def __init__(self, path: str, rounds: int) -> None:
        self.process = subprocess.Popen(
            [path, str(rounds), "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        self.work, self.semaphore = (int(word, 16) for word in self.process.stdout.readline().split())

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> str:
        """Let the rounds run; returns the line it prints after them."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("end\n")
        self.process.wait()

    def memory(self, address: int, size: int) -> bytes:
        with open(f"/proc/{self.pid}/mem", "rb") as file:
            file.seek(address)
            return file.read(size)


@pytest.fixture
def waiting(workload: str) -> Iterator[Callable[[int], Waiting]]:
    """Start workloads that wait to be told to go on; they are gone after the test."""
    started: list[Waiting] = []

    def start(rounds: int) -> Waiting:
        started.append(Waiting(workload, rounds))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def owned_ids(pid: int) -> dict[str, set[int]]:
    """Ids of the BPF programs, maps and links that a process holds descriptors of."""
    found: dict[str, set[int]] = {"prog_id": set(), "map_id": set(), "link_id": set()}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kind = os.readlink(f"/proc/{pid}/fd/{fd}")
            text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
        except OSError:
            continue
        if "bpf" in kind:
            for line in text.splitlines():
                name, _, value = line.partition(":")
                if name in found:
                    found[name].add(int(value))
    return found


def maps(output: str) -> dict[str, Any]:
    """Maps of ``-f json`` output by name."""
    found: dict[str, Any] = {}
    for line in output.splitlines():
        record = json.loads(line) if line.startswith("{") else {}
        if record.get("type") in ("map", "hist", "stats"):
            found |= record["data"]
    return found


def wait_for_line(process: subprocess.Popen[str], word: str) -> None:
    """Read the output up to a line with a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"no {word!r}: {process.communicate()}")


def gone(held: dict[str, set[int]]) -> None:
    """Wait until none of these ids exists any more.

    :raises AssertionError: some still do after ten seconds.
    """
    from tracebee.kernel.link import Link
    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program

    # The kernel frees programs and maps after a grace period.
    for _ in range(200):
        left = {
            "prog_id": held["prog_id"] & set(Program.ids()),
            "map_id": held["map_id"] & set(Map.ids()),
            "link_id": held["link_id"] & set(Link.ids()),
        }
        if not any(left.values()):
            return
        time.sleep(0.05)
    raise AssertionError(left)
