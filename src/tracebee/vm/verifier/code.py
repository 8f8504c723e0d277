"""The code the verifier looks at: instructions by slot, with what their names stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SymbolError
from tracebee.isa import insn as isa
from tracebee.isa.opcodes import OPCODES, find
from tracebee.vm.verifier.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Function, LineInfo, MapDef, Object, Reloc

MAX_INSNS = 1_000_000
_KNOWN = frozenset(row.code for row in OPCODES if row.group != "internal")


class MapUse(NamedTuple):
    """What a wide load loads: a map, or (``offset`` not None) an address in its first value."""

    map: MapDef
    offset: int | None


class Subprogram(NamedTuple):
    """A function: the slots from ``start`` up to ``end``."""

    start: int
    end: int
    name: str
    is_global: bool = False
    args: int = 5


class Code:
    """A whole program, its functions one behind the other.

    ``slots[n]`` is the instruction at slot n, None in the second half of a wide load. ``maps``,
    ``kfuncs`` and ``symbols`` say by slot what an instruction names, ``lines`` where it comes from.
    """

    def __init__(self, insns: Iterable[Insn]) -> None:
        self.slots: list[Insn | None] = []
        for insn in insns:
            self.slots.append(insn)
            if insn.is_wide:
                self.slots.append(None)
        self.maps: dict[int, MapUse] = {}
        self.kfuncs: dict[int, str] = {}
        self.symbols: dict[int, str] = {}
        self.weak: set[int] = set()  # slots of symbols that may be missing: they are 0 then
        self.lines: dict[int, LineInfo] = {}
        self.names: dict[int, str] = {0: "main"}
        self.globals: frozenset[int] = frozenset()

    @classmethod
    def of_insns(cls, insns: Iterable[Insn], maps: Mapping[int, MapDef] | None = None) -> Code:
        """Raw code as the kernel takes it; ``maps`` by the descriptors its wide loads hold."""
        code = cls(insns)
        for slot, insn in enumerate(code.slots):
            if insn is None or not insn.is_wide:
                continue
            if insn.src in (isa.BPF_PSEUDO_MAP_FD, isa.BPF_PSEUDO_MAP_VALUE):
                found = (maps or {}).get(insn.imm & 0xFFFFFFFF)
                if found is not None:
                    offset = insn.imm >> 32 if insn.src == isa.BPF_PSEUDO_MAP_VALUE else None
                    code.maps[slot] = MapUse(found, offset)
        return code

    @classmethod
    def of_object(cls, obj: Object, name: str, core: Callable[[Insn, Reloc], Insn] | None = None) -> Code:
        """A program of an object with the functions it reaches.

        :param core: puts CO-RE values into instructions; without it they stay as they are.

        :raises SymbolError: no such program, or it names a map or function that is not there.
        """
        program = next((p for p in obj.programs if p.name == name), None)
        if program is None:
            raise SymbolError(f"no program named '{name}' in {obj.name}", [p.name for p in obj.programs])
        order = _reachable(program.function, {f.name: f for f in obj.functions})
        starts: dict[str, int] = {}
        total = 0
        for function in order:
            starts[function.name] = total
            total += sum(insn.slots for insn in function.insns)
        insns: list[Insn] = []
        slots: list[int] = []
        slot = 0
        for function in order:
            for insn in function.insns:
                insns.append(insn)
                slots.append(slot)
                slot += insn.slots
        code = cls(insns)
        maps = {m.name: m for m in obj.maps}
        base = 0
        for function in order:
            for reloc in function.relocs:
                at = slots[base + reloc.at]
                before = code.slots[at]
                if reloc.core is not None and core is not None and before is not None:
                    code.slots[at] = core(before, reloc)
                code._take(
                    slots[base + reloc.at], reloc.kind, reloc.symbol, reloc.addend, reloc.weak, starts, maps
                )
            for line in function.lines:
                code.lines[slots[base + line.at]] = line
            base += len(function.insns)
        code.names = {start: name for name, start in starts.items()}
        code.globals = frozenset(starts[f.name] for f in order if f.is_global)
        return code

    def _take(
        self,
        slot: int,
        kind: str,
        symbol: str,
        addend: int,
        weak: bool,
        starts: Mapping[str, int],
        maps: Mapping[str, MapDef],
    ) -> None:
        insn = self.slots[slot]
        assert insn is not None
        if kind == "call":
            self.slots[slot] = insn._replace(src=isa.BPF_PSEUDO_CALL, imm=starts[symbol] - slot - 1)
        elif kind == "func":
            relative = starts[symbol] - slot - 1
            self.slots[slot] = insn._replace(src=isa.BPF_PSEUDO_FUNC, imm=relative & 0xFFFFFFFF)
        elif kind in ("map", "data"):
            if symbol not in maps:
                raise SymbolError(f"no map named '{symbol}'", list(maps))
            self.maps[slot] = MapUse(maps[symbol], addend if kind == "data" else None)
            source = isa.BPF_PSEUDO_MAP_VALUE if kind == "data" else isa.BPF_PSEUDO_MAP_FD
            self.slots[slot] = insn._replace(src=source)
        elif kind == "kfunc":
            self.kfuncs[slot] = symbol
            self.slots[slot] = insn._replace(src=isa.BPF_PSEUDO_KFUNC_CALL)
        elif kind == "ksym":
            self.symbols[slot] = symbol
            if weak:
                self.weak.add(slot)

    def line_of(self, slot: int) -> LineInfo | None:
        """The source line of a slot: that of the nearest slot before it that has one."""
        for at in range(slot, -1, -1):
            if at in self.lines:
                return self.lines[at]
            if at in self.names:
                return None
        return None


def _reachable(entry: Function, library: Mapping[str, Function]) -> list[Function]:
    order, seen = [entry], {entry.name}
    for function in order:
        for reloc in function.relocs:
            if reloc.kind in ("call", "func") and reloc.symbol not in seen:
                if reloc.symbol not in library:
                    raise SymbolError(f"no function named '{reloc.symbol}'", list(library))
                seen.add(reloc.symbol)
                order.append(library[reloc.symbol])
    return order


def uses_reserved(insn: Insn) -> bool:
    """Whether fields that the instruction does not have are set, or hold what they cannot.

    The kernel looks at that only where a path comes by.
    """
    row = find(insn)
    return row is None or row.group == "internal"


def check_encoding(slots: list[Insn | None], *, privileged: bool) -> None:
    """Refuse what is no instruction.

    :raises RefusalError: prefixed with the slot.
    """
    limit = MAX_INSNS if privileged else 4096
    if not slots or len(slots) > limit:
        raise RefusalError(f"the program has {len(slots)} instructions; 1 to {limit} are allowed")
    for slot, insn in enumerate(slots):
        if insn is None:
            continue
        if insn.opcode not in _KNOWN:
            raise RefusalError(f"{slot}: unknown opcode {insn.opcode:#04x}")
        if insn.dst > isa.R10 or insn.src > isa.R10:
            raise RefusalError(f"{slot}: R{max(insn.dst, insn.src)} is invalid")
