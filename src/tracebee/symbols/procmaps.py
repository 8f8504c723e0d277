"""A process's memory map, ``/proc/PID/maps`` (proc_pid_maps(5))."""

from __future__ import annotations

from typing import NamedTuple


class Mapping(NamedTuple):
    """One executable mapping. ``path`` is as the kernel gives it, without " (deleted)": a file,
    ``[vdso]`` and the like, or "" for anonymous memory. ``offset`` is the file offset of ``start``.
    """

    start: int
    end: int
    offset: int
    inode: int
    path: str


def parse(text: str) -> list[Mapping]:
    """The executable mappings in a map's text, ascending by address."""
    found = []
    for line in text.splitlines():
        fields = line.split(None, 5)
        if len(fields) >= 5 and "x" in fields[1]:
            start, _, end = fields[0].partition("-")
            path = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else ""
            # The kernel writes a newline in a file's name as \012.
            path = path.replace("\\012", "\n")
            found.append(Mapping(int(start, 16), int(end, 16), int(fields[2], 16), int(fields[4]), path))
    return found


def read(pid: int) -> list[Mapping] | None:
    """The executable mappings of a process; None when it is gone or may not be looked at."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read())
    except OSError:
        return None
