"""Which processes hold programs, maps, links and BTF open, and what fdinfo says of a descriptor.

Source: proc(5), ``/proc/pid/fdinfo``; the kernel's ``bpf_*_show_fdinfo`` functions.
"""

from __future__ import annotations

import os

from tracebee.typed import NamedTuple

# What a descriptor's link reads.
_KINDS = {
    "anon_inode:bpf-prog": "prog",
    "anon_inode:bpf-map": "map",
    # As made, and as found again by id or by pin.
    "anon_inode:bpf_link": "link",
    "anon_inode:bpf-link": "link",
    "anon_inode:btf": "btf",
}


class Holder(NamedTuple):
    """A process with the object open: its id and command name."""

    pid: int
    comm: str


def holders() -> dict[tuple[str, int], list[Holder]]:
    """Processes by (``prog``, ``map``, ``link`` or ``btf``, id), each once, in order of process id.

    Programs and links that are only attached or pinned have no process; the processes of other users
    are seen by root only.
    """
    found: dict[tuple[str, int], list[Holder]] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        held = _held_by(pid)
        if held:
            holder = Holder(pid, _comm(pid))
            for thing in held:
                found.setdefault(thing, []).append(holder)
    return found


def kind_of(fd: int, pid: int | str = "self") -> str | None:
    """What a descriptor is: ``prog``, ``map``, ``link`` or ``btf``; None for anything else."""
    return _kind(f"/proc/{pid}/fd/{fd}")


def fdinfo(fd: int, pid: int | str = "self") -> dict[str, str]:
    """The lines of a descriptor's fdinfo, by name.

    :raises OSError: no such process or descriptor.
    """
    with open(f"/proc/{pid}/fdinfo/{fd}") as file:
        pairs = [line.partition(":") for line in file]
    return {name: value.strip() for name, _, value in pairs}


def _kind(link: str) -> str | None:
    try:
        target = os.readlink(link)
    except OSError:
        return None
    return _KINDS.get(target)


def _held_by(pid: int) -> set[tuple[str, int]]:
    held: set[tuple[str, int]] = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return held
    for name in names:
        kind = _kind(f"/proc/{pid}/fd/{name}")
        if kind is None:
            continue
        try:
            lines = fdinfo(int(name), pid)
        except OSError:
            continue  # closed meanwhile
        number = lines.get(f"{kind}_id")
        if number is not None:
            held.add((kind, int(number)))
    return held


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"
