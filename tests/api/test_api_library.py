"""The library: what it exports, scripts run from Python, programs attached directly."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tracebee
from tracebee.obj.model import MapDef
from tracebee.uapi import (
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_HASH,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_RINGBUF,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "library.md"
LIBC = ctypes.CDLL(None)
bpf = pytest.mark.needs("bpf")


def test_exports_are_documented_and_importable() -> None:
    text = DOCS.read_text()
    for name in tracebee.__all__:
        assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} is not in {DOCS.name}"
        assert getattr(tracebee, name) is not None
    assert dir(tracebee) == sorted(tracebee.__all__)
    with pytest.raises(AttributeError):
        tracebee.nothing_of_the_kind  # noqa: B018


def test_documented_parameters_are_the_methods() -> None:
    import inspect

    rows = re.findall(r"^\| (`attach_.*?) \| `(.*?)` \|$", DOCS.read_text(), re.MULTILINE)
    documented = {name: words for names, words in rows for name in re.findall(r"attach_\w+", names)}
    methods = {n: f for n, f in vars(tracebee.BPF).items() if n.startswith("attach_")}
    assert set(documented) == set(methods)
    for name, method in methods.items():
        assert ", ".join(list(inspect.signature(method).parameters)[1:]) == documented[name]


def test_importing_costs_nothing_else() -> None:
    code = "import sys, tracebee; print([m for m in sys.modules if m.startswith('tracebee.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@bpf
def test_events_and_maps() -> None:
    source = r"""
        BEGIN { printf("%d %s\n", 42, "text"); print((1, "a")); @x["k", 2] = 3; @scalar = 7;
                @n = avg(4); @n = avg(6); @h = hist(5); @stack[kstack(1)] = count() }
        interval:ms:1 { exit(9) }
    """
    with tracebee.Script(source) as script:
        events = list(script.events(timeout=30))
        assert [e.kind for e in events] == ["printf", "print_value", "exit"]
        assert (events[0].text, events[0].values) == ("42 text\n", (42, "text"))
        assert (events[1].text, events[1].values) == ("(1, a)\n", ((1, "a"),))
        assert script.exit_code == 9
        assert script.maps["@x"] == {("k", 2): 3}
        assert script.maps["@scalar"] == 7
        assert script.maps["@n"].average == 5
        assert [b.hits for b in script.maps["@h"]] == [1]
        assert set(script.maps) == {"@x", "@scalar", "@n", "@h", "@stack"}
        assert script.probes == ["BEGIN", "interval:ms:1"]
        assert script.lost() == 0
        script.maps.clear("@x")
        assert script.maps["@x"] == {}


@bpf
def test_run_returns_what_was_printed() -> None:
    result = tracebee.run(
        "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @[str(args.filename)] = count() }"
        'END { printf("end") }',
        command=["cat", "/etc/hostname"],
        timeout=60,
    )
    assert result.code == 0
    assert result.output == "end"
    assert result.maps["@"]["/etc/hostname"] == 1


@bpf
def test_events_end_with_the_timeout() -> None:
    with tracebee.Script("interval:s:1000 { @ = 1 }") as script:
        assert list(script.events(timeout=0.05)) == []
        assert script.exit_code is None
        assert script.maps["@"] is None


@bpf
def test_parameters_and_settings() -> None:
    source = 'BEGIN { printf("%d %s", $1, str($2)); exit() }'
    assert tracebee.run(source, parameters=["5", "five"]).output == "5 five"


def test_wrong_script() -> None:
    with pytest.raises(tracebee.SourceError) as caught:
        tracebee.Script("BEGIN { @ = }", name="bad.bt")
    assert str(caught.value).startswith("bad.bt:1:")
    assert caught.value.diagnostics[0].span.line == 1


def test_events_need_a_with_block() -> None:
    script = tracebee.Script("BEGIN { }")
    with pytest.raises(ValueError, match="with"):
        next(script.events())
    script.close()


COUNT = """
.func count
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[hits]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
out:
    r0 = 0
    exit
