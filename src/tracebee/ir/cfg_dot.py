"""Control flow as a graph in DOT (Graphviz), of IR functions and of machine code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.ir.dump import Names
from tracebee.isa.insn import (
    BPF_CALL,
    BPF_EXIT,
    BPF_JA,
    BPF_JCOND,
    BPF_JMP,
    BPF_JMP32,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.ir.value import Function
    from tracebee.isa.insn import Insn


def function_dot(function: Function) -> str:
    """The blocks of an IR function; a branch's edges are labelled with what takes them."""
    names = Names(function)
    lines = _opening(function.name)
    for block in function.blocks:
        text = [f"{block.name}:", *(names.line(i) for i in block.insns)]
        lines.append(f'  "{block.name}" [label="{_label(text)}"];')
        last = block.terminator
        if last is not None and last.op == "br":
            then, else_ = last.aux[:2]
            lines.append(f'  "{block.name}" -> "{then.name}" [label="yes"];')
            lines.append(f'  "{block.name}" -> "{else_.name}" [label="no"];')
        else:
            lines += [f'  "{block.name}" -> "{s.name}";' for s in block.succs]
    return "\n".join([*lines, "}"]) + "\n"


def code_dot(name: str, insns: Sequence[Insn], text: Callable[[Insn], str] | None = None) -> str:
    """The basic blocks of machine code, one graph per call; slots number the instructions.

    :param text: how an instruction prints; default: the kernel's notation.
    """
    if text is None:
        from tracebee.isa.disasm import format_insn

        text = format_insn
    slots: list[int] = []
    slot = 0
    for insn in insns:
        slots.append(slot)
        slot += insn.slots
    targets = {s: _targets(i, s) for s, i in zip(slots, insns, strict=True)}
    starts = {0} | {t for found in targets.values() for t in found or ()}
    starts |= {s + i.slots for s, i in zip(slots, insns, strict=True) if targets[s] is not None}
    lines = _opening(name)
    block: list[str] = []
    head = 0
    for at, insn in zip(slots, insns, strict=True):
        if at in starts:
            head, block = at, []
        block.append(f"{at}: {text(insn)}")
        following = at + insn.slots
        found = targets[at]
        if found is None and following not in starts:
            continue
        lines.append(f'  "{head}" [label="{_label(block)}"];')
        goes_on = found is None or _is_conditional(insn)
        branches = [f'  "{head}" -> "{t}"{" [label=yes]" if goes_on else ""};' for t in found or ()]
        lines += branches
        if goes_on and following < slot:
            lines.append(f'  "{head}" -> "{following}"{" [label=no]" if branches else ""};')
    return "\n".join([*lines, "}"]) + "\n"


def _opening(name: str) -> list[str]:
    return [f'digraph "{name}" {{', '  node [shape=box, fontname="monospace", fontsize=10];']


def _label(lines: Iterable[str]) -> str:
    """Lines as a DOT string, each aligned left."""
    return "".join(line.replace("\\", "\\\\").replace('"', '\\"') + "\\l" for line in lines)


def _targets(insn: Insn, slot: int) -> tuple[int, ...] | None:
    """Slots a jump names; empty for exit; None for what only goes on."""
    kind, operation = insn.opcode & 7, insn.opcode & 0xF0
    if kind not in (BPF_JMP, BPF_JMP32) or operation == BPF_CALL:
        return None
    if operation == BPF_EXIT:
        return ()
    far = kind == BPF_JMP32 and operation == BPF_JA
    return (slot + 1 + (insn.imm if far else insn.off),)


def _is_conditional(insn: Insn) -> bool:
    operation = insn.opcode & 0xF0
    return operation not in (BPF_JA, BPF_EXIT) or operation == BPF_JCOND
