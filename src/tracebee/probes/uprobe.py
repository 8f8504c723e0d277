"""uprobe and uretprobe: functions of programs and libraries.

Spellings: ``uprobe:PATH:FUNCTION``, ``:FUNCTION+OFFSET``, ``:FUNCTION@VERSION``, ``:ADDRESS``, wildcards in
path and function, ``uprobe:PATH:cpp:NAME`` for demangled names; PATH may be a program on PATH or a library's
name, and may be left out with ``-p`` or ``-c``.
"""

from __future__ import annotations

import os
import re

from tracebee.elf import ElfFile, find_symbol
from tracebee.elf.symbols import functions
from tracebee.errors import DecodeError, Diagnostic, MissingProbe
from tracebee.probes.binary import find_binaries
from tracebee.probes.built_places import note_file
from tracebee.probes.bulk import attach_type
from tracebee.probes.group import CallGroup
from tracebee.probes.kinds import kind_of
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.probes.user_attach import attach_user
from tracebee.typed import NamedTuple
from tracebee.uapi import BPF_PROG_TYPE_KPROBE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.elf import Symbol
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.probes.machine import Machine

_PLACE = re.compile(r"(?P<name>[^+]+?)(?:\+(?P<offset>0[xX][0-9a-fA-F]+|\d+))?$")
_LANGUAGES = frozenset({"cpp", "rust"})


class Place(NamedTuple):
    """A function, or an address that the script gave in its place: as the file is linked."""

    name: str
    addr: int


class UserFunction(CallGroup):
    """Functions of one or more binaries; the context is the traced thread's registers."""

    program_type = BPF_PROG_TYPE_KPROBE
    address_space = "user"


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[UserFunction]:
    """One group for all functions found; specs have ``path``, ``offset`` in the file, and ``symbol``."""
    kind = kind_of(point.parts[0]).name
    path, language, place = _split(point, machine)
    returns = kind == "uretprobe"
    wanted: list[tuple[str, dict[str, Any]]] = []
    for found in find_binaries(path, machine):
        binary = _with_functions(found, machine)
        wanted += _functions(binary, language, place, kind, machine, many=is_wild(path))
    if not wanted:
        hint = f"tracebee -l '{kind}:{path}:*' lists its functions"
        raise MissingProbe(f"no function matches '{point.text}'", hint=hint)
    multi = attach_type(kind, [spec for _, spec in wanted], machine)
    name = f"{kind}.multi" if multi else kind
    section = f"{name}/{wanted[0][1]['path']}:{place}" if len(wanted) == 1 else name
    group = UserFunction(kind, section, wanted, machine.regs, returns=returns)
    group.expected_attach_type = multi
    return [group]


def _split(point: AttachPoint, machine: Machine) -> tuple[str, str, str]:
    kind, *parts = point.parts
    if len(parts) == 1 and (machine.pid is not None or machine.command):
        return "", "", parts[0]
    if len(parts) == 3 and parts[1] in _LANGUAGES:
        return parts[0], parts[1], parts[2]
    if len(parts) != 2 or not parts[1]:
        raise Diagnostic(f"{kind} needs a path and a function", hint=f"write {kind}:PATH:FUNCTION")
    return parts[0], "", parts[1]


_STUBS = ("libpthread.so", "libdl.so", "librt.so", "libutil.so", "libanl.so")


def _with_functions(library: str, machine: Machine) -> str:
    """The library itself, or libc.so.6 beside it when that has its functions since glibc 2.34.

    What is left of such a library defines placeholders alone; scripts from before still name it.
    """
    folder, _, name = library.rpartition("/")
    libc = f"{folder}/libc.so.6"
    if not name.startswith(_STUBS) or not os.path.exists(libc):
        return library
    with open_image(library, library) as image:
        if any(not s.name.endswith("_version_placeholder") for s in functions(image)):
            return library
    machine.warn(f"{name} is empty: glibc has its functions in libc.so.6, which is traced instead")
    return libc


