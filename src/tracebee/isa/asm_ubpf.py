"""The assembler of user-space BPF runtimes and of the BPF conformance suite, both ways.

One instruction a line, ``mnemonic operand, operand``: ``mov32 %r1, -1``, ``ldxdw %r0, [%r1+8]``,
``jne %r1, 5, label``, ``lock fetch add [%r10-8], %r1``, ``call local function``, ``exit``. Comments start
with ``#``. Registers may lack their ``%``. A jump to ``exit`` goes to the first ``exit`` where there is no
label of that name. Mnemonics are those of the opcode table; ``swap`` is ``bswap``.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic, SourceError
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.isa.helpers import BY_NAME as HELPERS
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import OPCODES, Opcode, find
from tracebee.source import Source, Span

_REGISTER = re.compile(r"%?r(\d+)$")
_ADDRESS = re.compile(r"\[\s*%?r(\d+)\s*(?:([+-])\s*(\w+))?\s*\]$")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|\d+)$")
_LABEL = re.compile(r"([A-Za-z_]\w*):$")
_ALIASES = {"swap16": "bswap16", "swap32": "bswap32", "swap64": "bswap64"}

# What each kind of operand is called in a row's shape: a register, a number, an address, a jump target.
_SHAPES: dict[tuple[str, str], Opcode] = {}


def _shape(row: Opcode) -> str:
    """The kinds of a row's operands in the order they are written, one letter each."""
    klass, op = row.insn_class, row.code & 0xF0
    if klass in (isa.BPF_JMP, isa.BPF_JMP32):
        operand = "r" if row.src is None else "n" if row.imm is None else ""
        if op in (isa.BPF_JA, isa.BPF_JCOND):
            return "r" if row.dst is None else "t"
        if op == isa.BPF_CALL:
            return "t" if row.src == isa.BPF_PSEUDO_CALL else "n"
        return "" if op == isa.BPF_EXIT else f"r{operand}t"
    if klass == isa.BPF_LDX or row.imm == isa.BPF_LOAD_ACQ:
        return "ra"
    if klass == isa.BPF_ST:
        return "an"
    if klass == isa.BPF_STX:
        return "ar"
    if klass == isa.BPF_LD and row.code & 0xE0 != isa.BPF_IMM:
        return "rn" if row.src is None else "n"
    kinds = {"dst": "r", "src": "r", "imm": "n"}
    return "".join(kinds[name] for name in row.operands)


for _row in OPCODES:
    if _row.group != "internal" and _row.name not in ("call_module_kfunc", "addr_space_cast"):
        _SHAPES[_row.mnemonic, _shape(_row)] = _row
_MNEMONICS = {mnemonic for mnemonic, _ in _SHAPES}


class _LineError(Exception):
    pass


def assemble(text: str, source: str = "asm") -> list[Insn]:
    """Assemble a text.

    :param source: what errors call it.
    :raises SourceError: with every line that could not be read.
    """
    findings: list[Diagnostic] = []
    lines: list[tuple[int, Insn, str | None]] = []
    labels: dict[str, int] = {}
    slot = 0
    for number, line in enumerate(text.splitlines(), 1):
        code = line.partition("#")[0].strip()
        if label := _LABEL.match(code):
            labels[label[1]] = slot
        elif code:
            try:
                insn, target = _read(code)
            except _LineError as error:
                column = len(line) - len(line.lstrip()) + 1
                findings.append(Diagnostic(str(error), Span(number, column, number, column + len(code))))
                continue
            if insn.opcode == isa.BPF_JMP | isa.BPF_EXIT:
                labels.setdefault("exit", slot)
            lines.append((number, insn, target))
            slot += insn.slots
    out: list[Insn] = []
    slot = 0
    for number, insn, target in lines:
        slot += insn.slots
        if target is None:
            out.append(insn)
        elif target in labels:
            out.append(_aim(insn, labels[target] - slot))
        else:
            findings.append(Diagnostic(f"there is no label '{target}'", Span(number, 1, number, 2)))
    if findings:
        raise SourceError(Source(source, text), findings)
    return out


def _read(code: str) -> tuple[Insn, str | None]:
    """One line's instruction, and the label it jumps to."""
    words = code.split(None, 1)
    mnemonic, rest = words[0], words[1] if len(words) > 1 else ""
    if mnemonic in ("lock", "load_acquire", "store_release"):
        head = re.match(r"((?:fetch\s+)?\w+)\s+(.*)$", rest)
        if head is None:
            raise _LineError(f"'{mnemonic}' needs an operation and operands")
        mnemonic, rest = f"{mnemonic} {' '.join(head[1].split())}", head[2]
        # Exchanges always fetch, so that saying so changes nothing.
        mnemonic = re.sub(r"fetch ((?:cmp)?xchg)", r"\1", mnemonic)
    elif mnemonic == "call":
        mode, rest = _call_mode(rest)
        mnemonic = mode
    operands = [operand.strip() for operand in rest.split(",")] if rest else []
    mnemonic = _ALIASES.get(mnemonic, mnemonic)
    shape = "".join(_kind(operand) for operand in operands)
    row = _SHAPES.get((mnemonic, shape))
    if row is None and shape.endswith("n"):  # a jump may give its distance as a number
        row = _SHAPES.get((mnemonic, shape[:-1] + "t"))
    if row is None:
        if mnemonic not in _MNEMONICS:
            raise _LineError(f"there is no instruction '{mnemonic}'")
        raise _LineError(f"'{mnemonic}' does not take these operands: {rest or 'none'}")
    return _build(row, operands)


