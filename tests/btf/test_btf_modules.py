"""Types of a distribution's modules, split from its kernel's: rewritten, deduplicated, compiled as C."""

from __future__ import annotations

import lzma
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.cdump import Header
from tracebee.btf.dedup import deduplicate
from tracebee.btf.opening import module_names
from tracebee.elf.file import ElfFile

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))
from kernel import fetch, vmlinux_btf

MODULES = ["dummy", "nf_tables", "xfs"]
KEYWORDS = {kinds.BTF_KIND_STRUCT: "struct", kinds.BTF_KIND_UNION: "union"}


@cache
def kernel() -> Btf:
    return Btf.from_bytes(vmlinux_btf("6.12"), name="vmlinux")


def module(name: str) -> Btf:
    (path,) = fetch("6.12").modules.glob(f"*/kernel/**/{name}.ko*")
    data = path.read_bytes()
    elf = ElfFile(path.name, lzma.decompress(data) if path.suffix == ".xz" else data)
    section = elf.section(".BTF")
    assert section is not None
    return Btf.from_bytes(elf.contents(section), kernel(), name)


def rewritten(btf: Btf) -> list[object]:
    builder = Builder(btf.order, btf.base)
    builder.add_all(record for _, record in btf.types())
    return list(builder.build().types())


@pytest.mark.needs("apt")
@pytest.mark.parametrize("name", MODULES)
def test_rewriting_gives_the_same_types(name: str) -> None:
    btf = module(name)
    assert rewritten(btf) == list(btf.types())
    assert btf.first_id == kernel().end_id


@pytest.mark.needs("module_btf")
def test_rewriting_the_loaded_modules_types_gives_the_same() -> None:
    for name in module_names():
        assert rewritten(Btf.module(name)) == list(Btf.module(name).types())


@pytest.mark.needs("apt")
def test_pahole_has_left_nothing_to_deduplicate() -> None:
    btf = module("nf_tables")
    assert list(Btf.from_bytes(deduplicate(btf).data, kernel()).types()) == list(btf.types())


@pytest.mark.needs("apt", "clang")
@pytest.mark.parametrize("name", MODULES)
def test_the_header_compiles_to_the_same_layouts(name: str, tmp_path: Path) -> None:
    btf = module(name)
    header = Header(btf)
    lines = [header.text(None)]
    for type_id, record in btf.types():
        if record.kind in KEYWORDS and record.name:
            tag = f"{KEYWORDS[record.kind]} {header.names[type_id]}"
            lines.append(f'_Static_assert(sizeof({tag}) == {record.size}, "{tag}");')
            lines += [
                f'_Static_assert(__builtin_offsetof({tag}, {field.name}) == {field.offset}, "{tag}");'
                for field in btf.fields(type_id)
                if not field.bit_size
            ]
    (tmp_path / "check.c").write_text("\n".join(lines))
    command = ["clang", "-target", "bpf", "-Wall", "-Werror", "-Wno-missing-declarations", "-fsyntax-only"]
    run = subprocess.run([*command, "check.c"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr[:2000] == ""
