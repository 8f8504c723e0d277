"""Maps that ask to be pinned by name: taken up where they are pinned, else made and pinned there."""

from __future__ import annotations

import os

from tracebee import uapi
from tracebee.errors import UnsupportedError
from tracebee.kernel.map import Map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.obj.model import MapDef


def reuse_or_pin(root: str, definition: MapDef, create: Callable[[MapDef], Map], pins: list[str]) -> Map:
    """The map pinned at ``root``/name if it is one like this, else a new one pinned there.

    :param pins: grows by the name that was made.
    :raises UnsupportedError: what is pinned there is a map of another shape.
    :raises KernelError: bpffs is not mounted at ``root``, or it cannot be written.
    """
    path = os.path.join(root, definition.pinning or definition.name)
    if os.path.exists(path):
        pinned = Map.pinned(path)
        try:
            check_shape(definition, pinned, f"what is pinned at {path}")
        except BaseException:
            pinned.close()
            raise
        return pinned
    created = create(definition)
    try:
        created.pin(path)
    except BaseException:
        created.close()
        raise
    pins.append(path)
    return created


def check_shape(definition: MapDef, found: Map, where: str) -> None:
    """Refuse a map in the kernel that is not what an object declares; it may have any size if that says none.

    :param where: how errors call it.
    :raises UnsupportedError: says what differs.
    """
    info = found.info()
    ignored = 0
    if definition.type in (uapi.BPF_MAP_TYPE_DEVMAP, uapi.BPF_MAP_TYPE_DEVMAP_HASH):
        ignored = uapi.BPF_F_RDONLY_PROG  # the kernel sets it by itself
    numa = 0 if definition.numa_node is None else uapi.BPF_F_NUMA_NODE
    rows = (
        ("type", info.type, definition.type),
        ("key_size", info.key_size, definition.key_size),
        ("value_size", info.value_size, definition.value_size),
        ("max_entries", info.max_entries, definition.max_entries or info.max_entries),
        ("flags", info.map_flags & ~ignored, (definition.flags | numa) & ~ignored),
        ("map_extra", info.map_extra, definition.extra),
    )
    differs = [f"{field} {is_} instead of {wanted}" for field, is_, wanted in rows if is_ != wanted]
    if differs:
        raise UnsupportedError(
            f"map {definition.name}: {where} has {', '.join(differs)}",
            hint="remove it ('tracebee pin rm PATH') or name another one",
        )
