"""Variables in an arena (``__arena``): their section's bytes, put where the arena begins.

Source: libbpf 1.5 (the section's name, its place in the arena), Linux ``kernel/bpf/arena.c``.
"""

from __future__ import annotations

import mmap

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.kernel.explain import call_error
from tracebee.kernel.syscall import syscall, write_memory
from tracebee.obj.model import ARENA_DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.obj.model import MapDef, Object

_MAP_FIXED_NOREPLACE = 0x100000


def arena_of(obj: Object, section: MapDef) -> MapDef:
    """The one arena of an object that has variables in it.

    :raises UnsupportedError: it has none or several, or too small a one.
    """
    arenas = [m for m in obj.maps if m.type == uapi.BPF_MAP_TYPE_ARENA and m.name != ARENA_DATA]
    if len(arenas) != 1:
        raise UnsupportedError(
            f"{obj.name} has __arena variables and {len(arenas)} arenas to put them into",
            hint='declare one map of type BPF_MAP_TYPE_ARENA in SEC(".maps")',
        )
    room = arenas[0].max_entries * mmap.PAGESIZE
    if len(section.contents or b"") > room:
        raise UnsupportedError(
            f"arena '{arenas[0].name}' has {room} bytes, too few for the {len(section.contents or b'')} "
            "of the __arena variables",
            hint="give it more pages with __uint(max_entries, N)",
        )
    return arenas[0]


def place_variables(loaded: LoadedObject, section: MapDef) -> None:
    """Write the variables' initial values into the arena, which is loaded.

    :raises KernelError: its address (map_extra) is not free in this process.
    """
    definition = arena_of(loaded.object, section)
    contents = section.contents or b""
    memory = loaded.memory.get(definition.name)
    if memory is not None:
        memory[: len(contents)] = contents
        loaded.memory[section.name] = memory
    elif definition.name in loaded.maps:
        _write_at_its_address(loaded.maps[definition.name], definition, contents)


def _write_at_its_address(arena: Map, definition: MapDef, contents: bytes) -> None:
    """An arena that chose its own address can be mapped only there; it is, for as long as this takes."""
    size = definition.max_entries * mmap.PAGESIZE
    prot, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED_NOREPLACE
    at = syscall("mmap", definition.extra, size, prot, flags, arena.fd, 0)
    if -4096 < at < 0:
        raise call_error("mmap", -at, f"arena '{definition.name}' at {definition.extra:#x}")
    try:
        write_memory(at, contents)
    finally:
        syscall("munmap", at, size)
