"""Types and declarations as C writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf import kinds
from tracebee.errors import DecodeError

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf

_MAX_DEPTH = 64
_QUALIFIERS = {
    kinds.BTF_KIND_CONST: "const",
    kinds.BTF_KIND_VOLATILE: "volatile",
    kinds.BTF_KIND_RESTRICT: "restrict",
}
_TAGGED = {
    kinds.BTF_KIND_STRUCT: "struct",
    kinds.BTF_KIND_UNION: "union",
    **dict.fromkeys(kinds.ENUMS, "enum"),
}


def declaration(btf: Btf, type_id: int, name: str) -> str:
    """``name`` declared with a type; with an empty name, the type's own text."""
    base, declarator = _declare(btf, type_id, name, 0)
    # "char[16]" and "int (*)(void)", but "struct s *" and "char x[16]".
    return base + declarator if not declarator or declarator[0] == "[" else f"{base} {declarator}"


def _declare(btf: Btf, type_id: int, inner: str, depth: int) -> tuple[str, str]:
    """The base type in front, and the declarator around ``inner`` (C declares inside out)."""
    if depth > _MAX_DEPTH:
        raise DecodeError(f"{btf.name}: type {type_id} refers to itself")
    record = btf.type(type_id)
    kind, following = record.kind, record.type_id
    if kind == kinds.BTF_KIND_PTR:
        target = btf.type(_skip_tags(btf, following)).kind
        star = f"*{inner}"
        if target in (kinds.BTF_KIND_ARRAY, kinds.BTF_KIND_FUNC_PROTO):
            star = f"({star})"
        return _declare(btf, following, star, depth + 1)
    if kind == kinds.BTF_KIND_ARRAY:
        return _declare(btf, following, f"{inner}[{record.nelems or ''}]", depth + 1)
    if kind == kinds.BTF_KIND_FUNC_PROTO:
        return _declare(btf, following, f"{inner}({_parameters(btf, type_id)})", depth + 1)
    if kind in _QUALIFIERS:
        target = btf.type(_skip_tags(btf, following)).kind
        if target == kinds.BTF_KIND_PTR:
            # Stands behind the star it qualifies: char *const p.
            base, declarator = _declare(btf, following, "\0", depth + 1)
            return base, declarator.replace("\0", f"{_QUALIFIERS[kind]} {inner}".rstrip())
        if target in (kinds.BTF_KIND_ARRAY, *_QUALIFIERS):
            base, declarator = _declare(btf, following, inner, depth + 1)
            return f"{_QUALIFIERS[kind]} {base}", declarator
        return f"{_QUALIFIERS[kind]} {_declare(btf, following, '', depth + 1)[0]}", inner
    if kind == kinds.BTF_KIND_TYPE_TAG or kind == kinds.BTF_KIND_VAR:
        return _declare(btf, following, inner, depth + 1)
    if kind == kinds.BTF_KIND_FUNC:
        return _declare(btf, following, inner or record.name, depth + 1)
    return _base(btf, type_id), inner


def _skip_tags(btf: Btf, type_id: int) -> int:
    for _ in range(_MAX_DEPTH):
        record = btf.type(type_id)
        if record.kind != kinds.BTF_KIND_TYPE_TAG:
            return type_id
        type_id = record.type_id
    raise DecodeError(f"{btf.name}: type {type_id} refers to itself")


def _base(btf: Btf, type_id: int) -> str:
    record = btf.type(type_id)
    if record.kind == kinds.BTF_KIND_FWD:
        return f"{'union' if record.flag else 'struct'} {record.name}"
    keyword = _TAGGED.get(record.kind)
    if keyword is None:
        return record.name
    return f"{keyword} {record.name}" if record.name else f"{keyword} {{...}}"


def _parameters(btf: Btf, proto_id: int) -> str:
    params = btf.type(proto_id).params
    if not params:
        return "void"
    variadic = params[-1].type_id == 0
    texts = [declaration(btf, p.type_id, p.name) for p in (params[:-1] if variadic else params)]
    return ", ".join([*texts, "..."] if variadic else texts)
