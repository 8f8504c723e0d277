"""``tracebee list [PATTERN]``: the same as ``-l``."""

from __future__ import annotations

from tracebee.cli.arguments import parse
from tracebee.cli.listing import list_probes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


USAGE = """\
usage: tracebee list [PATTERN] [-v] [-p PID]    probes by name, with shell wildcards; -v with their arguments
       tracebee list 'struct NAME'              a kernel type's definition
       tracebee list FILE                       what a script would attach to"""


def run(argv: Sequence[str]) -> int:
    """List probes; the exit code is 1 when nothing matches."""
    arguments = parse(["-l", *argv])
    if arguments.flag("help"):
        print(USAGE)
        return 0
    return list_probes(arguments)
