"""The error for a name that is nowhere on this machine, with names that are."""

from __future__ import annotations

from tracebee.errors import MissingProbe
from tracebee.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def missing(message: str, name: str, known: Iterable[str], otherwise: str | None = None) -> MissingProbe:
    """The error for ``name``, suggesting the nearest of the ``known`` names, else what ``otherwise`` says."""
    return MissingProbe(message, hint=did_you_mean(name, known, count=1) or otherwise)