"""
HITS = MapDef("hits", BPF_MAP_TYPE_ARRAY, 4, 8, 1)


def calls(number: int) -> None:
    for _ in range(number):
        LIBC.getppid()


@bpf
@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("attach_uprobe", {"name": "c", "sym": "getppid"}),
        ("attach_uretprobe", {"name": "libc", "sym": "getppid"}),
        ("attach_uprobe", {"name": "c", "sym_re": "getppi?"}),
    ],
)
def test_attached_counts_and_detached_does_not(method: str, where: dict[str, str]) -> None:
    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        with getattr(bpf, method)(**where, fn_name="count", pid=os.getpid()) as attachment:
            assert len(attachment.probes) == 1
            calls(100)
        calls(100)
        assert bpf["hits"][0] == 100


@bpf
def test_tracepoints_and_raw_tracepoints() -> None:
    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        with bpf.attach_tracepoint(tp="syscalls:sys_enter_getppid", fn_name="count"):
            calls(50)
        assert bpf["hits"][0] >= 50
        with bpf.attach_tracepoint(tp_re="syscalls:sys_*_getppid", fn_name="count") as both:
            assert both.probes == (
                "tracepoint:syscalls:sys_enter_getppid",
                "tracepoint:syscalls:sys_exit_getppid",
            )
        bpf["hits"].clear()
        with bpf.attach_raw_tracepoint(tp="sys_enter", fn_name="count"):
            calls(50)
        assert bpf["hits"][0] >= 50


@bpf
def test_perf_event() -> None:
    from tracebee.kernel.perf import PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS

    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        clock = SOFTWARE_EVENTS["task-clock"]
        bpf.attach_perf_event(PERF_TYPE_SOFTWARE, clock, "count", sample_period=100_000, pid=os.getpid())
        while bpf["hits"][0] == 0:
            calls(1000)


@pytest.mark.needs("kprobe")
@pytest.mark.parametrize("method", ["attach_kprobe", "attach_kretprobe"])
def test_kprobes(method: str) -> None:
    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        with getattr(bpf, method)(event="__x64_sys_getppid", fn_name="count"):
            calls(100)
        assert bpf["hits"][0] >= 100


@pytest.mark.needs("fentry")
@pytest.mark.parametrize("method", ["attach_fentry", "attach_fexit"])
def test_trampolines(method: str) -> None:
    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        with (
            getattr(bpf, method)(event="vfs_read", fn_name="count"),
            open("/dev/zero", "rb", buffering=0) as file,
        ):
            for _ in range(100):
                file.read(1)
        assert bpf["hits"][0] >= 100


@bpf
def test_errors_of_direct_attaching() -> None:
    with tracebee.BPF(asm=COUNT, maps=[HITS]) as bpf:
        with pytest.raises(tracebee.SymbolError) as caught:
            bpf.attach_raw_tracepoint("sys_enter", "coun")
        assert caught.value.candidates == ("count",)
        with pytest.raises(tracebee.Diagnostic):
            bpf.attach_uprobe(name="c", sym="no_such_function", fn_name="count")
        with pytest.raises(tracebee.KernelError):
            bpf.attach_raw_tracepoint("no_such_tracepoint", "count")


RING = """
.func send
    r0 = 0x1122334455667788 ll
    *(u64 *)(r10 -8) = r0
    r1 = map[ring]
    r2 = r10
    r2 += -8
    r3 = 8
    r4 = 0
    call bpf_ringbuf_output
    r0 = 0
    exit
"""


@bpf
def test_records_of_a_ring_buffer() -> None:
    ring = MapDef("ring", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)
    with tracebee.BPF(asm=RING, maps=[ring]) as bpf:
        with bpf.attach_uprobe(name="c", sym="getppid", fn_name="send", pid=os.getpid()):
            calls(3)
        assert list(bpf.records("ring", timeout=0)) == [(0x1122334455667788).to_bytes(8, sys.byteorder)] * 3


@bpf
def test_tables_are_dictionaries() -> None:
    maps = [MapDef("h", BPF_MAP_TYPE_HASH, 4, 16, 8), MapDef("p", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4, 2)]
    with tracebee.BPF(asm="r0 = 0\nexit", maps=maps) as bpf:
        table = bpf["h"]
        table[1] = b"x" * 16
        assert dict(table) == table.read() == {1: b"x" * 16}
        assert len(table) == 1
        del table[1]
        with pytest.raises(KeyError):
            table[1]
        with pytest.raises(KeyError):
            del table[1]
        per_cpu = bpf["p"]
        per_cpu[1] = list(range(len(per_cpu[1])))
        assert per_cpu[1] == list(range(len(per_cpu[1])))
        with pytest.raises(KeyError):
            bpf["no_such_map"]
