"""A script's maps in shared memory, as reporters and the library read them."""

from __future__ import annotations

from tracebee.engine.maps import TableReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.vm.maps.base import UserMap


class UserMapReader(TableReader):
    """One map; see ``engine.api.MapReader``."""

    __slots__ = ("map",)

    def __init__(self, user_map: UserMap) -> None:
        super().__init__(user_map)
        self.map = user_map

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value."""
        at = self.map.elements + offset
        self.map.memory.view[at : at + len(data)] = data
