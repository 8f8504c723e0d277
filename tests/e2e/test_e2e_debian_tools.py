"""Every script of Debian's bpftrace package, unchanged: it attaches, or the kernel lacks what it names."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee import Script
from tracebee.api.compiling import compile_text
from tracebee.btf import Btf
from tracebee.btf.opening import open_file, use_kernel
from tracebee.errors import TracebeeError
from tracebee.lang.portable import to_object
from tracebee.obj.elf_writer import write_object
from tracebee.source import Source

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))
from kernel import vmlinux_btf

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


@pytest.mark.needs("bpftrace", "bpftool", "no_kprobe")
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_built_for_another_kernel_libbpf_loads_them_here(series: str, tmp_path: Path) -> None:
    """All that compile, but for what reads a field that this kernel has renamed."""
    types, mount = tmp_path / "vmlinux.btf", tmp_path / "bpffs"
    types.write_bytes(vmlinux_btf(series))
    mount.mkdir()
    use_kernel(open_file(str(types)))
    try:
        objects = [target for tool in TOOLS if (target := _built(tool, tmp_path)) is not None]
    finally:
        use_kernel(None)
    assert len(objects) > len(TOOLS) - len(ABSENT)
    loads = "; ".join(
        f"bpftool prog loadall {target} {mount}/{target.stem} 2>/dev/null || echo {target.stem}"
        for target in objects
    )
    # A mount namespace of its own: nothing pinned or mounted outlives the command.
    run = ["unshare", "-m", "sh", "-c", f"mount -t bpf bpf {mount} && {{ {loads}; }}"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(RENAMED)


def _built(tool: str, folder: Path) -> Path | None:
    """The tool as an object; None when this kernel lacks a function that it names."""
    name = os.path.basename(tool).removesuffix(".bt")
    target = folder / name
    try:
        script = compile_text(Source(tool, Path(tool).read_text()), unsafe=True, cpu_version=3, portable=True)
    except TracebeeError:
        if name not in ABSENT:
            raise
        return None
    target.write_bytes(write_object(to_object(script), Btf.vmlinux()))
    return target
