"""What the loader makes fit: sizes, types and names that the kernel would not take as they are written."""

from __future__ import annotations

from collections.abc import Callable
from mmap import PAGESIZE

import pytest

from tracebee.engine.kernel.loader import load_object
from tracebee.errors import KernelError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.image import build_image

pytestmark = [pytest.mark.needs("bpf", "clang")]


def test_ring_buffers_are_rounded_up_to_powers_of_two_of_pages(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("adjusted"))) as loaded:
        sizes = {name: loaded.maps[name].info().max_entries for name in ("ring", "user_ring")}
        assert sizes == {"ring": PAGESIZE, "user_ring": 2 * PAGESIZE}
        assert loaded.maps["rings"].lookup(bytes(4)) == loaded.maps["ring"].info().id.to_bytes(4, "little")


def test_a_ring_buffer_without_a_size_is_refused(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("adjusted"))
    maps = tuple(m._replace(max_entries=0) if m.name == "ring" else m for m in obj.maps)
    with pytest.raises(KernelError, match="map 'ring' failed") as caught:
        load_object(obj._replace(maps=maps))
    assert "max_entries is 0" in (caught.value.hint or "")


def test_maps_go_without_types_that_the_kernel_does_not_take(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("adjusted"))) as loaded:
        assert loaded.maps["prefixes"].info().btf_key_type_id == 0
    with load_object(read_object(compiled("maps"))) as loaded:
        assert loaded.maps["typed"].info().btf_key_type_id


def test_sections_with_names_of_their_own_keep_them(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("adjusted"))) as loaded:
        assert loaded.maps[".rodata.table"].info().name == ".rodata.table"
        assert loaded.programs["prog"].test_run(data=bytes(14)).retval == 11 * 2 + 21 * 3
    with load_object(read_object(compiled("globals"))) as loaded:
        assert loaded.maps[".bss"].info().name == "globals.bss"


def test_each_function_is_followed_by_what_it_calls(compiled: Callable[[str], str]) -> None:
    """libbpf's order, which decides what instructions are numbered as in the verifier's log."""
    obj = read_object(compiled("adjusted"))
    names = [function.name for _, function in build_image(obj, obj.programs[0]).functions]
    assert names == ["prog", "first", "inner", "second"]


def test_objects_go_without_types_that_the_kernel_does_not_take(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("forward"))) as loaded:
        assert loaded.programs["prog"].test_run(data=bytes(14)).retval == 8
        (warning,) = loaded.warnings
        assert warning.startswith("forward is loaded without its types: bpf(BPF_BTF_LOAD) failed")
