"""A script's kernel maps as reporters and the library read them."""

from __future__ import annotations

from tracebee.engine.maps import TableReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.map import Map


class KernelMap(TableReader):
    """One map; see ``engine.api.MapReader``."""

    __slots__ = ("map",)

    def __init__(self, kernel_map: Map) -> None:
        super().__init__(kernel_map)
        self.map = kernel_map

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value."""
        # An update of the whole value would undo what programs write meanwhile.
        memory = self.map.map_memory()
        try:
            memory[offset : offset + len(data)] = data
        finally:
            memory.close()
