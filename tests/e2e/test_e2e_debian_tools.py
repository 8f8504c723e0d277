"""Every script of Debian's bpftrace package, unchanged: it attaches, or the kernel lacks what it names."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

import pytest

from tracebee import Script
from tracebee.errors import TracebeeError

TOOLS = sorted(glob.glob("/usr/sbin/*.bt"))
# What a kernel or library may lack: the script's word for it, and what must then be the case.
ABSENT = {
    "biolatency": "__blk_account_io_start",  # inlined since Linux 6.4
    "biosnoop": "__blk_account_io_start",
    "biostacks": "__blk_account_io_start",
    "mdflush": "md_flush_request",  # a module's, loaded where there are such disks
    "loads": "avenrun",  # data is in kallsyms with CONFIG_KALLSYMS_ALL alone
    "swapin": "swap_readpage",  # swap_read_folio since Linux 6.7
    "xfsdist": "xfs_file_read_iter",  # a module's
}
# Fields that later kernels have renamed: the tool, and what the error says.
RENAMED = {"runqlen": r"'struct cfs_rq' does not contain a field named 'nr_running'"}  # Linux 6.14


def _in_kernel(name: str) -> bool:
    with open("/proc/kallsyms") as symbols:
        return any(line.split()[2] == name for line in symbols)


def _attached(tool: str) -> str:
    """What the tool printed until it was attached."""
    name = os.path.basename(tool).removesuffix(".bt")
    try:
        with Script(Path(tool).read_text(), name=tool, engine="kernel", warn=lambda _: None) as script:
            return "".join(event.text for event in script.events(timeout=0.2))
    except TracebeeError as error:
        said = str(error)
    if name in ABSENT:
        assert ABSENT[name] in said
        assert not _in_kernel(ABSENT[name])
    else:
        assert name in RENAMED, said
        assert re.search(RENAMED[name], said)
    return said


def _needs(tool: str) -> list[pytest.MarkDecorator]:
    kernel = "kprobe" if re.search(r"^k(ret)?probe:", Path(tool).read_text(), re.MULTILINE) else "bpf"
    return [pytest.mark.needs("bpftrace", "btf", kernel)]


@pytest.mark.parametrize("tool", [pytest.param(t, marks=_needs(t), id=os.path.basename(t)) for t in TOOLS])
def test_attaches(tool: str) -> None:
    assert _attached(tool)
