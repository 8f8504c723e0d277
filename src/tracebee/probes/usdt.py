"""usdt: static points in programs and libraries, found by the notes that sys/sdt.h leaves in the file.

Spellings: ``usdt:PATH:PROVIDER:NAME``, ``usdt:PATH:NAME``, wildcards anywhere; the path may be left empty
with ``-p`` or ``-c``. Every place a probe stands at in the code is attached. A probe with a semaphore has
it raised by the kernel while it is attached (the reference counter of a uprobe).
"""

from __future__ import annotations

import struct

from tracebee.elf import ElfFile, find_symbol
from tracebee.elf.constants import SHT_NOTE
from tracebee.errors import DecodeError, Diagnostic
from tracebee.kernel import procmaps
from tracebee.probes.binary import find_binaries
from tracebee.probes.built_places import note_file
from tracebee.probes.bulk import attach_type
from tracebee.probes.group import RegsGroup
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.probes.uprobe import open_image
from tracebee.probes.usdt_args import emit_argument, parse_arguments
from tracebee.probes.user_attach import attach_user
from tracebee.typed import NamedTuple
from tracebee.uapi import BPF_PROG_TYPE_KPROBE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.probes.machine import Machine
    from tracebee.probes.regs import Registers

_NOTE_TYPE = 3
_ANY_TYPE = tuple(range(16))


class Note(NamedTuple):
    """One place of a probe: addresses as the file is linked, ``semaphore`` 0 for none."""

    provider: str
    name: str
    pc: int
    semaphore: int
    arguments: str


def read_notes(image: ElfFile) -> list[Note]:
    """All probe notes of a file, in its order.

    :raises DecodeError: a note is cut short.
    """
    base = image.section(".stapsdt.base")
    return [
        _note(image, note.data, base.addr if base else 0)
        for section in image.sections
        if section.type == SHT_NOTE and section.name == ".note.stapsdt"
        for note in image.notes(section)
        if note.type == _NOTE_TYPE and note.name == b"stapsdt"
    ]


def _note(image: ElfFile, desc: bytes, base_now: int) -> Note:
    try:
        pc, base, semaphore = struct.unpack_from(f"{image.order}QQQ", desc)
        provider, name, arguments = (t.decode("utf-8", "surrogateescape") for t in desc[24:].split(b"\0")[:3])
    except (struct.error, ValueError) as error:
        raise DecodeError(f"{image.path}: a probe's note is broken") from error
    # Prelinking moves the code but not what notes say: the base section has moved along.
    moved = base_now - base if base and base_now else 0
    return Note(provider, name, pc + moved, semaphore + moved if semaphore else 0, arguments)


