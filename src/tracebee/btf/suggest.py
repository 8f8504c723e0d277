"""Names similar to one that does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf import kinds
from tracebee.errors import SymbolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.reader import Btf

_TYPE_KINDS = frozenset(
    {
        kinds.BTF_KIND_INT,
        kinds.BTF_KIND_STRUCT,
        kinds.BTF_KIND_UNION,
        kinds.BTF_KIND_ENUM,
        kinds.BTF_KIND_ENUM64,
        kinds.BTF_KIND_TYPEDEF,
        kinds.BTF_KIND_FLOAT,
    }
)


def near(name: str, names: Iterable[str], limit: int = 3) -> list[str]:
    """The names most like ``name``, best first; none when nothing is alike."""
    from difflib import get_close_matches

    width = len(name)
    pool = [n for n in set(names) if abs(len(n) - width) <= 3]
    if len(pool) > 2000:
        # Comparing costs microseconds each: of tens of thousands, only those alike at an end are worth it.
        pool = [n for n in pool if n[:2] == name[:2] or n[-3:] == name[-3:]]
    return get_close_matches(name, sorted(pool), n=limit, cutoff=0.7)


def missing_type(btf: Btf, name: str, wanted: frozenset[int] | None) -> SymbolError:
    """The error for a type name that is not there."""
    keyword, _, plain = name.rpartition(" ")
    if keyword not in kinds.KEYWORDS:
        plain, keyword = name, ""
    names = near(plain, (n for n, _ in btf.names(*(wanted or _TYPE_KINDS))))
    what = "function" if wanted == frozenset({kinds.BTF_KIND_FUNC}) else "type"
    return SymbolError(
        f"{btf.name} has no {what} '{name}'", [f"{keyword} {n}" if keyword else n for n in names]
    )
