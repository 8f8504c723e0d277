"""The part of a kernel's types that objects need, compared with what bpftool keeps."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.api.compiling import compile_text
from tracebee.btf import Btf
from tracebee.btf import core_kinds as ck
from tracebee.btf.core import Resolver, resolve
from tracebee.btf.core_patch import patch
from tracebee.btf.minimise import minimise
from tracebee.lang.portable import to_object
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.obj.model import CoreReloc, Object
from tracebee.source import Source

HERE = Path(__file__).parent / "core"
VMLINUX = "/sys/kernel/btf/vmlinux"
SOURCE = """
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#include "kernel.h"
#pragma clang attribute pop
#define SEC(name) __attribute__((section(name), used))
SEC("raw_tp/a") long a(struct task_struct *t) { return t->pid + (long)t->mm + t->comm[2]; }
SEC("raw_tp/b") long b(struct task_struct *t) { return t->real_parent->tgid + (long)t->tasks.next->next; }
SEC("raw_tp/c") long c(struct file *f) { return __builtin_preserve_field_info(f->f_pos, 2); }
SEC("raw_tp/d") long d(void *p) { return __builtin_preserve_type_info(*(struct file *)0, 1); }
SEC("raw_tp/e") long e(void *p) {
    return __builtin_preserve_enum_value(*(typeof(enum bpf_map_type) *)BPF_MAP_TYPE_RINGBUF, 1);
}
SEC("raw_tp/f") long f(struct task_struct *p) { return __builtin_preserve_field_info(p->in_execve, 0); }
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("minimise")
    (folder / "object.c").write_text(SOURCE)
    command = ["clang", "-g", "-O2", "-w", "-target", "bpf", f"-I{HERE}", "-c", "object.c", "-o", "object.o"]
    subprocess.run(command, cwd=folder, check=True)
    return str(folder / "object.o")


def _relocs(obj: Object) -> list[CoreReloc]:
    return [r.core for p in obj.programs for r in p.function.relocs if r.core is not None]


def _content(btf: Btf) -> list[tuple[object, ...]]:
    """Types without their ids, which depend on the order they are written in."""
    return sorted(
        (
            r.kind,
            r.name,
            r.size,
            r.flag,
            [(m.name, m.bit_offset, m.bit_size) for m in r.members],
            r.enumerators,
        )
        for _, r in btf.types()
    )


@pytest.mark.needs("clang", "bpftool", "btf")
def test_what_is_kept_is_what_bpftool_keeps(path: str, tmp_path: Path) -> None:
    expected = tmp_path / "expected.btf"
    subprocess.run(["bpftool", "gen", "min_core_btf", VMLINUX, str(expected), path], check=True)
    obj = read_object(path)
    data = minimise(Btf.vmlinux(), [(Btf.from_bytes(obj.btf), _relocs(obj))])
    assert _content(Btf.from_bytes(data)) == _content(Btf.from_file(str(expected)))


SCRIPT = """
tracepoint:syscalls:sys_enter_openat {
    $task = curtask;
    @[$task->group_leader->tgid, $task->comm] = count();
    @name = $task->nsproxy->uts_ns->name.sysname;
    @execve = $task->in_execve;
    @cpu = curtask->se.vruntime;
}
"""


@pytest.mark.needs("clang", "bpftool", "btf")
@pytest.mark.parametrize("name", ["core", "missing", "struct_ops", "typed", "kfuncs", "script"])
def test_the_rest_is_enough_for_each_object(
    name: str, tmp_path: Path, compiled: Callable[[str], str]
) -> None:
    """The same instructions come of it, and bpftool keeps the same."""
    if name == "script":
        path = str(tmp_path / "script.bpf.o")
        script = compile_text(Source("script.bt", SCRIPT), portable=True, cpu_version=3)
        Path(path).write_bytes(write_object(to_object(script), Btf.vmlinux()))
    else:
        path = compiled(name)
    obj = read_object(path)
    local = Btf.from_bytes(obj.btf)
    part = Btf.from_bytes(minimise(Btf.vmlinux(), [(local, _relocs(obj))]))
    expected = tmp_path / "expected.btf"
    subprocess.run(["bpftool", "gen", "min_core_btf", VMLINUX, str(expected), path], check=True)
    assert _content(part) == _content(Btf.from_file(str(expected)))
    if name == "kfuncs":
        assert not _relocs(obj)  # and so nothing is kept
        return
    assert _relocs(obj)
    whole, less = Resolver(local, Btf.vmlinux()), Resolver(local, part)
    for program in obj.programs:
        for reloc in program.function.relocs:
            if reloc.core is not None:
                insn = program.function.insns[reloc.at]
                assert patch(insn, less.resolve(reloc.core)) == patch(insn, whole.resolve(reloc.core))


@pytest.mark.needs("clang", "btf")
def test_from_the_command_line(path: str, tmp_path: Path) -> None:
    from tracebee.cli.btf import run

    output = tmp_path / "small.btf"
    assert run(["min_core_btf", VMLINUX, str(output), path, path]) == 0
    obj = read_object(path)
    local = Btf.from_bytes(obj.btf)
    assert output.read_bytes() == minimise(Btf.vmlinux(), [(local, _relocs(obj))])


@pytest.mark.needs("clang", "btf")
def test_relocations_resolve_as_in_the_whole(path: str) -> None:
    obj = read_object(path)
    local = Btf.from_bytes(obj.btf)
    part = Btf.from_bytes(minimise(Btf.vmlinux(), [(local, _relocs(obj))]))
    assert part.end_id < 100
    whole, less = Resolver(local, Btf.vmlinux()), Resolver(local, part)
    for reloc in _relocs(obj):
        assert less.resolve(reloc)._replace(target=None) == whole.resolve(reloc)._replace(target=None)


@pytest.mark.needs("btf")
def test_relocations_by_name() -> None:
    relocs = [
        CoreReloc(ck.BPF_CORE_FIELD_BYTE_OFFSET, "struct task_struct", "se.vruntime"),
        CoreReloc(ck.BPF_CORE_ENUMVAL_VALUE, "enum bpf_map_type", "BPF_MAP_TYPE_HASH"),
        CoreReloc(ck.BPF_CORE_TYPE_MATCHES, "struct path", ""),
    ]
    part = Btf.from_bytes(minimise(Btf.vmlinux(), [(None, relocs)]))
    for reloc in relocs:
        assert resolve(reloc, None, part).value == resolve(reloc, None, Btf.vmlinux()).value
    task = part.struct("task_struct")
    assert [m.name for m in task.members] == ["se"]
    assert task.size == Btf.vmlinux().size(Btf.vmlinux().find("struct task_struct"))
    assert [m.name for m in part.struct("path").members] == ["mnt", "dentry"]