def _call_mode(rest: str) -> tuple[str, str]:
    words = rest.split()
    mode = words[0] if len(words) > 1 else "helper"
    names = {"helper": "call", "local": "call local", "runtime": "call kfunc", "kfunc": "call kfunc"}
    if mode not in names or not words:
        raise _LineError("expected 'call helper N', 'call local LABEL' or 'call runtime N'")
    target = words[-1].removeprefix("bpf_")
    known = HELPERS.get(target) if mode == "helper" else None
    return names[mode], str(known.number) if known else words[-1]


def _kind(operand: str) -> str:
    if _REGISTER.match(operand):
        return "r"
    if operand.startswith("["):
        return "a"
    return "n" if _NUMBER.match(operand) else "t"


def _build(row: Opcode, operands: list[str]) -> tuple[Insn, str | None]:
    fields = {name: getattr(row, name) or 0 for name in ("dst", "src", "off", "imm")}
    registers = [name for name in ("dst", "src") if getattr(row, name) is None]
    if row.insn_class == isa.BPF_STX and row.imm != isa.BPF_LOAD_ACQ:
        registers = ["src"]
    elif row.insn_class in (isa.BPF_ST, isa.BPF_LDX) or row.imm == isa.BPF_LOAD_ACQ:
        registers = ["dst"]
    base = "src" if registers == ["dst"] and row.src is None else "dst"
    target = None
    for position, operand in enumerate(operands):
        if match := _REGISTER.match(operand):
            number = int(match[1])
            if number > 15:
                raise _LineError(f"there is no register {operand}")
            fields[registers.pop(0)] = number
        elif operand.startswith("["):
            fields[base], fields["off"] = _address(operand)
        elif _NUMBER.match(operand):
            is_offset = row.off is None and (row.imm is not None or position == len(operands) - 1)
            fields["off" if is_offset and row.insn_class != isa.BPF_ST else "imm"] = int(operand, 0)
        else:
            target = operand
    insn = Insn(row.code, fields["dst"], fields["src"], fields["off"], _immediate(row, fields["imm"]))
    if not -(1 << 15) <= insn.off < 1 << 15:
        raise _LineError(f"{insn.off} does not fit a signed 16-bit offset")
    return insn, target


def _address(operand: str) -> tuple[int, int]:
    match = _ADDRESS.match(operand)
    if match is None or (match[3] and not _NUMBER.match(match[3])):
        raise _LineError(f"expected [register+offset], found {operand}")
    offset = int(match[3] or "0", 0)
    return int(match[1]), -offset if match[2] == "-" else offset


def _immediate(row: Opcode, value: int) -> int:
    """The immediate field, which takes 32-bit numbers with and without sign."""
    if row.code == isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW:
        if not -(1 << 63) <= value < 1 << 64:
            raise _LineError(f"{value} does not fit 64 bits")
        return value & ((1 << 64) - 1)
    if not -(1 << 31) <= value < 1 << 32:
        raise _LineError(f"{value} does not fit 32 bits")
    return value - (1 << 32) if value >= 1 << 31 else value


def _aim(insn: Insn, distance: int) -> Insn:
    """A jump or call with the distance to its label filled in."""
    by_immediate = insn.opcode in (isa.BPF_JMP | isa.BPF_CALL, isa.BPF_JMP32 | isa.BPF_JA)
    return insn._replace(imm=distance) if by_immediate else insn._replace(off=distance)


def disassemble(insns: list[Insn]) -> list[str]:
    """One line for each instruction, in this notation; what it has no words for is a comment.

    Jumps are distances in slots: ``ja +3``.
    """
    return [_format(insn) for insn in insns]


def _format(insn: Insn) -> str:
    row = find(insn)
    if row is None or _SHAPES.get((row.mnemonic, _shape(row))) is not row:
        return f"# {format_insn(insn)}"
    address = f"[%r{insn.src if row.insn_class == isa.BPF_LDX or row.imm == isa.BPF_LOAD_ACQ else insn.dst}"
    address += f"{insn.off:+}]" if insn.off else "]"
    by_immediate = row.code in (isa.BPF_JMP | isa.BPF_CALL, isa.BPF_JMP32 | isa.BPF_JA)
    registers = [insn.dst, insn.src]
    shape = _shape(row)
    if shape == "ar" or (shape == "rn" and row.dst is not None):
        registers = [insn.src]
    parts = []
    for kind in shape:
        if kind == "r":
            parts.append(f"%r{registers.pop(0)}")
        elif kind == "a":
            parts.append(address)
        elif kind == "n":
            parts.append(hex(insn.imm) if insn.is_wide else str(insn.imm))
        else:
            parts.append(f"{insn.imm if by_immediate else insn.off:+}")
    return f"{row.mnemonic} {', '.join(parts)}".rstrip()
