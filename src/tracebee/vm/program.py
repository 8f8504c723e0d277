"""A program made ready for the VM: encodings checked, jumps in range, names replaced by addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tracebee.errors import ProgramFaultError, SymbolError
from tracebee.isa import insn as isa
from tracebee.isa.disasm import format_insn
from tracebee.isa.insn import Insn
from tracebee.isa.opcodes import find
from tracebee.obj.image import build_image
from tracebee.obj.model import RelocKind
from tracebee.vm.semantics import signed

if TYPE_CHECKING:
    from tracebee.obj.model import Object, ProgramDef, Reloc

MAX_INSNS = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS: what the kernel takes from the privileged


class Program:
    """Code in slots: ``slots[n]`` is the instruction at slot n, None in the second half of a wide load.

    Wide loads hold plain values and addresses, except those of BPF functions (``BPF_PSEUDO_FUNC``).
    """

    __slots__ = ("insns", "names", "slots")

    def __init__(self, insns: Iterable[Insn], names: Mapping[int, str] | None = None) -> None:
        """Take over code whose maps are addresses already.

        :param names: the function that starts at a slot, for traces.
        :raises ProgramFaultError: an undefined instruction, a register beyond r10, a jump outside or
            into the middle of a wide load; carries the slot.
        """
        self.insns = tuple(insns)
        self.names = dict(names or {0: "main"})
        slots: list[Insn | None] = []
        for insn in self.insns:
            slots.append(insn)
            if insn.is_wide:
                slots.append(None)
        self.slots = slots
        _check(slots)


def _check(slots: Sequence[Insn | None]) -> None:
    if not slots:
        raise ProgramFaultError("the program is empty")
    if len(slots) > MAX_INSNS:
        raise ProgramFaultError(f"the program has {len(slots)} slots, more than {MAX_INSNS}")
    for slot, insn in enumerate(slots):
        if insn is None:
            continue
        row = find(insn)
        if row is None or row.group == "internal":
            raise ProgramFaultError(f"undefined instruction: {format_insn(insn)}", slot=slot)
        if insn.dst > isa.R10 or insn.src > isa.R10:
            raise ProgramFaultError(f"there is no register beyond r10: {format_insn(insn)}", slot=slot)
        if insn.dst == isa.R10 and insn.opcode & 7 in (isa.BPF_ALU, isa.BPF_ALU64, isa.BPF_LDX):
            raise ProgramFaultError(f"r10 is read-only: {format_insn(insn)}", slot=slot)
        for target in targets(insn, slot):
            if not 0 <= target < len(slots) or slots[target] is None:
                raise ProgramFaultError(f"jump to slot {target}, which is no instruction", slot=slot)


def targets(insn: Insn, slot: int) -> tuple[int, ...]:
    """Slots an instruction may jump to or names as a function, besides the one after it."""
    klass, op = insn.opcode & 7, insn.opcode & 0xF0
    if insn.is_wide and insn.src == isa.BPF_PSEUDO_FUNC:
        return (slot + 1 + signed(insn.imm, 32),)
    if klass not in (isa.BPF_JMP, isa.BPF_JMP32) or op == isa.BPF_EXIT:
        return ()
    if op == isa.BPF_CALL:
        return (slot + 1 + insn.imm,) if insn.src == isa.BPF_PSEUDO_CALL else ()
    if op == isa.BPF_JA and insn.opcode & isa.BPF_X:
        return ()
    if op == isa.BPF_JA and klass == isa.BPF_JMP32:
        return (slot + 1 + insn.imm,)
    return (slot + 1 + insn.off,)


def link(
    obj: Object,
    program: ProgramDef,
    addresses: Mapping[str, int],
    *,
    kfuncs: Mapping[str, int] | None = None,
    core: Callable[[Insn, Reloc], Insn] | None = None,
) -> Program:
    """Lay a program of an object and the functions it reaches end to end, and fill in what it names.

    :param addresses: of each map by name: its own address for helpers; a data section's address is
        found as ``name + '[0]'``, the address of its value.
    :param kfuncs: number of each kernel function the VM offers, by name.
    :param core: resolves a CO-RE relocation, where there are kernel types to resolve it with.
    :raises SymbolError: a map or function that is not there, or a relocation only a kernel can resolve.
    :raises ProgramFaultError: as ``Program``.
    """
    image = build_image(obj, program)
    insns = image.insns
    for reloc in image.relocs:
        insns[reloc.at] = _resolve(insns[reloc.at], reloc, addresses, kfuncs or {}, core)
    return Program(insns, {start: function.name for start, function in image.functions})


def _resolve(
    insn: Insn,
    reloc: Reloc,
    addresses: Mapping[str, int],
    kfuncs: Mapping[str, int],
    core: Callable[[Insn, Reloc], Insn] | None,
) -> Insn:
    kind, symbol = reloc.kind, reloc.symbol
    if kind in (RelocKind.MAP, RelocKind.DATA):
        key = symbol if kind == RelocKind.MAP else f"{symbol}[0]"
        if key not in addresses:
            raise SymbolError(f"no map named '{symbol}'", list(addresses))
        return insn._replace(src=0, imm=addresses[key] + reloc.addend)
    if kind == RelocKind.KFUNC and symbol in kfuncs:
        return insn._replace(src=isa.BPF_PSEUDO_KFUNC_CALL, off=0, imm=kfuncs[symbol])
    if kind == RelocKind.CORE and core is not None:
        return core(insn, reloc)
    if reloc.weak:
        return insn._replace(imm=0, src=0)
    raise SymbolError(f"'{symbol}' ({kind}) is known to a kernel only", hint="run the program in the kernel")
