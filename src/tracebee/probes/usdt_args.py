"""Arguments of USDT probes: the operands their notes describe, per architecture, and code that reads them.

A note's last string has, for each argument, ``N@OPERAND``: N is the size in bytes, negative when signed;
the operand is as the assembler writes it: ``-4@-20(%rbp,%rax,4)`` ``8@%rdi`` ``4@$7`` (x86-64, AT&T),
``8@[sp, 16]`` ``-4@w1`` ``8@5`` (arm64). Source: sys/sdt.h of SystemTap and its wiki page
"UserSpaceProbeImplementation".
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.probes.group import read_memory
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Builder, Value
    from tracebee.probes.regs import Registers


class Argument(NamedTuple):
    """One argument.

    ``kind`` is ``const`` (``value``), ``reg`` (``base``, its bits from ``shift`` on), ``mem`` (at
    ``base + value + offset_register * scale``) or ``symbol`` (in memory at ``symbol + value``, found from the
    program counter). Registers have the kernel's names (probes.regs).
    """

    size: int
    signed: bool
    kind: str
    value: int = 0
    base: str = ""
    offset_register: str = ""
    scale: int = 1
    symbol: str = ""
    shift: int = 0
    index_bits: int = 64


_ONE = re.compile(r"(-?\d+)(f?)@(.*?)(?=\s+-?\d+f?@|\s*$)")
_X86_MEM = re.compile(
    r"(?P<disp>[-+\w.$@]*)\((?P<base>%\w+)?\s*(?:,\s*(?P<index>%\w+)\s*(?:,\s*(?P<scale>[1248]))?)?\)$"
)
_ARM_MEM = re.compile(
    r"\[(?P<base>\w+)(?:\s*,\s*#?(?P<disp>-?(?:0x)?[\da-fA-F]+)"
    r"|\s*,\s*(?P<index>[xw]\d+)(?:\s*,\s*(?:lsl|uxtw|sxtw)?\s*#?(?P<shift>\d+))?)?\]$"
)
_X86_SIZED = {
    full: {full: (64, 0), wide: (32, 0), word: (16, 0), low: (8, 0), **({high: (8, 8)} if high else {})}
    for full, wide, word, low, high in (
        ("rax", "eax", "ax", "al", "ah"), ("rbx", "ebx", "bx", "bl", "bh"), ("rcx", "ecx", "cx", "cl", "ch"),
        ("rdx", "edx", "dx", "dl", "dh"), ("rsi", "esi", "si", "sil", ""), ("rdi", "edi", "di", "dil", ""),
        ("rbp", "ebp", "bp", "bpl", ""), ("rsp", "esp", "sp", "spl", ""),
        *((f"r{n}", f"r{n}d", f"r{n}w", f"r{n}b", "") for n in range(8, 16)),
    )
}  # fmt: skip
_X86_REGISTERS = {
    name: (full if full[1:].isdigit() else full[1:], shift)
    for full, names in _X86_SIZED.items()
    for name, (_, shift) in names.items()
} | {"rip": ("ip", 0)}


def parse_arguments(text: str, machine: str) -> tuple[Argument, ...]:
    """Parse a note's argument string.

    :param machine: ``x86_64`` or ``aarch64``.
    :raises Diagnostic: an operand that no integer can be read from (floating point), or unknown syntax.
    """
    text = text.strip()
    if not text:
        return ()
    found = _ONE.findall(text) if "@" in text else [("8", "", word) for word in text.split()]
    parse = _x86 if machine == "x86_64" else _arm64
    arguments = []
    for size, is_float, operand in found:
        if is_float:
            raise Diagnostic(
                f"the argument '{size}f@{operand}' is a floating point number, which BPF cannot read"
            )
        width = abs(int(size))
        if width not in (1, 2, 4, 8):
            raise Diagnostic(f"the argument '{size}@{operand}' has {width} bytes: 1, 2, 4 and 8 can be read")
        argument = parse(operand.strip(), width, size.startswith("-"))
        if argument is None:
            raise Diagnostic(f"cannot understand the argument '{size}@{operand}' of this probe")
        arguments.append(argument)
    return tuple(arguments)


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _x86(operand: str, size: int, signed: bool) -> Argument | None:
    if operand.startswith("$"):
        value = _number(operand[1:])
        return None if value is None else Argument(size, signed, "const", value)
    if operand.startswith("%"):
        found = _X86_REGISTERS.get(operand[1:])
        return None if found is None else Argument(size, signed, "reg", base=found[0], shift=found[1])
    match = _X86_MEM.match(operand)
    if match is None:
        return None
    disp, base, index = match["disp"], match["base"] or "", match["index"] or ""
    if base == "%rip":
        return _relative(disp, size, signed)
    value = _number(disp) if disp else 0
    registers = [_X86_REGISTERS.get(r[1:], ("", 0))[0] if r else "" for r in (base, index)]
    if value is None or (base and not registers[0]) or (index and not registers[1]):
        return None
    return Argument(size, signed, "mem", value, registers[0], registers[1], int(match["scale"] or 1))


def _relative(disp: str, size: int, signed: bool) -> Argument | None:
    # "name(%rip)", "name+4(%rip)", "4+name(%rip)": the sum of at most one name and numbers.
    symbol, value = "", 0
    for term in re.findall(r"[-+]?[^-+]+", disp):
        number = _number(term)
        if number is not None:
            value += number
        elif not symbol:
            symbol = term.lstrip("+")
        else:
            return None
    return Argument(size, signed, "symbol", value, symbol=symbol)


def _arm64(operand: str, size: int, signed: bool) -> Argument | None:
    value = _number(operand.lstrip("#"))
    if value is not None:
        return Argument(size, signed, "const", value)
    register = _arm_register(operand)
    if register:
        return Argument(size, signed, "reg", base=register)
    match = _ARM_MEM.match(operand)
    if match is None or not (base := _arm_register(match["base"])):
        return None
    index = _arm_register(match["index"]) if match["index"] else ""
    bits = 32 if match["index"] and match["index"].startswith("w") else 64
    scale = 1 << int(match["shift"] or 0)
    return Argument(size, signed, "mem", int(match["disp"] or "0", 0), base, index, scale, index_bits=bits)


def _arm_register(name: str) -> str:
    if name == "sp":
        return "sp"
    if name in ("xzr", "wzr"):
        return ""
    match = re.match(r"[xw](\d+)$", name)
    return f"r{match[1]}" if match and int(match[1]) <= 30 else ""


def emit_argument(
    b: Builder, ctx: Value, argument: Argument, regs: Registers, symbol_delta: int = 0
) -> Value:
    """Code for an argument's value, extended to 64 bits; 0 when its memory cannot be read.

    :param symbol_delta: for a ``symbol``, what to add to the program counter to get the symbol's address.
    """
    if argument.kind == "const":
        return b.const(argument.value)
    if argument.kind == "reg":
        value = b.load(ctx, regs.offsets[argument.base], 8)
        if argument.shift:
            value = b.binary("lshr", value, b.const(argument.shift))
        return b.extend(value, 8 * argument.size, argument.signed)
    if argument.kind == "symbol":
        address = b.binary(
            "add", b.load(ctx, regs.offsets[regs.pc], 8), b.const(symbol_delta + argument.value)
        )
    else:
        address = b.const(argument.value)
        if argument.base:
            address = b.binary("add", b.load(ctx, regs.offsets[argument.base], 8), address)
        if argument.offset_register:
            index = b.extend(
                b.load(ctx, regs.offsets[argument.offset_register], 8), argument.index_bits, False
            )
            address = b.binary("add", address, b.binary("mul", index, b.const(argument.scale)))
    return read_memory(b, address, argument.size, signed=argument.signed, space="user")
