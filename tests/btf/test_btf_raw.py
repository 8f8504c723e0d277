"""Every type of the running kernel, as bpftool lists it."""

from __future__ import annotations

import json
import subprocess

import pytest

from tracebee.btf import Btf
from tracebee.btf.raw import format_raw, records

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
