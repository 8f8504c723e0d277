"""The tracer on real processes: every call and return is seen once, and nobody is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tracebee.elf import ElfFile, find_symbol
from tracebee.engine.user import ptrace, seccomp
from tracebee.engine.user.tracer import Call, Site, Thread, Tracer

pytestmark = pytest.mark.needs("gcc", "x86_64")
HERE = Path(__file__).parent


class Recorder:
    """Counts what the tracer tells."""

    def __init__(self) -> None:
        self.hits: list[tuple[int, int, int]] = []  # pid, site, first argument
        self.returns: list[tuple[int, int, int]] = []  # pid, site, return value
        self.calls: Counter[tuple[str, int]] = Counter()
        self.life: list[tuple[str, int]] = []
        self.samples = 0

    def hit(self, thread: Thread, sites: list[int], addr: int) -> None:
        assert thread.regs[ptrace.RIP] == addr
        self.hits += [(thread.pid, n, thread.regs[ptrace.RDI]) for n in sites]

    def returned(self, thread: Thread, call: Call) -> None:
        self.returns.append((thread.pid, call.site, thread.regs[ptrace.RAX]))

    def syscall_enter(self, thread: Thread, number: int) -> None:
        self.calls["enter", number] += 1

    def syscall_exit(self, thread: Thread, number: int) -> None:
        self.calls["exit", number] += 1

    def forked(self, thread: Thread, child: int, child_pid: int) -> None:
        self.life.append(("fork" if child == child_pid else "clone", child))

    def executed(self, thread: Thread, path: str, old_tid: int) -> None:
        self.life.append((f"exec {path}", thread.pid))

    def renamed(self, thread: Thread) -> None:
        self.life.append(("name", thread.tid))

    def exiting(self, thread: Thread) -> None:
        self.life.append(("exit", thread.tid))

    def sample(self, thread: Thread) -> None:
        self.samples += 1


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("target") / "target"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", str(path), str(HERE / "target.c")], check=True)
    return str(path)


def site(path: str, function: str, *, is_return: bool = False) -> Site:
    stat = os.stat(path)
    with ElfFile(path) as elf:
        symbol = find_symbol(elf, function)
        assert symbol is not None
        offset = elf.file_offset(symbol.addr)
    assert offset is not None
    return Site((stat.st_dev, stat.st_ino), offset, is_return)


def start(tracer: Tracer, arguments: list[str], calls: frozenset[int] = frozenset()) -> int:
    """A held child, adopted, let go."""
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go_write)
            os.read(go_read, 1)
            seccomp.install(seccomp.build_filter(seccomp.AUDIT_ARCH["x86_64"], calls, 9, 157))
            os.execv(arguments[0], arguments)
        finally:
            os._exit(127)
    os.close(go_read)
    tracer.adopt(pid)
    os.close(go_write)
    return pid


def trace(
    sites: list[Site], arguments: list[str], calls: frozenset[int] = frozenset()
) -> tuple[Recorder, int]:
    recorder = Recorder()
    journal: list[tuple[int, int, int]] = []
    tracer = Tracer(recorder, sites, calls, lambda *row: journal.append(row))
    statuses = {}
    wait, ptrace_wait = ptrace.wait, ptrace.wait

    def keep_status(pid: int = -1, flags: int = ptrace.WALL) -> ptrace.Stop | None:
        stop = ptrace_wait(pid, flags)
        if stop is not None and stop.ended:
            statuses[stop.tid] = stop.status
        return stop

    ptrace.wait = keep_status
    try:
        pid = start(tracer, arguments, calls)
        while tracer.step():
            pass
    finally:
        ptrace.wait = wait
    assert not tracer.errors
    return recorder, os.waitstatus_to_exitcode(statuses[pid])


def test_every_call_and_return(target: str) -> None:
    recorder, status = trace(
        [site(target, "work"), site(target, "work", is_return=True)], [target, "work", "500"]
    )
    assert status == 0
    assert [argument for _, _, argument in recorder.hits] == list(range(500))
    assert [value for _, _, value in recorder.returns] == [2 * n for n in range(500)]


def test_recursion_returns_innermost_first(target: str) -> None:
    sites = [site(target, "recurse"), site(target, "recurse", is_return=True)]
    recorder, status = trace(sites, [target, "recurse", "20"])
    assert status == 0
    assert [argument for _, _, argument in recorder.hits] == list(range(20, -1, -1))
    assert [value for _, _, value in recorder.returns] == list(range(1, 22))


def test_longjmp_out_of_a_traced_function(target: str) -> None:
    sites = [site(target, "jumper"), site(target, "jumper", is_return=True)]
    recorder, status = trace(sites, [target, "jump", "40"])
    assert status == 0
    assert len(recorder.hits) == 40
    assert [value for _, _, value in recorder.returns] == list(range(0, 40, 2))


def test_exceptions_through_a_traced_function(tmp_path: Path) -> None:
    path = str(tmp_path / "throws")
    subprocess.run(["g++", "-O1", "-o", path, str(HERE / "throws.cpp")], check=True)
    with ElfFile(path) as elf:
        from tracebee.elf.symbols import functions

        name = next(f.name for f in functions(elf) if "thrower" in f.name and "cold" not in f.name)
    sites = [site(path, name), site(path, name, is_return=True)]
    recorder, status = trace(sites, [path, "40"])
    assert status == 0
    assert len(recorder.hits) == 40
    assert [value for _, _, value in recorder.returns] == list(range(0, 40, 2))


def test_threads(target: str) -> None:
    sites = [site(target, "work"), site(target, "work", is_return=True)]
    recorder, status = trace(sites, [target, "threads", "200"])
    assert status == 0
    assert Counter(argument for _, _, argument in recorder.hits) == Counter(list(range(200)) * 4)
    assert len(recorder.returns) == 800
    assert sum(1 for what, _ in recorder.life if what == "clone") == 4
    assert sum(1 for what, _ in recorder.life if what == "exit") == 5


def test_children_are_traced_too(target: str) -> None:
    recorder, status = trace([site(target, "work")], [target, "fork", "50"])
    assert status == 0
    by_pid = Counter(pid for pid, _, _ in recorder.hits)
    assert sorted(by_pid.values()) == [50, 50]
    assert ("fork", next(pid for what, pid in recorder.life if what == "fork")) in recorder.life


def test_a_library_function(target: str) -> None:
    libc = os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")
    recorder, status = trace(
        [site(libc, "puts"), site(libc, "puts", is_return=True)], ["/bin/bash", "-c", "exit 3"]
    )
    assert status == 3
    assert len(recorder.hits) == len(recorder.returns)


def test_only_the_wanted_system_calls_stop(target: str) -> None:
    openat, close = 257, 3
    recorder, status = trace([], ["/bin/cat", "/etc/hostname"], frozenset({openat}))
    assert status == 0
    assert recorder.calls["enter", openat] == recorder.calls["exit", openat] > 2
    assert recorder.calls["enter", close] == 0
    assert ("exec /usr/bin/cat", recorder.life[0][1]) in recorder.life


def test_attach_and_leave_as_it_was(target: str) -> None:
    with subprocess.Popen([target, "wait", "30"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        recorder = Recorder()
        wanted = site(target, "work")
        tracer = Tracer(recorder, [wanted], frozenset(), lambda *row: None)
        tracer.attach(process.pid)
        (point,) = tracer.threads[process.pid].space.breakpoints.values()
        assert _byte(process.pid, point.addr) == 0xCC
        process.stdin.write(b"go\n")
        process.stdin.flush()
        while len(recorder.hits) < 30:
            tracer.step()
        tracer.detach()
        assert _byte(process.pid, point.addr) == point.original[0]
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stdout.read() == b"done\ndone\n"
        assert process.wait() == 0
        assert len(recorder.hits) == 30


def _byte(pid: int, addr: int) -> int:
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(fd, 1, addr)[0]
    finally:
        os.close(fd)


def test_samples_of_running_threads() -> None:
    process = subprocess.Popen(["/bin/bash", "-c", "while :; do :; done"])
    recorder = Recorder()
    tracer = Tracer(recorder, [], frozenset(), lambda *row: None)
    try:
        tracer.attach(process.pid)
        while recorder.samples < 20:
            # Without an interrupt there is no stop to wait for.
            if tracer.sample_running(2):
                tracer.step()
        tracer.detach()
    finally:
        process.terminate()
    assert process.wait() == -signal.SIGTERM
