"""The error for a type that is not there."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import SymbolError
from tracebee.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def missing_type(btf: Btf, name: str, wanted: frozenset[int] | None) -> SymbolError:
    """The error for a type name that is not there."""
    keyword, _, plain = name.rpartition(" ")
    if keyword not in kinds.KEYWORDS:
        plain, keyword = name, ""
    names = nearest(plain, (n for n, _ in btf.names(*(wanted or _TYPE_KINDS))))
    what = "function" if wanted == frozenset({kinds.BTF_KIND_FUNC}) else "type"
    return SymbolError(
        f"{btf.name} has no {what} '{name}'", [f"{keyword} {n}" if keyword else n for n in names]
    )
