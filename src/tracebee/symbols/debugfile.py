"""Where a stripped file's full symbol table may be: separate debug files (gdb manual, "Separate
Debug Files").
"""

from __future__ import annotations

import os
import struct

from tracebee.elf import ElfFile
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/usr/lib/debug"


def find(elf: ElfFile, path: str) -> ElfFile | None:
    """The debug file of an ELF file, found by its build id, else by its ``.gnu_debuglink``.

    :param path: where the file itself was found.
    """
    build_id = elf.build_id
    for candidate in _by_build_id(build_id):
        found = _open(candidate)
        if found is not None:
            return found
    link = _link(elf)
    if link is None:
        return None
    name, checksum = link
    for candidate in _by_link(name, os.path.dirname(path)):
        found = _open(candidate)
        if found is None:
            continue
        if build_id is not None and found.build_id is not None:
            fits = found.build_id == build_id
        else:
            fits = _crc32(found.data[:]) == checksum
        if fits:
            return found
        found.close()
    return None


def _open(path: str) -> ElfFile | None:
    try:
        return ElfFile(path)
    except (OSError, DecodeError):
        return None


def _by_build_id(build_id: str | None) -> Iterator[str]:
    if build_id:
        yield f"{ROOT}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"


def _by_link(name: str, directory: str) -> Iterator[str]:
    yield f"{directory}/{name}"
    yield f"{directory}/.debug/{name}"
    yield f"{ROOT}{directory}/{name}"


def _link(elf: ElfFile) -> tuple[str, int] | None:
    """The file name and the CRC-32 in ``.gnu_debuglink``."""
    section = elf.section(".gnu_debuglink")
    if section is None:
        return None
    data = elf.contents(section)
    name, end, _ = data.partition(b"\0")
    at = -(-(len(name) + 1) // 4) * 4
    if not end or len(data) < at + 4:
        return None
    return name.decode("utf-8", "surrogateescape"), struct.unpack_from(f"{elf.order}I", data, at)[0]


def _crc32(data: bytes) -> int:
    import zlib  # only for files without a build id

    return zlib.crc32(data)
