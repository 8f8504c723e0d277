"""Ready scripts, every one runnable by name: ``tracebee gethostlatency``."""

from __future__ import annotations

import os

from tracebee.errors import UsageError
from tracebee.source import Source

_HERE = os.path.dirname(__file__)


def names() -> list[str]:
    """Names of the scripts, sorted."""
    return sorted(name[:-3] for name in os.listdir(_HERE) if name.endswith(".bt"))


def find_tool(name: str) -> Source:
    """The script of a tool, with or without ``.bt``.

    :raises UsageError: there is none; with the nearest names.
    """
    name = name.removesuffix(".bt")
    path = os.path.join(_HERE, f"{name}.bt")
    if not os.path.isfile(path):
        import difflib

        close = difflib.get_close_matches(name, names(), n=2)
        known = f"tools: {', '.join(names())}"
        hint = f"did you mean '{close[0]}'?" if close else known
        raise UsageError(f"'{name}' is neither a file nor a tool", hint=hint)
    with open(path, encoding="utf-8") as file:
        return Source(f"{name}.bt", file.read())
