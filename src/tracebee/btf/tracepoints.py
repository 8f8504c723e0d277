"""Raw tracepoints as BTF shows them: a typedef ``btf_trace_<name>`` of a function pointer."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.btf.types import Param, Prototype
from tracebee.errors import SymbolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.btf.reader import Btf

PREFIX = "btf_trace_"
# Functions that every tracepoint has, whose prototypes name the parameters (include/linux/tracepoint.h).
_NAMING_FUNCTIONS = ("__traceiter_", "__probestub_")


def raw_tracepoint(btf: Btf, name: str) -> Prototype:
    """The prototype of a raw tracepoint without the leading ``void *__data``."""
    try:
        type_id = btf.find(PREFIX + name, kinds.BTF_KIND_TYPEDEF)
    except SymbolError:
        from tracebee.suggest import nearest

        raise SymbolError(f"no raw tracepoint '{name}'", nearest(name, names(btf))) from None
    found = btf.prototype(type_id)
    params = found.params[1:]
    for prefix in _NAMING_FUNCTIONS:
        ids = btf.find_all(prefix + name, kinds.BTF_KIND_FUNC)
        if not ids:
            continue
        named = btf.prototype(ids[0]).params[1:]
        if len(named) == len(params):
            params = named
            break
    params = tuple(Param(p.name or f"arg{i}", p.type_id) for i, p in enumerate(params))
    return found._replace(name=name, params=params)


def names(btf: Btf) -> Iterator[str]:
    """Names of all raw tracepoints."""
    for name, _ in btf.names(kinds.BTF_KIND_TYPEDEF):
        if name.startswith(PREFIX):
            yield name[len(PREFIX) :]
