"""Linked files: tracebee's and bpftool's load as the same programs, and each links the other's further."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.api.linking import link_objects
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import UnsupportedError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.image import build_image
from tracebee.obj.model import Object

SOURCES = Path(__file__).parent / "programs"
# Linkers by name: they write the first file from the others.
LINKERS: dict[str, Callable[..., None]] = {
    "tracebee": link_objects,
    "bpftool": lambda *paths: subprocess.run(["bpftool", "gen", "object", *paths], check=True),
}
Compiled = Callable[[str], str]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two files that need each other, without static maps, which libbpf does not load."""
    folder = tmp_path_factory.mktemp("parts")
    paths = []
    for name in ("link_main", "link_library"):
        text = (SOURCES / f"{name}.bpf.c").read_text()
        if name == "link_library":
            text = re.sub(r"\blocal\b", "library_local", text.replace("static struct", "struct"))
        source, target = folder / f"{name}.bpf.c", folder / f"{name}.bpf.o"
        source.write_text(text)
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        command = ["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", target]
        subprocess.run(command, check=True)
        paths.append(str(target))
    return paths


def what_is_loaded(obj: Object) -> dict[str, object]:
    """An object by names and places alone: types have other numbers in every file."""
    found: dict[str, object] = {
        "variables": sorted(v[:4] for v in obj.variables),
        "maps": sorted((m.name, *m[1:6], m.values, m.pinning, m.extra, m.contents) for m in obj.maps),
        "externs": sorted((e.name, e.kind, e.weak, e.offset, e.size) for e in obj.externs),
        "exports": sorted(obj.exports),
        "license": obj.license,
    }
    for program in obj.programs:
        image = build_image(obj, program)
        relocs = [r._replace(core=r.core and r.core._replace(type_id=0)) for r in image.relocs]
        functions = [(slot, f.name.split(".")[0]) for slot, f in image.functions]
        found[program.name] = (program.section, image.insns, relocs, image.lines, functions)
    return found


def returned(obj: Object) -> dict[str, int]:
    """What every program returns, the map being filled first."""
    with load_object(obj) as loaded:
        names = ["fill", *(n for n in sorted(loaded.programs) if n != "fill")]
        return {name: loaded.programs[name].test_run(data=bytes(14)).retval for name in names}


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_both_linkers_files_are_the_same_programs(parts: list[str], tmp_path: Path) -> None:
    for order in (parts, parts[::-1]):
        objects = {}
        for name, link in LINKERS.items():
            target = str(tmp_path / f"{name}.bpf.o")
            link(target, *order)
            objects[name] = read_object(target)
        assert what_is_loaded(objects["tracebee"]) == what_is_loaded(objects["bpftool"])
        assert returned(objects["tracebee"]) == returned(objects["bpftool"])


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_libbpf_loads_both_alike(parts: list[str], tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    dumps = []
    for name, link in LINKERS.items():
        target = tmp_path / f"{name}.bpf.o"
        link(str(target), *parts[::-1])  # libbpf cannot load what it linked with the extern map first
        steps = (
            f"mount -t bpf bpf {mount}",
            f"bpftool prog loadall {target} {mount}/x",
            f"for p in {mount}/x/*; do bpftool prog dump xlated pinned $p linum; done",
        )
        command = ["unshare", "-m", "sh", "-c", " && ".join(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        dumps.append(re.sub(r"\[id:\d+\]|bpf_prog_[0-9a-f]{16}_", "", done.stdout))
    assert dumps[0] == dumps[1]
    assert "helper" in dumps[0]


@pytest.mark.needs("bpf", "clang", "bpftool")
@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(LINKERS, 2)])
def test_each_links_the_others_files(
    compiled: Compiled, parts: list[str], tmp_path: Path, first: str, second: str
) -> None:
    """In steps: each file alone (its externs stay open), then those together, then all with a third."""
    steps = []
    for number, path in enumerate(parts):
        steps.append(str(tmp_path / f"{number}.bpf.o"))
        LINKERS[first](steps[-1], path)
    half, whole, direct = (str(tmp_path / f"{name}.bpf.o") for name in ("half", "whole", "direct"))
    LINKERS[second](half, *steps)
    LINKERS[first](whole, half, compiled("globals"))
    link_objects(direct, *parts, compiled("globals"))
    found, expected = what_is_loaded(read_object(whole)), what_is_loaded(read_object(direct))
    # The bytes that pad a section depend on how many files were put together at once.
    assert found == expected


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_what_stays_open_is_linked_and_not_loaded(parts: list[str], tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    for name, link in LINKERS.items():
        target = tmp_path / f"{name}.bpf.o"
        link(str(target), parts[0])
        with pytest.raises(UnsupportedError, match=r"needs what another object defines: .*sum_points"):
            load_object(read_object(str(target)))
        load = f"mount -t bpf bpf {mount} && exec bpftool prog loadall {target} {mount}/x"
        command = ["unshare", "-m", "sh", "-c", load]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.needs("clang", "gcc")
def test_readelf_has_nothing_to_say_of_it(parts: list[str], tmp_path: Path) -> None:
    target = tmp_path / "whole.bpf.o"
    link_objects(target, *parts)
    done = subprocess.run(["readelf", "-a", target], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Warning" not in done.stdout


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_bpftool_reads_its_types(parts: list[str], tmp_path: Path) -> None:
    target = tmp_path / "whole.bpf.o"
    link_objects(target, *parts)
    command = ["bpftool", "btf", "dump", "file", str(target)]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "linkage=extern" in dump  # what is the kernel's
    for name, count in (("point", 1), ("triple", 1), ("shared", 1), ("total", 2)):
        assert len(re.findall(rf"^\[\d+\] (?:STRUCT|FUNC|VAR) '{name}'", dump, re.MULTILINE)) == count
