"""The table of kinds and what each kind's module promises; expansion that needs no tracing rights."""

from __future__ import annotations

import importlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import Diagnostic, MissingProbe, UnsupportedError
from tracebee.lang.ast import AttachPoint
from tracebee.probes.kinds import KINDS, kind_of, module_of
from tracebee.probes.machine import Machine
from tracebee.probes.provider import Provider
from tracebee.probes.regs import ARM64, X86_64, registers

if TYPE_CHECKING:
    from pathlib import Path


def point(text: str) -> AttachPoint:
    return AttachPoint(parts=text.split(":"), text=text)


def test_names_are_unique() -> None:
    names = [name for kind in KINDS for name in (kind.name, *kind.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_module_has_what_a_kind_needs(kind: object) -> None:
    module = importlib.import_module(f"tracebee.probes.{kind.module}")  # type: ignore[attr-defined]
    assert all(callable(getattr(module, name)) for name in ("expand", "attach", "listing"))


def test_language_and_probes_know_the_same_kinds() -> None:
    from tracebee.lang.names import PROVIDERS

    assert {name for kind in KINDS for name in (kind.name, *kind.aliases)} <= {*PROVIDERS, "BEGIN", "END"}


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("k", "kprobe"),
        ("kfunc", "fentry"),
        ("kr", "kretprobe"),
        ("t", "tracepoint"),
        ("U", "usdt"),
        ("i", "interval"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert kind_of(alias).name == name


def test_unknown_kind_suggests() -> None:
    with pytest.raises(Diagnostic) as caught:
        kind_of("kprobee")
    assert "kprobe" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("interval:s:1", {"period": 1_000_000_000}),
        ("interval:ms:20", {"period": 20_000_000}),
        ("interval:us:7", {"period": 7_000}),
        ("profile:hz:99", {"freq": 99}),
        ("i:hz:0x10", {"freq": 16}),
        ("interval:500ms", {"period": 500_000_000}),
        ("interval:2m", {"period": 120_000_000_000}),
        ("software:cpu:100", {"type": 1, "config": 0, "period": 100, "event": "cpu-clock"}),
        ("software:faults", {"type": 1, "config": 2, "period": 100, "event": "page-faults"}),
        ("hardware:cache-misses", {"type": 0, "config": 3, "period": 1_000_000, "event": "cache-misses"}),
        ("h:branches:5", {"type": 0, "config": 4, "period": 5, "event": "branch-instructions"}),
        ("watchpoint:0x1000:4:w", {"address": 0x1000, "length": 4, "mode": 2}),
    ],
)
def test_specs_of_perf_events(text: str, spec: dict[str, object]) -> None:
    (group,) = module_of(text.split(":")[0]).expand(point(text), Machine(), frozenset())
    assert [s for _, s in group.wanted] == [spec]


@pytest.mark.parametrize(
    "text",
    [
        "interval", "interval:s", "interval:s:0", "interval:s:x", "interval:min:1", "profile:hz:-9",
        "interval:5q", "software:nope", "hardware:cycles:0", "software", "BEGIN:x", "watchpoint:1:3:rw",
        "watchpoint:0x1001:4:rw", "watchpoint:0x1000:4:q", "tracepoint:sched", "uprobe:/bin/sh", "usdt:x",
        "kprobe:", "kprobe:a:b:c", "uprobe::f", "rawtracepoint", "fentry",
    ],
)  # fmt: skip
def test_malformed_points(text: str) -> None:
    with pytest.raises(Diagnostic) as caught:
        module_of(text.split(":")[0]).expand(point(text), Machine(), frozenset())
    assert not isinstance(caught.value, MissingProbe) or "software" in text


def test_wildcard_events_are_one_group() -> None:
    (group,) = module_of("software").expand(point("software:*-faults:1"), Machine(), frozenset())
    assert [spec["event"] for _, spec in group.wanted] == [
        "alignment-faults", "emulation-faults", "major-faults", "minor-faults", "page-faults",
    ]  # fmt: skip


def test_cookies_number_distinct_names() -> None:
    groups = Provider(Machine()).groups(point("software:*-faults:1"), first_cookie=5, uses=frozenset())
    assert [t.cookie for t in groups[0].targets] == [5, 6, 7, 8, 9]


def test_max_probes() -> None:
    provider = Provider(Machine(), max_probes=6)
    provider.groups(point("software:*-faults:1"), first_cookie=0, uses=frozenset())
    with pytest.raises(Diagnostic, match="max_probes") as caught:
        provider.groups(point("software:c*:1"), first_cookie=5, uses=frozenset())
    assert "BPFTRACE_MAX_PROBES=8" in (caught.value.hint or "")


@pytest.mark.parametrize(("missing", "warnings"), [("warn", 1), ("ignore", 0)])
def test_missing_probes_may_pass(missing: str, warnings: int) -> None:
    machine = Machine()
    provider = Provider(machine, missing=missing)
    assert provider.groups(point("software:nope"), first_cookie=0, uses=frozenset()) == []
    assert len(machine.warnings) == warnings


def test_a_kind_says_who_has_what_it_lacks() -> None:
    (group,) = module_of("interval").expand(point("interval:s:1"), Machine(), frozenset())
    with pytest.raises(Diagnostic, match="interval probes have no argN") as caught:
        group.emit_arg(None, None, 0)
    assert "kprobe" in (caught.value.hint or "")


@pytest.mark.needs("btf", "x86_64")
def test_register_offsets_are_the_kernels() -> None:
    from tracebee.btf.opening import open_vmlinux

    fields = {f.name: f.bit_offset // 8 for f in open_vmlinux().fields(open_vmlinux().find("struct pt_regs"))}
    for name, offset in X86_64.offsets.items():
        assert fields[name] == offset


def test_arm64_registers_are_an_array_then_three_words() -> None:
    assert ARM64.offsets["r30"] == 30 * 8
    assert [ARM64.offsets[r] for r in ("sp", "pc", "pstate")] == [31 * 8, 32 * 8, 33 * 8]


def test_unknown_machine() -> None:
    with pytest.raises(UnsupportedError):
        registers("pdp11")


def test_paths_of_programs_and_libraries() -> None:
    from tracebee.probes.binary import find_binaries

    assert find_binaries("/bin/sh", Machine()) == ["/bin/sh"]
    assert os.path.basename(find_binaries("sh", Machine())[0]) == "sh"
    assert os.path.basename(find_binaries("libc", Machine())[0]) == "libc.so.6"
    assert find_binaries("", Machine(os.getpid())) == [f"/proc/{os.getpid()}/exe"]
    own = f"/proc/{os.getpid()}/root"
    assert find_binaries("/bin/sh", Machine(os.getpid())) == [f"{own}/bin/sh"]
    assert find_binaries("libc", Machine(os.getpid()))[0].startswith(own)
    for wrong in ("/no/such/file", "nosuchlibraryorprogram", "/no/such*", ""):
        with pytest.raises(Diagnostic):
            find_binaries(wrong, Machine())


@pytest.mark.needs("gcc")
def test_emptied_library_gives_way_to_libc(tmp_path: Path) -> None:
    """glibc 2.34 moved pthread_create to libc; older scripts have uprobe:libpthread:pthread_create."""

    def library(name: str, text: str) -> None:
        source = tmp_path / "source.c"
        source.write_text(text)
        subprocess.run(["gcc", "-shared", "-nostdlib", "-o", tmp_path / name, source], check=True)

    library("libc.so.6", "int pthread_create(void) { return 1; }")
    library("libpthread.so.0", "void __libpthread_version_placeholder(void) { }")
    library("librt.so.1", "void pthread_create(void) { }")

    def traced(name: str) -> tuple[str, int]:
        machine = Machine()
        groups = module_of("uprobe").expand(
            point(f"uprobe:{tmp_path}/{name}:pthread_create"), machine, frozenset()
        )
        return os.path.basename(groups[0].wanted[0][1]["path"]), len(machine.warnings)

    assert traced("libpthread.so.0") == ("libc.so.6", 1)
    assert traced("librt.so.1") == ("librt.so.1", 0)  # one that has functions is what was meant
