"""One object, several kernels: what a program compiled with one kernel's types reads on another.

Each object is of the same source, compiled with types that are nobody's (obj/programs/kernels.h), with this
kernel's, and with those of kernels in Debian's packages. What it reads of a process is compared with
what user space knows; what libbpf makes of it, with what is made of it here.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tracebee
from tracebee.btf import Btf
from tracebee.btf.cdump import format_c
from tracebee.engine.kernel.loader import load_object
from tracebee.obj.elf_reader import read_object

sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))
from kernel import vmlinux_btf

HERE = Path(__file__).parent
SOURCE = HERE.parent / "obj" / "programs" / "kernels.bpf.c"
# Where the guest finds what was built outside of it.
CROSS = HERE.parents[1] / ".cache" / "cross"
TYPES = ["nobody", "this", "6.1", "6.12"]
OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"]


def build(types: str, folder: Path) -> Path:
    """The object compiled with the types of a kernel, ``this`` one's, or of none."""
    target = folder / f"kernels-{types}.bpf.o"
    header = folder / f"kernels-{types}.h"
    options = []
    if types != "nobody":
        btf = Btf.vmlinux() if types == "this" else Btf.from_bytes(vmlinux_btf(types), name=types)
        header.write_text(format_c(btf))
        options = [f'-DKERNEL_TYPES="{header}"']
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", include, *options, "-c", SOURCE, "-o", target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("kernels")
    made: dict[str, Path] = {}

    def get(types: str) -> Path:
        if types not in made:
            made[types] = build(types, folder)
        return made[types]

    return get


class Child:
    """The process that is looked at, and what is known of it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "cross_kernel_child.py"), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts: dict[str, Any] = json.loads(self._line())
        self.pid: int = self.process.pid

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def call(self) -> None:
        """Have it make its system calls; returns when they are made."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self._line() == "done\n"

    def read(self, name: str) -> bytes:
        """A file of its thread in /proc."""
        return Path(f"/proc/{self.pid}/task/{self.facts['own']['pid']}/{name}").read_bytes()

    def stat(self, field: int) -> str:
        """A field of its thread's /proc/PID/stat, by the number that proc(5) gives it."""
        return self.read("stat").decode().rpartition(")")[2].split()[field - 3]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.close()


def gather(path: Path, child: Child) -> dict[str, dict[str, Any]]:
    """What the object's programs read while the process makes its calls."""
    with tracebee.Object(path) as obj:
        obj.variables["only"] = child.pid
        obj.load()
        with obj.attach():
            child.call()
        return {name: obj.variables[name] for name in ("has", "task", "file", "sock", "cgroup")}


def check_values(path: Path, child: Child) -> None:
    """Every value read is the one that user space knows."""
    found = gather(path, child)
    task, facts = found["task"], task_facts(child)
    assert task | facts == task
    assert task["start"] * os.sysconf("SC_CLK_TCK") // 10**9 == int(child.stat(22))
    maps = child.read("maps").decode().splitlines()
    assert task["maps"] == sum("[vsyscall]" not in line for line in maps)
    own_cgroup = child.facts["cgroup"]["own"]
    assert task["cgroup"] == own_cgroup
    assert found["cgroup"] | {"own": own_cgroup} == child.facts["cgroup"]
    assert found["file"] == child.facts["file"] | {"state": found["file"]["state"]}
    assert found["sock"] == child.facts["socket"] | loopback_facts()
    facts = kernel_facts()
    assert found["has"] | facts == found["has"]
    # Older compilers cannot ask whether types match.
    assert found["has"]["contexts_match"] == (found["has"]["clang"] >= 16 and facts["contexts"])
    assert found["has"]["no_such_flag"] == found["has"]["real_start_time"] == 0
    # The list of threads is never empty: its head at least points to itself.
    assert bool(task["thread"]) == facts["thread_group"]


def task_facts(child: Child) -> dict[str, Any]:
    """What /proc says of the process, and it of itself."""
    status = dict(line.split(":\t", 1) for line in child.read("status").decode().splitlines())
    uids = [int(word) for word in status["Uid"].split()]
    facts = {
        "comm": Path(f"/proc/{child.pid}/comm").read_text().strip(),
        "thread_comm": status["Name"],
        "release": os.uname().release,
        "pids_name": "pids",
        "pid": child.facts["own"]["pid"],
        "tgid": child.pid,
        "leader": child.pid,
        "parent": os.getpid(),
        "level": len(status["NSpid"].split()) - 1,
        "nr": child.facts["own"]["pid"],
        "threads": int(status["Threads"]),
        "prio": 120 + int(child.stat(19)),
        "reset_on_fork": 1,
        "reset_probed": 1,
        "subreaper": 1,
        "uid": uids[0],
        "euid": uids[1],
        "files": 231,
        "auxv": list(struct.unpack_from("=6Q", child.read("auxv"))),
        "arg_start": int(child.stat(48)),
        "env_end": int(child.stat(51)),
        "exe": child.facts["own"]["exe"],
        "dumpable": child.facts["own"]["dumpable"],
        "runs": 3,
    }
    assert (facts["threads"], facts["prio"], uids[:2], facts["level"]) == (2, 123, [1234, 0], 0)
    assert facts["pid"] != facts["leader"]
    return facts


