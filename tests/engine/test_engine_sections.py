"""Programs attached where their sections say, and object files loaded to stay."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.engine.kernel.object_files import LoadOptions, load_and_pin
from tracebee.engine.kernel.sections import attach_section, is_attachable
from tracebee.errors import DecodeError, Diagnostic, KernelError, UnsupportedError, UsageError
from tracebee.kernel import pins
from tracebee.kernel.map import Map
from tracebee.obj.elf_reader import read_object

pytestmark = [pytest.mark.needs("bpf", "clang")]


def hits(loaded: LoadedObject) -> list[int]:
    return [struct.unpack("=Q", value)[0] for _, value in loaded.maps["hits"].items()]


def attached_hits(loaded: LoadedObject, name: str, number: int) -> int:
    """How often a program ran while this process did something seven times."""
    definition = next(p for p in loaded.object.programs if p.name == name)
    assert is_attachable(definition)
    before = hits(loaded)[number]
    links = attach_section(loaded, name)
    try:
        for _ in range(7):
            os.getpgid(0)
            Path("/proc/self/comm").read_bytes()
    finally:
        for link in links:
            link.close()
    return hits(loaded)[number] - before


USER_SECTIONS = [
    "tracepoint_long",
    "tracepoint_short",
    "raw_short",
    "raw_long",
    "typed",
    "user",
    "user_return",
    "user_many",
]


def test_sections(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("sections"))) as loaded:
        for number, name in enumerate(USER_SECTIONS):
            assert attached_hits(loaded, name, number) >= 7, name
        definitions = {program.name: program for program in loaded.object.programs}
        for link in attach_section(loaded, "walk"):
            assert link.info().fields["target_name"] == "task"
            link.close()
        assert not is_attachable(definitions["nowhere"])
        with pytest.raises(UnsupportedError, match="does not say where 'nowhere'"):
            attach_section(loaded, "nowhere")


KERNEL_SECTIONS = ["entry", "back", "call", "many", "many_back", "call_back", "both", "traced", "traced_back"]


@pytest.mark.needs("kprobe", "kprobe_multi", "fentry")
def test_kernel_sections(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("kernel_sections"))) as loaded:
        for number, name in enumerate(KERNEL_SECTIONS):
            assert attached_hits(loaded, name, number) >= 7, name
        # A session program runs when the function is called and when it returns.
        assert attached_hits(loaded, "both", 6) >= 14
        assert attached_hits(loaded, "at_offset", 10) >= 7


@pytest.mark.needs("kprobe", "kprobe_multi", "fentry")
def test_kernel_cookies_and_places(compiled: Callable[[str], str]) -> None:
    with load_object(read_object(compiled("kernel_sections"))) as loaded:
        place = next(v for v in loaded.object.variables if v.name == "cookies")
        for number, name in enumerate([*KERNEL_SECTIONS, "placed"]):
            if name == "both":
                continue  # its cookie is for its own use
            where = "vfs_read" if name == "placed" else ""
            links = attach_section(loaded, name, where, cookie=100 + number)
            try:
                os.getpgid(0)
                Path("/proc/self/comm").read_bytes()
            finally:
                for link in links:
                    link.close()
            at = place.offset + 8 * number
            data = loaded.memory[place.map][at : at + 8]
            assert int.from_bytes(data, "little") == 100 + number, name
        for name, where in (("back", "vfs_read+4"), ("placed", "no_such_function_here")):
            with pytest.raises(Diagnostic):
                attach_section(loaded, name, where)


def test_one_program_and_its_maps_stay(compiled: Callable[[str], str], bpffs: str) -> None:
    load_and_pin(
        compiled("admin"), f"{bpffs}/watch", everything=False, options=LoadOptions(pin_maps=f"{bpffs}/maps")
    )
    found = {pin.path[len(bpffs) :]: pin.kind for pin in pins.walk(bpffs)}
    assert found == {
        "/watch": "prog",
        **{f"/maps/{name}": "map" for name in ("table", "per_cpu", "plain", "_data", "_rodata", "_bss")},
    }


def test_all_programs_attached_stay(compiled: Callable[[str], str], bpffs: str) -> None:
    options = LoadOptions(attach=True, pin_maps=f"{bpffs}/maps")
    loaded = load_and_pin(compiled("sections"), f"{bpffs}/all", everything=True, options=options)
    assert loaded.warnings == ("'nowhere' (socket) is pinned but not attached: its section says no place",)
    kinds = {pin.path.rpartition("/")[2]: pin.kind for pin in pins.walk(f"{bpffs}/all")}
    assert kinds == {**dict.fromkeys([*USER_SECTIONS, "walk"], "link"), "nowhere": "prog"}
    with Map.pinned(f"{bpffs}/maps/hits") as table:
        before = table.items()
        os.getpgid(0)
        assert table.items() != before
    for name in kinds:
        pins.unpin(f"{bpffs}/all/{name}")


def test_what_cannot_be_attached_is_pinned(tmp_path: Path, bpffs: str) -> None:
    source = Path(__file__).parents[1] / "obj" / "programs" / "sections.bpf.c"
    text = source.read_text().replace(
        'SEC("tp/syscalls/sys_enter_getpgid")', 'SEC("tp/syscalls/no_such_event")'
    )
    (tmp_path / "gone.bpf.c").write_text(text)
    target = str(tmp_path / "gone.bpf.o")
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", include, "-c", tmp_path / "gone.bpf.c", "-o", target]
    subprocess.run(command, check=True)
    loaded = load_and_pin(target, f"{bpffs}/all", everything=True, options=LoadOptions(attach=True))
    kinds = {pin.path.rpartition("/")[2]: pin.kind for pin in pins.walk(f"{bpffs}/all")}
    assert [name for name, kind in kinds.items() if kind != "link"] == ["nowhere", "tracepoint_short"]
    assert "'tracepoint_short' (tp/syscalls/no_such_event) is pinned but not attached" in loaded.warnings[0]
    for name in kinds:
        pins.unpin(f"{bpffs}/all/{name}")


def test_maps_of_others_are_used(compiled: Callable[[str], str], bpffs: str) -> None:
    load_and_pin(
        compiled("admin"), f"{bpffs}/a", everything=False, options=LoadOptions(pin_maps=f"{bpffs}/m")
    )
    with Map.pinned(f"{bpffs}/m/table") as table:
        load_and_pin(
            compiled("admin"),
            f"{bpffs}/b",
            everything=False,
            reuse={"table": table},
            options=LoadOptions(pin_maps=f"{bpffs}/n"),
        )
        assert "table" not in os.listdir(f"{bpffs}/n")
        with pytest.raises(UsageError, match="the file has no map 'chair'"):
            load_and_pin(compiled("admin"), f"{bpffs}/c", everything=False, reuse={"chair": table})


def test_failure_leaves_nothing_pinned(compiled: Callable[[str], str], bpffs: str) -> None:
    os.mkdir(f"{bpffs}/all")
    os.mkdir(f"{bpffs}/all/length")
    with pytest.raises(KernelError, match="the name exists already"):
        load_and_pin(compiled("admin"), f"{bpffs}/all", everything=True)
    assert list(pins.walk(bpffs)) == []


def test_logs_on_request_and_other_types(compiled: Callable[[str], str], bpffs: str) -> None:
    loaded = load_and_pin(compiled("admin"), f"{bpffs}/a", everything=False, options=LoadOptions(log=True))
    assert len(loaded.logs) == len(loaded.programs) == 2
    assert all("processed" in log for log in loaded.logs)
    with pytest.raises(UsageError, match="no section type 'nonsense'"):
        load_and_pin(
            compiled("admin"), f"{bpffs}/b", everything=False, options=LoadOptions(section="nonsense")
        )


def test_a_question_leaves_nothing(compiled: Callable[[str], str]) -> None:
    loaded = load_and_pin(compiled("admin"), "", everything=True)
    assert loaded == (("watch", "length"), (), ())


def test_files_that_are_no_objects(tmp_path: Path, bpffs: str) -> None:
    text = tmp_path / "x.o"
    text.write_text("hello")
    with pytest.raises(DecodeError):
        load_and_pin(str(text), f"{bpffs}/x", everything=False)


def test_files_linked_before_they_are_loaded(compiled: Callable[[str], str]) -> None:
    options = LoadOptions(others=(compiled("link_library"),))
    loaded = load_and_pin(compiled("link_main"), "", everything=True, options=options)
    assert set(loaded.programs) == {"calls", "data", "kernel", "fill"}
