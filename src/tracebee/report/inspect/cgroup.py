"""Programs attached to control groups: what ``cgroup show`` and ``cgroup tree`` print."""

from __future__ import annotations

import os

from tracebee import uapi
from tracebee.errors import KernelError, SymbolError, TracebeeError
from tracebee.kernel import choose
from tracebee.kernel.attached import attached
from tracebee.kernel.cgroups import open_group
from tracebee.kernel.program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Record = dict[str, Any]

_EINVAL = 22
_KINDS = "inet_ingress inet_egress inet_sock_create inet_sock_release inet4_bind inet6_bind inet4_post_bind"
_KINDS += " inet6_post_bind inet4_connect inet6_connect unix_connect inet4_getpeername inet6_getpeername"
_KINDS += " unix_getpeername inet4_getsockname inet6_getsockname unix_getsockname udp4_sendmsg udp6_sendmsg"
_KINDS += " unix_sendmsg udp4_recvmsg udp6_recvmsg unix_recvmsg sock_ops device sysctl getsockopt setsockopt"
# The attach types of control groups, in the order in which they are shown.
CGROUP_TYPES = {name: uapi.ATTACH_TYPES[name] for name in (f"cgroup_{kind}" for kind in _KINDS.split())}
CGROUP_TYPES["lsm_cgroup"] = uapi.BPF_LSM_CGROUP
_FLAGS = {0: "", uapi.BPF_F_ALLOW_OVERRIDE: "override", uapi.BPF_F_ALLOW_MULTI: "multi"}


def cgroup_records(path: str, *, effective: bool = False) -> list[Record]:
    """The programs of a control group, with bpftool's JSON keys.

    :param effective: those that run for it, which come from the groups above it as well.
    :raises SymbolError: there is no such directory; KernelError: it is no control group.
    """
    records: list[Record] = []
    with open_group(path) as group:
        for name, number in CGROUP_TYPES.items():
            try:
                found = attached(group.fd, number, effective=effective, what=f"'{path}'")
            except KernelError as error:
                if error.errno != _EINVAL:  # this kernel does not know the type, or cannot tell
                    raise
                continue
            for each in found:
                record = _record(name, each.prog_id, None if effective else each.flags)
                if record is not None:
                    records.append(record)
    return records


def cgroup_tree(root: str, *, effective: bool = False) -> Iterator[Record]:
    """The control groups below a directory that have programs, each with them.

    :raises SymbolError: there is no such directory; KernelError: it is no control group.
    """
    open_group(root).close()
    for place, names, _ in os.walk(root):
        names.sort()
        try:
            programs = cgroup_records(place, effective=effective)
        except SymbolError:
            continue  # removed meanwhile
        if programs:
            yield {"cgroup": place, "programs": programs}


def cgroup_head(*, effective: bool) -> str:
    """The titles of the table's columns."""
    return f"{'ID':<8} {'AttachType':<15}" + ("" if effective else f" {'AttachFlags':<15}") + " Name"


def cgroup_text(records: list[Record], indent: str = "") -> str:
    """The records as lines of the table."""
    lines = []
    for record in records:
        flags = f" {record['attach_flags']:<15}" if "attach_flags" in record else ""
        line = f"{indent}{record['id']:<8} {record['attach_type']:<15}{flags} {record['name']:<15}"
        lines.append(f"{line} {record['attach_btf_name']}".rstrip())
    return "\n".join(lines)


def _record(attach_type: str, number: int, flags: int | None) -> Record | None:
    """A program's record; None when it is gone meanwhile."""
    try:
        with Program.by_id(number) as program:
            info, name = program.info(), choose.name_of(program)
    except TracebeeError:
        return None
    shown = {} if flags is None else {"attach_flags": _FLAGS.get(flags, f"unknown({flags:x})")}
    return {
        "id": info.id,
        "attach_type": attach_type,
        **shown,
        "name": name,
        "attach_btf_name": _hook(info.attach_btf_id) if info.attach_btf_obj_id else "",
        "attach_btf_obj_id": info.attach_btf_obj_id,
        "attach_btf_id": info.attach_btf_id,
    }


def _hook(type_id: int) -> str:
    """The kernel function that a program of a security module is attached to."""
    from tracebee.btf.opening import open_vmlinux

    return open_vmlinux().type(type_id).name