def loopback_facts() -> dict[str, Any]:
    """What sysfs says of the device ``lo``."""
    lo = Path("/sys/class/net/lo")
    return {
        "device": "lo",
        "ifindex": int((lo / "ifindex").read_text()),
        "mtu": int((lo / "mtu").read_text()),
        "operstate": OPERSTATES.index((lo / "operstate").read_text().strip()),
        "runs": 1,
    }


def kernel_facts() -> dict[str, int]:
    """What is known of the running kernel from its release and from its own types."""
    release = tuple(int(n) for n in os.uname().release.split(".")[:2])
    kernel = Btf.vmlinux()
    auxv = kernel.member_path(kernel.find("struct mm_struct"), "saved_auxv")
    return {
        "state": release < (5, 14),
        "__state": release >= (5, 14),
        "contexts": release < (6, 2),
        "mm_rss_stat": release < (6, 2),
        "freebind": release < (6, 6),
        "inet_flags": release >= (6, 6),
        "thread_group": release < (6, 7),
        "mtime_timespec": release < (6, 7),
        "mtime_underscored": (6, 7) <= release < (6, 11),
        "mtime_seconds": release >= (6, 11),
        "operstate_size": 4 if release >= (6, 9) else 1,
        "parent": release < (6, 15),
        "__parent": release >= (6, 15),
        "flags_word": release < (6, 18),
        "flags_bitmap": release >= (6, 18),
        "state_number": release < (6, 18),
        "state_enum": release >= (6, 18),
        "userlocks": 1,
        "task_struct": 1,
        "pids_cgrp_id": 1,
        "ttl_signed": 1,
        "mtu_signed": 0,
        "task_size": kernel.struct("struct task_struct").size,
        "auxv_size": kernel.size(auxv.type_id),
        "writeback": kernel.enumerator("PG_writeback")[0],
    }


def by_bpftool(path: Path, folder: Path) -> dict[str, tuple[str, int]]:
    """Each program as libbpf has it loaded: its tag, a hash of all its instructions, and its size then."""
    names = [program.name for program in read_object(str(path)).programs]
    shown = "; ".join(f"bpftool -j prog show pinned {folder}/p/{name}" for name in names)
    # A mount namespace of its own: nothing pinned or mounted outlives the command.
    steps = f"mount -t bpf bpf {folder} && bpftool prog loadall {path} {folder}/p && {{ {shown}; }}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", steps], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (row["tag"], row["bytes_xlated"]) for name, row in zip(names, rows, strict=True)}


def by_tracebee(path: Path) -> dict[str, tuple[str, int]]:
    """The same of what is loaded here."""
    with load_object(read_object(str(path))) as loaded:
        infos = {name: program.info() for name, program in loaded.programs.items()}
        return {name: (info.tag, info.xlated_prog_len) for name, info in infos.items()}


def check_instructions(path: Path, folder: Path) -> None:
    assert len(by_tracebee(path)) == 6
    assert by_tracebee(path) == by_bpftool(path, folder)


@pytest.mark.needs("bpf", "clang", "no_kprobe")
@pytest.mark.parametrize("types", TYPES)
def test_built_with_other_kernels_types(objects: Callable[[str], Path], types: str, child: Child) -> None:
    check_values(objects(types), child)


@pytest.mark.needs("bpf", "clang", "no_kprobe")
@pytest.mark.parametrize("types", TYPES)
def test_build_for_the_guest(types: str) -> None:
    """Leaves an object for the test below, which runs on the guest's kernel."""
    CROSS.mkdir(parents=True, exist_ok=True)
    build(types, CROSS)


@pytest.mark.needs("bpf", "clang", "bpftool", "no_kprobe")
@pytest.mark.parametrize("types", TYPES)
def test_instructions_are_libbpfs(objects: Callable[[str], Path], types: str, tmp_path: Path) -> None:
    check_instructions(objects(types), tmp_path)


@pytest.mark.needs("guest", "bpftool")
@pytest.mark.parametrize("types", TYPES)
def test_instructions_are_libbpfs_in_the_guest(types: str, tmp_path: Path) -> None:
    check_instructions(CROSS / f"kernels-{types}.bpf.o", tmp_path)


@pytest.mark.needs("guest")
@pytest.mark.parametrize("types", TYPES)
def test_run_in_the_guest_what_was_built_outside(types: str, child: Child) -> None:
    check_values(CROSS / f"kernels-{types}.bpf.o", child)
