"""The ELF reader against readelf's library of record, and against broken files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf import enums
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from tracebee.elf import ElfFile, find_symbol, symbols
from tracebee.elf.symbols import functions, tables
from tracebee.errors import DecodeError

FILES = [
    sys.executable,
    "/bin/bash",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/aarch64-linux-gnu/lib/libc.so.6",
]


def present() -> list[str]:
    return [str(Path(f).resolve()) for f in FILES if Path(f).exists()]


@pytest.mark.parametrize("path", present())
def test_headers_and_symbols_are_those_of_pyelftools(path: str) -> None:
    with open(path, "rb") as file, ElfFile(path) as ours:
        theirs = ELFFile(file)
        assert [(s.name, s.type, s.addr, s.offset, s.size) for s in ours.sections[1:]] == [
            (s.name, _number(s["sh_type"]), s["sh_addr"], s["sh_offset"], s["sh_size"])
            for s in list(theirs.iter_sections())[1:]
        ]
        for table in tables(ours):
            expected = [
                (s.name, s["st_value"], s["st_size"]) for s in theirs.get_section(table.number).iter_symbols()
            ]
            assert [(s.name, s.addr, s.size) for s in symbols(ours, table)] == expected
        build_id = theirs.get_section_by_name(".note.gnu.build-id")
        if build_id is not None:
            assert ours.build_id == next(iter(build_id.iter_notes()))["n_desc"]


def _number(kind: str | int) -> int:
    """pyelftools names the types it knows; the number behind a name, from any of its tables."""
    if isinstance(kind, int):
        return kind
    named = [getattr(enums, n) for n in dir(enums) if n.startswith("ENUM_SH_TYPE")]
    return next(table[kind] for table in named if kind in table)


@pytest.mark.parametrize("path", present())
def test_every_function_is_found_by_name(path: str) -> None:
    with ElfFile(path) as elf:
        by_name: dict[str, set[int]] = {}
        for f in functions(elf):
            by_name.setdefault(f.name, set()).add(f.addr)
        assert by_name
        for name in list(by_name)[::97]:
            found = find_symbol(elf, name)
            assert found is not None
            assert found.addr in by_name[name]
        assert find_symbol(elf, "no_such_function_anywhere") is None


@pytest.mark.needs("gcc")
def test_offsets_and_addresses_are_inverse_and_code_is_code(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("int data = 5; int main(void) { return data; }")
    binary = tmp_path / "a"
    subprocess.run(["gcc", "-o", str(binary), str(source)], check=True)
    with ElfFile(str(binary)) as elf:
        main = find_symbol(elf, "main")
        assert main is not None
        offset = elf.file_offset(main.addr)
        assert offset is not None
        assert elf.address(offset) == main.addr
        assert elf.is_executable(offset)
        data = find_symbol(elf, "data", types=(1,))
        assert data is not None
        data_offset = elf.file_offset(data.addr)
        assert data_offset is not None
        assert binary.read_bytes()[data_offset] == 5
        assert not elf.is_executable(data_offset)
        assert not elf.is_go


@given(st.binary(max_size=200).map(lambda tail: b"\x7fELF\x02\x01\x01" + tail) | st.binary(max_size=80))
def test_any_bytes_are_a_file_or_a_decode_error(data: bytes) -> None:
    try:
        elf = ElfFile("fuzz", data)
        for table in tables(elf):
            list(symbols(elf, table))
    except DecodeError:
        pass


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(DecodeError, match="is empty"):
        ElfFile(str(empty))
