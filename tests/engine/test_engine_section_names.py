"""Section names mean what they mean to libbpf: what reaches BPF_PROG_LOAD, program by program.

bpftool loads an object with a program in each kind of section. strace answers every bpf(2) call of it in the
kernel's place: so all get as far as that call, whatever this kernel has.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import UnsupportedError
from tracebee.kernel import program as kernel_program
from tracebee.kernel.attr import PROG_LOAD
from tracebee.obj.elf_reader import read_object
from tracebee.obj.sections import SECTIONS, section_kind

# What stands behind the slash, for those that are loaded for a kernel type or function.
TARGETS = {"tp_btf": "sched_switch", "iter": "task", "lsm": "file_open", "lsm_cgroup": "socket_bind"}
# They need more than code: a struct to be a member of, a program to replace a function of.
NOT_ALONE = ("struct_ops", "freplace")
FIELDS = ("prog_type", "expected_attach_type", "attach_btf_id", "prog_flags")

pytestmark = pytest.mark.needs("clang")


def build(folder: Path, names: list[str]) -> str:
    """An object with a program ``pN`` in the Nth section."""
    text = '\t.section license,"aw",@progbits\n\t.asciz "GPL"\n'
    for number, name in enumerate(names):
        text += (
            f'\t.section "{name}","ax",@progbits\n\t.globl p{number}\n\t.type p{number},@function\n'
            f"p{number}:\n\tr0 = 0\n\texit\n\t.size p{number}, .-p{number}\n"
        )
    (folder / "all.s").write_text(text)
    target = folder / "all.bpf.o"
    subprocess.run(["clang", "-target", "bpf", "-c", folder / "all.s", "-o", target], check=True)
    return str(target)


def spelled(pattern: str) -> str:
    """A whole name for a row of libbpf's table: ``fentry.s+`` may have a target, ``xdp`` has none."""
    name = pattern.removesuffix("+")
    row = section_kind(name)
    if row is None or not row.target:
        return name
    return f"{name}/{TARGETS.get(name.removesuffix('.s'), 'vfs_read')}"


def known_to_bpftool(path: str) -> list[str]:
    command = ["bpftool", "prog", "load", path, "/sys/fs/bpf/none", "type", "no_such_type"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r"section\(type\) names are:(.*)", answer)
    assert found is not None
    return [name for name in found[1].split() if not name.startswith(NOT_ALONE)]


@pytest.mark.needs("bpftool", "strace", "btf", "root")
def test_as_libbpf_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [spelled(pattern) for pattern in known_to_bpftool(build(tmp_path, ["socket"]))]
    assert len(names) > 75  # libbpf 1.1 has so many
    path, trace = build(tmp_path, names), tmp_path / "trace"
    options = ["-X", "raw", "-e", "trace=bpf", "-e", "inject=bpf:retval=100", "-o", trace]
    place = f"/sys/fs/bpf/no_such_directory_{os.getpid()}/all"
    subprocess.run(
        ["strace", *options, "bpftool", "prog", "loadall", path, place], capture_output=True, check=False
    )
    theirs = {}
    for line in trace.read_text().splitlines():
        name = re.search(r'prog_name="(p\d+)"', line)
        if name is not None:
            values = {f: int(v, 0) for f, v in re.findall(r"(\w+)=(0x[0-9a-f]+|\d+)", line)}
            # With a kernel that says yes to everything, libbpf uses a token.
            values["prog_flags"] &= ~uapi.BPF_F_TOKEN_FD
            theirs[name[1]] = tuple(values[field] for field in FIELDS)

    ours: dict[str, tuple[int, ...]] = {}

    def loaded(command: int, attr: bytearray) -> int:
        assert command == uapi.BPF_PROG_LOAD
        name = PROG_LOAD.get(attr, "prog_name").partition(b"\0")[0].decode()
        ours[name] = tuple(PROG_LOAD.get(attr, field) for field in FIELDS)
        return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(kernel_program, "try_bpf", loaded)
    with load_object(read_object(path)):
        pass
    assert len(theirs) == len(names)
    for number, name in enumerate(names):
        assert (name, ours[f"p{number}"]) == (name, theirs[f"p{number}"])


