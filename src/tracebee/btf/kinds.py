"""The kinds of BTF types and how long each is (``include/uapi/linux/btf.h``)."""

from __future__ import annotations

BTF_MAGIC = 0xEB9F
BTF_VERSION = 1

(
    BTF_KIND_UNKN,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    BTF_KIND_ARRAY,
    BTF_KIND_STRUCT,
    BTF_KIND_UNION,
    BTF_KIND_ENUM,
    BTF_KIND_FWD,
    BTF_KIND_TYPEDEF,
    BTF_KIND_VOLATILE,
    BTF_KIND_CONST,
    BTF_KIND_RESTRICT,
    BTF_KIND_FUNC,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_VAR,
    BTF_KIND_DATASEC,
    BTF_KIND_FLOAT,
    BTF_KIND_DECL_TAG,
    BTF_KIND_TYPE_TAG,
    BTF_KIND_ENUM64,
) = range(20)

# Every type starts with name_off, info, size_or_type. The rows say what follows.
HEADER_SIZE = 12

# Row: kernel's name without BTF_KIND_, bytes that follow once, bytes that follow for each of vlen.
KINDS: tuple[tuple[str, int, int], ...] = (
    ("UNKN", 0, 0),
    ("INT", 4, 0),
    ("PTR", 0, 0),
    ("ARRAY", 12, 0),
    ("STRUCT", 0, 12),
    ("UNION", 0, 12),
    ("ENUM", 0, 8),
    ("FWD", 0, 0),
    ("TYPEDEF", 0, 0),
    ("VOLATILE", 0, 0),
    ("CONST", 0, 0),
    ("RESTRICT", 0, 0),
    ("FUNC", 0, 0),
    ("FUNC_PROTO", 0, 8),
    ("VAR", 4, 0),
    ("DATASEC", 0, 12),
    ("FLOAT", 0, 0),
    ("DECL_TAG", 4, 0),
    ("TYPE_TAG", 0, 0),
    ("ENUM64", 0, 12),
)

# Kinds that stand for the type they refer to (what ``Btf.resolve`` goes through).
MODIFIERS = frozenset(
    {BTF_KIND_TYPEDEF, BTF_KIND_VOLATILE, BTF_KIND_CONST, BTF_KIND_RESTRICT, BTF_KIND_TYPE_TAG}
)
COMPOSITES = frozenset({BTF_KIND_STRUCT, BTF_KIND_UNION})
ENUMS = frozenset({BTF_KIND_ENUM, BTF_KIND_ENUM64})

# BTF_KIND_INT: bits 24 to 27 of the extra word.
BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL = 1, 2, 4

# Linkage of BTF_KIND_FUNC (in vlen) and BTF_KIND_VAR (in the extra word).
BTF_FUNC_STATIC, BTF_FUNC_GLOBAL, BTF_FUNC_EXTERN = range(3)
BTF_VAR_STATIC, BTF_VAR_GLOBAL_ALLOCATED, BTF_VAR_GLOBAL_EXTERN = range(3)

# The C keyword in front of a name, and the kinds that it may mean.
KEYWORDS: dict[str, frozenset[int]] = {
    "struct": frozenset({BTF_KIND_STRUCT}),
    "union": frozenset({BTF_KIND_UNION}),
    "enum": ENUMS,
}


def kind_name(kind: int) -> str:
    """The kernel's name of a kind without ``BTF_KIND_``, such as ``STRUCT``."""
    return KINDS[kind][0] if 0 <= kind < len(KINDS) else str(kind)
