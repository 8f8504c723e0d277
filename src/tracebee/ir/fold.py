"""Algebraic simplification of single instructions.

By BPF's arithmetic (RFC 9669): 64 bits, wrapping; x / 0 is 0, x % 0 is x, shifts take their count
modulo 64.
"""

from __future__ import annotations

from tracebee.ir.legalize import NEGATED, SWAPPED
from tracebee.ir.types import POINTERS
from tracebee.ir.value import BINARY, COMMUTATIVE, FLOATING, MASK64, UNARY, Function, Value
from tracebee.ir.width import width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGN = 1 << 63


def signed(x: int) -> int:
    """A 64-bit pattern as a signed number."""
    return x - (MASK64 + 1) if x & _SIGN else x


def evaluate(op: str, x: int, y: int) -> int:
    """A binary operation on constants."""
    match op:
        case "add":
            result = x + y
        case "sub":
            result = x - y
        case "mul":
            result = x * y
        case "udiv":
            result = x // y if y else 0
        case "umod":
            result = x % y if y else x
        case "sdiv" | "smod":
            a, b = signed(x), signed(y)
            quotient = abs(a) // abs(b) if b else 0
            quotient = -quotient if (a < 0) != (b < 0) else quotient
            result = quotient if op == "sdiv" else a - quotient * b
        case "and":
            result = x & y
        case "or":
            result = x | y
        case "xor":
            result = x ^ y
        case "shl":
            result = x << (y & 63)
        case "lshr":
            result = x >> (y & 63)
        case _:
            result = signed(x) >> (y & 63)
    return result & MASK64


def compare(condition: str, x: int, y: int) -> bool:
    """A comparison of constants."""
    if condition[0] == "s" and condition != "set":
        x, y = signed(x), signed(y)
    match condition:
        case "eq":
            return x == y
        case "ne":
            return x != y
        case "set":
            return x & y != 0
        case "ult" | "slt":
            return x < y
        case "ule" | "sle":
            return x <= y
        case "ugt" | "sgt":
            return x > y
        case _:
            return x >= y


def extend(x: int, bits: int, is_signed: bool) -> int:
    """The low bits of a constant, extended."""
    x &= (1 << bits) - 1
    return (x - (1 << bits)) & MASK64 if is_signed and x >> (bits - 1) else x


def simplify(function: Function, insn: Value) -> Value | None:
    """A value that ``insn`` can be replaced by, or None; ``insn`` itself may be made simpler in place."""
    rule = _RULES.get(insn.op)
    return rule(function, insn) if rule is not None else None


def _binary(function: Function, insn: Value) -> Value | None:
    op = insn.op
    x, y = insn.args
    if x.op == "const" and y.op == "const":
        return function.const(evaluate(op, x.aux, y.aux))
    if op in COMMUTATIVE and x.op == "const":
        x, y = insn.args = [y, x]
    if x is y and x.op not in FLOATING and op in ("sub", "xor", "and", "or"):
        return function.const(0) if op in ("sub", "xor") else x
    if x.op == "data_ref" and y.op == "const" and op == "add":
        name, offset = x.aux
        return Value("data_ref", (), (name, offset + signed(y.aux)), x.type)
    if x.op == "const" and x.aux == 0 and op not in ("sub", "xor", "add", "or"):
        return x
    return _by_constant(function, insn) if y.op == "const" else None


