"""Objects of ``tracebee build``: run, each prints what its script prints."""

# ruff: noqa: E501 (one script, one row)

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import PROGRAMS, command

pytestmark = pytest.mark.needs("bpf", "gcc")

ROOT = Path(__file__).resolve().parents[2]
CROSS = ROOT / ".cache" / "cross"
# %W is the workload's path. What differs from run to run (times, ids) is only compared here, not printed.
SCRIPTS = {
    "printf": r'BEGIN { printf("%d %s %x %X %o %c %p %5d|%-5d|%05d|%lld %hhx %%\n", 42, "str", 255, 255, 8, 65, 4096, 1, 2, 3, -5, 300); printf("%-10s|%10s|%.2s\n", "ab", "cd", "xyz"); printf("%r %rx %rh\n", buf("a\x01b", 3), buf("a\x01b", 3), buf("a\x01b", 3)); }',
    "maps": r'BEGIN { @a = 1; @b = "text"; @c[1, "x"] = 2; @c[2, "y"] = 1; @t = (1, "a", (2, 3)); @u[(1, "k")] = 5; @r = (a=1, b="x"); @n[-1] = -2; @long["a key of more than sixteen bytes"] = 1; print(@c); print(@a); print(@t.1); clear(@c); @c[9, "z"] = 1; delete(@n[-1]); @h = has_key(@u, (1, "k")); @l = len(@u); @y = 5; @y += 3; @y++; --@y; }',
    "kinds of maps": "let @m = lruhash(10); let @p = percpuhash(20); let @h = hash(5); BEGIN { @m[1] = 5; @p[2] = count(); @h[3] = 1; }",
    "aggregations": r'BEGIN { @c = count(); @c = count(); @s = sum(5); @s = sum(-7); @a = avg(10); @a = avg(21); @mi = min(9); @mi = min(-3); @ma = max(9); @ma = max(30); @st = stats(10); @st = stats(30); @h = hist(5); @h = hist(500); @h = hist(-1); @h3 = hist(77, 3); @l = lhist(5, 0, 100, 10); @kc["x"] = count(); @ks["y"] = stats(7); @kh[1] = hist(8); @kl[2] = lhist(3, 0, 10, 1); print(@kc, 1, 2); if (@c > 1) { print(@a); } zero(@kc); print((int64)@s); @ka["k"] = avg(3); @ka["k"] = avg(9); for ($kv : @ka) { print($kv); } }',
    "strings": r'BEGIN { $s = "hello world"; print((strlen($s), strcontains($s, "wor"), strncmp($s, "hello!", 5), strstr($s, "wor"))); @k[$s] = 1; @k[str($2)] = $1; print($s == "hello world" ? "yes" : "no"); print($s[1]); print($2); print($#); $n = 0; while ($n < 3) { printf("%c", $s[$n]); $n++; } @m = memcmp("ab", "ac", 2); }',
    "large values": r'BEGIN { $a = "this is a long string that goes to scratch memory for it is long"; @a[$a, $a, $a] = $a; print(($a, $a)); printf("%s%s%s%s\n", $a, $a, $a, $a); }',
    "loops": r'BEGIN { $i = 0; while ($i < 5) { printf("%d ", $i); $i++; if ($i == 4) { break; } } unroll(3) { printf("u"); } for ($j : 0..4) { if ($j == 2) { continue; } printf("j%d", $j); } @m[1] = 2; @m[3] = 4; @q["a", 1] = 5; for ($kv : @m) { @t += $kv.1; @n = sum($kv.0); } for ($kv : @q) { print($kv); } for ($i : 0..20000) { @z = count(); } }',
    "tuples and arrays": r'BEGIN { $t = (1, "two", (3, 4)); print($t); print($t.1); print($t.2.1); @x[$t] = 1; $r = (name="n", v=5); print($r.name); print($r); $a = pton("1.2.3.4"); print($a[2]); print(pton("::1")); }',
    "arithmetic": r"macro add(x, y) { x + y } BEGIN { print((-7 / 2, -7 % 3, 1 << 40, (uint8)300, (int8)200, 5 > 3 && 2 < 1, add(1, 2), bswap((uint16)0x1234), comptime (1 + 2), sizeof(uint64))); }",
    "done in user space": r'BEGIN { time("now\n"); cat("/proc/sys/kernel/%s", "ostype"); system("echo sys %d", 5); printf("%s %s\n", strftime("%Y", 0), strerror(2)); print(ntop(0x0100007f)); print(ntop(pton("::1"))); @e[strerror(1)] = 1; printf("%s %d %d\n", username, uid, gid); warnf("careful %d\n", 1); errorf("bad %d\n", 2); }',
    "settings": "config = { max_strlen = 8; print_maps_on_exit = 0; missing_probes = ignore; } BEGIN { @x = 1; print(str($2)); print(default_str_length()); }",
    "exit code": r'BEGIN { @x = 3; exit(7); } END { printf("end\n"); clear(@x); }',
    "error code": 'BEGIN { assert(1 == 2, "not so"); }',
    "this machine": r'BEGIN { print((ncpus, has_cpid, cpid != 0, elapsed * 2 < nsecs)); printf("%s\n", ksym(kaddr("do_exit"))); print(kaddr("do_exit") == kaddr("do_exit")); @c = cgroup == cgroupid("/sys/fs/cgroup"); print(cgroup_path(cgroup)); } uprobe:%W:work /pid == cpid/ { @u = uaddr("total"); @n = count(); }',
    "numbers that vary": r"BEGIN { print((numaid >= 0, cpu < ncpus, rand >= 0, jiffies > 0, nsecs > 0, nsecs(monotonic) > 0, nsecs(tai) > 0, pid == tid, ppid > 0, ctx != 0)); print((probe, probetype)); print(pcomm == comm); }",
    "tracepoint": r'tracepoint:syscalls:sys_enter_getppid /comm == "workload"/ { @nr[args.__syscall_nr] = count(); @p[probe] = count(); @k[kstack(1)] = count(); @raw = kstack(raw, 1); print(kstack(perf, 1)); }',
    "tracepoint's result": 'tracepoint:syscalls:sys_exit_getppid /comm == "workload"/ { @ = sum(args.ret > 0); }',
    "tracepoint's strings": r'tracepoint:sched:sched_process_exec /pid == cpid/ { printf("%s %d\n", str(args.filename), args.pid == pid); } tracepoint:sched:sched_process_exit /pid == cpid/ { @[args.comm, args.prio] = count(); }',
    "several tracepoints": 'tracepoint:syscalls:sys_*_getppid, tracepoint:sched:sched_process_* /comm == "workload"/ { @[probe] = count(); }',
    "rawtracepoint": r'rawtracepoint:sys_enter /comm == "workload" && arg1 == 110/ { @n = count(); } rawtracepoint:sched_process_exec, rawtracepoint:sched_process_exit /pid == cpid/ { @[probe] = count(); }',
    "typed rawtracepoint": r'rawtracepoint:sched_process_exec /comm == "workload"/ { printf("%s\n", str(args.bprm.filename)); } rawtracepoint:sched_process_exit /comm == "workload"/ { print((args.p.comm, args.p.pid == pid, args.p.signal.rlim[3].rlim_max)); $i = pid % 1; print(args.p.signal->rlim[$i].rlim_cur == args.p.signal.rlim[0].rlim_cur); print((((uint64)args.p ^ 5) >> 3) > 0); print((args.p + $i)->pid == pid); }',
    "iter": r"iter:task { print((args.task.tgid == cpid, args.task.in_execve, args.meta.seq_num)); }",
    "uprobe": r'uprobe:%W:work { @a = sum(arg0); @s[str(arg1)] = count(); @b[buf(arg1, 5)] = count(); $p = (uint8 *)arg1; @c[*$p, $p[1], *($p + 2)] = count(); @ip = reg("ip") == reg("pc"); } uretprobe:%W:work { @r = sum(retval); } uprobe:%W:main+4 { @main = count(); }',
    "uprobes": "uprobe:%W:w*k, uprobe:%W:main { @[probe] = count(); }",
    "user stacks": r'uprobe:%W:work { @[ustack(1)] = count(); @raw[ustack(raw, 1)] = count(); printf("%s %s\n", usym(reg("ip")), func); }',
    "usdt": r"usdt:%W:test:plain { @a = sum(arg0); @b = sum((int32)arg1); @c = sum(arg2); } usdt:%W:test:counted { @d = sum(arg1); @e[arg0] = count(); } usdt:%W:* { @[probe] = count(); }",
    "interval": r'interval:ms:20 { @n++; if (@n == 3) { printf("%s\n", probe); exit(); } } END { print(@n > 2); clear(@n); }',
    "profile": r"profile:hz:99 { @n++; @k[kstack] = count(); @u[ustack] = count(); if (@n > 2) { exit(); } } END { print(@n > 2); clear(@n); clear(@k); clear(@u); }",
    "software": r'software:page-faults:1 /comm == "workload"/ { @n = 1; } software:cpu-clock:1000000 { @c = 1; }',
    "hardware": "hardware:cache-misses:1000 { @n = 1; }",
    "own structs": r"struct A { int a; char b; short c[3]; unsigned d:3; unsigned e:5; } union U { int x; char y[8]; } enum E { ONE = 1, TWO }; BEGIN { print((sizeof(struct A), offsetof(struct A, c), sizeof(union U), TWO)); print((enum E)2); } uprobe:%W:work { $a = (struct A *)arg1; @x = $a->a; @c[$a->c[1]] = 1; @d = $a->d; @e = $a->e; @whole = *$a; }",
    "kernel structs": r'tracepoint:syscalls:sys_enter_getppid /comm == "workload"/ { $t = (struct task_struct *)curtask; @c[$t->comm] = count(); @n = $t->nsproxy->uts_ns->name.sysname; @ns = $t->nsproxy->uts_ns->name; @u = curtask->cred->uid; @size = sizeof(struct task_struct) > 1000; @at = offsetof(struct task_struct, comm) > 100; print(@ns); print(curtask->cred->cap_effective); $l = curtask->signal->rlim; $i = 3; @i = curtask->signal->rlim[$i].rlim_cur; @files = curtask->files->fdt->max_fds > 0; }',
    "kernel enums": r'BEGIN { print(BPF_MAP_TYPE_HASH); printf("%s %d\n", BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY); print(PIDTYPE_TGID); @e = (enum pid_type)1; @k[(enum pid_type)2] = 1; if (NR_FILE_PAGES > 0) { print("y"); } print(AF_INET); }',
    "buffers": r'tracepoint:syscalls:sys_enter_write /pid == cpid && args.count == 5/ { printf("%r|%s\n", buf(args.buf, args.count), str(args.buf, 3)); @b = buf(args.buf, 3); }',
    "signal": 'tracepoint:syscalls:sys_enter_getppid /pid == cpid/ { signal("KILL"); @n = count(); }',
    "named parameter": 'BEGIN { print(getopt("name", "without")); print(getopt("number", 5)); }',
}
OPTIONS = {"named parameter": ["--name=given", "--number=3"]}
COMMANDS = {
    # Alive until what was asked about its addresses has been answered.
    "user stacks": "setarch -R sh -c '(echo; sleep 1; echo) | exec %W 3 wait'",
    "buffers": "sh -c 'echo text'",
    "interval": "sleep 9",
    "profile": "sh -c 'while :; do :; done'",
}
KERNEL_FUNCTIONS = {
    "kprobe": r'kprobe:do_exit /comm == "workload"/ { @n = count(); @[func] = count(); @a = arg0; @k[kstack(1)] = count(); } kretprobe:wake_up_new_task /comm == "sh"/ { @r = count(); } kprobe:wake_up_n*w_task, kprobe:do_exi[t] /comm == "sh"/ { @p[probe] = count(); }',
    "fentry": r'fentry:do_exit /comm == "workload"/ { @code = args.code; @[probe] = count(); } fexit:wake_up_new_task /comm == "sh"/ { @pid = args.p->pid > 0; } fexit:security_file_open { @path[path(args.file->f_path)] = count(); } END { print(len(@path) > 0); clear(@path); }',
}


