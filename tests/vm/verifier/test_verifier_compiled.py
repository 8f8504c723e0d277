"""Verdicts on compiled programs, C and scripts, against the kernel's."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tracebee.api.compiling import compile_text
from tracebee.btf.reader import Btf
from tracebee.engine.kernel.core import Core
from tracebee.engine.kernel.debug_info import with_debug_info
from tracebee.engine.kernel.engine import sized
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import VerifierError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import Object
from tracebee.source import Source
from tracebee.vm.verifier import Verdict, verify

HERE = os.path.dirname(__file__)
SCRIPTS = [
    "BEGIN { exit() }",
    'tracepoint:sched:sched_process_exec { printf("exec by %s\\n", comm); }',
    "profile:hz:99 { @[kstack] = count() }",
    'tracepoint:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args.filename)); }',
    "tracepoint:raw_syscalls:sys_exit { @[comm] = hist(args.ret) }",
    "uprobe:/bin/bash:main { @[ustack] = hist(arg0) }",
    "BEGIN { $i = 0; while ($i < 50) { @[$i] = $i; $i++ } }",
    "BEGIN { for ($i : 0..10) { @[$i] = $i } }",
    "BEGIN { @a[1] = 2; for ($kv : @a) { print($kv.0) } }",
    "interval:s:1 { @s = sum(nsecs); @m = max(pid); @st = stats(cpu) }",
    "tracepoint:sched:sched_switch { @[args.prev_comm, args.next_comm] = count() }",
    "BEGIN { if (pid > 5) { @ = 1 } else { @ = 2 } unroll(5) { @x += rand % 10 } print(@); }",
    'BEGIN { $t = (1, "a", (2, 3)); print($t); @[$t] = 1; }',
    "tracepoint:syscalls:sys_enter_execve { join(args.argv); }",
    "tracepoint:sched:sched_process_fork { @[curtask->comm, curtask->parent->pid] = count() }",
]


def kernel_log(obj: Object, program: str) -> str:
    """What the kernel says against a program; empty when it loads."""
    try:
        with load_object(sized(obj), programs=lambda p: p.name == program):
            return ""
    except VerifierError as error:
        return error.log or error.message


def compare(obj: Object, program: str) -> Verdict:
    core = Core(obj, Btf.vmlinux())
    verdict = verify(obj, program, btf=Btf.vmlinux(), core=lambda insn, reloc: core.patch(insn, reloc)[0])
    log = kernel_log(obj, program)
    assert verdict.accepted == (not log), f"{program}: {verdict.explain()}\n{log[-1500:]}"
    return verdict


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Object:
    target: Path = tmp_path_factory.mktemp("verdicts") / "verdicts.bpf.o"
    include = "-I/usr/include/" + (sysconfig.get_config_var("MULTIARCH") or "")
    source = os.path.join(HERE, "programs", "verdicts.bpf.c")
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", target], check=True)
    return read_object(str(target))


@pytest.mark.needs("clang")
def test_c_programs(compiled: Object) -> None:
    names = [p.name for p in compiled.programs]
    assert len(names) >= 25
    for name in names:
        verdict = verify(compiled, name)
        assert verdict.accepted == (not name.endswith("_bad")), f"{name}: {verdict.explain()}"


@pytest.mark.needs("clang", "bpf", "btf")
def test_the_kernel_agrees_on_c_programs(compiled: Object) -> None:
    for program in compiled.programs:
        compare(compiled, program.name)


@pytest.mark.needs("bpf", "btf")
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(script: str) -> None:
    compiled = compile_text(Source("test.bt", script), unsafe=True)
    obj = with_debug_info(compiled.object, compiled.maps)
    for program in obj.programs:
        assert compare(obj, program.name).accepted