# What libbpf 1.5 knows and 1.1 did not; uprobe.session is of 1.6. Source: its program_types.rst, and the
# attach types' names in the kernel's enum bpf_attach_type.
NEWER = [
    ("kprobe.session/vfs_*", "kprobe", "TRACE_KPROBE_SESSION", 0),
    ("uprobe.multi//bin/true:*", "kprobe", "TRACE_UPROBE_MULTI", 0),
    ("uprobe.multi.s//bin/true:*", "kprobe", "TRACE_UPROBE_MULTI", uapi.BPF_F_SLEEPABLE),
    ("uretprobe.multi/x:y", "kprobe", "TRACE_UPROBE_MULTI", 0),
    ("uretprobe.multi.s/x:y", "kprobe", "TRACE_UPROBE_MULTI", uapi.BPF_F_SLEEPABLE),
    ("uprobe.session/x:y", "kprobe", "TRACE_UPROBE_SESSION", 0),
    ("uprobe.session.s/x:y", "kprobe", "TRACE_UPROBE_SESSION", uapi.BPF_F_SLEEPABLE),
    ("usdt.s/x:y:z", "kprobe", "", uapi.BPF_F_SLEEPABLE),
    ("tc/ingress", "sched_cls", "TCX_INGRESS", 0),
    ("tc/egress", "sched_cls", "TCX_EGRESS", 0),
    ("tcx/ingress", "sched_cls", "TCX_INGRESS", 0),
    ("tcx/egress", "sched_cls", "TCX_EGRESS", 0),
    ("netkit/primary", "sched_cls", "NETKIT_PRIMARY", 0),
    ("netkit/peer", "sched_cls", "NETKIT_PEER", 0),
    ("sk_skb/verdict", "sk_skb", "SK_SKB_VERDICT", 0),
    ("cgroup/connect_unix", "cgroup_sock_addr", "CGROUP_UNIX_CONNECT", 0),
    ("cgroup/sendmsg_unix", "cgroup_sock_addr", "CGROUP_UNIX_SENDMSG", 0),
    ("cgroup/recvmsg_unix", "cgroup_sock_addr", "CGROUP_UNIX_RECVMSG", 0),
    ("cgroup/getpeername_unix", "cgroup_sock_addr", "CGROUP_UNIX_GETPEERNAME", 0),
    ("cgroup/getsockname_unix", "cgroup_sock_addr", "CGROUP_UNIX_GETSOCKNAME", 0),
    ("struct_ops/ssthresh", "struct_ops", "", 0),
    ("struct_ops.s/ssthresh", "struct_ops", "", uapi.BPF_F_SLEEPABLE),
    ("netfilter", "netfilter", "NETFILTER", 0),
]


@pytest.mark.parametrize(("name", "kind", "attach", "flags"), NEWER)
def test_newer_names(name: str, kind: str, attach: str, flags: int) -> None:
    row = section_kind(name)
    assert row is not None
    wanted = uapi.ATTACH_TYPES[attach.lower()] if attach else 0
    assert (row.type, row.attach_type, row.flags) == (uapi.PROG_TYPES[kind], wanted, flags)


def test_names_that_are_none() -> None:
    for name in ("kprobes/vfs_read", "xdp/other", "tc/sideways", "cgroup/other", "kprobe.s/x", "socket1", ""):
        assert section_kind(name) is None, name
    assert len({row.pattern for row in SECTIONS}) == len(SECTIONS)


def test_what_is_optional_is_not_loaded(tmp_path: Path) -> None:
    obj = read_object(build(tmp_path, ["?kprobe/vfs_read", "xdp"]))
    assert [(p.section, p.autoload) for p in obj.programs] == [("kprobe/vfs_read", False), ("xdp", True)]


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("section", ["fentry", "tp_btf", "lsm.s", "iter"])
def test_a_program_without_its_target(tmp_path: Path, section: str) -> None:
    with pytest.raises(UnsupportedError, match=f"section '{section}' does not say what 'p0' is for"):
        load_object(read_object(build(tmp_path, [section])))