def ran(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def traced(name: str, workload: str) -> str:
    """The command that a script traces."""
    return COMMANDS.get(name, f"{workload} 5").replace("%W", workload)


def compared(name: str, script: str, workload: str, folder: Path) -> tuple[int, str, str]:
    """What a script and the object that is built of it both print."""
    command_line = traced(name, workload)
    text, target = folder / "script.bt", folder / "script.bpf.o"
    text.write_text(script.replace("%W", workload))
    parameters = OPTIONS.get(name, ["12", "hi"])
    direct = ran("--unsafe", str(text), "-c", command_line, *parameters)
    assert ran("build", "--unsafe", str(text), "-o", str(target), *parameters) == (0, f"{target}\n", "")
    text.write_text("")
    assert ran("run", str(target), "-c", command_line) == direct
    return direct


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_object_prints_what_its_script_prints(name: str, workload: str, tmp_path: Path) -> None:
    status, output, errors = compared(name, SCRIPTS[name], workload, tmp_path)
    if name == "hardware":
        return  # not every machine has the event
    assert status in (0, 7) or "not so" in errors
    assert len((output + errors).split()) > 3  # more than "Attaching 1 probe"


@pytest.mark.needs("x86_64")
def test_the_user_engine_runs_objects_too(workload: str, tmp_path: Path) -> None:
    text, target = tmp_path / "script.bt", tmp_path / "script.bpf.o"
    text.write_text(
        "tracepoint:sched:sched_process_exec { @own = args.pid == pid; @path = str(args.filename); }"
        "tracepoint:sched:sched_process_exit { @name = args.comm; }"
        "tracepoint:raw_syscalls:sys_enter /args.id == 110/ { @raw = count(); }"
        "tracepoint:syscalls:sys_enter_getppid { @number[args.__syscall_nr] = count(); }"
        "tracepoint:syscalls:sys_exit_getppid { @ = sum(args.ret > 0); }"
        f"uprobe:{workload}:work {{ @sum = sum(arg0); }}"
    )
    assert ran("build", str(text), "-o", str(target))[0] == 0
    options = ("--engine", "user", "-c", f"{workload} 5")
    printed = ran("run", str(target), *options)
    assert printed == ran(str(text), *options)
    own = ("@name: workload", "@own: true", f"@path: {workload}")
    for line in ("@: 5", "@number[110]: 5", "@raw: 5", "@sum: 10", *own):
        assert line in printed[1].splitlines()


def test_functions_are_found_in_another_version_of_the_file(workload: str, tmp_path: Path) -> None:
    program, target = tmp_path / "program", tmp_path / "script.bpf.o"
    shutil.copy(workload, program)
    script = (
        "uprobe:%W:work, uprobe:%W:main+4 { @[probe] = count(); } uretprobe:%W:work { @r = sum(retval); }"
    )
    command_line = ("-e", script.replace("%W", str(program)), "-o", str(target))
    assert ran("build", *command_line)[0] == 0
    before = ran("run", str(target), "-c", f"{program} 5")
    assert "@r: 20" in before[1].splitlines()
    # Other functions first: everything moves.
    source = (PROGRAMS / "workload.c").read_text()
    moved = tmp_path / "moved.c"
    moved.write_text("long filler(long a) { return a * 3; }\nlong more(long a) { return a / 7; }\n" + source)
    subprocess.run(["gcc", "-O2", "-g", "-o", program, moved], check=True)
    assert ran("run", str(target), "-c", f"{program} 5") == before


def test_a_usdt_probe_of_another_version_is_refused(workload: str, tmp_path: Path) -> None:
    program, target = tmp_path / "program", tmp_path / "script.bpf.o"
    shutil.copy(workload, program)
    script = f"usdt:{program}:test:plain {{ @ = sum(arg0); }}"
    assert ran("build", "-e", script, "-o", str(target))[0] == 0
    subprocess.run(["gcc", "-O1", "-o", program, PROGRAMS / "workload.c"], check=True)
    status, _, errors = ran("run", str(target), "-c", f"{program} 5")
    assert status == 1
    assert errors.startswith(
        f"stdin:1:1: error: {program} is not the file that the script was built for\n    1 | "
    )
    program.unlink()
    status, _, errors = ran("run", str(target))
    assert (status, f"cannot read {program}" in errors) == (1, True)


@pytest.mark.needs("bpftool")
def test_bpftool_loads_what_this_kernel_allows(workload: str, tmp_path: Path) -> None:
    """Every object of the table; kernel functions are not traced on every kernel."""
    mount = tmp_path / "bpffs"
    mount.mkdir()
    steps = ["set -e", f"mount -t bpf bpf {mount}"]
    for number, (name, script) in enumerate(SCRIPTS.items()):
        text, target = tmp_path / f"{number}.bt", tmp_path / f"{number}.bpf.o"
        text.write_text(script.replace("%W", workload))
        status, _, errors = ran("build", "--unsafe", str(text), *OPTIONS.get(name, ["12", "hi"]))
        assert (status, errors) == (0, "")
        steps.append(f"echo {shlex.quote(name)}; bpftool prog loadall {target} {mount}/{number}")
    # A mount namespace of its own: nothing pinned or mounted outlives the command.
    run = ["unshare", "-m", "sh", "-c", "\n".join(steps)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Builds every script of a folder, in one process: the guest is slow.
BUILDER = """
import json, pathlib, sys
from tracebee.cli.main import main
for text in sorted(pathlib.Path(sys.argv[1]).glob("*.bt")):
    main(["build", "--unsafe", str(text), *json.loads(text.with_suffix(".json").read_text())])
"""


@pytest.mark.timeout(1800)  # one guest at a time: it may have to wait
@pytest.mark.needs("no_kprobe", "qemu")
def test_built_in_the_guest_they_print_the_same_here(workload: str) -> None:
    """On this kernel, from the objects alone, what was compiled against the guest's."""
    CROSS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CROSS) as name:
        folder = Path(name)  # the guest sees it; it has another /tmp
        shutil.copy(workload, folder / "workload")
        scripts = {folder / f"{number:02}.bt": name for number, name in enumerate(SCRIPTS)}
        for text, script in scripts.items():
            text.write_text(SCRIPTS[script].replace("%W", str(folder / "workload")))
            text.with_suffix(".json").write_text(json.dumps(OPTIONS.get(script, ["12", "hi"])))
        boot = [sys.executable, str(ROOT / "tests/guest/boot.py"), "--"]
        inside = [sys.executable, "-c", BUILDER, str(folder)]
        done = subprocess.run([*boot, *inside], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        for text, script in scripts.items():
            line = traced(script, str(folder / "workload"))
            parameters = OPTIONS.get(script, ["12", "hi"])
            direct = ran("--unsafe", str(text), "-c", line, *parameters)
            assert ran("run", str(text.with_suffix(".bpf.o")), "-c", line) == direct, script


@pytest.mark.needs("kprobe", "fentry")
@pytest.mark.parametrize("name", KERNEL_FUNCTIONS)
def test_an_object_that_traces_kernel_functions(name: str, workload: str, tmp_path: Path) -> None:
    COMMANDS[name] = "sh -c '%W 5; true'"
    status, output, _ = compared(name, KERNEL_FUNCTIONS[name], workload, tmp_path)
    assert status == 0
    assert "@" in output
