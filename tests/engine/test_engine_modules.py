"""Objects that use what only a module has: its types, a variable and functions, with libbpf as the oracle.

The modules are those of the guest's kernel package; they are loaded here and removed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import UnsupportedError

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))
from kernel import CACHE

pytestmark = [pytest.mark.needs("guest", "clang", "bpftool", "module_btf")]

TUNSETIFF, TUNSETOWNER, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x400454CC, 1, 0x1000
ENOENT, EPROTO = 2, 71
TCP, SCTP = 6, 132


def module_file(path: str) -> str:
    release = os.uname().release
    (found,) = (CACHE / f"linux-image-{release}/lib/modules/{release}/kernel").glob(f"{path}.ko*")
    return str(found)


@pytest.fixture
def insert() -> Iterator[Callable[[str], None]]:
    """Loads modules; those that were not there are gone afterwards."""
    loaded = []

    def load(path: str) -> None:
        name = Path(path).name
        if not os.path.exists(f"/sys/module/{name}"):
            subprocess.run(["insmod", module_file(path)], check=True)
            loaded.append(name)

    yield load
    for name in reversed(loaded):
        subprocess.run(["rmmod", name], check=True)


def by_bpftool(path: str, folder: Path) -> str:
    """What libbpf says of an object; empty when it loads."""
    mount = folder / "bpffs"
    mount.mkdir()
    steps = f"mount -t bpf bpf {mount} && bpftool prog load {path} {mount}/p"
    done = subprocess.run(["unshare", "-m", "sh", "-c", steps], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def look(path: str, fd: int) -> dict[str, object]:
    with tracebee.Object(path) as obj:
        obj.variables["only"] = os.getpid()
        obj.load()
        with obj.attach("look"), contextlib.suppress(OSError):  # ESPIPE: a tunnel has no position
            os.lseek(fd, 0, os.SEEK_CUR)
        return dict(obj.variables)


def test_fields_of_a_modules_types(
    compiled: Callable[[str], str], insert: Callable[[str], None], tmp_path: Path
) -> None:
    path = compiled("module_types")
    assert not os.path.exists("/sys/module/tun")
    with open(path, "rb") as any_file:
        assert look(path, any_file.fileno())["has_tun"] == 0
    insert("drivers/net/tun")
    assert by_bpftool(path, tmp_path) == ""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"looked-at", IFF_TUN | IFF_NO_PI))
        fcntl.ioctl(fd, TUNSETOWNER, 1234)
        found = look(path, fd)
    finally:
        os.close(fd)
    assert found["has_tun"] == 2
    assert (found["owner"], found["queues"], found["own_queue"], found["is_tun"]) == (1234, 1, 1, 1)
    assert found["name"] == "looked-at"
    assert found["flags"] == found["flags"] | IFF_TUN | IFF_NO_PI


@pytest.mark.needs("fentry")
def test_a_modules_function_is_attached_to(
    compiled: Callable[[str], str], insert: Callable[[str], None]
) -> None:
    insert("drivers/net/tun")
    with tracebee.Object(compiled("module_types")) as obj:
        obj.variables["only"] = os.getpid()
        obj.programs["uninit"].autoload = True
        obj.load()
        fd = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"", IFF_TUN))
            with obj.attach("look"), pytest.raises(OSError, match="seek"):
                os.lseek(fd, 0, os.SEEK_CUR)
            with obj.attach("uninit"):
                os.close(fd)
                fd = -1
            assert obj.variables["calls"] == 1
        finally:
            if fd >= 0:
                os.close(fd)


def test_functions_of_a_module_are_called(
    compiled: Callable[[str], str], insert: Callable[[str], None], tmp_path: Path
) -> None:
    path = compiled("module_functions")
    assert not os.path.exists("/sys/module/nf_conntrack")
    with tracebee.Object(path) as obj, pytest.raises(UnsupportedError, match="no function 'bpf_ct_release'"):
        obj.load()
    for module in ("ipv4/netfilter/nf_defrag_ipv4", "ipv6/netfilter/nf_defrag_ipv6"):
        insert(f"net/{module}")
    insert("lib/libcrc32c")
    insert("net/netfilter/nf_conntrack")
    assert by_bpftool(path, tmp_path) == ""
    with tracebee.Object(path) as obj:
        obj.load()
        for protocol, error in ((TCP, ENOENT), (SCTP, EPROTO)):
            ctx = bytes(8) + struct.pack("=I", protocol) + bytes(180)  # struct __sk_buff: mark
            assert obj.programs["lookup"].test_run(data=bytes(64), ctx=ctx).retval == 7
            assert (obj.variables["found"], obj.variables["error"]) == (0, -error)
