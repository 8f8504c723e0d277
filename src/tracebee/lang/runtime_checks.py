"""``-k`` and ``-kk``: what a helper call refused at run time is told, with its place in the script.

Helpers answer with a negative error number, and scripts go on: a read of a bad address is 0, a full map
keeps what it has. With these options a comparison follows each call, and an event says what failed.
"""

from __future__ import annotations

from tracebee.ir import Builder, Function
from tracebee.lang.types import INT64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value
    from tracebee.ir.builder import Operand
    from tracebee.lang.lower import Gen

# Helpers whose result may be an error; those that scripts call for a number or a pointer have none,
# and a stack that is not there, or whose place is taken, is no failure.
FAILING = frozenset(
    (
        *("map_update_elem", "map_delete_elem", "get_current_comm", "get_ns_current_pid_tgid", "d_path"),
        *("override_return", "send_signal", "send_signal_thread"),
    )
)


class CheckedBuilder(Builder):
    """A builder that has every failed helper call reported.

    :param level: 1 for all but reads of memory, which scripts often try in vain; 2 for those too.
    """

    def __init__(self, function: Function, gen: Gen, level: int) -> None:
        super().__init__(function)
        self._gen = gen
        self._level = level

    def helper(self, name: str, *args: Operand, type: str = "") -> Value:  # noqa: A002
        """Call a helper, and report its failure."""
        result = super().helper(name, *args, type=type)
        if name in FAILING or (self._level > 1 and name.startswith("probe_read_")):
            self._report(name, result)
        return result

    def _report(self, name: str, result: Value) -> None:
        failed, done = self.block("failed"), self.block("went_well")
        self.branch(self.compare("slt", result, 0), failed, done)
        self.at(failed)
        number, layout = self._gen.unit.action("helper_error", [INT64], name, self.here)
        self._gen.event(number, layout.size, lambda record: self.store(record, 8, 8, result))
        self.jump(done)
        self.at(done)
