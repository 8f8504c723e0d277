"""An object's types in the words of a kernel that does not know all kinds of BTF.

Every type keeps its id and every string its offset, so that what refers to them (function and line
information, maps, CO-RE) stays true; what is lost are names in dumps. The replacements are libbpf's, but
for 64-bit enumerations, which become integers, and for data sections, whose members keep their types.
"""

from __future__ import annotations

import re

from tracebee.btf import kinds
from tracebee.btf.builder import Builder
from tracebee.btf.reader import Btf
from tracebee.btf.types import Enumerator, Member, Type
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.]")


class Feature(NamedTuple):
    """Something that kernels learned to read in BTF.

    :param name: what it is called here, and ``since`` the version that brought it.
    :param sample: makes types that only a kernel with the feature takes.
    :param replace: a type as a kernel without it takes it; any other type as it is.
    """

    name: str
    since: str
    sample: Callable[[Builder], object]
    replace: Callable[[Btf, Type], Type]


def without(data: bytes, lacking: Collection[str]) -> bytes:
    """The blob with nothing in it that takes one of these features, by name.

    :raises DecodeError: it is no valid BTF.
    """
    btf = Btf.from_bytes(data)
    rules = [feature.replace for feature in FEATURES if feature.name in lacking]
    builder = Builder(btf.order)
    builder.keep_strings(data[btf.str_start : btf.str_end])
    for _, record in btf.types():
        for replace in rules:
            record = replace(btf, record)
        builder.add(record)
    return builder.to_bytes()


def sample(feature: Feature) -> bytes:
    """A blob by which a kernel shows whether it has the feature."""
    builder = Builder()
    feature.sample(builder)
    return builder.to_bytes()


def _integer(name: str, size: int, *, signed: bool = False) -> Type:
    encoding = kinds.BTF_INT_SIGNED if signed else 0
    return Type(kinds.BTF_KIND_INT, name, size, encoding=encoding, bits=8 * size)


def _func(_: Btf, record: Type) -> Type:
    if record.kind == kinds.BTF_KIND_FUNC_PROTO:
        return Type(kinds.BTF_KIND_ENUM, size=4)
    if record.kind == kinds.BTF_KIND_FUNC:
        return Type(kinds.BTF_KIND_TYPEDEF, record.name, type_id=record.type_id)
    return record


def _func_global(_: Btf, record: Type) -> Type:
    if record.kind == kinds.BTF_KIND_FUNC:
        return record._replace(linkage=kinds.BTF_FUNC_STATIC)
    return record


def _datasec(btf: Btf, record: Type) -> Type:
    if record.kind == kinds.BTF_KIND_VAR:
        # The least of all sizes: nothing checks it against what the variable had.
        return _integer(record.name, 1)
    if record.kind != kinds.BTF_KIND_DATASEC:
        return record
    variables = [(btf.type(v.type_id), v.offset) for v in record.variables]
    members = tuple(Member(variable.name, variable.type_id, 8 * offset) for variable, offset in variables)
    return Type(kinds.BTF_KIND_STRUCT, re.sub(r"\W", "_", record.name), record.size, members=members)


def _section_name(_: Btf, record: Type) -> Type:
    if record.kind == kinds.BTF_KIND_DATASEC:
        return record._replace(name=_FORBIDDEN.sub("_", record.name))
    return record


def _float(_: Btf, record: Type) -> Type:
    # No struct can be called "double".
    return Type(kinds.BTF_KIND_STRUCT, size=record.size) if record.kind == kinds.BTF_KIND_FLOAT else record


def _decl_tag(_: Btf, record: Type) -> Type:
    return _integer(record.name, 1) if record.kind == kinds.BTF_KIND_DECL_TAG else record


def _type_tag(_: Btf, record: Type) -> Type:
    if record.kind == kinds.BTF_KIND_TYPE_TAG:
        return Type(kinds.BTF_KIND_CONST, type_id=record.type_id)
    return record


def _enum64(_: Btf, record: Type) -> Type:
    """Kernels that know 64-bit enumerations also know which ones are signed."""
    if record.kind == kinds.BTF_KIND_ENUM64:
        return _integer(record.name, record.size, signed=record.flag)
    if record.kind == kinds.BTF_KIND_ENUM and record.flag:
        values = tuple(Enumerator(name, value & 0xFFFFFFFF) for name, value in record.enumerators)
        return record._replace(flag=False, enumerators=values)
    return record


def _int_function(b: Builder, linkage: int) -> int:
    number = b.integer("int", 4, signed=True)
    return b.func("f", b.func_proto(number, [("a", number)]), linkage)


def _int_section(b: Builder, name: str) -> int:
    variable = b.var("v", b.integer("int", 4, signed=True))
    return b.datasec(name, 4, [(variable, 0, 4)])


# In the order of their coming: a type that an earlier row has replaced is no later row's business.
FEATURES: tuple[Feature, ...] = (
    Feature("func", "5.0", lambda b: _int_function(b, kinds.BTF_FUNC_STATIC), _func),
    Feature("datasec", "5.2", lambda b: _int_section(b, ".data"), _datasec),
    Feature("func_global", "5.6", lambda b: _int_function(b, kinds.BTF_FUNC_GLOBAL), _func_global),
    Feature("float", "5.13", lambda b: b.floating("float", 4), _float),
    Feature("decl_tag", "5.16", lambda b: b.decl_tag("tag", _int_section(b, ".data") - 1), _decl_tag),
    Feature("type_tag", "5.17", lambda b: b.ptr(b.type_tag("tag", b.integer("int", 4))), _type_tag),
    Feature("enum64", "6.0", lambda b: b.enum("e", [("E", 1 << 32)]), _enum64),
    Feature("section_name", "6.9", lambda b: _int_section(b, "?.data"), _section_name),
)
