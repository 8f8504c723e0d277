"""Symbol tables against nm, and the places where more of them are found."""

from __future__ import annotations

import ctypes
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tracebee.elf import ElfFile
from tracebee.symbols import debugfile, image
from tracebee.symbols.image import Image
from tracebee.symbols.table import SymbolTable, mini_debug_info

SOURCE = r"""
__asm__(".text\n.globl no_size\n.type no_size,@function\nno_size: nop; nop; ret\n");
__attribute__((noinline)) static int hidden(int x) { return x * 3 + 1; }
int shown(int x) { return hidden(x) + 1; }
int __alias(int) __attribute__((alias("shown")));
int main(int argc, char **argv) { return shown(argc) & 0; }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program")
    (directory / "p.c").write_text(SOURCE)
    subprocess.run(
        ["gcc", "-O1", "-g", "-Wl,--build-id", "-o", directory / "p", directory / "p.c"], check=True
    )
    return directory / "p"


def nm(path: Path) -> dict[str, tuple[int, int]]:
    """Address and size of each function, as nm reads them."""
    found = {}
    for line in subprocess.run(
        ["nm", "-S", path], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "tTwW":
            found[fields[3]] = (int(fields[0], 16), int(fields[1], 16))
    return found


def stripped(program: Path, to: Path, *options: str) -> Path:
    subprocess.run(["objcopy", "--strip-all", *options, program, to], check=True)
    return to


@pytest.mark.needs("gcc")
def test_every_byte_of_a_function_resolves_to_it(program: Path) -> None:
    with ElfFile(str(program)) as elf:
        table = SymbolTable([elf])
    functions = nm(program)
    assert {"hidden", "shown", "main"} <= set(functions)
    for name in ("hidden", "shown", "main"):
        start, size = functions[name]
        assert [table.resolve(start + i) for i in range(size)] == [(name, i) for i in range(size)]
    assert table.resolve(0) is None
    assert table.resolve(1 << 60) is None


@pytest.mark.needs("gcc")
def test_a_function_without_a_size_reaches_to_the_next(program: Path) -> None:
    with ElfFile(str(program)) as elf:
        table = SymbolTable([elf])
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    start = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" no_size"))
    assert table.resolve(start + 2) == ("no_size", 2)


@pytest.mark.needs("gcc")
def test_the_name_people_know_is_preferred(program: Path) -> None:
    with ElfFile(str(program)) as elf:
        table = SymbolTable([elf])
    assert table.resolve(nm(program)["__alias"][0]) == ("shown", 0)


@pytest.mark.needs("gcc")
def test_mini_debug_info(program: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").write_bytes(lzma.compress(program.read_bytes()))
    small = stripped(program, tmp_path / "p", f"--add-section=.gnu_debugdata={tmp_path}/mini")
    with ElfFile(str(small)) as elf:
        assert SymbolTable([elf]).resolve(nm(program)["hidden"][0]) is None
        mini = mini_debug_info(elf)
        assert mini is not None
        assert SymbolTable([elf, mini]).resolve(nm(program)["hidden"][0]) == ("hidden", 0)


@pytest.mark.needs("gcc")
def test_a_broken_mini_debug_info_is_ignored(program: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").write_bytes(b"no xz")
    small = stripped(program, tmp_path / "p", f"--add-section=.gnu_debugdata={tmp_path}/mini")
    with ElfFile(str(small)) as elf:
        assert mini_debug_info(elf) is None


@pytest.mark.needs("gcc")
def test_debug_file_by_build_id(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = stripped(program, tmp_path / "p")
    monkeypatch.setattr(debugfile, "ROOT", str(tmp_path))
    with ElfFile(str(small)) as elf:
        assert elf.build_id is not None
        place = tmp_path / ".build-id" / elf.build_id[:2] / f"{elf.build_id[2:]}.debug"
        place.parent.mkdir(parents=True)
        shutil.copy(program, place)
        offset = elf.file_offset(nm(program)["hidden"][0])
        assert offset is not None
        assert Image(elf, str(small)).resolve(offset + 1) == ("hidden", 1)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("directory", ["", ".debug"])
def test_debug_file_by_link(program: Path, tmp_path: Path, directory: str) -> None:
    place = tmp_path / directory / "full"
    place.parent.mkdir(exist_ok=True)
    # Without build ids the checksum decides.
    subprocess.run(["objcopy", "--remove-section=.note.gnu.build-id", program, place], check=True)
    small = stripped(place, tmp_path / "p", f"--add-gnu-debuglink={place}")
    with ElfFile(str(small)) as elf:
        found = debugfile.find(elf, str(small))
        assert found is not None
        assert found.path == str(place)
        found.close()
        place.write_bytes(place.read_bytes() + b"x")
        assert debugfile.find(elf, str(small)) is None


def test_a_large_library_agrees_with_the_dynamic_linker() -> None:
    class Info(ctypes.Structure):
        _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                    ("name", ctypes.c_char_p), ("address", ctypes.c_void_p)]  # fmt: skip

    libc = ctypes.CDLL(None)
    dladdr = ctypes.CDLL("libdl.so.2").dladdr
    for function in ("qsort", "printf", "getpid", "malloc", "strtol"):
        info = Info()
        address = ctypes.cast(getattr(libc, function), ctypes.c_void_p).value
        assert address is not None
        assert dladdr(ctypes.c_void_p(address + 1), ctypes.byref(info))
        with ElfFile(os.path.realpath(info.file.decode())) as elf:
            found = SymbolTable([elf]).resolve(address + 1 - info.base)
            assert found is not None
            name, offset = found
        # The linker names any of the aliases at the address.
        alias = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value
        assert (alias, offset) == (address, 1)


def test_no_image_for_what_is_no_file() -> None:
    from tracebee.kernel.procmaps import Mapping

    assert image.open_image(Mapping(0, 1, 0, 0, "[vsyscall]"), os.getpid()) is None
    assert image.open_image(Mapping(0, 1, 0, 5, "/etc/hostname"), os.getpid()) is None
