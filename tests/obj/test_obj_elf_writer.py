"""Objects that tracebee writes: read back the same, loaded by bpftool, and moved between kernels."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tracebee.api.compiling import compile_text
from tracebee.btf import Btf
from tracebee.btf.opening import use_kernel
from tracebee.elf import ElfFile
from tracebee.engine.kernel.core import Core
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.lang.portable import from_object, to_object
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.source import Source

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))
from kernel import vmlinux_btf

TRACEBEE = str(Path(sys.executable).parent / "tracebee")
# Reads of most forms: members, nested ones, arrays, strings, pointers to pointers, bit-fields.
SCRIPT = """
tracepoint:syscalls:sys_enter_sched_get_priority_max {
    $task = curtask;
    @pid = $task->pid;
    @leader[$task->group_leader->tgid, $task->comm] = count();
    @parent = $task->real_parent->pid;
    @maps = $task->mm->map_count > 0;
    @name = $task->nsproxy->uts_ns->name.sysname;
    @files = $task->signal->rlim[7].rlim_cur;
    @letter = $task->comm[2];
    @execve = $task->in_execve;
    @reset = $task->sched_reset_on_fork;
    @reset_btf = curtask->sched_reset_on_fork;
    for ($i : 0..3) { @loops = sum($i); }
    printf("%d %s\\n", $task->tgid, $task->comm);
}
"""
# Fields of a tracepoint's record, the same as arguments with types, and what an iterator walks over.
FORK = """
tracepoint:sched:sched_process_fork /args.parent_pid == cpid/ { printf("fork %d %d\\n", pid, args.child_pid) }
rawtracepoint:sched_process_fork /pid == cpid/ { printf("raw %d %d\\n", args.parent->pid, args.child->pid); }
tracepoint:sched:sched_process_exit /args.pid == cpid/ { printf("exit %s %d\\n", args.comm, args.pid); }
tracepoint:syscalls:sys_exit_wait4 /pid == cpid/ { printf("wait %d\\n", args.ret); }
iter:task { @seen[args.task->tgid == cpid] = count(); }
"""
CROSS = Path(__file__).parents[2] / ".cache" / "cross"


def build(script: str = SCRIPT) -> bytes:
    compiled = compile_text(Source("script.bt", script), portable=True, cpu_version=3)
    return write_object(to_object(compiled), Btf.vmlinux())


@pytest.mark.needs("bpf")
def test_reading_back_gives_the_script() -> None:
    script = compile_text(Source("script.bt", SCRIPT))
    again = from_object(read_object("script.bpf.o", write_object(to_object(script), Btf.vmlinux())))
    assert again.attachments == script.attachments
    assert again.actions == script.actions
    assert again.maps == script.maps
    assert again.probe_names == script.probe_names
    assert again.lost_causes == script.lost_causes
    mine, theirs = script.object, again.object
    assert [(m.name, m.type, m.key_size, m.value_size, m.contents) for m in theirs.maps] == [
        (m.name, m.type, m.key_size, m.value_size, m.contents) for m in mine.maps
    ]
    for one, other in zip(mine.programs, theirs.programs, strict=True):
        assert (one.name, one.section, one.type, one.flags) == (
            other.name,
            other.section,
            other.type,
            other.flags,
        )
        assert [(i.opcode, i.dst) for i in one.function.insns] == [
            (i.opcode, i.dst) for i in other.function.insns
        ]
        assert [(r.at, r.kind) for r in one.function.relocs] == [
            (r.at, r.kind) for r in other.function.relocs
        ]
        assert [(n.at, n.line) for n in one.function.lines] == [(n.at, n.line) for n in other.function.lines]


@pytest.mark.needs("bpf", "bpftool")
def test_bpftool_loads_and_dumps_it(tmp_path: Path) -> None:
    target = tmp_path / "script.bpf.o"
    target.write_bytes(build())
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", str(target)], capture_output=True, text=True, check=True
    )
    assert "STRUCT 'task_struct'" in dump.stdout
    mount = tmp_path / "bpffs"
    mount.mkdir()
    # A mount namespace of its own: nothing pinned or mounted outlives the command.
    steps = (
        f"mount -t bpf bpf {mount}",
        f"bpftool prog loadall {target} {mount}/x",
        f"bpftool -j prog show pinned {mount}/x/tracepoint",
    )
    load = " && ".join(steps)
    done = subprocess.run(["unshare", "-m", "sh", "-c", load], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"type":"tracepoint"' in done.stdout


def run_object(path: Path) -> list[str]:
    """Trace a rare system call of this very process with an object's script; returns the lines printed."""
    process = subprocess.Popen([TRACEBEE, "run", str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        # A bit-field of task_struct that is 1 while this runs.
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        assert process.stdout.readline().startswith("Attach")
        line = ""
        while not line.startswith(str(os.getpid())):
            _call_until_seen(process.stdout)
            line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return [line, *process.stdout.read().splitlines()]
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        process.kill()
        process.stdout.close()
        process.wait()


def _call_until_seen(output: IO[str]) -> None:
    for _ in range(600):
        os.sched_get_priority_max(os.SCHED_OTHER)
        if select.select([output], [], [], 0.05)[0]:
            return
    raise AssertionError("the script never printed")


def check_output(lines: list[str]) -> None:
    comm = Path("/proc/self/comm").read_text().strip()
    assert lines[0] == f"{os.getpid()} {comm}\n"
    assert f"@pid: {os.getpid()}" in lines
    assert f"@parent: {os.getppid()}" in lines
    assert "@maps: 1" in lines or "@maps: true" in lines
    assert "@name: Linux" in lines
    assert f"@files: {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}" in lines
    assert f"@letter: {ord(comm[2])}" in lines
    assert "@execve: 0" in lines
    assert "@reset: 1" in lines
    assert "@reset_btf: 1" in lines
    assert any(line.startswith(f"@leader[{os.getpid()}, {comm}]: ") for line in lines)


@pytest.mark.needs("bpf")
def test_every_field_of_the_kernel_is_relocated() -> None:
    obj = read_object("forks.bpf.o", build(FORK))
    core = Core(obj, Btf.vmlinux())
    relocated = {core.describe(r.core) for p in obj.programs for r in p.function.relocs if r.core}
    record = "trace_event_raw_sched_process_"
    # An event of a class that others share, or of its own, as the kernel has it.
    own = "exit" if Btf.vmlinux().find_all(f"{record}exit") else "template"
    fork, leave = f"struct {record}fork", f"struct {record}{own}"
    assert relocated == {
        f"{fork}.parent_pid",
        f"{fork}.child_pid",
        f"{leave}.comm",
        f"{leave}.pid",
        "struct syscall_trace_exit.ret",
        "struct bpf_iter__task.task",
        "struct task_struct.pid",
        "struct task_struct.tgid",
    }


def check_forks(path: Path) -> None:
    """Trace a shell that starts a process, with FORK as an object."""
    shell = "true & echo $$ $!; wait $!"
    run = [TRACEBEE, "run", str(path), "-c", f"sh -c '{shell}'"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    parent, child = next(line for line in lines if line[:1].isdigit()).split()
    for expected in (f"fork {parent} {child}", f"raw {parent} {child}", f"exit sh {parent}", f"wait {child}"):
        assert expected in lines
    assert "@seen[1]: 1" in lines or "@seen[true]: 1" in lines


@pytest.mark.needs("bpf")
def test_running_the_object_prints_what_the_script_prints(tmp_path: Path) -> None:
    target = tmp_path / "script.bpf.o"
    target.write_bytes(build())
    check_output(run_object(target))


@pytest.mark.needs("bpf", "no_kprobe")
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_built_for_another_kernel_it_runs_on_this_one(tmp_path: Path, series: str) -> None:
    other = Btf.from_bytes(vmlinux_btf(series), name=series)
    here = Btf.vmlinux()
    # Not the same kernel by another name: what the script reads lies elsewhere.
    for member in ("real_parent", "sched_reset_on_fork", "in_execve"):
        places = [b.member_path(b.find("struct task_struct"), member).bit_offset for b in (here, other)]
        assert places[0] != places[1]
    record = "struct trace_event_raw_sched_process_fork"
    places = [b.member_path(b.find(record), "child_pid").offset for b in (here, other)]
    assert places[0] != places[1]
    target, forks = tmp_path / "script.bpf.o", tmp_path / "forks.bpf.o"
    use_kernel(other)
    try:
        target.write_bytes(build())
        forks.write_bytes(build(FORK))
    finally:
        use_kernel(None)
    check_output(run_object(target))
    check_forks(forks)
    # What other loaders find by the kernel's types.
    obj = read_object(str(forks), forks.read_bytes())
    core = Core(obj, here)
    function = next(p.function for p in obj.programs if p.section.endswith("sched_process_fork"))
    (child,) = (r for r in function.relocs if r.core and core.describe(r.core) == f"{record}.child_pid")
    (load,) = core.patch(function.insns[child.at], child)
    assert load.off == places[0]


@pytest.mark.needs("bpf", "no_kprobe")
def test_a_field_that_is_gone_is_named_with_its_line(tmp_path: Path) -> None:
    target = tmp_path / "queue.bpf.o"
    script = "BEGIN { @ = ((struct cfs_rq *)curtask)->nr_running; exit() }"
    use_kernel(Btf.from_bytes(vmlinux_btf("6.1"), name="6.1"))
    try:
        target.write_bytes(build(script))
    finally:
        use_kernel(None)
    done = subprocess.run([TRACEBEE, "run", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs the field struct cfs_rq.nr_running, which this kernel does not have" in done.stderr
    assert "    1 | BEGIN { @ = " in done.stderr
    assert "hint: build the script again, for this kernel" in done.stderr


@pytest.mark.needs("bpf", "no_kprobe")
def test_build_for_the_guest() -> None:
    """Leaves an object for the test below, which runs on the guest's kernel."""
    CROSS.mkdir(parents=True, exist_ok=True)
    (CROSS / "script.bpf.o").write_bytes(build())
    (CROSS / "forks.bpf.o").write_bytes(build(FORK))
    with ElfFile(str(CROSS / "script.bpf.o")) as elf:
        assert elf.section(".BTF.ext") is not None


@pytest.mark.needs("guest")
def test_run_in_the_guest_what_was_built_outside() -> None:
    check_output(run_object(CROSS / "script.bpf.o"))
    check_forks(CROSS / "forks.bpf.o")


def test_what_has_no_types_and_needs_them_is_refused() -> None:
    from tracebee.obj.model import Extern, Object

    obj = Object("x", "GPL", (), (), externs=(Extern("CONFIG_HZ", "kconfig", 1, weak=False),))
    with pytest.raises(UnsupportedError, match="externs without types cannot be written"):
        write_object(obj)


@pytest.mark.needs("clang")
def test_an_object_without_a_script_cannot_be_run(compiled: object) -> None:
    obj = read_object(compiled("legacy"))  # type: ignore[operator]
    with pytest.raises(DecodeError, match="not built from a script"):
        from_object(obj)
