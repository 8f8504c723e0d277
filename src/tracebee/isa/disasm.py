"""Instructions as text in the kernel's notation, as ``bpftool prog dump xlated`` and verifier logs print it.

Source: ``kernel/bpf/disasm.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tracebee.isa.helpers import BY_NUMBER
from tracebee.isa.insn import BPF_CALL, BPF_JMP, BPF_PSEUDO_CALL, Insn
from tracebee.isa.opcodes import BY_CODE, Opcode, find

CallName = Callable[[Insn], str | None]


def disassemble(insns: Iterable[Insn], call_name: CallName | None = None) -> list[str]:
    """One line of text for each instruction.

    :param call_name: names the target of a call when its immediate is not a helper's number, as in
        code read back from the kernel (a loaded program's local calls have the target in the offset);
        the result replaces what is before the ``#``, or the ``pc+n`` of a local call. None from it
        means the usual text.
    """
    return [format_insn(insn, call_name) for insn in insns]


def listing(insns: Iterable[Insn], call_name: CallName | None = None) -> str:
    """Text with slot numbers and opcodes before each instruction, one a line::

    0: (b7) r0 = 0
    1: (95) exit
    """
    lines, slot = [], 0
    for insn in insns:
        lines.append(f"{slot:4}: ({insn.opcode:02x}) {format_insn(insn, call_name)}")
        slot += insn.slots
    return "\n".join(lines)


def format_insn(insn: Insn, call_name: CallName | None = None) -> str:
    """One instruction as text; one without a form is ``.insn opcode, dst, src, off, imm``."""
    if insn.opcode == BPF_JMP | BPF_CALL and call_name and (name := call_name(insn)) is not None:
        return f"call {name}" if insn.src == BPF_PSEUDO_CALL else f"call {name}#{insn.imm}"
    row = find(insn) or _nearest(insn)
    if row is None:
        return f".insn {insn.opcode:#04x}, {insn.dst}, {insn.src}, {insn.off}, {insn.imm}"
    _, dst, src, off, imm = insn
    known = BY_NUMBER.get(imm)
    return row.text.format(
        dst=dst,
        src=src,
        off=off,
        imm=imm,
        uimm=imm & 0xFFFFFFFF,
        low=imm & 0xFFFFFFFF,
        high=imm >> 32,
        delta=(imm & 0xFFFFFFFF ^ 0x80000000) - 0x80000000,
        to_as=imm >> 16 & 0xFFFF,
        from_as=imm & 0xFFFF,
        helper=f"bpf_{known.name}" if known else "unknown",
    )


def _nearest(insn: Insn) -> Opcode | None:
    """A form whose unused fields are not zero in the instruction, printed as the kernel does all the same."""
    rows = BY_CODE.get(insn.opcode, ())
    return rows[0] if len(rows) == 1 else None
