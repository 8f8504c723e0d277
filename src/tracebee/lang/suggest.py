"""Near names for a hint: what a misspelt word may have meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], *, count: int = 3) -> list[str]:
    """The names nearest to ``word`` (edit distance at most a third of its length), best first."""
    # Imported here: only errors need it, and it costs 3 ms.
    from difflib import get_close_matches

    return get_close_matches(word, sorted(names), n=count, cutoff=0.7)


def did_you_mean(word: str, names: Iterable[str]) -> str | None:
    """A hint that names the candidates, or None when nothing is near."""
    found = nearest(word, names)
    return None if not found else "did you mean " + " or ".join(f"'{name}'" for name in found) + "?"
