"""Classic programs as text, as ``tcpdump -d`` prints them."""

from __future__ import annotations

from collections.abc import Sequence

from tracebee.vm.cbpf.program import BY_CODE, JA, JMP, ClassicInsn


def disassemble(program: Sequence[ClassicInsn]) -> list[str]:
    """One line for each instruction; jumps name the number of the instruction they go to."""
    return [format_insn(insn, at) for at, insn in enumerate(program)]


def format_insn(insn: ClassicInsn, at: int) -> str:
    """The line of the instruction with number ``at``."""
    row = BY_CODE.get(insn.code)
    if row is None:
        return f"({at:03}) unimp    {insn.code:#x}"
    is_always = insn.code & 0xF7 == JMP | JA
    operand = row.operand.format(k=at + 1 + insn.k if is_always else insn.k)
    if insn.code & 7 == JMP and not is_always:
        return f"({at:03}) {row.mnemonic:<8} {operand:<16} jt {at + 1 + insn.jt}\tjf {at + 1 + insn.jf}"
    return f"({at:03}) {row.mnemonic:<8} {operand}"
