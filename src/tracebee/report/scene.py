"""What values of one running script are read against: its names, stacks and strings."""

from __future__ import annotations

from tracebee.report.names import Clock
from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.stacks.table import StackTable
    from tracebee.symbols.frame import Frame


class Names(Protocol):
    """Addresses to names; ``symbols.Symbolizer`` is one."""

    def kernel_frame(self, address: int) -> Frame:
        """The kernel symbol that holds an address."""

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        """The symbol that holds an address of a process."""


class Scene:
    """Everything beyond a value's own bytes that it takes to read or print the value.

    :param cut: goes behind a string that was cut off (config str_trunc_trailer).
    """

    __slots__ = ("clock", "cut", "names", "probe_names", "stacks", "strings")

    def __init__(
        self,
        names: Names,
        stacks: StackTable,
        strings: Sequence[str] = (),
        probe_names: Sequence[str] = (),
        clock: Clock | None = None,
        cut: str = "..",
    ) -> None:
        self.names = names
        self.stacks = stacks
        self.strings = strings
        self.probe_names = probe_names
        self.clock = Clock() if clock is None else clock
        self.cut = cut

    def kernel_stack(self, stack_id: int, limit: int) -> list[Frame]:
        """A kernel stack with its symbols, innermost first."""
        frame = self.names.kernel_frame
        return [frame(address) for address in self.stacks.frames(stack_id, limit)]

    def user_stack(self, stack_id: int, limit: int, tgid: int, pid: int) -> list[Frame]:
        """A user stack with its symbols, innermost first."""
        frame = self.names.user_frame
        return [frame(address, tgid, pid) for address in self.stacks.frames(stack_id, limit)]

    def probe(self, number: int) -> str:
        """The name of a probe by its index."""
        return self.probe_names[number] if number < len(self.probe_names) else str(number)
