"""A process's memory map, ``/proc/PID/maps`` (proc_pid_maps(5))."""

from __future__ import annotations

import os

from tracebee.typed import NamedTuple


class Mapping(NamedTuple):
    """One mapping. ``path`` is as the kernel gives it, without " (deleted)": a file, ``[vdso]`` and the
    like, or "" for anonymous memory. ``offset`` is the file offset of ``start``; ``device`` and ``inode``
    are 0 without a file; ``rights`` are four letters, ``r-xp``.
    """

    start: int
    end: int
    offset: int
    inode: int
    path: str
    device: int = 0
    rights: str = "r-xp"

    @property
    def executable(self) -> bool:
        """Whether code in it can run."""
        return self.rights[2] == "x"

    @property
    def writable(self) -> bool:
        """Whether the process can write to it."""
        return self.rights[1] == "w"

    @property
    def file(self) -> tuple[int, int]:
        """(device, inode) as stat(2) gives them."""
        return self.device, self.inode

    def holds(self, offset: int) -> bool:
        """Whether a byte of the file lies in it."""
        return self.offset <= offset < self.offset + self.end - self.start


def parse(text: str) -> list[Mapping]:
    """The mappings in a map's text, ascending by address."""
    found = []
    for line in text.splitlines():
        fields = line.split(None, 5)
        start, _, end = fields[0].partition("-")
        inode = int(fields[4])
        major, _, minor = fields[3].partition(":")
        device = os.makedev(int(major, 16), int(minor, 16)) if inode else 0
        path = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else ""
        # The kernel writes a newline in a file's name as \012.
        path = path.replace("\\012", "\n")
        found.append(
            Mapping(int(start, 16), int(end, 16), int(fields[2], 16), inode, path, device, fields[1])
        )
    return found


def read(pid: int) -> list[Mapping] | None:
    """The mappings of a process; None when it is gone or may not be looked at."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read())
    except OSError:
        return None
