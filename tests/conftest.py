"""What tests may ask of a machine, and the record of which ran where.

A test states its needs with ``@pytest.mark.needs("bpf", "gcc")``. It runs in the first environment that
meets them: this machine, or the guest kernel, for which the runner (tests/run.py) collects what
was left. Each need is probed for, never assumed from a version.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# A slow machine is no failure: no test has a deadline of its own.
hypothesis.settings.register_profile("tracebee", deadline=None)
hypothesis.settings.load_profile("tracebee")

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def _root() -> bool:
    return os.geteuid() == 0


@functools.cache
def _bpf() -> bool:
    """bpf(2) answers: BPF_PROG_GET_NEXT_ID works, or says there is no program."""
    if not _root():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    attr = ctypes.create_string_buffer(128)
    return bool(libc.syscall(number, 11, attr, 12) == 0 or ctypes.get_errno() == 2)


def _kernel_function(name: str) -> bool:
    with open("/proc/kallsyms") as symbols:
        return any(line.split()[2] == name for line in symbols)


def _fentry() -> bool:
    """Whether the kernel has the trampolines fentry needs (function tracing compiled in and allowed)."""
    return _kprobe() and _kernel_function("register_ftrace_direct")


def _has_bpf_lsm() -> bool:
    """Whether BPF is among the security modules that the kernel asks."""
    from tracebee.kernel.mounts import open_detached

    try:
        with open_detached("securityfs") as root:
            return "bpf" in Path(f"/proc/self/fd/{root.fd}/lsm").read_text().split(",")
    except OSError:
        return False


def _kprobe() -> bool:
    return _bpf() and os.path.exists("/sys/bus/event_source/devices/kprobe/type")


def _btf_kinds() -> bool:
    """Whether the kernel takes all kinds of types there are, to be seen refusing some."""
    from tracebee.engine.kernel.object_types import lacking_features

    return _bpf() and not lacking_features()


def _tool(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(n, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for n in names)


NEEDS: dict[str, Callable[[], bool]] = {
    "root": _root,
    "bpf": _bpf,
    "kprobe": _kprobe,
    "kprobe_multi": lambda: _kprobe() and _kernel_function("bpf_kprobe_multi_link_attach"),
    "fentry": _fentry,
    "uprobe_multi": lambda: _bpf() and _kernel_function("bpf_uprobe_multi_link_attach"),
    "lsm": lambda: _fentry() and _kernel_function("bpf_lsm_file_open") and _has_bpf_lsm(),
    "uprobe_session": lambda: (
        _bpf() and b"\0BPF_TRACE_UPROBE_SESSION\0" in Path("/sys/kernel/btf/vmlinux").read_bytes()
    ),
    "module_btf": lambda: _bpf() and len(os.listdir("/sys/kernel/btf")) > 1,
    "tcp_struct_ops": lambda: _bpf() and _kernel_function("bpf_tcp_ca_reg"),
    "arena": lambda: _bpf() and _kernel_function("bpf_arena_alloc_pages"),
    "btf_kinds": _btf_kinds,
    "btf": lambda: os.path.exists("/sys/kernel/btf/vmlinux"),
    "kconfig": lambda: any(map(os.path.exists, ("/proc/config.gz", f"/boot/config-{os.uname().release}"))),
    "hardware": lambda: _bpf() and os.path.exists("/sys/bus/event_source/devices/cpu/events"),
    "no_hardware": lambda: _bpf() and not os.path.exists("/sys/bus/event_source/devices/cpu/events"),
    "no_kprobe": lambda: _bpf() and not _kprobe(),
    "unprivileged": _root,  # the test drops to nobody itself: that takes root to begin with
    "x86_64": lambda: os.uname().machine == "x86_64",
    "bmi2": lambda: "bmi2" in Path("/proc/cpuinfo").read_text().split(),
    "guest": lambda: "TRACEBEE_GUEST" in os.environ,
    "bpftrace": _tool("bpftrace"),
    "bpftool": _tool("bpftool"),
    "clang": _tool("clang"),
    "gcc": _tool("gcc"),
    "libbpf": lambda: _tool("gcc")() and os.path.exists("/usr/include/bpf/libbpf.h"),
    "gdb": _tool("gdb"),
    "strace": _tool("strace"),
    "ltrace": _tool("ltrace"),
    "tcpdump": _tool("tcpdump"),
    "iproute2": _tool("ip", "tc"),
    "apt": _tool("apt-get", "dpkg-deb"),
    "sdt": lambda: any(
        os.path.exists(f"/usr/include/{d}sys/sdt.h") for d in ("", f"{os.uname().machine}-linux-gnu/")
    ),
    "qemu": _tool("qemu-system-x86_64"),
    "qemu_aarch64": _tool("qemu-aarch64", "aarch64-linux-gnu-gcc"),
}
_met: dict[str, bool] = {}


def met(need: str) -> bool:
    """Whether this machine has the thing named; probed once."""
    if need not in _met:
        _met[need] = NEEDS[need]()
    return _met[need]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", help="write the outcome of every test to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(*names): what the test needs of the machine (see conftest.NEEDS)"
    )
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    path = config.getoption("--record")
    if path:
        config.pluginmanager.register(Recorder(Path(path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("needs"):
            unknown = [n for n in marker.args if n not in NEEDS]
            if unknown:
                raise pytest.UsageError(
                    f"{item.nodeid} needs {unknown[0]!r}, which tests/conftest.py does not know"
                )


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = [n for marker in item.iter_markers("needs") for n in marker.args if not met(n)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


class Recorder:
    """Writes {node id: outcome} when the run ends; a skip inside a test body counts as skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.outcomes))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Path of the object clang makes of ``tests/obj/programs/NAME.bpf.c``; each is compiled once."""
    folder = tmp_path_factory.mktemp("objects")
    sources = Path(__file__).parent / "obj" / "programs"

    @functools.cache
    def build(name: str) -> str:
        target = folder / f"{name}.bpf.o"
        machine = os.uname().machine
        include = f"-I/usr/include/{machine}-linux-gnu"
        registers = "-D__TARGET_ARCH_" + {"x86_64": "x86", "aarch64": "arm64"}[machine]
        source = str(sources / f"{name}.bpf.c")
        options = ["-O2", "-g", "-target", "bpf", include, registers]
        command = ["clang", *options, "-c", source, "-o", str(target)]
        subprocess.run(command, check=True)
        return str(target)

    return build


@pytest.fixture
def bpffs() -> Iterator[str]:
    """A BPF file system of its own, mounted nowhere."""
    from tracebee.kernel.mounts import open_detached

    with open_detached("bpf") as root:
        yield f"/proc/self/fd/{root.fd}"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own, with one below it."""
    from tracebee.kernel.mounts import open_detached

    with open_detached("cgroup2") as root:
        path = Path(f"/proc/{os.getpid()}/fd/{root.fd}/tracebee_test_{os.getpid()}")
        below = path / "below"
        below.mkdir(parents=True)
        yield path
        below.rmdir()
        path.rmdir()


@pytest.fixture
def network() -> Iterator[None]:
    """A network namespace for this thread alone, its loopback up."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home:
        assert libc.unshare(_CLONE_NEWNET) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
        yield
        assert libc.setns(home.fileno(), _CLONE_NEWNET) == 0


@pytest.fixture(autouse=True)
def _no_leaked_descriptors() -> Iterator[None]:
    """A test leaves no more BPF or perf file descriptors open than it found."""
    before = _kernel_descriptors()
    yield
    left = _kernel_descriptors() - before
    assert not left, f"left open: {sorted(left)}"


def _kernel_descriptors() -> set[tuple[str, str]]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(
            ("anon_inode:bpf", "anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:btf")
        ):
            found.add((fd, target))
    return found
