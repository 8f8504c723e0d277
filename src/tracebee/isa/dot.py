"""Control flow of machine code as a graph in DOT, the language of Graphviz."""

from __future__ import annotations

from tracebee.isa.insn import BPF_CALL, BPF_EXIT, BPF_JA, BPF_JCOND, BPF_JMP, BPF_JMP32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tracebee.isa.insn import Insn


def code_dot(
    name: str, insns: Sequence[Insn], texts: Sequence[str] | None = None, heads: Collection[int] = ()
) -> str:
    """The graph: a box for each basic block, an arrow for each way from one to the next.

    Slots number the instructions; the arrows of a conditional jump say which is taken.

    :param texts: how each instruction prints; default: the kernel's notation.
    :param heads: slots that begin a block besides those jumps show, as functions do.
    """
    if texts is None:
        from tracebee.isa.disasm import format_insn

        texts = [format_insn(insn) for insn in insns]
    slots: list[int] = []
    end = 0
    for insn in insns:
        slots.append(end)
        end += insn.slots
    targets = {slot: _targets(insn, slot) for slot, insn in zip(slots, insns, strict=True)}
    starts = {0, *heads, *(t for found in targets.values() for t in found or ())}
    lines = [f'digraph "{_escaped(name)}" {{', '  node [shape=box, fontname="monospace", fontsize=10];']
    block: list[str] = []
    head = 0
    for slot, insn, text in zip(slots, insns, texts, strict=True):
        if not block:
            head = slot
        block.append(f"{slot}: {text}")
        found, following = targets[slot], slot + insn.slots
        if found is None and following not in starts and following < end:
            continue
        label = "".join(f"{_escaped(line)}\\l" for line in block)
        lines.append(f'  "{head}" [label="{label}"];')
        goes_on = found is None or _is_conditional(insn)
        branches = [f'  "{head}" -> "{t}"{" [label=yes]" if goes_on else ""};' for t in found or ()]
        lines += branches
        if goes_on and following < end:
            lines.append(f'  "{head}" -> "{following}"{" [label=no]" if branches else ""};')
        block = []
    return "\n".join([*lines, "}"]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _targets(insn: Insn, slot: int) -> tuple[int, ...] | None:
    """Slots a jump names; empty for exit; None for what only goes on."""
    kind, operation = insn.opcode & 7, insn.opcode & 0xF0
    if kind not in (BPF_JMP, BPF_JMP32) or operation == BPF_CALL:
        return None
    if operation == BPF_EXIT:
        return ()
    # ``gotol`` is the only jump whose distance is in the immediate.
    far = kind == BPF_JMP32 and operation == BPF_JA
    return (slot + 1 + (insn.imm if far else insn.off),)


def _is_conditional(insn: Insn) -> bool:
    operation = insn.opcode & 0xF0
    return operation not in (BPF_JA, BPF_EXIT) or operation == BPF_JCOND
