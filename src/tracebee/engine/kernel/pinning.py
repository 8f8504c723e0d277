"""Maps that ask to be pinned by name: taken up where they are pinned, else made and pinned there."""

from __future__ import annotations

import os

from tracebee.errors import UnsupportedError
from tracebee.kernel.map import Map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.obj.model import MapDef


def reuse_or_pin(root: str, definition: MapDef, create: Callable[[MapDef], Map]) -> Map:
    """The map pinned at ``root``/name if it is one like this, else a new one pinned there.

    :raises UnsupportedError: what is pinned there is a map of another shape.
    :raises KernelError: bpffs is not mounted at ``root``, or it cannot be written.
    """
    path = os.path.join(root, definition.pinning or definition.name)
    if os.path.exists(path):
        pinned = Map.pinned(path)
        differs = [
            f"{field} {getattr(pinned, field)} instead of {getattr(definition, field)}"
            for field in ("type", "key_size", "value_size", "max_entries", "flags")
            if getattr(pinned, field) != getattr(definition, field)
            and not (field == "max_entries" and not definition.max_entries)
        ]
        if differs:
            pinned.close()
            raise UnsupportedError(
                f"map {definition.name}: what is pinned at {path} has {', '.join(differs)}",
                hint=f"remove it (rm {path}), or pin elsewhere",
            )
        return pinned
    created = create(definition)
    try:
        created.pin(path)
    except BaseException:
        created.close()
        raise
    return created
