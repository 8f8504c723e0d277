"""Kinds of CO-RE relocations: ``enum bpf_core_relo_kind`` of ``include/uapi/linux/bpf.h``."""

from __future__ import annotations

(
    BPF_CORE_FIELD_BYTE_OFFSET,
    BPF_CORE_FIELD_BYTE_SIZE,
    BPF_CORE_FIELD_EXISTS,
    BPF_CORE_FIELD_SIGNED,
    BPF_CORE_FIELD_LSHIFT_U64,
    BPF_CORE_FIELD_RSHIFT_U64,
    BPF_CORE_TYPE_ID_LOCAL,
    BPF_CORE_TYPE_ID_TARGET,
    BPF_CORE_TYPE_EXISTS,
    BPF_CORE_TYPE_SIZE,
    BPF_CORE_ENUMVAL_EXISTS,
    BPF_CORE_ENUMVAL_VALUE,
    BPF_CORE_TYPE_MATCHES,
) = range(13)

FIELD_KINDS = frozenset(range(BPF_CORE_FIELD_BYTE_OFFSET, BPF_CORE_FIELD_RSHIFT_U64 + 1))
TYPE_KINDS = frozenset(
    {
        BPF_CORE_TYPE_ID_LOCAL,
        BPF_CORE_TYPE_ID_TARGET,
        BPF_CORE_TYPE_EXISTS,
        BPF_CORE_TYPE_SIZE,
        BPF_CORE_TYPE_MATCHES,
    }
)
ENUMVAL_KINDS = frozenset({BPF_CORE_ENUMVAL_EXISTS, BPF_CORE_ENUMVAL_VALUE})

# As libbpf's log and `llvm-objdump` call them.
KIND_NAMES = (
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
)


def core_kind_name(kind: int) -> str:
    """A kind's short name, its number when it is not known."""
    return KIND_NAMES[kind] if 0 <= kind < len(KIND_NAMES) else str(kind)
