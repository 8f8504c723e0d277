"""What the report asks of an engine's maps."""

from __future__ import annotations

from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.symbols.frame import Frame


class MapReader(Protocol):
    """A map of a running script."""

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        """Every (key, value) now; the value of a per-CPU map is one ``bytes`` for each CPU.
        A data-section map has one element, with the key 0 in 4 bytes.
        """

    def clear(self) -> None:
        """Delete every element (of an array: set each to zeros)."""

    def zero(self) -> None:
        """Set the value of every element to zeros, on every CPU."""

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value. Only called for such maps."""


class Names(Protocol):
    """Addresses to names; ``symbols.Symbolizer`` is one."""

    def kernel_frame(self, address: int) -> Frame:
        """The kernel symbol that holds an address."""

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        """The symbol that holds an address of a process."""
