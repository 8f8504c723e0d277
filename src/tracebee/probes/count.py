"""The count in a spelling: of events between two samples, or of units of time."""

from __future__ import annotations

from tracebee.errors import Diagnostic


def positive(text: str, kind: str) -> int:
    """A count above 0.

    :raises Diagnostic: it is none; names the probe's ``kind``.
    """
    try:
        value = int(text, 0)
    except ValueError:
        value = 0
    if value <= 0:
        raise Diagnostic(f"{kind} needs a count above 0, not '{text}'")
    return value
