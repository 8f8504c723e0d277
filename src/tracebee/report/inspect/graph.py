"""A program's control flow as a graph in the DOT language of Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.isa.insn import BPF_CALL, BPF_EXIT, BPF_JA, BPF_JMP, BPF_JMP32, BPF_X, Insn

if TYPE_CHECKING:
    from tracebee.report.inspect.code import Row


def control_flow(rows: list[Row], name: str) -> str:
    """The graph: a box for each basic block, an arrow for each way from one to the next."""
    starts = _starts(rows)
    blocks: list[list[Row]] = []
    for row in rows:
        if row.slot in starts or not blocks:
            blocks.append([])
        blocks[-1].append(row)
    out = [f'digraph "{name}" {{', '\tnode [shape=box, fontname="monospace"];']
    for block in blocks:
        label = "".join(_escape(f"{row.slot}: {row.text}") + "\\l" for row in block)
        out.append(f'\tb{block[0].slot} [label="{label}"];')
    for block in blocks:
        out.extend(f"\tb{block[0].slot} -> b{target};" for target in _ways(block[-1]))
    out.append("}")
    return "\n".join(out)


def _target(row: Row) -> int | None:
    """Where a jump may go; None for what is no jump."""
    insn = row.insn
    operation = insn.opcode & 0xF0
    if insn.opcode & 7 not in (BPF_JMP, BPF_JMP32) or operation in (BPF_CALL, BPF_EXIT):
        return None
    # ``gotol`` is the only jump whose distance is in the immediate.
    far = insn.opcode == BPF_JMP32 | BPF_JA
    return row.slot + 1 + (insn.imm if far else insn.off)


def _is_end(insn: Insn) -> bool:
    return insn.opcode == BPF_JMP | BPF_EXIT


def _is_unconditional(insn: Insn) -> bool:
    return insn.opcode & ~BPF_X in (BPF_JMP | BPF_JA, BPF_JMP32 | BPF_JA)


def _starts(rows: list[Row]) -> set[int]:
    starts = {row.slot for row in rows if row.proto is not None}
    for row in rows:
        target = _target(row)
        if target is not None:
            starts.add(target)
        if target is not None or _is_end(row.insn):
            starts.add(row.slot + row.insn.slots)
    return starts


def _ways(last: Row) -> list[int]:
    if _is_end(last.insn):
        return []
    target, after = _target(last), last.slot + last.insn.slots
    if target is None:
        return [after]
    return [target] if _is_unconditional(last.insn) else [target, after]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
