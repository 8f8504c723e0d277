"""Objects in the field: those inside Debian packages, loaded by tracebee and by bpftool.

What bpftool loads on this kernel tracebee loads too; what one refuses the other refuses, and names the same
program or symbol. Covered: libbpf-tools and pcp (skeletons in programs and plug-ins), xdp-tools, libxdp1 and
xdp-tests (XDP, files and skeletons), ir-keytable (infrared decoders) and cilium/ebpf's test data (several
versions of clang, both byte orders).
"""

from __future__ import annotations

import functools
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracebee.elf.constants import EM_BPF, ET_REL
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import TracebeeError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.linker import link_objects

CACHE = Path(__file__).parents[2] / ".cache" / "field"
# Package: how many objects it has at least.
PACKAGES = {
    "libbpf-tools": 45,
    "pcp": 14,
    "xdp-tools": 7,
    "libxdp1": 12,
    "xdp-tests": 3,
    "ir-keytable": 8,
    "golang-github-cilium-ebpf-dev": 20,
}


def objects(package: str) -> list[Path]:
    """The BPF objects in a package, alone or inside other files, taken out; downloaded once."""
    folder = CACHE / package
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "unpacked"], cwd=folder, check=True)
        archive.unlink()
        seen: set[bytes] = set()
        for file in sorted((folder / "unpacked").rglob("*")):
            if file.is_file() and not file.is_symlink():
                found = dict.fromkeys(contained(file.read_bytes()))
                for number, data in enumerate(d for d in found if d not in seen):
                    seen.add(data)
                    (folder / f"{file.stem}{number or ''}.bpf.o").write_bytes(data)
        (folder / "complete").touch()
    return sorted(folder.glob("*.bpf.o"))


def contained(data: bytes) -> Iterator[bytes]:
    """ELF files for BPF in a file, itself or within, each up to the end of its section table."""
    at = data.find(b"\x7fELF\x02")
    while at >= 0:
        order = "<" if data[at + 5 : at + 6] == b"\x01" else ">"
        head = data[at : at + 64].ljust(64, b"\0")
        kind, machine = struct.unpack_from(f"{order}HH", head, 16)
        (table,) = struct.unpack_from(f"{order}Q", head, 40)
        entry, count = struct.unpack_from(f"{order}HH", head, 58)
        if (kind, machine) == (ET_REL, EM_BPF) and table:
            yield data[at : at + table + entry * count]
        at = data.find(b"\x7fELF\x02", at + 1)


def bpftool_refusal(path: Path) -> str:
    """What bpftool says against an object; empty when it loads it."""
    # A mount namespace of its own, and a file system where libbpf pins maps: all that is gone with it.
    load = f"mount -t bpf bpf /sys/fs/bpf && bpftool prog loadall {path} /sys/fs/bpf/x"
    done = subprocess.run(["unshare", "-m", "sh", "-c", load], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or "refused"


def tracebee_refusal(path: Path) -> str:
    try:
        obj = read_object(str(path))
        # Maps that ask for a name would stay.
        maps = tuple(definition._replace(pinning=None) for definition in obj.maps)
        with load_object(obj._replace(maps=maps)):
            return ""
    except TracebeeError as error:
        return str(error)


# What libbpf names in its last words: what could not be loaded, or what is missing.
_NAMED = re.compile(
    r"prog '(\S+)': failed to load|extern (?:\(\w+ ksym\) )?'(\S+)'|map '(\S+)': failed to create"
)


@pytest.mark.needs("bpf", "bpftool", "apt")
@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_objects_load(package: str) -> None:
    paths = objects(package)
    assert len(paths) >= PACKAGES[package]
    theirs = {path.name: bpftool_refusal(path) for path in paths}
    ours = {path.name: tracebee_refusal(path) for path in paths}
    # libbpf knows maps from before BTF no more.
    old = {name for name, said in theirs.items() if "legacy map definitions" in said}
    new = [path.name for path in paths if path.name not in old]
    assert {name: bool(ours[name]) for name in new} == {name: bool(theirs[name]) for name in new}
    for name in new:
        for match in _NAMED.finditer(theirs[name]):
            assert f"{match[1] or match[2] or match[3]}" in ours[name], (theirs[name], ours[name])


@functools.cache
def loadable() -> list[Path]:
    return [path for path in objects("libbpf-tools") if not tracebee_refusal(path)]


@pytest.mark.needs("bpf", "apt")
def test_many_of_them_load_here() -> None:
    assert len(loadable()) > 20


@pytest.mark.needs("bpf", "apt")
def test_loadable_objects_load_when_they_are_linked() -> None:
    """Two by two, with all names static: equal ones of both then live side by side."""
    paths = loadable()[:12]
    assert len(paths) == 12
    for pair in zip(paths[::2], paths[1::2], strict=True):
        parts = [read_object(str(path))._replace(exports=(), license="GPL") for path in pair]
        whole = link_objects(parts)
        assert len(whole.programs) == sum(len(part.programs) for part in parts)
        with load_object(whole) as loaded:
            assert len(loaded.programs) == sum(p.autoload for part in parts for p in part.programs)
