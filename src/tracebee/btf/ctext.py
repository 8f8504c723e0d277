"""Types and declarations as C writes them."""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_MAX_DEPTH = 64
# Steps of one declaration: prototypes that have each other twice as parameters would be written for ever.
_MAX_STEPS = 1 << 14
_QUALIFIERS = {
    kinds.BTF_KIND_CONST: "const",
    kinds.BTF_KIND_VOLATILE: "volatile",
    kinds.BTF_KIND_RESTRICT: "restrict",
}
KEYWORD = {
    kinds.BTF_KIND_STRUCT: "struct",
    kinds.BTF_KIND_UNION: "union",
    **dict.fromkeys(kinds.ENUMS, "enum"),
}


def declaration(btf: Btf, type_id: int, name: str) -> str:
    """``name`` declared with a type; with an empty name, the type's own text."""
    return Declarator(btf, lambda i: plain_base(btf, i)).declare(type_id, name)


def plain_base(btf: Btf, type_id: int) -> str:
    """A base type's name, ``struct {...}`` for an anonymous one."""
    record = btf.type(type_id)
    if record.kind == kinds.BTF_KIND_FWD:
        return f"{'union' if record.flag else 'struct'} {record.name}"
    keyword = KEYWORD.get(record.kind)
    if keyword is None:
        return record.name
    return f"{keyword} {record.name}" if record.name else f"{keyword} {{...}}"


class Declarator:
    """Writes declarations.

    :param base: the text of a base type (integer, typedef, struct, enum...) by id; None to look through it.
    :param unsized: what stands in the brackets of an array without elements.
    :param tag: the text of a type tag; without it, tags are left out.
    """

    def __init__(
        self,
        btf: Btf,
        base: Callable[[int], str | None],
        unsized: str = "",
        tag: Callable[[Type], str] | None = None,
    ) -> None:
        self.btf, self.base, self.unsized, self.tag = btf, base, unsized, tag
        self._steps = 0

    def declare(self, type_id: int, name: str) -> str:
        """``name`` declared with a type; with an empty name, the type's own text."""
        self._steps = 0
        return self._declared(type_id, name, 0)

    def _declared(self, type_id: int, name: str, depth: int) -> str:
        base, declarator = self._declare(type_id, name, depth)
        # "char[16]", but "struct s *" and "char x[16]".
        return base + declarator if not declarator or declarator[0] == "[" else f"{base} {declarator}"

    def _declare(self, type_id: int, inner: str, depth: int) -> tuple[str, str]:
        """The base type in front, and the declarator around ``inner`` (C declares inside out)."""
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            raise DecodeError(f"{self.btf.name}: type {type_id} refers to itself, or is nested too deeply")
        record = self.btf.type(type_id)
        kind, target = record.kind, record.type_id
        if kind == kinds.BTF_KIND_PTR:
            if self._kind_behind(target) not in (kinds.BTF_KIND_ARRAY, kinds.BTF_KIND_FUNC_PROTO):
                return self._declare(target, f"*{inner}", depth + 1)
            tags, target = self._tags(target)
            return self._declare(target, f"({tags}*{inner})", depth + 1)
        if kind == kinds.BTF_KIND_ARRAY:
            return self._declare(target, f"{inner}[{record.nelems or self.unsized}]", depth + 1)
        if kind == kinds.BTF_KIND_FUNC_PROTO:
            return self._declare(target, f"{inner}({self._parameters(type_id, depth + 1)})", depth + 1)
        if kind in _QUALIFIERS:
            word = _QUALIFIERS[kind]
            if self._kind_behind(target) == kinds.BTF_KIND_PTR:
                # Stands behind the star it qualifies: char *const p.
                return self._declare(target, f"{word} {inner}".rstrip(), depth + 1)
            if self._kind_behind(target, through_arrays=True) == kinds.BTF_KIND_PTR:
                # A qualified array is one of qualified elements; gcc says it of both, clang of these alone.
                return self._declare(target, inner, depth + 1)
            base, declarator = self._declare(target, inner, depth + 1)
            return (base if base.startswith(f"{word} ") else f"{word} {base}"), declarator
        if kind == kinds.BTF_KIND_TYPE_TAG and self.tag is not None:
            if self._kind_behind(target) == kinds.BTF_KIND_PTR:
                return self._declare(target, f"{self.tag(record)} {inner}".rstrip(), depth + 1)
            base, declarator = self._declare(target, inner, depth + 1)
            return f"{base} {self.tag(record)}", declarator
        if kind in (kinds.BTF_KIND_TYPE_TAG, kinds.BTF_KIND_VAR):
            return self._declare(target, inner, depth + 1)
        if kind == kinds.BTF_KIND_FUNC:
            return self._declare(target, inner or record.name, depth + 1)
        text = self.base(type_id)
        return (text, inner) if text is not None else self._declare(target, inner, depth + 1)

    def _tags(self, type_id: int) -> tuple[str, int]:
        """The tags in front of an array or prototype, which stand with the star, and what is behind them."""
        texts = ""
        for _ in range(_MAX_DEPTH):
            record = self.btf.type(type_id)
            if record.kind != kinds.BTF_KIND_TYPE_TAG:
                break
            texts += f"{self.tag(record)} " if self.tag is not None else ""
            type_id = record.type_id
        return texts, type_id

    def _kind_behind(self, type_id: int, *, through_arrays: bool = False) -> int:
        """The kind behind type tags, and behind qualifiers, which stand with what they qualify."""
        for _ in range(_MAX_DEPTH):
            record = self.btf.type(type_id)
            is_array = through_arrays and record.kind == kinds.BTF_KIND_ARRAY
            if not is_array and record.kind != kinds.BTF_KIND_TYPE_TAG and record.kind not in _QUALIFIERS:
                return record.kind
            type_id = record.type_id
        raise DecodeError(f"{self.btf.name}: type {type_id} refers to itself")

    def _parameters(self, proto_id: int, depth: int) -> str:
        params = self.btf.type(proto_id).params
        if not params:
            return "void"
        variadic = params[-1].type_id == 0
        texts = [self._declared(p.type_id, p.name, depth) for p in (params[:-1] if variadic else params)]
        return ", ".join([*texts, "..."] if variadic else texts)
