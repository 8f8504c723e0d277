"""Assembler for the kernel's notation: what ``disasm`` prints, and names where numbers are a nuisance.

One instruction a line. Beyond the printed forms it takes::

    r1 = 5                        ; 64-bit move of a signed 32-bit immediate
    r1 = 0x5                      ; hexadecimal is a wide (two-slot) load, as the kernel prints one
    r1 = -1 ll                    ; so is any number followed by ll
    if r1 != 0 goto out           ; a label instead of pc+n
    call map_lookup_elem          ; a helper by name, with or without bpf_ and #number
    call kfunc bpf_rcu_read_lock  ; a kernel function: makes a relocation
    r1 = map[counts]              ; a map by name: makes a relocation
    r1 = map[.rodata][0]+8        ; address inside a data-section map: makes a relocation
    r2 = subprog[callback]        ; address of a function: makes a relocation
    call compute                  ; a function of this text: makes a relocation
    out:                          ; a label, local to its function
    .func compute                 ; starts another function
    7: (b7) r1 = 5                ; slot numbers and opcodes of listings are skipped

Comments start with ``;`` or ``//``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from tracebee.errors import Diagnostic, SourceError
from tracebee.isa import insn as isa
from tracebee.isa.helpers import BY_NAME as HELPERS
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import OPCODES, Opcode
from tracebee.source import Source, Span
from tracebee.typed import NamedTuple


class Symbol(NamedTuple):
    """A name an instruction refers to: the fields of ``obj.model.Reloc``, which it becomes.

    ``kind`` is ``map``, ``data`` (an address inside a map's value), ``func``, ``call`` or ``kfunc``.
    """

    at: int
    kind: str
    name: str
    addend: int = 0


class Code(NamedTuple):
    """One assembled function. What it refers to by name is in ``symbols``, and zero in ``insns``."""

    name: str
    insns: tuple[Insn, ...]
    symbols: tuple[Symbol, ...] = ()
    lines: tuple[int, ...] = ()  # source line of each instruction, from 1


class _Token(NamedTuple):
    kind: str  # "r" and "w" for registers, num, hex, word, op
    text: str
    value: int
    column: int  # from 0


class _Pattern(NamedTuple):
    """A row's text, tokenized. ``holes``: the field, or the literal, that each of its values is."""

    row: Opcode
    holes: tuple[str | int, ...]
    is_hex: bool


class _MisreadError(Exception):
    """A line that is no instruction, with the column (from 0) and the width of what is wrong."""

    def __init__(self, message: str, column: int, width: int = 1, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.column, self.width, self.hint = message, column, width, hint


_LEXER = re.compile(
    r"""(?P<space>\s+)
      | (?P<reg>[rw](?:10|[0-9])\b)
      | (?P<hex>0[xX][0-9a-fA-F]+)
      | (?P<num>[0-9]+)
      | (?P<op>s(?:>>=|/=|%=|>=|<=|>|<) | >>= | <<= | [-+*/|&^%<>=!]= | [-+*/|&^%<>=!()\[\]{},\#@:])
      | (?P<word>[A-Za-z_.$][\w.$]*)
    """,
    re.VERBOSE,
)
_PREFIX = re.compile(r"\s*[0-9]+:\s*(?:\(([0-9a-f]{2})\))?")
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*):\s*$")
_FUNC = re.compile(r"\s*\.func\s+([A-Za-z_.$][\w.$]*)\s*$")
_COMMENT = re.compile(r";.*|//.*")
_VALUES = ("r", "w", "num", "hex")
_LDDW = isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW


def _tokenize(line: str, start: int = 0) -> list[_Token]:
    """The tokens of one line; signs belong to the number after them."""
    tokens: list[_Token] = []
    at = start
    while at < len(line):
        match = _LEXER.match(line, at)
        if match is None or match.lastgroup is None:
            raise _MisreadError(f"unexpected character {line[at]!r}", at)
        kind, text, value, column = match.lastgroup, match.group(), 0, at
        if kind in ("num", "hex"):
            value = int(text, 16 if kind == "hex" else 10)
            # "(r6 + -8)", "(r6 +8)" and "-8" alike hold one signed number.
            while tokens and tokens[-1].text in ("+", "-"):
                sign = tokens.pop()
                value, column = -value if sign.text == "-" else value, sign.column
        elif kind == "reg":
            kind, value = text[0], int(text[1:])
        if kind != "space":
            tokens.append(_Token(kind, text, value, column))
        at = match.end()
    return tokens


def _skeleton(tokens: list[_Token]) -> str:
    """A line with placeholders for its registers and numbers, and without ``pc`` before offsets."""
    marks = {"r": "r#", "w": "w#", "num": "#", "hex": "#"}
    return " ".join(marks.get(t.kind, t.text) for t in tokens if t.text != "pc")


def _patterns() -> dict[str, list[_Pattern]]:
    """Every row but the helper call's by the skeleton of its text."""
    table: dict[str, list[_Pattern]] = {}
    for row in OPCODES:
        # Where the text has an operand, "9" stands in: no literal number in a text ends in 9.
        sample, fields = "", []
        for literal, field, spec, _ in Formatter().parse(row.text):
            sample += literal
            if field is not None:
                sample += "+9" if spec == "+" else "9"
                fields.append(field)
        tokens = _tokenize(sample)
        names = iter(fields)
        values = [t for t in tokens if t.kind in _VALUES]
        holes = tuple(next(names) if t.text.endswith("9") else t.value for t in values)
        pattern = _Pattern(row, holes, any(t.kind == "hex" for t in tokens))
        table.setdefault(_skeleton(tokens), []).append(pattern)
        if row.name == "lddw":
            table["r# = # ll"] = [pattern]
    return table


_TABLE = _patterns()


def _fill(pattern: _Pattern, values: list[_Token]) -> Insn | None:
    """The instruction of a row with these operands, or None where a literal of the row differs."""
    fields: dict[str, int] = {}
    for hole, token in zip(pattern.holes, values, strict=True):
        if isinstance(hole, int):
            if hole != token.value:
                return None
        elif fields.setdefault(hole, token.value) != token.value:
            raise _MisreadError(f"expected r{fields[hole]} again", token.column, len(token.text))
    row = pattern.row
    imm = fields.get("imm", row.imm or 0)
    if "uimm" in fields:
        imm = fields["uimm"]
        imm -= 1 << 32 if 1 << 31 <= imm < 1 << 32 else 0
    elif "low" in fields:
        imm = fields["low"] | fields.get("high", 0) << 32
    elif "delta" in fields:
        imm = fields["delta"] & 0xFFFFFFFF
    elif "to_as" in fields:
        imm = (fields["to_as"] << 16 | fields["from_as"]) & 0xFFFFFFFF
        imm -= 1 << 32 if imm >> 31 else 0
    if row.code == _LDDW and -(1 << 63) <= imm < 0:
        imm += 1 << 64
    insn = Insn(
        row.code,
        fields.get("dst", row.dst or 0),
        fields.get("src", row.src or 0),
        fields.get("off", row.off or 0),
        imm,
    )
    _check_range(insn, values)
    return insn


def _check_range(insn: Insn, values: list[_Token]) -> None:
    if not -(1 << 15) <= insn.off < 1 << 15:
        bad, size = insn.off, "a signed 16-bit offset"
    elif insn.opcode == _LDDW and not 0 <= insn.imm < 1 << 64:
        bad, size = insn.imm, "64 bits"
    elif insn.opcode != _LDDW and not -(1 << 31) <= insn.imm < 1 << 31:
        bad, size = insn.imm, "a signed 32-bit immediate"
    else:
        return
    token = next((t for t in values if t.value == bad), values[-1])
    hint = "a wide load takes 64 bits: write 'll' after the number" if size.endswith("immediate") else None
    raise _MisreadError(f"{bad} does not fit {size}", token.column, len(token.text), hint)


class _Line:
    """What one line of text said: an instruction, the label it jumps to, the symbol it refers to."""

    __slots__ = ("insn", "label", "number", "symbol", "text", "token")

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text
        self.insn = Insn(0)
        self.label: str | None = None
        self.symbol: tuple[str, str, int] | None = None
        self.token: _Token | None = None  # where the name stands

    def read(self) -> None:
        """Fill in from the text.

        :raises _MisreadError: the text is no instruction.
        """
        start, opcode = 0, None
        if prefix := _PREFIX.match(self.text):
            start, opcode = prefix.end(), int(prefix[1], 16) if prefix[1] else None
        tokens = _tokenize(self.text, start)
        if not tokens:
            raise _MisreadError("expected an instruction", start)
        if tokens[0].text == ".insn":
            self.insn = self._raw(tokens)
        elif tokens[0].text == "call" and len(tokens) > 1 and tokens[1].text not in ("pc", "kernel"):
            self.insn = self._call(tokens)
        else:
            self._take_names(tokens)
            self.insn = self._match(tokens, opcode)

    def _match(self, tokens: list[_Token], opcode: int | None) -> Insn:
        candidates = _TABLE.get(_skeleton(tokens), [])
        values = [t for t in tokens if t.kind in _VALUES]
        is_hex = any(t.kind == "hex" for t in values)
        # Of a move and a wide load, which look alike, hexadecimal says the wide load.
        for pattern in sorted(candidates, key=lambda p: p.is_hex != is_hex):
            if opcode in (None, pattern.row.code) and (insn := _fill(pattern, values)) is not None:
                return insn
        width = tokens[-1].column + len(tokens[-1].text) - tokens[0].column
        hint = None
        if "w" in {t.kind for t in tokens} and "r" in {t.kind for t in tokens}:
            hint = "w registers do not mix with r registers, except in addresses"
        raise _MisreadError("there is no such instruction", tokens[0].column, width, hint)

    def _take_names(self, tokens: list[_Token]) -> None:
        """Replace names by zeros: a label after goto, a map or function name in brackets."""
        for i in range(1, len(tokens)):
            token, before = tokens[i], tokens[i - 1]
            if token.kind == "word" and token.text != "pc" and before.text in ("goto", "gotol", "may_goto"):
                self.label, self.token = token.text, token
                tokens[i] = token._replace(kind="num")
        for i in range(len(tokens) - 3):
            base, bracket, name, close = tokens[i : i + 4]
            if base.text not in ("map", "subprog") or (bracket.text, close.text) != ("[", "]"):
                continue
            if name.kind != "word":
                continue
            self.token = name
            zero = name._replace(kind="num")
            if base.text == "subprog":
                self.symbol = ("func", name.text, 0)
                tokens[i + 2] = zero
                return
            addend = tokens[-1].value if tokens[-1].kind in ("num", "hex") else 0
            self.symbol = ("data" if len(tokens) > i + 4 else "map", name.text, addend)
            if addend:
                tokens[-1] = tokens[-1]._replace(value=0)
            tokens[i + 2 : i + 3] = [name._replace(text="id"), name._replace(text=":", kind="op"), zero]
            return

    def _call(self, tokens: list[_Token]) -> Insn:
        """Everything after ``call`` but ``pc+n`` and ``kernel-function``."""
        call = isa.BPF_JMP | isa.BPF_CALL
        words = [t for t in tokens[1:] if t.kind == "word"]
        numbers = [t for t in tokens[1:] if t.kind in ("num", "hex")]
        self.token = words[-1] if words else tokens[1]
        if len(words) == 2 and words[0].text == "kfunc":
            self.symbol = ("kfunc", words[1].text, 0)
            return Insn(call, src=isa.BPF_PSEUDO_KFUNC_CALL)
        if numbers and len(words) <= 1:
            return Insn(call, imm=numbers[-1].value)
        if len(words) != 1 or numbers:
            raise _MisreadError("expected the name or number of a function", tokens[1].column)
        helper = HELPERS.get(words[0].text.removeprefix("bpf_"))
        # A function of this text hides a helper of its name: that is settled when all are known.
        self.symbol = ("call", words[0].text, 0)
        return Insn(call, imm=helper.number if helper else 0)

    def _raw(self, tokens: list[_Token]) -> Insn:
        values = [t.value for t in tokens if t.kind in ("num", "hex")]
        if len(values) != 5:
            raise _MisreadError("expected opcode, dst, src, off, imm", tokens[0].column, len(".insn"))
        return Insn(*values)


def assemble_functions(text: str, name: str = "main", source: str = "asm") -> tuple[Code, ...]:
    """Assemble a text of one or more functions (``.func``); the first is ``name`` unless it names itself.

    Jumps to labels are resolved; maps, functions and kernel functions named stay symbols.

    :param source: what errors call the text.
    :raises SourceError: with every line that could not be read, its column, and a hint where there is one.
    """
    where = Source(source, text)
    findings: list[Diagnostic] = []
    functions: list[tuple[str, list[_Line], dict[str, int]]] = [(name, [], {})]
    for number, line in enumerate(text.split("\n"), 1):
        code = _COMMENT.sub("", line)
        if func := _FUNC.match(code):
            if not functions[-1][1]:
                functions.pop()
            functions.append((func[1], [], {}))
            continue
        _, lines, labels = functions[-1]
        if label := _LABEL.match(code):
            labels[label[1]] = len(lines)
        elif code.strip():
            entry = _Line(number, code)
            lines.append(entry)
            try:
                entry.read()
            except _MisreadError as error:
                findings.append(_diagnose(error.message, number, error.column, error.width, error.hint))
    names = {function for function, _, _ in functions}
    finished = [_finish(*function, names, findings) for function in functions]
    if findings:
        raise SourceError(where, sorted(findings, key=lambda finding: finding.span))
    return tuple(finished)


def _finish(
    name: str, lines: list[_Line], labels: dict[str, int], names: set[str], findings: list[Diagnostic]
) -> Code:
    """A function with its labels resolved and its symbols collected."""
    slots = [0]
    for line in lines:
        slots.append(slots[-1] + line.insn.slots)
    insns, symbols = [], []
    for at, line in enumerate(lines):
        insn, token = line.insn, line.token
        if line.label is not None and token is not None:
            target = labels.get(line.label)
            if target is None:
                message = f"there is no label '{line.label}' in {name}"
                findings.append(_diagnose(message, line.number, token.column, len(token.text)))
            else:
                delta = slots[target] - slots[at + 1]
                is_long = insn.opcode == isa.BPF_JMP32 | isa.BPF_JA
                insn = insn._replace(imm=delta) if is_long else insn._replace(off=delta)
        if line.symbol is not None and token is not None:
            kind, symbol, addend = line.symbol
            if kind == "call" and symbol in names:
                insn = insn._replace(src=isa.BPF_PSEUDO_CALL, imm=0)
                symbols.append(Symbol(at, "call", symbol))
            elif kind == "call":
                if insn.imm == 0:
                    message = f"there is no helper or function '{symbol}'"
                    hint = "a kernel function is called by 'call kfunc NAME'"
                    findings.append(_diagnose(message, line.number, token.column, len(token.text), hint))
            else:
                if kind == "data":
                    insn = insn._replace(src=isa.BPF_PSEUDO_MAP_VALUE)
                symbols.append(Symbol(at, kind, symbol, addend))
        insns.append(insn)
    return Code(name, tuple(insns), tuple(symbols), tuple(line.number for line in lines))


def _diagnose(message: str, line: int, column: int, width: int, hint: str | None = None) -> Diagnostic:
    return Diagnostic(message, Span(line, column + 1, line, column + 1 + max(width, 1)), hint=hint)


def assemble(text: str, maps: Mapping[str, int] | None = None, source: str = "asm") -> list[Insn]:
    """Assemble a text to one run of code, its functions one after the other and linked to each other.

    :param maps: what to put in place of map names: file descriptors, or whatever will run the code wants.
    :raises SourceError: as ``assemble_functions``, and for a map or kernel function that is not known.
    """
    functions = assemble_functions(text, source=source)
    starts, slot = {}, 0
    for function in functions:
        starts[function.name] = slot
        slot += sum(insn.slots for insn in function.insns)
    out: list[Insn] = []
    findings = []
    slot = 0
    for function in functions:
        symbols = {symbol.at: symbol for symbol in function.symbols}
        for at, insn in enumerate(function.insns):
            linked: Insn | None = insn
            if symbol := symbols.get(at):
                linked = _link(insn, symbol, starts, slot, maps or {})
            if linked is None:
                message = f"nothing is known of '{symbol.name if symbol else ''}' here"
                findings.append(_diagnose(message, function.lines[at], 0, 1))
            else:
                out.append(linked)
            slot += insn.slots
    if findings:
        raise SourceError(Source(source, text), findings)
    return out


def _link(
    insn: Insn, symbol: Symbol, starts: Mapping[str, int], slot: int, maps: Mapping[str, int]
) -> Insn | None:
    """The instruction at ``slot`` with its symbol's value in place, or None when it has none."""
    if symbol.kind == "call":
        return insn._replace(imm=starts[symbol.name] - slot - 1)
    if symbol.kind == "func" and symbol.name in starts:
        return insn._replace(imm=starts[symbol.name] - slot - 1 & 0xFFFFFFFF)
    if symbol.kind in ("map", "data") and symbol.name in maps:
        return insn._replace(imm=maps[symbol.name] | symbol.addend << 32)
    return None
