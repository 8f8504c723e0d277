"""Addresses of real processes to names."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracebee.kernel import procmaps
from tracebee.symbols import perfmap
from tracebee.symbols.demangle import demangle
from tracebee.symbols.frame import Frame
from tracebee.symbols.perfmap import PerfMap
from tracebee.symbols.symbolizer import Symbolizer


def address_of(name: str) -> int:
    value = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert value is not None
    return value


def test_a_function_of_this_process() -> None:
    frame = Symbolizer().user_frame(address_of("qsort") + 3, os.getpid(), os.getpid())
    assert (frame.name, frame.offset) == ("qsort", 3)
    assert "libc" in frame.module


def test_addresses_outside_of_everything() -> None:
    symbols = Symbolizer()
    assert symbols.user_frame(0x10, os.getpid()) == Frame(0x10)
    assert symbols.user_frame(0x7F0000000000, 0) == Frame(0x7F0000000000)
    assert symbols.kernel_frame(0x1234) == Frame(0x1234)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A running copy of a program that calls pause() in ``spot``, and the address of ``spot``."""
    source = tmp_path / "s.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n"
        "void spot(void) { pause(); }\n"
        'int main(void) { printf("%p\\n", (void *)spot); fflush(stdout); spot(); return 0; }\n'
    )
    program = tmp_path / "sleeper"
    subprocess.run(["gcc", "-O0", "-o", program, source], check=True)
    process = subprocess.Popen([program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    address = int(process.stdout.readline(), 16)
    yield process, address, program
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.needs("gcc")
def test_a_process_that_is_gone(sleeper: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    process, address, program = sleeper
    seen, unseen = Symbolizer(), Symbolizer()
    seen.see(process.pid)
    process.kill()
    process.wait()
    assert seen.user_frame(address + 1, process.pid) == Frame(address + 1, "spot", 1, str(program))
    assert unseen.user_frame(address + 1, process.pid) == Frame(address + 1)
    seen.forget(process.pid)
    assert seen.user_frame(address + 1, process.pid) == Frame(address + 1)


@pytest.mark.needs("gcc", "root")
def test_a_deleted_program(sleeper: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    process, address, program = sleeper
    program.unlink()
    assert Symbolizer().user_frame(address, process.pid).name == "spot"


@pytest.mark.needs("gcc")
def test_another_file_of_the_same_name_is_not_believed(
    sleeper: tuple[subprocess.Popen[bytes], int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, address, program = sleeper
    symbols = Symbolizer()
    symbols.see(process.pid)
    process.kill()
    process.wait()
    shutil.copy(program, f"{program}.new")
    os.rename(f"{program}.new", program)
    assert symbols.user_frame(address, process.pid) == Frame(address, module=str(program))


def test_the_vdso() -> None:
    (vdso,) = [m for m in procmaps.read(os.getpid()) or [] if m.path == "[vdso]"]
    symbols = Symbolizer()
    names = {
        symbols.user_frame(vdso.start + at, os.getpid()).name for at in range(0, vdso.end - vdso.start, 16)
    }
    assert any("clock_gettime" in name for name in names)


def test_jitted_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_EXEC) as code:
        start = ctypes.addressof(ctypes.c_char.from_buffer_copy(b"x"))  # any heap address: no code
        (mapping,) = [
            m for m in procmaps.read(os.getpid()) or []
            if m.executable and not m.path
        ][-1:]  # fmt: skip
        monkeypatch.setattr(
            perfmap, "read", lambda pid: PerfMap(f"{mapping.start:x} 10 py::main:x.py\nbroken")
        )
        symbols = Symbolizer()
        frame = symbols.user_frame(mapping.start + 4, os.getpid())
        assert (frame.name, frame.offset) == ("py::main:x.py", 4)
        assert symbols.user_frame(mapping.start + 0x10, os.getpid()).name == ""
        assert symbols.user_frame(start, os.getpid()).name == ""
        assert len(code) == 4096


def test_a_later_line_of_a_perf_map_replaces_an_earlier_one() -> None:
    names = PerfMap("1000 20 old\n1000 10 new\n")
    assert names.resolve(0x1008) == ("new", 8)
    assert names.resolve(0x1018) is None
    assert names.resolve(0xFFF) is None


@pytest.mark.needs("root")
def test_kernel_symbols() -> None:
    with open("/proc/kallsyms") as table:
        rows = [line.split() for line in table]
    address = next(int(row[0], 16) for row in rows if row[2] == "vfs_read")
    frame = Symbolizer().kernel_frame(address + 7)
    assert (frame.name, frame.offset, frame.module) == ("vfs_read", 7, "")


@pytest.mark.parametrize(
    ("mangled", "plain"),
    [
        ("_ZN2ns3fooEi", "ns::foo(int)"),
        (
            "_ZNSt6vectorIiSaIiEE9push_backERKi",
            "std::vector<int, std::allocator<int> >::push_back(int const&)",
        ),
        ("main", "main"),
        ("_Zbroken", "_Zbroken"),
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("_Rbroken", "_Rbroken"),
    ],
)
def test_demangling(mangled: str, plain: str) -> None:
    assert demangle(mangled) == plain
