"""Ready scripts, every one runnable by name: ``tracebee gethostlatency``."""

from __future__ import annotations

import os

from tracebee.errors import UsageError
from tracebee.source import Source
from tracebee.suggest import did_you_mean

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
        hint = did_you_mean(name, names(), count=1) or f"tools: {', '.join(names())}"
        raise UsageError(f"'{name}' is neither a file nor a tool", hint=hint)
    with open(path, encoding="utf-8") as file:
        return Source(f"{name}.bt", file.read())
