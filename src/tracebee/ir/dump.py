"""IR as text a person reads: ``%3 = load u32 %ctx+8   ; 3:14``."""

from __future__ import annotations

from tracebee.ir.types import VOID
from tracebee.ir.value import CALLS, MASK64, UNARY
from tracebee.source import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir.value import Function, Module, Value

_COMMENT_COLUMN = 47


def dump_module(module: Module) -> str:
    """Every function of the module."""
    return "\n".join(dump_function(f) for f in module.functions)


def dump_function(function: Function) -> str:
    """One function, a block at a time; values are numbered in the order they stand."""
    names = Names(function)
    params = ", ".join(f"{p.type} {names[p]}" for p in function.params)
    lines = [f"func {function.name}({params}) -> {function.result}"]
    for block in function.blocks:
        lines.append(f"{block.name}:")
        for insn in block.insns:
            text = f"  {names.line(insn)}"
            if insn.span != NOWHERE:
                text = f"{text:<{_COMMENT_COLUMN}} ; {insn.span.line}:{insn.span.column}"
            lines.append(text)
    return "\n".join(lines) + "\n"


class Names:
    """Names of a function's values, given in the order they stand."""

    def __init__(self, function: Function) -> None:
        self._names: dict[Value, str] = {}
        for param in function.params:
            self._names[param] = "%ctx" if param.type == "ctx" else f"%arg{param.aux}"
        number = 0
        for block in function.blocks:
            for insn in block.insns:
                if insn.type != VOID:
                    self._names[insn] = f"%{number}"
                    number += 1

    def __getitem__(self, value: Value) -> str:
        name = self._names.get(value)
        if name is not None:
            return name
        aux = value.aux
        match value.op:
            case "const":
                return str(aux if aux < 1 << 63 else aux - MASK64 - 1)
            case "map_ref":
                return f"map[{aux}]"
            case "data_ref":
                return f"data[{aux[0]}+{aux[1]}]"
            case "func_ref":
                return f"&{aux.name}"
            case "core":
                return f"core[{aux.type_name}:{aux.access}]"
            case _:
                return f"<{value.op}?>"

    def line(self, insn: Value) -> str:
        """One instruction."""
        text = self._text(insn)
        return text if insn.type == VOID else f"{self._names[insn]} = {text}"

    def _text(self, insn: Value) -> str:
        op, aux = insn.op, insn.aux
        args = [self[a] for a in insn.args]
        match op:
            case "alloca":
                return f"alloca {aux[0]} align {aux[1]}" + (f" ; {aux[2]}" if aux[2] else "")
            case "get":
                return f"get {aux.name}"
            case "set":
                return f"set {aux.name} {args[0]}"
            case "extend":
                return f"{'sext' if aux[1] else 'zext'}{aux[0]} {args[0]}"
            case "compare":
                return f"{aux} {args[0]}, {args[1]}"
            case "load":
                return f"load {'s' if aux[2] else 'u'}{aux[1] * 8} {_place(args[0], aux[0], aux[3])}"
            case "store":
                return f"store u{aux[1] * 8} {_place(args[0], aux[0], aux[2])} = {args[1]}"
            case "memset":
                return f"memset {_place(args[0], aux[0])} = {aux[1]} * {aux[2]}"
            case "memcpy":
                return f"memcpy {_place(args[0], aux[0])} = {_place(args[1], aux[1])} * {aux[2]}"
            case "atomic":
                fetch = " fetch" if aux[3] else ""
                return (
                    f"atomic {aux[0]}{fetch} u{aux[2] * 8} {_place(args[0], aux[1])}, {', '.join(args[1:])}"
                )
            case "phi":
                pairs = zip(args, aux, strict=True)
                return "phi " + ", ".join(f"[{a}, {b.name}]" for a, b in pairs)
            case "br":
                condition = f"{aux[2]} " if len(aux) == 3 else ""
                return f"br {condition}{', '.join(args)} ? {aux[0].name} : {aux[1].name}"
            case "jump":
                return f"jump {aux.name}"
            case _ if op in CALLS:
                return f"{op} {aux if op != 'call' else aux.name}({', '.join(args)})"
            case _ if op in UNARY or not args:
                return " ".join([op, *args])
            case _:
                return f"{op} {', '.join(args)}"


def _place(pointer: str, offset: int, core: object = None) -> str:
    sign = "+" if offset >= 0 else ""
    suffix = f" core[{core.type_name}:{core.access}]" if core is not None else ""  # type: ignore[attr-defined]
    return f"{pointer}{sign}{offset}{suffix}"