class Usdt(RegsGroup):
    """Places whose arguments are read in the same way."""

    program_type = BPF_PROG_TYPE_KPROBE
    address_space = "user"

    def __init__(
        self, section: str, wanted: list[tuple[str, dict[str, Any]]], regs: Registers, layout: Layout
    ) -> None:
        super().__init__("usdt", section, wanted, regs)
        self._layout = layout

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth argument of the probe."""
        arguments = parse_arguments(self._layout.arguments, self.regs.machine)
        if number >= len(arguments):
            raise Diagnostic(
                f"this probe has {len(arguments)} arguments, the last is arg{len(arguments) - 1}"
                if arguments
                else "this probe has no arguments"
            )
        argument = arguments[number]
        if argument.kind == "symbol" and argument.symbol and argument.symbol not in self._layout.deltas:
            raise Diagnostic(f"arg{number} lies at '{argument.symbol}', which is not in the symbol table")
        return emit_argument(b, ctx, argument, self.regs, self._layout.deltas.get(argument.symbol, 0))


class Layout:
    """What decides whether two places can share a program: the note's arguments, and for names in them the
    distance of what they name from the place.
    """

    def __init__(self, arguments: str, deltas: dict[str, int]) -> None:
        self.arguments = arguments
        self.deltas = deltas

    @property
    def key(self) -> tuple[str, tuple[tuple[str, int], ...]]:
        """What is equal for places that can."""
        return self.arguments, tuple(sorted(self.deltas.items()))


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Usdt]:
    """Groups by argument layout when the script reads arguments, else one for all places."""
    path, provider, name = _split(point, machine)
    reads = not uses.isdisjoint(("arg", "args", *(f"arg{n}" for n in range(12))))
    layouts: dict[Any, tuple[Layout, list[tuple[str, dict[str, Any]]]]] = {}
    known: list[str] = []
    for binary in _binaries(path, machine):
        shown = binary.removeprefix(machine.root) if machine.root else binary
        found = _notes_or_none(binary) if is_wild(path) or not path else places_of(binary, shown)
        for note, spec, layout in found:
            known.append(note.name)
            if not any(matching(provider, [note.provider])) or not any(matching(name, [note.name])):
                continue
            if machine.portable:
                with open_image(binary, shown) as image:
                    note_file(spec, image)
            wanted = (f"usdt:{shown}:{note.provider}:{note.name}", spec)
            layouts.setdefault(layout.key if reads else None, (layout, []))[1].append(wanted)
    if not layouts:
        listed = f"tracebee -l 'usdt:{path}:*' lists the probes there are"
        raise missing(f"no USDT probe matches '{point.text}'", name, set(known), listed)
    groups = []
    for layout, wanted_here in layouts.values():
        multi = attach_type("usdt", [spec for _, spec in wanted_here], machine)
        group = Usdt("uprobe.multi" if multi else "usdt", wanted_here, machine.regs, layout)
        group.expected_attach_type = multi
        groups.append(group)
    return groups


def _split(point: AttachPoint, machine: Machine) -> tuple[str, str, str]:
    parts = point.parts[1:]
    if len(parts) == 3:
        return parts[0], parts[1] or "*", parts[2]
    if len(parts) == 2:
        return parts[0], "*", parts[1]
    if len(parts) == 1 and (machine.pid is not None or machine.command):
        return "", "*", parts[0]
    raise Diagnostic("usdt needs a path and a probe", hint="write usdt:PATH:PROVIDER:NAME or usdt:PATH:NAME")


def _binaries(path: str, machine: Machine) -> list[str]:
    """The files a path stands for; without one, those that the traced process has mapped."""
    if path or machine.pid is None:
        return find_binaries(path, machine)
    mapped = procmaps.read(machine.pid) or ()
    return list(dict.fromkeys(machine.root + m.path for m in mapped if m.executable and m.path[:1] == "/"))


def _notes_or_none(binary: str) -> list[tuple[Note, dict[str, Any], Layout]]:
    try:
        return places_of(binary, binary)
    except Diagnostic:
        return []


def places_of(binary: str, shown: str) -> list[tuple[Note, dict[str, Any], Layout]]:
    """Every place of a file's probes: its note, ``path``, ``offset`` and perhaps ``ref`` to attach with, and
    how its arguments are read.

    :raises Diagnostic: the file cannot be read, or its notes are broken.
    """
    found = []
    with open_image(binary, shown) as image:
        try:
            notes = read_notes(image)
        except DecodeError as error:
            raise Diagnostic(error.message) from None
        for note in notes:
            offset = image.file_offset(note.pc)
            if offset is None:
                continue
            spec: dict[str, Any] = {"path": binary, "offset": offset}
            if note.semaphore:
                spec["ref"] = image.file_offset(note.semaphore) or 0
            found.append((note, spec, Layout(note.arguments, _deltas(image, note))))
    return found


def _deltas(image: ElfFile, note: Note) -> dict[str, int]:
    if "(%rip)" not in note.arguments:
        return {}
    deltas = {}
    for argument in parse_arguments(note.arguments, "x86_64"):
        if argument.kind == "symbol":
            found = find_symbol(image, argument.symbol, _ANY_TYPE) if argument.symbol else None
            if found is not None:
                deltas[argument.symbol] = found.addr - note.pc
    return deltas


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """In bulk where the program was loaded for it, else one by one."""
    return attach_user(program, targets, session, returns=False)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Probes that a pattern names, of one binary or of those the traced process has mapped."""
    parts = pattern.split(":")[1:]
    path = parts[0] if len(parts) > 1 else ""
    wanted = ":".join(parts[1:] if len(parts) > 2 else ["*", parts[-1]])
    if (not path or path == "*") and machine.pid is None:
        return
    for binary in _binaries("" if path == "*" else path, machine):
        shown = binary.removeprefix(machine.root) if machine.root else binary
        names = dict.fromkeys(f"{note.provider}:{note.name}" for note, _, _ in _notes_or_none(binary))
        yield from (f"usdt:{shown}:{name}" for name in matching(wanted if wanted != "*:" else "*", names))


def describe(machine: Machine, name: str) -> Iterator[str]:
    """Where one listed probe stands: its semaphore, and the arguments as the note has them."""
    _, path, provider, probe = name.split(":")
    for note, spec, _ in places_of(machine.root + path, path):
        if (note.provider, note.name) == (provider, probe):
            semaphore = f" semaphore {spec['ref']:#x}" if spec.get("ref") else ""
            yield f"location {spec['offset']:#x}{semaphore} arguments {note.arguments or 'none'}"
