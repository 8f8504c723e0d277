"""Objects linked here do what ``bpftool gen object`` makes of the same files."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf
from tracebee.btf.builder import Builder
from tracebee.btf.kinds import BTF_KIND_DATASEC, BTF_KIND_FUNC, BTF_KIND_STRUCT
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import DecodeError, TracebeeError, UnsupportedError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.elf_writer import write_object
from tracebee.obj.externs import place_settings
from tracebee.obj.linker import link_objects
from tracebee.obj.model import Export, MapDef, Object
from tracebee.obj.variables import find_variable

needs_clang = pytest.mark.needs("clang")
PACKET = bytes(14)


def linked(compiled: Callable[[str], str], *names: str) -> Object:
    return link_objects([read_object(compiled(name)) for name in names])


def run(obj: Object) -> dict[str, int]:
    """What every program returns, the map being filled first."""
    with load_object(obj) as loaded:
        names = ["fill", *(n for n in sorted(loaded.programs) if n != "fill")]
        return {name: loaded.programs[name].test_run(data=PACKET).retval for name in names}


@pytest.mark.needs("bpf", "clang", "bpftool")
def test_linked_as_bpftool_links(compiled: Callable[[str], str], tmp_path: Path) -> None:
    parts = [compiled("link_main"), compiled("link_library")]
    whole = tmp_path / "whole.o"
    subprocess.run(["bpftool", "gen", "object", whole, *parts], check=True)
    theirs, ours = read_object(str(whole)), link_objects([read_object(p) for p in parts])
    assert run(ours) == run(theirs)
    assert _contents(ours) == _contents(theirs)
    assert sorted(m.name for m in ours.maps) == sorted(m.name for m in theirs.maps)
    for name in ("shared", "origin", "table", "weak_value", "own"):
        mine, other = find_variable(ours, name), find_variable(theirs, name)
        assert (mine.map, mine.offset, mine.size) == (other.map, other.offset, other.size)


def _contents(obj: Object) -> dict[str, bytes]:
    return {m.name: m.contents for m in obj.maps if m.contents is not None}


@pytest.mark.needs("bpf", "clang")
def test_what_is_expected_of_the_kernel_is_asked_for_once(compiled: Callable[[str], str]) -> None:
    obj = linked(compiled, "link_main", "link_library", "link_kernel")
    weak = {e.name: e.weak for e in obj.externs}
    assert weak == {
        "LINUX_KERNEL_VERSION": False,
        "CONFIG_HZ": False,  # strong in one of the objects
        "CONFIG_BPF": False,
        "CONFIG_DEFAULT_HOSTNAME": True,
        "bpf_rcu_read_lock": True,
    }
    results = run(obj)
    assert results["third"] == 7
    assert results["kernel"] == 7


@needs_clang
def test_types_are_merged(compiled: Callable[[str], str]) -> None:
    obj = linked(compiled, "link_main", "link_library")
    btf = Btf.from_bytes(obj.btf)
    assert len(btf.find_all("point", BTF_KIND_STRUCT)) == 1
    assert len(btf.find_all(".data", BTF_KIND_DATASEC)) == 1
    assert len(btf.find_all("triple", BTF_KIND_FUNC)) == 1
    assert btf.type(find_variable(obj, "origin").type_id).name == "point"


@needs_clang
def test_the_order_of_linking_does_not_matter(compiled: Callable[[str], str]) -> None:
    one = linked(compiled, "link_main", "link_library", "link_kernel")
    other = link_objects(
        [linked(compiled, "link_kernel", "link_library"), read_object(compiled("link_main"))]
    )
    assert {p.name for p in one.programs} == {p.name for p in other.programs}
    assert {e.name for e in one.externs} == {e.name for e in other.externs}
    assert not [e for e in other.externs if e.kind == "object"]


@needs_clang
def test_an_object_alone_names_what_it_lacks(compiled: Callable[[str], str]) -> None:
    with pytest.raises(UnsupportedError, match=r"needs what another object defines: .*points") as caught:
        load_object(read_object(compiled("link_main")))
    assert "sum_points" in str(caught.value)


@needs_clang
def test_two_definitions_of_one_name_are_refused(compiled: Callable[[str], str]) -> None:
    library = read_object(compiled("link_library"))
    with pytest.raises(DecodeError, match=r"'\w+' is defined in link_library and in again"):
        link_objects([library, library._replace(name="again")])


@needs_clang
def test_a_variable_declared_otherwise_is_refused(compiled: Callable[[str], str], tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("extern long shared; extern int nowhere; long get(void) { return shared + nowhere; }")
    target = tmp_path / "other.o"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-c", source, "-o", target], check=True)
    with pytest.raises(DecodeError, match="'shared' is declared in other otherwise than"):
        link_objects([read_object(str(target)), read_object(compiled("link_library"))])


@needs_clang
@given(
    st.integers(0, 1 << 20),
    st.integers(0, 255),
    st.sampled_from(["link_main", "link_kernel", "maps", "struct_ops"]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_objects_are_linked_or_refused(
    compiled: Callable[[str], str], place: int, byte: int, name: str
) -> None:
    data = bytearray(Path(compiled(name)).read_bytes())
    data[place % len(data)] = byte
    with contextlib.suppress(TracebeeError):
        damaged = read_object(name, bytes(data))
        write_object(damaged)
        write_object(link_objects([damaged, read_object(compiled("link_library"))]))


def test_a_setting_of_absurd_size_is_refused() -> None:
    types = Builder()
    type_id = types.array(types.integer("char", 1), 1 << 30)
    with pytest.raises(DecodeError, match="extern CONFIG_X: no setting of the kernel has 1073741824 bytes"):
        place_settings(types.build(), [("CONFIG_X", type_id, False)])


def test_licenses_must_agree() -> None:
    with pytest.raises(DecodeError, match="license of a is 'GPL', of b 'MIT'"):
        link_objects([Object("a", "GPL", (), ()), Object("b", "MIT", (), ())])
    assert link_objects([Object("a", "", (), ()), Object("b", "MIT", (), ())]).license == "MIT"


def test_byte_orders_must_agree() -> None:
    one = Object("a", "GPL", (), ())
    with pytest.raises(DecodeError, match="byte order of a is 'little', of b 'big'"):
        link_objects([one, one._replace(name="b", order="big")])


def test_a_file_holds_one_script() -> None:
    script, other = Object("a", "GPL", (), (), metadata=b"{}"), Object("b", "GPL", (), ())
    assert link_objects([other, script]).metadata == b"{}"
    with pytest.raises(DecodeError, match="a and b are both built from scripts"):
        link_objects([script, other._replace(metadata=b"{}")])


def test_static_maps_of_one_name_stay_apart() -> None:
    one = Object("a", "GPL", (MapDef("m", 1, 4, 4, 1),), (), exports=(Export("m"),))
    two = Object("b", "GPL", (MapDef("m", 2, 4, 4, 1),), ())
    assert [(m.name, m.type) for m in link_objects([two, one]).maps] == [("m.2", 2), ("m", 1)]
