"""Kernel files: mounts, tracefs, symbols, CPUs, clocks, control groups."""

from __future__ import annotations

import atexit
import errno
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import PrivilegeError, SymbolError
from tracebee.kernel import cgroups, clocks, cpus, kallsyms, mounts, privileges, tracefs
from tracebee.kernel.syscall import stand_in

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
40 23 0:13 / /sys/kernel/tracing rw shared:1 - tracefs tracefs rw
41 23 0:13 /events /mnt/part rw - tracefs tracefs rw
42 23 0:13 / /mnt/with\040space rw - tracefs tracefs rw
43 23 0:30 / /sys/fs/bpf rw - bpf bpf rw,mode=700
"""

SYMBOLS = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000040 t local
ffffffff81000100 T vfs_read
ffffffff81000200 T vfs_readv
ffffffff81000300 t local
ffffffff81000400 D jiffies
ffffffffc0002000 t init\t[second]
ffffffffc0001000 T open_it\t[first]
ffffffffc0001010 T open_it.cold\t[first]
ffffffffc0000000 t bpf_prog_1234\t[bpf]
"""


def test_mounted_whole_file_systems(tmp_path: Path) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(MOUNTINFO.lstrip())
    assert mounts.mounted("tracefs", str(info)) == ["/sys/kernel/tracing", "/mnt/with space"]
    assert mounts.mounted("bpf", str(info)) == ["/sys/fs/bpf"]
    assert mounts.mounted("debugfs", str(info)) == []


@pytest.mark.needs("root")
def test_detached_mount_leaves_nothing() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with mounts.open_detached("tracefs") as root:
        assert "events" in os.listdir(f"/proc/self/fd/{root.fd}")
        assert Path("/proc/self/mountinfo").read_text() == before


def test_mounting_without_privilege_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_opened", {})
    monkeypatch.setattr(mounts, "mounted", lambda kind: [])
    monkeypatch.setattr(privileges, "effective", lambda: 0)
    with stand_in(lambda name, args: -errno.EPERM), pytest.raises(PrivilegeError) as caught:
        mounts.tracefs()
    assert caught.value.message == "mount of tracefs is not permitted"
    assert caught.value.hint == "run as root, or give it CAP_SYS_ADMIN"


