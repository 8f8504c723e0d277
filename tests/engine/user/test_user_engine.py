"""The user engine as a whole: what it refuses, what it leaves behind when killed, attaching, USDT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("gcc", "x86_64")
HERE = Path(__file__).parent
TRACEBEE = [sys.executable, "-m", "tracebee", "--engine", "user"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("target") / "target"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", str(path), str(HERE / "target.c")], check=True)
    return str(path)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRACEBEE, "-e", script, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("kprobe:vfs_read { @ = count(); }", ("-c", "true"), "kprobe"),
        ("tracepoint:sched:sched_switch { @ = count(); }", ("-c", "true"), "sched_switch"),
        ("uprobe:libc:malloc { @ = count(); }", (), "-c COMMAND or -p PID"),
        ("uprobe:libc:malloc { @[curtask->tgid] = count(); }", ("-c", "true"), "task_struct"),
    ],
)
def test_what_only_the_kernel_can_do_is_said(script: str, arguments: tuple[str, ...], message: str) -> None:
    done = run(script, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdout is not None
    while text not in process.stdout.readline():
        assert process.poll() is None


def byte(pid: int, addr: int) -> int:
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(fd, 1, addr)[0]
    finally:
        os.close(fd)


def function_address(pid: int, path: str, name: str) -> int:
    from tracebee.elf import ElfFile, find_symbol
    from tracebee.engine.user.space import read_mappings

    with ElfFile(path) as elf:
        symbol = find_symbol(elf, name)
        assert symbol is not None
        offset = elf.file_offset(symbol.addr)
    assert offset is not None
    return next(m.start + offset - m.offset for m in read_mappings(pid) if m.path == path and m.holds(offset))


@pytest.mark.parametrize("victim", ["printer", "tracer", "interrupt"])
def test_the_traced_process_survives_whatever_happens_to_the_tracer(target: str, victim: str) -> None:
    """kill -9 of either process of tracebee, or Ctrl-C: the program goes on, its code as it was."""
    with subprocess.Popen([target, "wait", "50"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as traced:
        assert traced.stdin is not None
        assert traced.stdout is not None
        wait_for(traced, b"ready")
        addr = function_address(traced.pid, target, "work")
        before = byte(traced.pid, addr)
        script = f"uprobe:{target}:work {{ @ = count(); }}"
        command = [*TRACEBEE, "-e", script, "-p", str(traced.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tracer:
            deadline = time.monotonic() + 30
            while byte(traced.pid, addr) != 0xCC:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            traced.stdin.write(b"go\n")
            traced.stdin.flush()
            wait_for(traced, b"done")
            if victim == "printer":
                tracer.kill()
            elif victim == "tracer":
                (worker,) = children(tracer.pid)
                os.kill(worker, signal.SIGKILL)
                time.sleep(0.3)
                tracer.send_signal(signal.SIGINT)
            else:
                tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
            deadline = time.monotonic() + 10
            while byte(traced.pid, addr) == 0xCC and time.monotonic() < deadline:
                time.sleep(0.05)
        assert byte(traced.pid, addr) == before
        traced.stdin.write(b"go\n")
        traced.stdin.close()
        assert traced.stdout.read() == b"done\n"
        assert traced.wait() == 0


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.needs("sdt")
def test_usdt_with_a_semaphore(tmp_path: Path) -> None:
    source = tmp_path / "probe.c"
    source.write_text(
        "#define _SDT_HAS_SEMAPHORES 1\n#include <sys/sdt.h>\n"
        '__extension__ unsigned short demo_hit_semaphore __attribute__((section(".probes")));\n'
        "int main(void) { int seen = 0; for (long i = 0; i < 10; i++) {\n"
        "  if (demo_hit_semaphore) { seen++; STAP_PROBE2(demo, hit, i, i * 10); } }\n"
        "  return seen == 10 ? 0 : 3; }\n"
    )
    program = tmp_path / "probe"
    subprocess.run(["gcc", "-O1", "-o", str(program), str(source)], check=True)
    done = run(
        f"usdt:{program}:demo:hit {{ @n = count(); @sum = sum(arg1); @max = max(arg0); }}", "-c", str(program)
    )
    assert done.returncode == 0, done.stderr
    assert "@n: 10" in done.stdout
    assert "@sum: 450" in done.stdout
    assert "@max: 9" in done.stdout


def test_intervals_and_samples_come(target: str) -> None:
    script = (
        "profile:hz:50 { @samples[comm] = count(); } interval:ms:50 { @ticks = count(); } "
        'END { printf("%d\\n", 1); }'
    )
    done = run(script, "-c", "/bin/bash -c 'i=0; while ((i++ < 400000)); do :; done'")
    assert done.returncode == 0, done.stderr
    ticks = int(done.stdout.partition("@ticks: ")[2].split()[0])
    samples = int(done.stdout.partition("@samples[bash]: ")[2].split()[0])
    assert ticks > 0
    assert samples > 0


def test_the_api_chooses_engines_too(target: str) -> None:
    import tracebee

    script = f"uprobe:{target}:work {{ @ = sum(arg0); }}"
    result = tracebee.run(script, command=[target, "work", "10"], engine="user", timeout=30)
    assert result.maps["@"] == sum(range(10))


def test_only_what_the_verifier_accepts_becomes_machine_code() -> None:
    from tracebee.engine.user.current import Current
    from tracebee.engine.user.programs import Programs
    from tracebee.errors import ProgramFaultError
    from tracebee.isa.asm import assemble
    from tracebee.obj.model import Function, Object, ProgramDef
    from tracebee.vm.session import Vm

    def program(name: str, text: str) -> ProgramDef:
        return ProgramDef(Function(name, tuple(assemble(text))), "kprobe", 2)

    obj = Object(
        "test",
        "GPL",
        (),
        (program("good", "r0 = 7\n exit"), program("bad", "r0 = *(u64 *)(r1 +9000)\n exit")),
    )
    current = Current()
    with Vm(obj, current) as vm:
        programs = Programs(vm, current)
        assert programs.interpreted == ["bad"]
        assert programs.run("good", programs.context_address) == 7
        with pytest.raises(ProgramFaultError):
            programs.run("bad", programs.context_address)
        programs.close()
