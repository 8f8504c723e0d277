"""Versions of dynamic symbols, against what readelf prints of a library made for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tracebee.elf import ElfFile, find_symbol
from tracebee.elf.versions import find_versioned

pytestmark = pytest.mark.needs("gcc")

LIBRARY = """
__asm__(".symver first, greet@BEE_1");
__asm__(".symver second, greet@@BEE_2");
int first(void) { return 1; }
int second(void) { return 2; }
int other(void) { return 3; }
"""
SCRIPT = "BEE_1 { global: greet; }; BEE_2 { global: greet; other; } BEE_1;"


@pytest.fixture
def library(tmp_path: Path) -> str:
    (tmp_path / "greet.c").write_text(LIBRARY)
    (tmp_path / "greet.map").write_text(SCRIPT)
    path = tmp_path / "libgreet.so"
    link = f"-Wl,--version-script={tmp_path}/greet.map"
    # Without .symtab, as libraries are installed.
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", link, "-o", path, tmp_path / "greet.c"], check=True)
    return str(path)


def test_each_version_is_found(library: str) -> None:
    command = ["readelf", "-W", "--dyn-syms", library]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"([0-9a-f]{16}) .* FUNC .* (\S+@\S+)", text)
    addresses = {name: int(at, 16) for at, name in rows}
    assert set(addresses) == {"greet@BEE_1", "greet@@BEE_2", "other@@BEE_2"}
    with ElfFile(library) as image:
        for name, address in addresses.items():
            found = find_versioned(image, name)
            assert found is not None
            assert found.addr == address
        second = find_versioned(image, "greet@BEE_2")
        assert second is not None
        assert second.addr == addresses["greet@@BEE_2"]
        assert find_versioned(image, "greet@@BEE_1") is None
        assert find_versioned(image, "greet@BEE_3") is None
        # Without a version it is the one that new programs get.
        default = find_symbol(image, "greet")
        assert default is not None
        assert default.addr == addresses["greet@@BEE_2"]
