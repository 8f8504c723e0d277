"""Near names for an error: what a misspelt word may have meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MANY = 2000


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of the names most like ``word``, best first; none when nothing is alike."""
    # Imported here: only errors need it, and it costs 3 ms.
    from difflib import get_close_matches

    pool = set(names)
    if len(pool) > _MANY:
        # Comparing costs microseconds each, and a kernel has 80,000 functions: a typing error keeps the
        # length within a few letters, and spares the start or the end.
        pool = {
            name
            for name in pool
            if abs(len(name) - len(word)) <= 3 and (name[:2] == word[:2] or name[-3:] == word[-3:])
        }
    return get_close_matches(word, pool, n=count, cutoff=0.7)


def did_you_mean(word: str, names: Iterable[str], count: int = 3) -> str | None:
    """A hint that names the candidates, or None when nothing is near."""
    found = nearest(word, names, count)
    return None if not found else "did you mean " + " or ".join(f"'{name}'" for name in found) + "?"
