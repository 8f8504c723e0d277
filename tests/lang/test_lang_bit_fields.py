"""Bit-fields of kernel structs: their place, width, word and sign are the running kernel's."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.btf.builder import Builder

TRACEBEE = str(Path(sys.executable).parent / "tracebee")
SCRIPT = """
tracepoint:syscalls:sys_enter_write /args.fd == 77/ {
    $r = (struct bits_of_some_kernel *)args.buf;
    printf("%d %d %d %d\\n", $r->low, $r->high, $r->sign, $r->wide);
}
"""
# (name, bits, what it holds); ``sign`` is signed, ``wide`` lies in a word of eight bytes.
VALUES = (("low", 3, 5), ("high", 4, 9), ("sign", 5, -7), ("wide", 40, 0xABCDEF0123))


def struct_of(size: int, places: dict[str, tuple[int, str]]) -> tuple[bytes, bytes]:
    """BTF with a ``struct bits_of_some_kernel``, and one such in memory.

    :param places: bit offset and integer type of each field.
    """
    b = Builder("little")
    types = {
        "u8": b.integer("unsigned char", 1),
        "u32": b.integer("unsigned int", 4),
        "u64": b.integer("unsigned long", 8),
        "s16": b.integer("short", 2, signed=True),
        "s32": b.integer("int", 4, signed=True),
    }
    bits = {name: (width, value) for name, width, value in VALUES}
    members = [(name, types[t], at, bits[name][0]) for name, (at, t) in places.items()]
    b.struct("bits_of_some_kernel", size, members)
    memory = (1 << 8 * size) - 1  # what lies around the fields is not to be seen
    for name, (at, _) in places.items():
        width, value = bits[name]
        mask = (1 << width) - 1
        memory = memory & ~(mask << at) | (value & mask) << at
    return b.to_bytes(), memory.to_bytes(size, "little")


ONE = struct_of(16, {"low": (0, "u32"), "high": (3, "u32"), "sign": (20, "s32"), "wide": (64, "u64")})
OTHER = struct_of(24, {"wide": (20, "u64"), "high": (68, "u8"), "sign": (116, "s16"), "low": (157, "u32")})


def lines_of(*command: str) -> list[str]:
    """What a command prints, but for empty lines and the one that says what is attached."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line and not line.startswith("Attaching")]


def build(script: str, btf: bytes, folder: Path) -> str:
    """An object made where the kernel has these types."""
    types, target = folder / "built.btf", folder / "bits.bpf.o"
    types.write_bytes(btf)
    lines_of(TRACEBEE, "build", "--btf", str(types), "-e", script, "-o", str(target))
    return str(target)


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("built", "run"), [(ONE, ONE), (ONE, OTHER), (OTHER, ONE)])
def test_an_object_finds_them_on_another_kernel(
    tmp_path: Path, built: tuple[bytes, bytes], run: tuple[bytes, bytes]
) -> None:
    target = build(SCRIPT, built[0], tmp_path)
    types = tmp_path / "run.btf"
    types.write_bytes(run[0])
    program = f"import os; os.dup2(os.open('/dev/null', 1), 77); os.write(77, bytes({list(run[1])}))"
    writer = shlex.join([sys.executable, "-c", program])
    expected = " ".join(str(value) for _, _, value in VALUES)
    assert lines_of(TRACEBEE, "run", "--btf", str(types), target, "-c", writer) == [expected]


@pytest.mark.needs("bpf")
def test_a_load_that_would_be_too_wide_is_not_made(tmp_path: Path) -> None:
    """Built where the word that holds the field has 8 bytes, run where it has 4."""
    b = Builder("little")
    b.struct("task_struct", 64, [("sched_reset_on_fork", b.integer("unsigned long", 8), 69, 1)])
    script = """
    tracepoint:syscalls:sys_enter_sched_get_priority_max /args.policy == 3/ {
        printf("%d\\n", curtask->sched_reset_on_fork);
    }"""
    target = build(script, b.to_bytes(), tmp_path)
    policy = "os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0)"
    program = f"import os; os.sched_get_priority_max(3); os.sched_setscheduler(0, {policy})"
    caller = shlex.join([sys.executable, "-c", f"{program}; os.sched_get_priority_max(3)"])
    assert lines_of(TRACEBEE, "run", target, "-c", caller) == ["0", "1"]
