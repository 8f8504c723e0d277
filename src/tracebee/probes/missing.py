"""The error for a name that is nowhere on this machine, with names that are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import MissingProbe
from tracebee.probes.machine import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable


def missing(message: str, name: str, known: Iterable[str], otherwise: str | None = None) -> MissingProbe:
    """The error for ``name``, suggesting the nearest of the ``known`` names, else what ``otherwise`` says."""
    close = nearest(name, known)
    return MissingProbe(message, hint=f"did you mean '{close[0]}'?" if close else otherwise)