def _functions(
    binary: str, language: str, place: str, kind: str, machine: Machine, *, many: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    shown = binary.removeprefix(machine.root) if machine.root else binary
    match = _PLACE.match(place)
    if kind == "uretprobe" and match is not None and match["offset"]:
        raise Diagnostic("uretprobe cannot have an offset: it fires when the function returns")
    with open_image(binary, shown) as image:
        if kind == "uretprobe" and image.is_go:
            raise Diagnostic(
                f"{shown} is a Go program: a return probe would crash it, because Go moves its stacks",
                hint="use uprobe on the function, or on the offsets of its returns",
            )
        for symbol, offset in _places(image, language, place, shown, many=many):
            address = symbol.addr + offset
            at = image.file_offset(address)
            if at is None or not image.is_executable(at):
                if is_wild(place) or many:
                    continue
                raise Diagnostic(f"{place} of {shown} (address {address:#x}) is not in executable code")
            name = symbol.name + (f"+{offset}" if offset else "")
            spec = {"path": binary, "offset": at, "symbol": symbol.name}
            if machine.portable:
                note_file(spec, image, offset)
            yield f"{kind}:{shown}:{name}", spec


def open_image(path: str, shown: str) -> ElfFile:
    """The ELF file at a path.

    :raises Diagnostic: it cannot be read, or is not one.
    """
    try:
        return ElfFile(path)
    except OSError as error:
        raise Diagnostic(f"cannot read {shown}: {error.strerror}") from None
    except DecodeError as error:
        raise Diagnostic(error.message) from None


def _places(
    image: ElfFile, language: str, place: str, shown: str, *, many: bool
) -> Iterator[tuple[Place, int]]:
    if place[:1].isdigit():
        try:
            yield Place(place, int(place, 0)), 0
        except ValueError:
            raise Diagnostic(f"'{place}' is neither an address nor a function") from None
        return
    if language:
        yield from ((Place(s.name, s.addr), 0) for s in _demangled(image, place, language))
        return
    if is_wild(place):
        yield from ((Place(s.name, s.addr), 0) for s in _once(image, place))
        return
    match = _PLACE.match(place)
    if match is None:
        raise Diagnostic(f"'{place}' is not a function")
    found = find_symbol(image, match["name"])
    if found is None and "@" in place:
        from tracebee.elf.versions import find_versioned  # few libraries have two functions of one name

        found = find_versioned(image, match["name"])
    if found is None:
        if many:
            return
        known = [s.name for s in functions(image)]
        listed = f"tracebee -l 'uprobe:{shown}:*' lists its functions"
        raise missing(f"{shown} has no function '{match['name']}'", match["name"], known, listed)
    offset = int(match["offset"] or "0", 0)
    if found.size and offset >= found.size:
        raise Diagnostic(f"offset {offset} is beyond the end of {found.name}, which has {found.size} bytes")
    yield Place(found.name, found.addr), offset


def _once(image: ElfFile, pattern: str) -> Iterator[Symbol]:
    # Aliases of one function are one place to trace: attaching to each would count every call twice.
    by_name = {s.name: s for s in functions(image)}
    seen = set()
    for name in matching(pattern, by_name):
        symbol = by_name[name]
        if symbol.addr not in seen:
            seen.add(symbol.addr)
            yield symbol


def _demangled(image: ElfFile, pattern: str, language: str) -> Iterator[Symbol]:
    from tracebee.symbols.demangle import demangle  # only for such probes

    seen = set()
    for symbol in functions(image):
        if not symbol.name.startswith(("_Z", "_R")) or symbol.addr in seen:
            continue
        full = demangle(symbol.name)
        bare = full.partition("(")[0]
        if any(n for n in (full, bare) if n == pattern) or (
            is_wild(pattern) and any(matching(pattern, [bare]))
        ):
            seen.add(symbol.addr)
            yield symbol
    if not seen and not is_wild(pattern):
        raise MissingProbe(f"no {language} function is called '{pattern}'")


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """In bulk where the program was loaded for it, else one by one."""
    return attach_user(program, targets, session, returns=session.kind == "uretprobe")


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Functions that a pattern names; nothing without a path, as every file could be one."""
    kind, _, rest = pattern.partition(":")
    path, _, place = rest.rpartition(":")
    if not path and machine.pid is None:
        return
    for binary in find_binaries(path, machine):
        shown = binary.removeprefix(machine.root) if machine.root else binary
        try:
            with ElfFile(binary) as image:
                names = sorted({s.name for s in functions(image)})
        except (OSError, DecodeError):
            continue
        yield from (f"{kind}:{shown}:{name}" for name in matching(place or "*", names))
