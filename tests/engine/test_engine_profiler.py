"""Counters read at the beginning and the end of a program's runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import tracebee
from tracebee import uapi
from tracebee.engine.kernel.loader import load_object
from tracebee.engine.kernel.profiler import METRICS, Profiler, Reading, profiling_object
from tracebee.errors import UnsupportedError
from tracebee.kernel import cpus
from tracebee.kernel.link import Link
from tracebee.kernel.perf import PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS, PerfEvent
from tracebee.obj.elf_reader import read_object
from tracebee.report.inspect.profile import profile_records, profile_text

PACKET = bytes(14)
BY_NAME = {metric.name: metric for metric in METRICS}


@pytest.mark.needs("bpf", "clang", "fentry")
def test_runs_and_counters_of_a_program(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("globals")) as obj:
        obj.load()
        program = obj.programs["first"]
        program.test_run(PACKET)
        metrics = [BY_NAME[name] for name in ("cpu_clock", "page_faults")]
        with Profiler(program.kernel, metrics) as profiler:
            start = time.monotonic_ns()
            for _ in range(300):
                program.test_run(PACKET)
            elapsed = time.monotonic_ns() - start
            runs, readings = profiler.read()
        program.test_run(PACKET)
        assert runs == 300
        clock, faults = readings
        assert 0 < clock.value < elapsed
        assert 0 < clock.running <= clock.enabled < elapsed
        assert faults.value == 0
        assert obj.variables["counter"] == 302


@pytest.mark.needs("bpf", "clang", "fentry")
def test_the_command(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name == "raw_short"
        obj.load()
        with obj.attach():
            number = str(obj.programs["raw_short"].kernel.info().id)
            command = [sys.executable, "-m", "tracebee", "-j", "prog", "profile", "id", number]
            command += ["duration", "1", "context", "cpu_c"]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
        records = json.loads(answer.stdout)
        # In the order of the table, whatever that of the words.
        assert [record["metric"] for record in records] == ["cpu_clock", "context_switches"]
        assert records[0]["run_cnt"] > 0
        assert records[0]["value"] > 0


@pytest.mark.needs("bpf", "clang", "no_hardware")
def test_machines_without_counters(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("globals")) as obj:
        obj.load()
        with pytest.raises(UnsupportedError, match="does not count cycles") as caught:
            Profiler(obj.programs["first"].kernel, [BY_NAME["cycles"]])
        assert "cpu_clock, page_faults, context_switches" in (caught.value.hint or "")


@pytest.mark.needs("bpf", "clang")
def test_programs_without_types(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("replace_target"))._replace(btf=b"")
    with load_object(obj) as loaded, pytest.raises(UnsupportedError, match="'rate' was loaded without BTF"):
        Profiler(loaded.programs["rate"], [BY_NAME["cpu_clock"]])


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("metrics", [1, 4])
def test_the_programs_themselves(metrics: int) -> None:
    """At system calls, which they can be attached to everywhere."""
    count = cpus.possible_count()
    obj = profiling_object(metrics, count)
    programs = tuple(
        p._replace(type=uapi.BPF_PROG_TYPE_RAW_TRACEPOINT, expected_attach_type=0) for p in obj.programs
    )
    events, links = [], []
    with load_object(obj._replace(programs=programs)) as loaded:
        try:
            for number in range(metrics):
                for cpu in cpus.online():
                    event = PerfEvent.sampled(
                        PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS["cpu-clock"], period=1 << 62, cpu=cpu
                    )
                    events.append(event)
                    index = number * count + cpu
                    loaded.maps["events"].update(index.to_bytes(4, "little"), event.fd.to_bytes(4, "little"))
            for name, place in (("enter", "sys_enter"), ("leave", "sys_exit")):
                links.append(Link.raw_tracepoint(loaded.programs[name], place))
            for _ in range(100):
                os.getpgid(0)
        finally:
            for owned in links + events:
                owned.close()
        table = loaded.maps["sums"]
        slots = table.slots(table.lookup(bytes(4)) or b"")
        words = [[int.from_bytes(s[at : at + 8], "little") for at in range(0, len(s), 8)] for s in slots]
        totals = [sum(column) for column in zip(*words, strict=True)]
        assert totals[0] >= 100
        for number in range(metrics):
            counter, enabled, running = totals[1 + 3 * number : 4 + 3 * number]
            assert 0 < running <= enabled
            assert counter > 0


def test_as_bpftool_prints_it() -> None:
    """The forms of bpftool's ``profile_print_readings_plain`` and ``_json``."""
    readings = [
        Reading(BY_NAME["cycles"], 1000, 50, 50),
        Reading(BY_NAME["instructions"], 1500, 50, 40),
        Reading(BY_NAME["llc_misses"], 3, 50, 50),
        Reading(BY_NAME["cpu_clock"], 7, 50, 50),
    ]
    assert profile_text(12, readings).split("\n") == [
        "",
        "                12 run_cnt             ",
        "              1000 cycles              " + " " * 41,
        "              1500 instructions        #     1.50 insns per cycle               (80.00%)",
        "                 3 llc_misses          #  2000.00 LLC misses per million insns  ",
        "                 7 cpu_clock           " + " " * 41,
    ]
    assert profile_records(12, readings)[1] == {
        "metric": "instructions",
        "run_cnt": 12,
        "value": 1500,
        "enabled": 50,
        "running": 40,
    }
