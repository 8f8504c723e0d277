"""Maps that are not made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tracebee
from tracebee.errors import KernelError, UsageError, VerifierError

pytestmark = [pytest.mark.needs("bpf", "clang")]
PACKET = bytes(14)


def test_a_map_that_this_kernel_lacks(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("left_out")) as obj, pytest.raises(KernelError, match="map 'future'"):
        obj.load()
    with tracebee.Object(compiled("left_out")) as obj:
        assert obj.maps["future"].autoload
        obj.maps["future"].autoload = False
        with pytest.raises(VerifierError, match="uses the map 'future', which was left out") as caught:
            obj.load()
        assert "const volatile" in (caught.value.hint or "")
        obj.variables["has_future"] = False
        obj.load()
        assert obj.programs["guarded"].test_run(PACKET).retval == 5
        with pytest.raises(UsageError, match="'future' was not loaded"):
            obj.maps["future"].read()


def test_a_map_among_others(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("maps")) as obj:
        obj.maps["inner_b"].autoload = False
        for program in obj.programs.values():
            program.autoload = False
        obj.load()
        assert obj.loaded is not None
        assert "inner_b" not in obj.loaded.maps


def test_variables_are_always_made(compiled: Callable[[str], str]) -> None:
    obj = tracebee.Object(compiled("left_out"))
    with pytest.raises(UsageError, match=r"map '.rodata' holds the object's variables"):
        obj.maps[".rodata"].autoload = False