def _by_constant(function: Function, insn: Value) -> Value | None:
    """Rules for a constant second operand."""
    op = insn.op
    x, y = insn.args
    c: int = y.aux
    if op in ("shl", "lshr", "ashr") and c > 63:
        insn.args[1] = y = function.const(c & 63)
        c &= 63
    if c == 0:
        return _by_zero(function, insn)
    if c == 1 and op in ("mul", "udiv", "sdiv"):
        return x
    if c == 1 and op in ("umod", "smod"):
        return function.const(0)
    if op == "sub":
        insn.op, insn.args = "add", [x, function.const(-c)]
        return _by_constant(function, insn)
    if c & (c - 1) == 0 and op in ("mul", "udiv", "umod"):
        power = c.bit_length() - 1
        insn.op = {"mul": "shl", "udiv": "lshr", "umod": "and"}[op]
        insn.args = [x, function.const(c - 1 if op == "umod" else power)]
        return _by_constant(function, insn)
    if op == "and":
        if _covers(y, (1 << width(x)) - 1):
            return x
    elif op == "lshr" and width(x) <= c:
        return function.const(0)
    elif op == "or" and c == MASK64:
        return y
    if x.op == op and x.args[1].op == "const":
        _reassociate(function, insn)
    return None


def _by_zero(function: Function, insn: Value) -> Value | None:
    if insn.op in ("mul", "and", "udiv", "sdiv"):
        return function.const(0)
    return insn.args[0]


def _reassociate(function: Function, insn: Value) -> None:
    """(x op c1) op c2 is x op c."""
    op = insn.op
    inner, outer = insn.args[0], insn.args[1]
    c1, c2 = inner.args[1].aux, outer.aux
    if op in ("shl", "lshr"):
        if c1 + c2 > 63:
            return
        c = c1 + c2
    elif op in COMMUTATIVE:
        c = evaluate(op, c1, c2)
    else:
        return
    insn.args = [inner.args[0], function.const(c)]


