"""Objects in the field: those inside Debian's libbpf-tools, loaded by tracebee and by bpftool.

What bpftool loads on this kernel tracebee loads too, and what one refuses the other refuses.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tracebee.elf.constants import EM_BPF
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import TracebeeError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.obj.linker import link_objects

CACHE = Path(__file__).parents[2] / ".cache" / "field"


def objects() -> list[Path]:
    """The BPF objects embedded in the package's programs, taken out; downloaded once."""
    if not (CACHE / "complete").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "libbpf-tools"], cwd=CACHE, check=True)
        (archive,) = CACHE.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive.name, "unpacked"], cwd=CACHE, check=True)
        archive.unlink()
        for program in sorted((CACHE / "unpacked").rglob("*")):
            if program.is_file() and not program.is_symlink():
                for number, data in enumerate(embedded(program.read_bytes())):
                    (CACHE / f"{program.name}{number or ''}.bpf.o").write_bytes(data)
        (CACHE / "complete").touch()
    return sorted(CACHE.glob("*.bpf.o"))


def embedded(program: bytes) -> list[bytes]:
    """ELF files for BPF inside another ELF file, each up to the end of its section table."""
    found = []
    if program[:4] == b"\x7fELF":
        at = program.find(b"\x7fELF\x02\x01\x01", 1)
        while at >= 0:
            (machine,) = struct.unpack_from("<H", program, at + 18)
            if machine == EM_BPF:
                (table,) = struct.unpack_from("<Q", program, at + 40)
                entry, count = struct.unpack_from("<HH", program, at + 58)
                found.append(program[at : at + table + entry * count])
            at = program.find(b"\x7fELF\x02\x01\x01", at + 1)
    return found


def bpftool_loads(path: Path, mount: Path) -> bool:
    mount.mkdir(exist_ok=True)
    load = f"mount -t bpf bpf {mount} && bpftool prog loadall {path} {mount}/x"
    # A mount namespace of its own: what is pinned there is gone with it.
    done = subprocess.run(["unshare", "-m", "sh", "-c", load], capture_output=True, check=False)
    return done.returncode == 0


def tracebee_loads(path: Path) -> bool:
    try:
        with load_object(read_object(str(path))):
            return True
    except TracebeeError:
        return False


@pytest.mark.needs("bpf", "bpftool", "apt")
def test_the_same_objects_load(tmp_path: Path) -> None:
    paths = objects()
    assert len(paths) > 40
    theirs = {path.name: bpftool_loads(path, tmp_path / "mount") for path in paths}
    ours = {path.name: tracebee_loads(path) for path in paths}
    assert ours == theirs
    assert sum(ours.values()) > 20


@pytest.mark.needs("bpf", "bpftool", "apt")
def test_written_again_they_load_as_before(tmp_path: Path) -> None:
    for path in objects():
        obj = read_object(str(path))
        written = tmp_path / path.name
        written.write_bytes(write_object(obj))
        again = read_object(str(written))
        assert again.programs == obj.programs
        assert again.maps == obj.maps
        assert bpftool_loads(written, tmp_path / "mount") == bpftool_loads(path, tmp_path / "mount"), (
            path.name
        )


@pytest.mark.needs("bpf", "apt")
def test_loadable_objects_load_when_they_are_linked() -> None:
    """Two by two, with all names static: equal ones of both then live side by side."""
    loadable = [path for path in objects() if tracebee_loads(path)][:12]
    assert len(loadable) == 12
    for pair in zip(loadable[::2], loadable[1::2], strict=True):
        parts = [read_object(str(path))._replace(exports=(), license="GPL") for path in pair]
        whole = link_objects(parts)
        assert len(whole.programs) == sum(len(part.programs) for part in parts)
        with load_object(whole) as loaded:
            assert len(loaded.programs) == sum(p.autoload for part in parts for p in part.programs)
