"""What objects of the field ask of a loader beside maps and programs: they load, and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.api.objects import Object
from tracebee.btf import Btf
from tracebee.engine.kernel.loader import load_object
from tracebee.engine.kernel.object_files import load_and_pin
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.linker import link_objects
from tracebee.obj.model import ARENA_DATA

pytestmark = [pytest.mark.needs("bpf", "clang")]
PACKET = bytes(14)


def test_a_file_without_programs_loads_with_all_its_none(compiled: Callable[[str], str]) -> None:
    path = compiled("no_programs")
    assert load_and_pin(path, "", everything=True).programs == ()
    with pytest.raises(DecodeError, match="has no programs"):
        load_and_pin(path, "", everything=False)
    command = [sys.executable, "-m", "tracebee", "prog", "loadall", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_types_that_the_kernel_refuses_are_left_out(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("unnamed"))) as loaded:
        assert loaded.btf is None
        assert loaded.programs["unnamed"].test_run().retval == 7


def test_data_that_user_space_may_not_map(compiled: Callable[[str], str]) -> None:
    """The kernel maps no memory with a lock in it: what is there is read and written by copying."""
    with Object(compiled("private")) as obj:
        obj.load()
        count = obj.programs["count"].kernel
        assert count.test_run(data=PACKET).retval == 8
        assert obj.variables["guarded"] == 8
        obj.variables["guarded"] = 20
        assert count.test_run(data=PACKET).retval == 21


@pytest.mark.needs("arena")  # exceptions came a little before
def test_an_exception_callback_answers(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("exception"))
    assert obj.programs[0].function.exception_callback == "answer"
    for whole in (obj, link_objects([obj, read_object(compiled("no_programs"))])):
        with load_object(whole) as loaded:
            assert loaded.programs["thrower"].test_run(data=PACKET).retval == 41


def test_an_exception_callback_must_be_there(compiled: Callable[[str], str]) -> None:
    data = Path(compiled("exception")).read_bytes()
    with pytest.raises(DecodeError, match="exception callback 'ansser' is no function"):
        read_object("x.o", data.replace(b"exception_callback:answer", b"exception_callback:ansser"))


@pytest.mark.needs("arena")
def test_variables_in_an_arena(compiled: Callable[[str], str]) -> None:
    with Object(compiled("arena_variables")) as obj:
        assert (obj.variables["first"], obj.variables["second"][:4]) == (5, [1, 2, 3, 0])
        obj.variables["first"] = 6
        obj.load()
        assert obj.programs["sum"].kernel.test_run().retval == 4
        assert (obj.variables["first"], obj.variables["second"][:4]) == (6, [1, 2, 4, 0])
        obj.variables["second"] = [9] * 600
        assert obj.programs["sum"].kernel.test_run().retval == 10


@pytest.mark.needs("arena")
def test_variables_in_an_arena_with_an_address_of_its_own(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("arena_variables"))
    maps = tuple(m._replace(extra=0x7A0000000000) if m.name == "pages" else m for m in obj.maps)
    with load_object(obj._replace(maps=maps)) as loaded:
        assert loaded.programs["sum"].test_run().retval == 4
        assert loaded.programs["sum"].test_run().retval == 5


@pytest.mark.needs("arena")
def test_variables_of_linked_objects_share_their_arena(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("arena_variables"))
    other = obj._replace(
        name="other",
        maps=tuple(m for m in obj.maps if m.name == ARENA_DATA),
        programs=(),
        variables=tuple(v._replace(name=f"other_{v.name}") for v in obj.variables),
        exports=(),
    )
    with load_object(link_objects([other, obj])) as loaded:
        assert loaded.programs["sum"].test_run().retval == 4


def test_variables_in_an_arena_need_one_that_is_large_enough(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("arena_variables"))
    none = obj._replace(maps=tuple(m for m in obj.maps if m.name != "pages"))
    with pytest.raises(UnsupportedError, match="__arena variables and 0 arenas"):
        load_object(none)
    small = tuple(m._replace(max_entries=1) if m.name == "pages" else m for m in obj.maps)
    with pytest.raises(UnsupportedError, match="'pages' has 4096 bytes, too few for the 4808"):
        load_object(obj._replace(maps=small))


@pytest.mark.parametrize("name", ["unnamed", "no_programs", "globals"])
def test_objects_for_machines_of_the_other_byte_order(name: str, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "obj" / "programs" / f"{name}.bpf.c"
    target = tmp_path / f"{name}.o"
    other = "bpfeb" if sys.byteorder == "little" else "bpfel"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", other, include, "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    with pytest.raises(UnsupportedError, match=r"-endian, this machine is not\n  hint: compile it with"):
        load_object(read_object(str(target)))


@pytest.mark.needs("bpftool")
def test_ids_of_own_types_are_those_after_linking(compiled: Callable[[str], str], tmp_path: Path) -> None:
    paths = [compiled("maps"), compiled("type_id")]
    linked = tmp_path / "linked.o"
    subprocess.run(["bpftool", "gen", "object", str(linked), *paths], check=True)
    for whole in (
        read_object(paths[1]),
        read_object(str(linked)),
        link_objects([read_object(path) for path in paths]),
    ):
        with load_object(whole, programs=lambda p: p.name == "id_of_wanted") as loaded:
            found = loaded.programs["id_of_wanted"].test_run(data=PACKET).retval
        assert found == Btf.from_bytes(whole.btf).find("struct wanted")
