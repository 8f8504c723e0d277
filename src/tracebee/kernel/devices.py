"""Network devices of this network namespace, by name and by number (``ifindex``)."""

from __future__ import annotations

import socket

from tracebee.errors import SymbolError
from tracebee.suggest import nearest


def device_number(name: str) -> int:
    """A device's number.

    :raises SymbolError: there is none of that name; with the nearest.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError:
        known = [known for _, known in socket.if_nameindex()]
        raise SymbolError(f"there is no network device '{name}'", nearest(name, known)) from None


def device_name(number: int) -> str:
    """A device's name; ``(detached)`` for 0, ``(unknown)`` for one that is not here."""
    if not number:
        return "(detached)"
    try:
        return socket.if_indextoname(number)
    except OSError:
        return "(unknown)"
