"""Mistakes in C sources that only the loader sees: it names the thing and the way out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracebee.errors import DecodeError
from tracebee.obj.elf_reader import read_object

pytestmark = pytest.mark.needs("clang")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("implicit", "htons is used, but no declaration of it", "a missing #include"),
        ("legacy_iproute2", "map shared: has fields that struct bpf_map_def does not know", 'SEC(".maps")'),
        ("numbers", "map mixed: field 'type' is not written with __uint", "write __uint(type, NUMBER)"),
    ],
)
def test_what_is_said(compiled: Callable[[str], str], name: str, message: str, hint: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_object(compiled(name))
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
