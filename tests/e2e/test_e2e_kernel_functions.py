"""Kernel functions traced while dd writes a known number of bytes: counts, arguments, latencies, the end."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from conftest import command, gone, maps, owned_ids, wait_for_line

if TYPE_CHECKING:
    from conftest import Trace

pytestmark = pytest.mark.needs("kprobe")
WRITES = 300
DD = f"dd if=/dev/zero of=/dev/null bs=7 count={WRITES} status=none"
SLOW = 300  # seconds; an emulated machine may need most of a minute


def during_dd(trace: Trace, script: str) -> dict[str, Any]:
    done = trace("-f", "json", "-e", script, "-c", DD, timeout=SLOW)
    assert (done.returncode, done.stderr) == (0, ""), done
    return maps(done.stdout)


def test_every_vfs_function_by_name(trace: Trace) -> None:
    found = during_dd(trace, "kprobe:vfs_* /pid == cpid/ { @[probe] = count() }")["@"]
    assert found["kprobe:vfs_write"] == WRITES
    # dd's own reads, and those of its start.
    assert WRITES <= found["kprobe:vfs_read"] < WRITES + 50
    assert all(name.startswith("kprobe:vfs_") for name in found)


def test_arguments_return_value_and_function(trace: Trace) -> None:
    found = during_dd(
        trace,
        "kprobe:vfs_write /pid == cpid/ { @bytes = sum(arg2); @by[func] = count() }"
        "kretprobe:vfs_write /pid == cpid/ { @written = sum(retval) }",
    )
    assert found == {"@bytes": 7 * WRITES, "@by": {"vfs_write": WRITES}, "@written": 7 * WRITES}


def test_every_call_has_its_latency(trace: Trace) -> None:
    found = during_dd(
        trace,
        "kprobe:vfs_write /pid == cpid/ { @start[tid] = nsecs } "
        "kretprobe:vfs_write /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]) }",
    )
    assert sum(bucket["count"] for bucket in found["@ns"]) == WRITES
    assert not found.get("@start")


def test_stack_begins_with_the_function(trace: Trace) -> None:
    script = "kprobe:vfs_write /pid == cpid/ { @[kstack(2)] = count() }"
    done = trace("-e", script, "-c", DD, timeout=SLOW)
    assert re.search(rf"^@\[\n    vfs_write\+\d+\n    \w+\+\d+\n\]: {WRITES}$", done.stdout, re.MULTILINE)


def test_offset_of_the_first_instruction(trace: Trace) -> None:
    script = "kprobe:vfs_write+0 /pid == cpid/ { @ = count() }"
    assert during_dd(trace, script) == {"@": WRITES}


def test_offset_inside_an_instruction_is_refused_clearly(trace: Trace) -> None:
    # Wherever the call of ftrace lies, 4 or 0 bytes in, the byte behind its opcode is no instruction.
    done = trace("-e", "kprobe:vfs_write+6 { }", timeout=SLOW)
    assert done.returncode == 1
    assert "vfs_write+6" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.needs("fentry")
def test_typed_arguments_and_return_value(trace: Trace) -> None:
    found = during_dd(
        trace,
        "fentry:vfs_write /pid == cpid/ { @bytes = sum(args.count); "
        "@of[str(args.file.f_path.dentry.d_name.name)] = count() }"
        "fexit:vfs_write /pid == cpid/ { @written = sum(retval); @asked = sum(args.count) }",
    )
    assert found == {
        "@bytes": 7 * WRITES,
        "@of": {"null": WRITES},
        "@written": 7 * WRITES,
        "@asked": 7 * WRITES,
    }


@pytest.mark.needs("fentry", "kprobe_multi")
def test_kill_leaves_nothing() -> None:
    script = (
        "kprobe:vfs_read { @a = count() } kretprobe:vfs_read { @b = count() } kprobe:vfs_w* { @c = count() }"
        "fentry:vfs_write { @d = count() } fexit:vfs_write { @e[pid] = count() }"
        'interval:ms:1 { printf("attached\\n") }'
    )
    process = subprocess.Popen(
        command("-e", script), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    wait_for_line(process, "attached")
    held = owned_ids(process.pid)
    assert len(held["prog_id"]) == 6
    assert len(held["link_id"]) >= 5
    process.kill()
    process.communicate()
    gone(held)
