"""How many low bits of a value can be other than 0."""

from __future__ import annotations

from tracebee.ir.types import POINTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Value

_DEPTH = 6


def width(value: Value, depth: int = _DEPTH) -> int:
    """An upper bound, 0 to 64, of the number of the value's significant bits."""
    op, aux = value.op, value.aux
    if op == "const":
        return int(aux).bit_length()
    if depth == 0 or value.type in POINTERS:
        return 64
    match op:
        case "load":
            return 64 if aux[2] else int(aux[1]) * 8
        case "extend":
            if aux[1]:
                bits = width(value.args[0], depth - 1)
                return bits if bits < aux[0] else 64
            return min(int(aux[0]), width(value.args[0], depth - 1))
        case "compare":
            return 1
        case "and":
            return min(width(a, depth - 1) for a in value.args)
        case "or" | "xor":
            return max(width(a, depth - 1) for a in value.args)
        case "select":
            return max(width(a, depth - 1) for a in value.args[1:])
        case "lshr" if value.args[1].op == "const":
            return max(0, width(value.args[0], depth - 1) - (int(value.args[1].aux) & 63))
        case "shl" if value.args[1].op == "const":
            return min(64, width(value.args[0], depth - 1) + (int(value.args[1].aux) & 63))
        case "udiv" | "umod" | "lshr":
            return width(value.args[0], depth - 1)
        case "add":
            return min(64, 1 + max(width(a, depth - 1) for a in value.args))
        case "mul":
            return min(64, sum(width(a, depth - 1) for a in value.args))
        case "be16" | "le16" | "bswap16":
            return 16
        case "be32" | "le32" | "bswap32":
            return 32
        case "helper":
            return 32 if _is_narrow(aux) else 64
        case _:
            return 64


def _is_narrow(helper: str) -> bool:
    """Whether a helper returns 32 bits, which its caller sees zero-extended (kernel: BPF_CALL_x)."""
    from tracebee.isa.helpers import BY_NAME

    row = BY_NAME.get(helper)
    return row is not None and row.result == "__u32"
