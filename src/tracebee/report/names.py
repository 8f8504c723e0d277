"""Kernel numbers to the names people use: users, addresses, errors, control groups, times."""

from __future__ import annotations

import os
import sys
import time

_AF_INET6 = 10


def user(uid: int) -> str:
    """A user's name, or the number where none is known."""
    import pwd  # only scripts that use ``username`` need it

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def inet(data: bytes) -> str:
    """An IPv4 or IPv6 address (``lang.types``: u32 family, 16 bytes)."""
    from _socket import inet_ntop  # the socket module costs 5 ms

    family = int.from_bytes(data[:4], sys.byteorder)
    return inet_ntop(family, data[4:20] if family == _AF_INET6 else data[4:8])


def mac(data: bytes) -> str:
    """A link address as bpftrace prints it: ``0A:1B:2C:3D:4E:5F``."""
    return ":".join([f"{byte:02X}" for byte in data])


def error(number: int) -> str:
    """The message of an errno, as strerror(3) has it."""
    return os.strerror(number)


def control_group(number: int, pattern: str = "") -> str:
    """A control group's path behind its hierarchy's name: ``unified:/user.slice``.

    :param number: the group's id, the inode number of its directory.
    :param pattern: glob for hierarchies' names, "" for all.
    """
    import fnmatch  # only scripts that use ``cgroup_path`` need it

    found = []
    for name, root in _hierarchies():
        if pattern and not fnmatch.fnmatchcase(name, pattern):
            continue
        for directory, _, _ in os.walk(root):
            try:
                if os.stat(directory).st_ino == number:
                    found.append(f"{name}:{directory[len(root) :] or '/'}")
                    break
            except OSError:
                continue
    return ",".join(found)


def _hierarchies() -> list[tuple[str, str]]:
    hierarchies = []
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            _, root, kind, options, *_ = line.split()
            if kind == "cgroup2":
                hierarchies.append(("unified", root))
            elif kind == "cgroup":
                names = [o.removeprefix("name=") for o in options.split(",") if o not in ("rw", "xattr")]
                hierarchies.append((names[-1] if names else root, root))
    return hierarchies


# The clocks of ``nsecs``. The kernel's TAI clock differs from the wall by the leap seconds only.
_CLOCKS = {
    "": time.CLOCK_BOOTTIME,
    "boot": time.CLOCK_BOOTTIME,
    "monotonic": time.CLOCK_MONOTONIC,
    "tai": time.CLOCK_TAI,
    "sw_tai": time.CLOCK_BOOTTIME,
}


class Clock:
    """Turns a kernel clock's nanoseconds into local time."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}

    def wall(self, nsecs: int, clock: str = "") -> int:
        """Nanoseconds since 1970 of a moment on one of the clocks ``nsecs`` knows."""
        offset = self._offsets.get(clock)
        if offset is None:
            offset = time.time_ns() - time.clock_gettime_ns(_CLOCKS[clock])
            self._offsets[clock] = offset
        return nsecs + offset


def strftime(form: str, wall: int) -> str:
    """Format local time as the C library does, with ``%f`` for the microseconds.

    :param wall: nanoseconds since 1970.
    """
    seconds, rest = divmod(wall, 1_000_000_000)
    # "%%" must not hide the letter after it: "%%f" is a percent sign and an f.
    parts = form.split("%%")
    form = "%%".join([part.replace("%f", f"{rest // 1000:06}") for part in parts])
    return time.strftime(form, time.localtime(seconds))
