"""Objects that clang has built, written again: the same to read, and the same for libbpf to load."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.btf import Btf, raw
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.obj.linker import link_objects
from tracebee.obj.model import Object

# What the reader refuses (test_obj_mistakes.py) is not written.
MISTAKES = {"implicit", "legacy_iproute2", "numbers"}
NAMES = {p.name.split(".")[0] for p in (Path(__file__).parent / "programs").glob("*.bpf.c")}
PROGRAMS = sorted(NAMES - MISTAKES)


def assert_same(one: Object, other: Object) -> None:
    """Equal in everything, BTF compared type by type (its strings may stand in another order)."""
    for field in one._fields:
        mine, theirs = getattr(one, field), getattr(other, field)
        if field == "btf":
            mine, theirs = (list(raw.format_raw(Btf.from_bytes(b))) if b else [] for b in (mine, theirs))
        elif field in ("exports", "variables"):
            mine, theirs = sorted(map(repr, mine)), sorted(map(repr, theirs))
        assert mine == theirs, field


@pytest.mark.needs("clang")
@pytest.mark.parametrize("name", PROGRAMS)
def test_reading_what_was_written_gives_the_object(compiled: Callable[[str], str], name: str) -> None:
    obj = read_object(compiled(name))
    assert_same(obj, read_object(compiled(name), write_object(obj)))


@pytest.mark.needs("clang")
def test_the_other_byte_order_and_no_types(tmp_path: Path) -> None:
    source = Path(__file__).parent / "programs" / "legacy.bpf.c"
    for target, options in (("bpfeb", ["-g"]), ("bpfeb", []), ("bpfel", [])):
        path = tmp_path / f"{target}{len(options)}.bpf.o"
        include = ["-I/usr/include/x86_64-linux-gnu", "-I/usr/include/aarch64-linux-gnu"]
        command = ["clang", "-O2", *options, "-target", target, *include, "-c", source, "-o", path]
        subprocess.run(command, check=True)
        obj = read_object(str(path))
        assert [m.name for m in obj.maps] == ["counts", "other"]
        assert_same(obj, read_object(str(path), write_object(obj)))


@pytest.mark.needs("clang")
def test_static_maps_and_functions_in_static_contents(tmp_path: Path) -> None:
    """clang refers to what is static by its section and an offset, which stands in the contents."""
    source, path = tmp_path / "static.bpf.c", tmp_path / "static.bpf.o"
    source.write_text(
        """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct inner {
            __uint(type, BPF_MAP_TYPE_ARRAY);
            __uint(max_entries, 2);
            __type(key, __u32);
            __type(value, __u64);
        };
        static struct inner one SEC(".maps"), two SEC(".maps");
        struct {
            __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
            __uint(max_entries, 2);
            __type(key, __u32);
            __array(values, struct inner);
        } outer SEC(".maps") = { .values = { &two, &one } };
        SEC("socket") int use(void *ctx) {
            __u32 key = 0;
            return bpf_map_lookup_elem(&one, &key) == 0;
        }
        char LICENSE[] SEC("license") = "GPL";
        """
    )
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", path]
    subprocess.run(command, check=True)
    obj = read_object(str(path))
    assert {m.name: m.values for m in obj.maps} == {"one": (), "two": (), "outer": ((0, "two"), (1, "one"))}
    assert_same(obj, read_object(str(path), write_object(obj)))
    both = link_objects([obj, obj._replace(exports=())])
    assert [m.values for m in both.maps if m.values] == [
        ((0, "two"), (1, "one")),
        ((0, "two.2"), (1, "one.2")),
    ]


@pytest.mark.needs("clang", "gcc")
@pytest.mark.parametrize("name", PROGRAMS)
def test_readelf_has_nothing_to_say(compiled: Callable[[str], str], tmp_path: Path, name: str) -> None:
    path = tmp_path / "written.o"
    path.write_bytes(write_object(read_object(compiled(name))))
    done = subprocess.run(["readelf", "-a", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "Warning" not in done.stdout


def loaded_by_bpftool(path: Path | str, mount: Path) -> list[str]:
    """The status of ``bpftool prog loadall``, and every program as the kernel has it."""
    mount.mkdir(exist_ok=True)
    show = "bpftool prog show pinned $p -j; echo; bpftool prog dump xlated pinned $p linum"
    script = (
        f"mount -t bpf bpf {mount} || exit; bpftool prog loadall {path} {mount}/x; echo status $?; "
        f"[ ! -d {mount}/x ] || for p in $(ls {mount}/x); do p={mount}/x/$p; {show}; done"
    )
    # A mount namespace of its own: what is pinned there is gone with it.
    command = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = []
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            info = json.loads(line)
            lines.append(f"{info['name']} {info['type']} {len(info.get('map_ids', ()))}")
        else:
            lines.append(re.sub(r"\[id:\d+\]|bpf_prog_[0-9a-f]{16}_", "", line))
    return lines


@pytest.mark.needs("bpf", "clang", "bpftool")
@pytest.mark.parametrize("name", PROGRAMS)
def test_libbpf_loads_the_same(compiled: Callable[[str], str], tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.bpf.o"
    path.write_bytes(write_object(read_object(compiled(name))))
    assert loaded_by_bpftool(path, tmp_path / "mount") == loaded_by_bpftool(
        compiled(name), tmp_path / "mount"
    )


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_libbpf_loads_enough_of_them(compiled: Callable[[str], str], tmp_path: Path) -> None:
    """The test above compares something: these load on every kernel that tests run on."""
    for name in ("core", "externs", "maps", "typed"):
        status, *programs = loaded_by_bpftool(compiled(name), tmp_path / "mount")
        assert status == "status 0"
        assert programs
