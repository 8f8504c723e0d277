"""What every engine does: the interface that ``run`` drives and that reporters read maps through."""

from __future__ import annotations

from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tracebee.lang.script import Script
    from tracebee.stacks.table import StackReader


class MapReader(Protocol):
    """A map of a running script; keys and values are bytes as the program sees them."""

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        """Every (key, value) now; a per-CPU map's value is one ``bytes`` for each CPU."""

    def clear(self) -> None:
        """Delete every element; of an array, set each to zeros."""

    def zero(self) -> None:
        """Set every value to zeros, on every CPU."""

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value."""


class Engine(Protocol):
    """One script in one engine, from loading to closing. Calls come in the order they stand here.

    An engine is closed by ``close`` whatever happened before; closing twice is allowed.
    """

    @property
    def maps(self) -> Mapping[str, MapReader]:
        """The script's maps by their names in the object, once loaded."""

    @property
    def stacks(self) -> StackReader:
        """The script's stacks."""

    @property
    def probes(self) -> int:
        """How many probes there are, BEGIN and END included; known once loaded."""

    @property
    def command_filter(self) -> bytes:
        """The seccomp filter that a held command is to be put under before it runs; empty for none."""

    def load(self, script: Script) -> None:
        """Make the maps and check and load the programs.

        :raises VerifierError: a program was refused; KernelError, PrivilegeError, UnsupportedError.
        """

    def begin(self) -> None:
        """Run the BEGIN programs, in this process."""

    def attach(self, step: Callable[[int], None]) -> None:
        """Attach every probe.

        :param step: called between attachments with the number done; may raise to stop.
        """

    def fileno(self) -> int:
        """A descriptor that is readable when there are events, -1 when there never will be."""

    def drain(self) -> list[bytes]:
        """The event records that are there, oldest first, without waiting."""

    def lost(self) -> int:
        """How many events were lost so far, all causes together."""

    def detach(self) -> None:
        """Detach every probe."""

    def end(self) -> None:
        """Run the END programs."""

    def close(self) -> None:
        """Give everything back."""
