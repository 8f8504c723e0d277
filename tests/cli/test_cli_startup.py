"""What a short script makes the interpreter import: modules are most of the time that starting takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPTS = {
    "begin": "BEGIN { exit(); }",
    "count": "tracepoint:sched:sched_process_exec { @ = count(); } interval:ms:1 { exit(); }",
}
# Modules and packages that neither script has a use for.
UNUSED = {
    *("asyncio", "dataclasses", "decimal", "difflib", "importlib.metadata", "inspect", "json", "logging"),
    *("pathlib", "subprocess", "tempfile", "threading", "typing"),
    *("tracebee.btf.core", "tracebee.btf.reader", "tracebee.elf", "tracebee.engine.user"),
    *("tracebee.engine.kernel.core", "tracebee.engine.kernel.kernel_symbols"),
    *("tracebee.kernel.features", "tracebee.kernel.kallsyms"),
    *("tracebee.lang.c_declarations", "tracebee.lang.macros", "tracebee.lang.preprocessor"),
    *("tracebee.obj.elf_reader", "tracebee.obj.linker"),
    *("tracebee.report.printf", "tracebee.report.stacks"),
    *("tracebee.symbols", "tracebee.tools", "tracebee.vm"),
}
# Without maps and tracepoints there is no use for these either.
UNUSED_BY_BEGIN = {"tracebee.kernel.mounts", "tracebee.report.histogram", "tracebee.report.maps"}
# Of tracebee's own modules, packages counted.
BOUND = {"begin": 122, "count": 150}

REPORT = """
import sys
from tracebee.cli.main import guarded
code = guarded(["-e", sys.argv[1]])
print("MODULES", *sys.modules)
sys.exit(code)
"""


def imported(script: str) -> set[str]:
    command = [sys.executable, "-S", "-c", "import sys; sys.path[:] = " + repr(sys.path) + REPORT, script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("name", SCRIPTS)
def test_short_scripts_import_little(name: str) -> None:
    modules = imported(SCRIPTS[name])
    own = {m for m in modules if m.startswith("tracebee.")}
    not_needed = UNUSED | (UNUSED_BY_BEGIN if name == "begin" else set())
    assert {m for m in modules for unused in not_needed if m == unused or m.startswith(unused + ".")} == set()
    assert len(own) <= BOUND[name], sorted(own)
    assert {"tracebee.cli.main", "tracebee.kernel.syscall", "tracebee.report.reporter"} <= own


# What the command says when it cannot write, although it leaves without the interpreter's own exit.
@pytest.mark.parametrize(("target", "code"), [("/dev/full", 1), ("/dev/null", 0)])
def test_output_is_written_before_the_end(target: str, code: int) -> None:
    command = [sys.executable, "-m", "tracebee", "--version"]
    with open(target, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    assert bool(done.returncode) == bool(code)
    assert ("No space left on device" in done.stderr) == bool(code)
