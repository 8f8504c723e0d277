"""Disassembly beside bpftool's, of programs that the running kernel has loaded and rewritten."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.isa.asm import assemble
from tracebee.isa.codec import decode, encode
from tracebee.isa.disasm import listing
from tracebee.isa.insn import BPF_PSEUDO_CALL, Insn
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.obj.model import MapDef

SOCKET_FILTER, ARRAY, HASH = 1, 2, 1

ALU = "\n".join(
    f"{reg}1 {op} {operand}"
    for reg in "rw"
    for op in ("+=", "-=", "*=", "|=", "&=", "^=", "=", "/=", "%=", "<<=", ">>=", "s>>=")
    for operand in (f"{reg}2", "3")
)
JUMPS = "\n".join(
    f"if {reg}1 {op} {operand} goto out"
    for reg in "rw"
    for op in ("==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&")
    for operand in (f"{reg}2", "5", "-5")
)
PROGRAMS = {
    # What is computed is an unknown scalar, so that the verifier keeps every branch.
    "arithmetic": "r6 = r1\nr1 = *(u32 *)(r6 +0)\nr2 = *(u32 *)(r6 +4)\n"
    + ALU
    + "\nr1 = -r1\nw1 = -w1\nr1 = be16 r1\nr1 = le32 r1\nr1 = be64 r1\nr0 = 0\nexit",
    "jumps": "r6 = r1\nr1 = *(u32 *)(r6 +0)\nr2 = *(u32 *)(r6 +4)\n" + JUMPS + "\nout: \nr0 = 0\nexit",
    "memory": """
        r6 = r1
        r1 = 5
        *(u64 *)(r10 -8) = r1
        *(u32 *)(r10 -12) = r1
        *(u16 *)(r10 -14) = r1
        *(u8 *)(r10 -15) = r1
        *(u64 *)(r10 -24) = -7
        *(u8 *)(r10 -25) = 7
        r0 = *(u64 *)(r10 -8)
        r0 = *(u32 *)(r10 -12)
        r0 = *(u16 *)(r10 -14)
        r0 = *(u8 *)(r10 -15)
        lock *(u64 *)(r10 -8) += r1
        lock *(u32 *)(r10 -12) |= r1
        lock *(u64 *)(r10 -8) &= r1
        lock *(u64 *)(r10 -8) ^= r1
        r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)
        r1 = atomic_fetch_or((u32 *)(r10 -12), r1)
        r1 = atomic64_xchg((u64 *)(r10 -8), r1)
        r0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r1)
        r0 = atomic_cmpxchg((u32 *)(r10 -12), r0, r1)
        r0 = *(u8 *)skb[0]
        r7 = 2
        r0 = *(u16 *)skb[r7 + 4]
        r0 = 0x123456789abcdef
        r0 = 0
        exit
        """,
    "calls": """
        *(u32 *)(r10 -4) = 0
        r1 = map[m]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = map[a][0]+4
        r1 = *(u32 *)(r1 +0)
        r1 = map[m]
        r2 = r10
        r2 += -4
        call bpf_map_delete_elem
        call helper
        call bpf_get_prandom_u32
        out:
        r0 = 0
        exit
        .func helper
        call bpf_ktime_get_ns
        exit
        """,
}


def call_namer() -> Callable[[Insn], str | None]:
    """Names of the kernel addresses that a loaded program's calls hold relative to __bpf_call_base."""
    addresses, base = {}, 0
    with open("/proc/kallsyms") as symbols:
        for line in symbols:
            address, _, name = line.split()[:3]
            addresses.setdefault(int(address, 16), name)
            if name == "__bpf_call_base":
                base = int(address, 16)
    masked = base == 0

    def name(insn: Insn) -> str | None:
        if insn.src == BPF_PSEUDO_CALL:
            return f"pc{insn.off:+}"
        return None if masked else addresses.get(base + insn.imm)

    return name


def xlated(program_id: int, scratch: Path) -> tuple[list[Insn], list[str]]:
    """A loaded program's instructions, and bpftool's text of them without its symbol comments."""
    raw = scratch / "xlated"
    tool = ["bpftool", "prog", "dump", "xlated", "id", str(program_id)]
    subprocess.run([*tool, "file", str(raw)], check=True)
    text = subprocess.run(tool, check=True, capture_output=True, text=True).stdout
    lines = [line.rstrip() for line in text.splitlines() if line.lstrip()[:1].isdigit()]
    return decode(raw.read_bytes()), lines


def bpftools(insns: list[Insn]) -> list[str]:
    """Our listing, as bpftool 7.1 has it: that does not know the kernel's per-CPU address move yet."""
    return re.sub(r"&\(void __percpu \*\)\((r\d+)\)", r"\1", listing(insns, call_namer())).splitlines()


def local_names(line: str) -> str:
    """A local call as we print it: bpftool adds the callee's symbol after a ``#``."""
    return line.split("#")[0] if "call pc" in line else line


@pytest.mark.needs("bpf", "bpftool")
@pytest.mark.parametrize("name", PROGRAMS)
def test_own_programs(name: str, tmp_path: Path) -> None:
    with (
        Map.create(MapDef("m", HASH, 4, 8, 4)) as hash_map,
        Map.create(MapDef("a", ARRAY, 4, 8, 1)) as array,
    ):
        code = assemble(PROGRAMS[name], {"m": hash_map.fd, "a": array.fd})
        with Program.load(encode(code), SOCKET_FILTER, name=name) as program:
            insns, lines = xlated(program.info().id, tmp_path)
            assert bpftools(insns) == [local_names(line) for line in lines]


CLANG = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, long); __uint(max_entries, 8); }
    counts SEC(".maps");
long total; const volatile int limit = 7;
static __attribute__((noinline)) unsigned long scale(unsigned long x) { return x * limit / 3; }
static int step(unsigned int i, void *ctx) { *(long *)ctx += i; return 0; }
SEC("tracepoint/sched/sched_switch") int count(void *ctx) {
    int key = bpf_get_smp_processor_id(); char name[16]; long one = 1, *old;
    bpf_get_current_comm(name, sizeof name);
    old = bpf_map_lookup_elem(&counts, &key);
    if (old) __sync_fetch_and_add(old, name[0] > 'm' ? scale(*old) : 1);
    else bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
    total += scale(key);
    bpf_loop(limit, step, &one, 0); total += one;
    bpf_printk("%d %s", key, name);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.needs("bpf", "bpftool", "clang")
def test_a_program_from_clang(tmp_path: Path) -> None:
    source, built, mounted = tmp_path / "p.bpf.c", tmp_path / "p.bpf.o", tmp_path / "bpffs"
    source.write_text(CLANG)
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    subprocess.run(
        ["clang", "-O2", "-target", "bpf", "-g", "-mcpu=v3", f"-I{include}", "-c", source, "-o", built],
        check=True,
    )
    mounted.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mounted], check=True)
    try:
        subprocess.run(["bpftool", "prog", "load", built, mounted / "p"], check=True, capture_output=True)
        shown = subprocess.run(
            ["bpftool", "-j", "prog", "show", "pinned", mounted / "p"], check=True, capture_output=True
        )
        insns, lines = xlated(json.loads(shown.stdout)["id"], tmp_path)
        assert bpftools(insns) == [local_names(line) for line in lines]
        assert len(insns) > 40
    finally:
        subprocess.run(["umount", mounted], check=True)