@pytest.mark.needs("root")
def test_old_kernels_mount_and_unmount(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    undo: list[object] = []

    def kernel(name: str, args: tuple[int, ...]) -> int:
        calls.append(name)
        return -errno.ENOSYS if name == "fsopen" else 0

    monkeypatch.setattr(mounts, "_opened", {})
    monkeypatch.setattr(mounts, "mounted", lambda kind: [])
    monkeypatch.setattr(atexit, "register", undo.append)
    with stand_in(kernel):
        place = mounts.tracefs()
        assert os.path.isdir(place)
        undo[0]()  # type: ignore[operator]
    assert not os.path.exists(place)
    assert calls == ["fsopen", "mount", "umount2"]


@pytest.mark.needs("root")
def test_tracepoints() -> None:
    assert ("sched", "sched_switch") in tracefs.tracepoints()
    assert "sched" in tracefs.categories()
    assert tracefs.events("sched") == sorted(
        name for group, name in tracefs.tracepoints() if group == "sched"
    )
    assert tracefs.events("no_such_category") == []
    text = tracefs.event_format("sched", "sched_switch")
    assert f"ID: {tracefs.event_id('sched', 'sched_switch')}\n" in text
    assert "field:char prev_comm[16];" in text


@pytest.mark.needs("root")
def test_misspelled_tracepoint_has_candidates() -> None:
    with pytest.raises(SymbolError) as caught:
        tracefs.event_id("sched", "sched_swich")
    assert caught.value.candidates[0] == "sched:sched_switch"


@pytest.mark.needs("kprobe")
def test_traceable_functions() -> None:
    names = {name for name, _ in tracefs.traceable_functions()}
    assert "vfs_read" in names
    assert not any(name.startswith("__ftrace_invalid") for name in names)
    assert "kprobe_dispatcher" in kallsyms.kprobe_blacklist() or kallsyms.kprobe_blacklist()


def test_symbols_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(SYMBOLS)
    assert kallsyms.address_of("vfs_read", str(path)) == 0xFFFFFFFF81000100
    assert kallsyms.address_of("vfs", str(path)) is None
    assert kallsyms.address_of("open_it", str(path)) == 0xFFFFFFFFC0001000
    assert [s.address & 0xFFF for s in kallsyms.find("local", str(path))] == [0x040, 0x300]
    assert kallsyms.Kallsyms(SYMBOLS).find("local") == kallsyms.find("local", str(path))
    assert kallsyms.find("open_it", str(path)) == [(0xFFFFFFFFC0001000, "T", "open_it", "first")]


def test_hidden_addresses_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_bytes(b"0000000000000000 T vfs_read\n")
    with pytest.raises(PrivilegeError, match="hides its symbols"):
        kallsyms.address_of("vfs_read", str(path))
    with pytest.raises(PrivilegeError, match="hides its symbols"):
        kallsyms.find("vfs_read", str(path))


@pytest.mark.parametrize(
    ("address", "name", "offset"),
    [
        (0xFFFFFFFF81000000, "_text", 0),
        (0xFFFFFFFF8100003F, "_text", 0x3F),
        (0xFFFFFFFF81000040, "local", 0),
        (0xFFFFFFFF81000350, "local", 0x50),
        (0xFFFFFFFF81000401, "jiffies", 1),
        (0xFFFFFFFFC0000FFF, "bpf_prog_1234", 0xFFF),
        (0xFFFFFFFFC0001008, "open_it", 8),
        (0xFFFFFFFFC0002000, "init", 0),
    ],
)
def test_symbols_by_address(address: int, name: str, offset: int) -> None:
    found = kallsyms.Kallsyms(SYMBOLS).resolve(address)
    assert found is not None
    assert (found[0].name, found[1]) == (name, offset)


def test_no_symbol_below_the_kernel() -> None:
    assert kallsyms.Kallsyms(SYMBOLS).resolve(0x400000) is None
    assert kallsyms.Kallsyms(b"").resolve(0xFFFFFFFF81000000) is None


@given(st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=60), st.integers(0, 2**64 - 1))
def test_bisection_agrees_with_a_scan(addresses: list[int], address: int) -> None:
    ordered = sorted(addresses)
    text = b"".join(b"%016x t f%d\n" % (value, i) for i, value in enumerate(ordered))
    for wanted in (address, *ordered):
        below = [value for value in ordered if value <= wanted]
        found = kallsyms.Kallsyms(text).resolve(wanted)
        if not below:
            assert found is None
        else:
            assert found is not None
            assert found[0] == (below[-1], "t", f"f{ordered.index(below[-1])}", "")
            assert found[1] == wanted - below[-1]


@pytest.mark.needs("root")
def test_the_kernel_writes_its_own_symbols_in_order() -> None:
    table = kallsyms.Kallsyms()
    starts = [symbol.address for symbol in table.symbols() if not symbol.module]
    assert starts == sorted(starts)
    address = kallsyms.address_of("vfs_read")
    assert address is not None
    found = table.resolve(address + 1)
    assert found is not None
    assert (found[0].name, found[1]) == ("vfs_read", 1)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0\n", (0,)), ("0-3", (0, 1, 2, 3)), ("0-1,4,6-7\n", (0, 1, 4, 6, 7)), ("\n", ())],
)
def test_cpu_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert cpus.parse_list(text) == numbers


def test_cpu_count_is_the_kernels() -> None:
    configured = os.sysconf("SC_NPROCESSORS_CONF")
    assert cpus.possible_count() >= configured
    assert len(cpus.online()) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_wall_clock_offsets() -> None:
    boot = int(
        next(
            line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
        ).split()[1]
    )
    assert abs(clocks.boot_time() - boot) < 2
    there = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + clocks.wall_offset_ns(time.CLOCK_MONOTONIC)
    assert abs(there - time.time_ns()) < 1_000_000_000


@pytest.mark.needs("root")
def test_control_groups() -> None:
    groups = cgroups.walk()
    for root in cgroups.roots()[:1]:
        assert groups[0] == ("/", cgroups.cgroup_id(root))
        assert cgroups.path_of(groups[-1][1]) == groups[-1][0]
    assert cgroups.path_of(0) is None


@pytest.mark.needs("root")
def test_tracing_directory_is_used_by_other_tools_of_the_process() -> None:
    # The directory stands for this process: a child that inherits no descriptor does not see it.
    place = tracefs.tracefs()
    out = subprocess.run(["ls", place], capture_output=True, text=True, check=False)
    assert ("events" in out.stdout) == (not place.startswith("/proc/self/fd/"))
