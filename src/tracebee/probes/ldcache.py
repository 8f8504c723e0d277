"""Shared libraries by name: the dynamic linker's cache, /etc/ld.so.cache, and where it has none, its paths.

The format is glibc's ``glibc-ld.so.cache1.1`` (sysdeps/generic/dl-cache.h), alone or after the older
``ld.so-1.7.0`` table.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OLD_MAGIC = b"ld.so-1.7.0\0"
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("=20sII")
_HEADER_SIZE = 48
_ENTRY = struct.Struct("=iIIIQ")
_OLD_ENTRY_SIZE = 12
# Flags of entries this machine's programs load: FLAG_ELF_LIBC6 (3) with the architecture's bits.
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


def entries(data: bytes) -> Iterator[tuple[int, str, str]]:
    """(flags, soname, path) of each entry of a cache file's bytes; nothing for what is no cache."""
    base = 0
    if data.startswith(_OLD_MAGIC) and len(data) >= 16:
        (count,) = struct.unpack_from("=I", data, 12)
        base = (16 + count * _OLD_ENTRY_SIZE + 7) & ~7
    if data[base : base + len(_MAGIC)] != _MAGIC or len(data) < base + _HEADER_SIZE:
        return
    _, count, _ = _HEADER.unpack_from(data, base)
    count = min(count, (len(data) - base - _HEADER_SIZE) // _ENTRY.size)
    end = base + _HEADER_SIZE + count * _ENTRY.size
    for flags, key, value, _version, _hwcap in _ENTRY.iter_unpack(data[base + _HEADER_SIZE : end]):
        yield flags, _string(data, base + key), _string(data, base + value)


def _string(data: bytes, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode("utf-8", "surrogateescape")


def find_library(name: str, root: str = "", machine: str | None = None) -> str | None:
    """Path of a library, without the ``root`` prefix, or None.

    :param name: as scripts and people say it: ``libc``, ``c``, ``libc.so.6``.
    :param root: prefix of the file system to look in (``/proc/PID/root``).
    """
    wanted = _FLAGS.get(machine or os.uname().machine)
    try:
        with open(f"{root}/etc/ld.so.cache", "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    for test in _tests(name):
        for flags, soname, path in entries(data):
            if (wanted is None or flags == wanted) and test(soname):
                return path
    return _search(name, root)


def _tests(name: str) -> list[_Test]:
    # In order of preference, so that "libc" is never "libc-2.31.so" when there is a "libc.so.6".
    names = [name] if name.startswith("lib") else [f"lib{name}", name]
    return [_Test(n) for n in names]


class _Test:
    """Whether a soname is a library's: the very name, or the name with ``.so`` and a version after it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, soname: str) -> bool:
        return soname == self.name or soname.startswith(f"{self.name}.so")


def _search(name: str, root: str) -> str | None:
    triplet = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}.get(os.uname().machine, "")
    places = [*(f"{d}/{triplet}" for d in _DIRECTORIES[:2] if triplet), *_DIRECTORIES]
    for test in _tests(name):
        for place in places:
            try:
                found = sorted(n for n in os.listdir(root + place) if test(n))
            except OSError:
                continue
            if found:
                return f"{place}/{found[0]}"
    return None
