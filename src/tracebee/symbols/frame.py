"""What is known of one address."""

from __future__ import annotations

from tracebee.typed import NamedTuple


class Frame(NamedTuple):
    """An address and its symbol. ``name`` is "" for an address without one; ``module`` is the
    kernel module or the mapped file, "" when unknown or the kernel itself.
    """

    address: int
    name: str = ""
    offset: int = 0
    module: str = ""
