"""``tracebee run``: trace with a script that ``tracebee build`` made an object of."""

from __future__ import annotations

from tracebee.cli.trace import trace
from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """As without the subcommand, which knows an object file when it sees one."""
    if not argv:
        raise UsageError("usage: tracebee run FILE.bpf.o [options]")
    return trace(argv)
