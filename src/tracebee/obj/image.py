"""A program as an engine runs it: its functions one behind the other, the calls between them resolved."""

from __future__ import annotations

from tracebee.errors import DecodeError
from tracebee.isa.insn import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, Insn
from tracebee.obj.model import LineInfo, Reloc, RelocKind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.obj.model import Function, Object, ProgramDef


class Image(NamedTuple):
    """All instructions of one program.

    :param relocs: what only an engine can fill in (maps, data, kernel things, CO-RE); ``at`` counts
        instructions of the whole image.
    :param functions: (first slot, function), the entry first, rising.
    :param lines: source places, ``at`` as in ``relocs``.
    :param slots: the slot number of each instruction.
    """

    insns: list[Insn]
    relocs: list[Reloc]
    functions: list[tuple[int, Function]]
    lines: list[LineInfo]
    slots: list[int]


def build_image(obj: Object, program: ProgramDef) -> Image:
    """Lay out a program's entry function and all functions it reaches.

    :raises DecodeError: it calls a function the object does not have.
    """
    functions = _reachable(obj, program.function)
    insns: list[Insn] = []
    relocs: list[Reloc] = []
    lines: list[LineInfo] = []
    slots: list[int] = []
    starts: dict[str, int] = {}
    placed = []
    slot = 0
    for function in functions:
        first = len(insns)
        starts[function.name] = slot
        placed.append((slot, function))
        for insn in function.insns:
            slots.append(slot)
            slot += insn.slots
        insns += function.insns
        relocs += [r._replace(at=r.at + first) if first else r for r in function.relocs]
        lines += [n._replace(at=n.at + first) if first else n for n in function.lines]
    left = []
    for reloc in relocs:
        if reloc.kind == RelocKind.CALL:
            distance = starts[reloc.symbol] - slots[reloc.at] - 1
            insns[reloc.at] = insns[reloc.at]._replace(src=BPF_PSEUDO_CALL, imm=distance)
        elif reloc.kind == RelocKind.FUNC:
            distance = starts[reloc.symbol] - slots[reloc.at] - 1
            insns[reloc.at] = insns[reloc.at]._replace(src=BPF_PSEUDO_FUNC, imm=distance & 0xFFFFFFFF)
        else:
            left.append(reloc)
    return Image(insns, left, placed, lines, slots)


def _reachable(obj: Object, entry: Function) -> list[Function]:
    """The entry and all it calls or takes the address of, each followed by what it calls: libbpf's order.

    Its exception callback comes last.
    """
    known = {f.name: f for f in obj.functions}
    found = [entry]
    names = {entry.name}
    entered = [(entry, _mentioned(entry))]
    while entered:
        caller, mentioned = entered[-1]
        for name in mentioned:
            if name not in names:
                if name not in known:
                    raise _not_there(obj, caller, name)
                names.add(name)
                found.append(known[name])
                entered.append((known[name], _mentioned(known[name])))
                break
        else:
            entered.pop()
    return found


def _not_there(obj: Object, caller: Function, name: str) -> DecodeError:
    for program in obj.programs:
        if program.name == name:
            return DecodeError(
                f"{caller.name} calls {name}, which is a program (section '{program.section}')",
                hint="programs cannot call each other: put what they share into a function without SEC()",
            )
    return DecodeError(f"{caller.name} calls {name}, which the object does not have")


def _mentioned(function: Function) -> Iterator[str]:
    for reloc in function.relocs:
        if reloc.kind in (RelocKind.CALL, RelocKind.FUNC):
            yield reloc.symbol
    if function.exception_callback:
        yield function.exception_callback
