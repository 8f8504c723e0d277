"""Every type of the running kernel, as bpftool lists it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tracebee.btf import Btf
from tracebee.btf.builder import Builder
from tracebee.btf.opening import module_names
from tracebee.btf.raw import format_raw, records
from tracebee.errors import SymbolError

VMLINUX = "/sys/kernel/btf/vmlinux"


def _bpftool(*arguments: str) -> str:
    return subprocess.run(["bpftool", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.needs("bpftool", "btf")
def test_every_type_of_vmlinux_is_as_bpftool_reads_it() -> None:
    expected = json.loads(_bpftool("-j", "btf", "dump", "file", VMLINUX))["types"]
    found = list(records(Btf.vmlinux()))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        if theirs["kind"] == "ENUM" and theirs["encoding"] == "UNSIGNED":
            # bpftool 7.1 extends the sign of large values in JSON, not in text.
            for value in theirs["values"]:
                value["val"] &= 0xFFFFFFFF
        assert mine == theirs


@pytest.mark.needs("bpftool", "btf")
def test_text_is_bpftools() -> None:
    expected = _bpftool("btf", "dump", "file", VMLINUX).splitlines()
    found = list(format_raw(Btf.vmlinux()))
    assert len(found) == len(expected)
    assert [(m, t) for m, t in zip(found, expected, strict=True) if m != t] == []


@pytest.mark.needs("bpftool", "module_btf")
def test_modules_are_as_bpftool_reads_them() -> None:
    for name in module_names()[:5]:
        module = Btf.module(name)
        expected = json.loads(_bpftool("-j", "btf", "dump", "file", f"/sys/kernel/btf/{name}"))["types"]
        assert [r["id"] for r in expected] == list(range(module.first_id, module.end_id))
        for mine, theirs in zip(records(module), expected, strict=True):
            assert (mine["id"], mine["kind"], mine["name"]) == (theirs["id"], theirs["kind"], theirs["name"])
            assert mine.get("type_id") == theirs.get("type_id")
            assert mine.get("members") == theirs.get("members")
        functions = [r["name"] for r in expected if r["kind"] == "FUNC"]
        assert {module.type(module.function(f).id).name for f in functions[:20]} == set(functions[:20])


@pytest.mark.needs("bpftool")
def test_split_types_are_as_bpftool_reads_them(tmp_path: Path) -> None:
    b = Builder()
    node = b.struct("node", 8, [("value", b.integer("int", 4, signed=True), 0)])
    base = b.build()
    b = Builder(base=base)
    b.func("node", b.func_proto(b.ptr(node), [("value", b.typedef("own", node))]))
    files = [tmp_path / "base", tmp_path / "split"]
    for file, data in zip(files, (base.data, b.to_bytes()), strict=True):
        file.write_bytes(data)
    expected = json.loads(_bpftool("-j", "-B", str(files[0]), "btf", "dump", "file", str(files[1])))["types"]
    assert list(records(Btf.from_file(str(files[1]), base))) == expected


@pytest.mark.needs("btf")
def test_a_module_that_is_not_there() -> None:
    with pytest.raises(SymbolError, match="module 'no_such_module' is not loaded"):
        Btf.module("no-such-module")