def _unary(function: Function, insn: Value) -> Value | None:
    x, op = insn.args[0], insn.op
    if op in ("neg", "not"):
        if x.op == "const":
            return function.const(-x.aux if op == "neg" else ~x.aux)
        return x.args[0] if x.op == op else None
    bits = int(op.lstrip("abcdefghijklmnopqrstuvwxyz"))
    if op.startswith("bswap") and x.op == "const":
        # The byte order of the target does not matter to this one.
        low = (x.aux & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
        return function.const(int.from_bytes(low, "big"))
    return None


def _extend(function: Function, insn: Value) -> Value | None:
    x = insn.args[0]
    bits, is_signed = insn.aux
    if x.op == "const":
        return function.const(extend(x.aux, bits, is_signed))
    if width(x) <= bits - (1 if is_signed else 0):
        return x
    if x.op == "extend":
        inner_bits, inner_signed = x.aux
        if is_signed and inner_signed and inner_bits <= bits:
            return x
        if inner_bits >= bits:
            insn.args = [x.args[0]]
    elif x.op == "and" and _covers(x.args[1], (1 << bits) - 1):
        insn.args = [x.args[0]]
    elif x.op == "load" and is_signed and x.aux[2] and x.aux[1] * 8 <= bits:
        return x
    return None


def _compare(function: Function, insn: Value) -> Value | None:
    x, y = insn.args
    if x.op in FLOATING and y.op not in FLOATING and x.op != "param":
        x, y = insn.args = [y, x]
        insn.aux = SWAPPED[insn.aux]
    condition = insn.aux
    if x.op == "const" and y.op == "const":
        return function.const(int(compare(condition, x.aux, y.aux)))
    if x is y and condition != "set":
        return function.const(int(compare(condition, 0, 0)))
    return _compare_constant(function, insn) if y.op == "const" else None


def _compare_constant(function: Function, insn: Value) -> Value | None:
    x, y = insn.args
    condition, c = insn.aux, y.aux
    if x.op == "compare" and c <= 1 and condition in ("eq", "ne"):
        if (condition == "ne") == (c == 0):
            return x
        if x.aux in NEGATED:
            insn.aux, insn.args = NEGATED[x.aux], list(x.args)
        return None
    bits = width(x)
    if bits < 64:
        limit = (1 << bits) - 1
        if condition[0] == "s" and condition != "set" and c < _SIGN:
            # Neither side is negative: the unsigned comparison says the same.
            condition = insn.aux = "u" + condition[1:]
        known = _known(condition, c, limit)
        if known is not None:
            return function.const(int(known))
    if condition in ("ult", "uge") and c == 1:
        insn.aux, insn.args = ("eq" if condition == "ult" else "ne"), [x, function.const(0)]
    elif condition in ("ugt", "ule") and c == 0:
        insn.aux = "ne" if condition == "ugt" else "eq"
    elif condition in ("uge", "ult") and c == 0:
        return function.const(int(condition == "uge"))
    if insn.aux in ("eq", "ne") and x.type not in POINTERS:
        _compare_difference(function, insn)
    return None


def _known(condition: str, c: int, limit: int) -> bool | None:
    """What comparing something between 0 and ``limit`` to ``c`` must give."""
    if c > limit and condition in ("eq", "ugt", "uge"):
        return False
    if c > limit and condition in ("ne", "ult", "ule"):
        return True
    if c == limit and condition in ("ugt", "ule"):
        return condition == "ule"
    return None


def _compare_difference(function: Function, insn: Value) -> None:
    """X - y = 0 is x = y; x + c1 = c2 is x = c2 - c1."""
    x, y = insn.args
    if y.aux == 0 and x.op in ("sub", "xor") and x.args[0].type == x.args[1].type:
        insn.args = list(x.args)
    elif x.op == "add" and x.args[1].op == "const":
        insn.args = [x.args[0], function.const(y.aux - x.args[1].aux)]


def _select(_function: Function, insn: Value) -> Value | None:
    c, x, y = insn.args
    if c.op == "const":
        return x if c.aux else y
    if x is y:
        return x
    if c.op == "compare" and x.op == "const" and y.op == "const":
        if (x.aux, y.aux) == (1, 0):
            return c
        if (x.aux, y.aux) == (0, 1) and c.aux in NEGATED:
            insn.op, insn.aux, insn.args = "compare", NEGATED[c.aux], list(c.args)
            return None
    _condition(insn)
    return None


def _condition(insn: Value) -> None:
    """A condition that only asks whether a comparison held asks the comparison."""
    c = insn.args[0]
    if c.op == "compare" and c.aux == "ne" and c.args[0].op == "compare":
        other = c.args[1]
        if other.op == "const" and other.aux == 0:
            insn.args[0] = c.args[0]


def _branch(_function: Function, insn: Value) -> Value | None:
    _condition(insn)
    return None


def _access(_function: Function, insn: Value) -> Value | None:
    """Constant steps from a pointer move into the access's own offset."""
    aux = list(insn.aux)
    is_fixed = insn.op in ("load", "store") and aux[-1] is not None
    offsets = {"memcpy": 2, "atomic": 1}.get(insn.op, 1)
    for number in range(offsets):
        at = number + (1 if insn.op == "atomic" else 0)
        pointer = insn.args[number]
        while not is_fixed and pointer.op == "add" and pointer.args[1].op == "const":
            offset = aux[at] + signed(pointer.args[1].aux)
            if not -32768 <= offset < 32768 or pointer.args[0].type not in POINTERS:
                break
            aux[at] = offset
            insn.args[number] = pointer = pointer.args[0]
    insn.aux = tuple(aux)
    if insn.op == "store":
        insn.args[1] = _stored(insn.args[1], aux[1])
    return None


def _stored(value: Value, size: int) -> Value:
    """What may be stored in place of ``value`` when only its low bytes are."""
    mask = (1 << 8 * size) - 1
    while size < 8:
        is_wider = value.op == "extend" and value.aux[0] >= 8 * size
        if is_wider or (value.op == "and" and _covers(value.args[1], mask)):
            value = value.args[0]
        else:
            break
    return value


def _covers(value: Value, mask: int) -> bool:
    """Whether a value is a constant with all bits of ``mask`` set."""
    return value.op == "const" and value.aux & mask == mask


_RULES: dict[str, Callable[[Function, Value], Value | None]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(("load", "store", "memset", "memcpy", "atomic"), _access),
    "extend": _extend,
    "compare": _compare,
    "select": _select,
    "br": _branch,
}
