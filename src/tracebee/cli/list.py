"""``tracebee list [PATTERN]``: the same as ``-l``."""

from __future__ import annotations

from tracebee.cli.arguments import parse
from tracebee.cli.listing import list_probes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """List probes; the exit code is 1 when nothing matches."""
    return list_probes(parse(["-l", *argv]))
