"""Object files loaded to stay: programs, maps and links of an ELF file under names in bpffs."""

from __future__ import annotations

import os

from tracebee import uapi
from tracebee.engine.kernel.loader import load_object
from tracebee.engine.kernel.sections import attach_section, for_this_kernel, is_attachable, links_of
from tracebee.engine.kernel.struct_ops import optional, without
from tracebee.errors import DecodeError, TracebeeError, UnsupportedError, UsageError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.sections import section_kind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.obj.model import Object, ProgramDef


class LoadOptions(NamedTuple):
    """How to load a file.

    :param section: type the programs as this section name says, instead of their own.
    :param pin_maps: directory for the maps' names; empty for none.
    :param attach: pin links made by the section names, instead of programs; others are pinned themselves.
    :param log: return the verifier's log of each program.
    :param others: further object files, to be linked with it first.
    """

    section: str = ""
    pin_maps: str = ""
    attach: bool = False
    log: bool = False
    others: tuple[str, ...] = ()


class Loaded(NamedTuple):
    """What became of a file: its programs' names, a log for each where it was asked for, and what to know."""

    programs: tuple[str, ...]
    logs: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def load_and_pin(
    path: str,
    place: str,
    *,
    everything: bool,
    reuse: Mapping[str | int, Map] | None = None,
    options: LoadOptions | None = None,
) -> Loaded:
    """Load an object file, pin what it holds, and leave it in the kernel.

    :param place: name of the first program; with ``everything``, directory for all programs' names;
        empty to let all of it go again: a question whether this kernel takes the file.
    :param reuse: maps to use in place of the file's own, by name or by position.
    :returns: the programs that were loaded, and the verifier's logs, if they were asked for.
    :raises TracebeeError: the file cannot be read, loaded, attached or pinned; then nothing is pinned.
    """
    options = options or LoadOptions()
    if options.others:
        from tracebee.obj.linker import link_files

        obj = link_files([path, *options.others])
    else:
        obj = read_object(path)
    obj = for_this_kernel(without(obj, optional(obj)))
    if options.section:
        obj = _retyped(obj, options.section)
    if not obj.programs and not everything:
        raise DecodeError(f"{path} has no programs", hint="'tracebee prog loadall' loads its maps and types")
    maps = _by_name(obj, reuse or {})
    level = uapi.BPF_LOG_LEVEL1 | uapi.BPF_LOG_STATS if options.log else 0
    with load_object(obj, reuse=maps, log_level=level) as loaded:
        if obj.programs and not loaded.programs:
            raise UnsupportedError(
                f"{path}: no program of it is loaded by itself: all their sections start with '?'",
                hint="load those you want from Python: tracebee.Object, autoload of its programs",
            )
        pinned: list[str] = []
        try:
            if not place and not options.pin_maps:
                loaded.unpin()
            if place:
                _pin_programs(loaded, place, everything, options, pinned)
            if options.pin_maps:
                _pin_maps(loaded, options.pin_maps, maps, pinned)
        except BaseException:
            for name in reversed(pinned):
                os.unlink(name)
            loaded.unpin()
            raise
        logs = [program.log for program in loaded.programs.values()] if options.log else []
        return Loaded(tuple(loaded.programs), tuple(logs), tuple(loaded.warnings))


def _pin_programs(
    loaded: LoadedObject, place: str, everything: bool, options: LoadOptions, pinned: list[str]
) -> None:
    definitions = [program for program in loaded.object.programs if program.name in loaded.programs]
    if everything:
        os.makedirs(place, exist_ok=True)
    for definition in definitions if everything else definitions[:1]:
        name = f"{place}/{definition.name}" if everything else place
        made = _attached(loaded, definition) if options.attach else []
        if not made:
            loaded.programs[definition.name].pin(name)
            pinned.append(name)
        try:
            for number, link in enumerate(made):
                link.pin(name if number == 0 else f"{name}_{number}")
                pinned.append(name if number == 0 else f"{name}_{number}")
        finally:
            for link in made:
                link.close()


def _attached(loaded: LoadedObject, definition: ProgramDef) -> list[Any]:
    """The links of a program attached by its section; none, and a warning, where that cannot be done.

    It is then pinned itself, as bpftool does it: a file's other programs may do without.
    """
    reason = "its section says no place"
    if is_attachable(definition):
        try:
            return links_of(attach_section(loaded, definition.name))
        except TracebeeError as error:
            reason = error.message
    loaded.warnings.append(f"'{definition.name}' ({definition.section}) is pinned but not attached: {reason}")
    return []


def _pin_maps(loaded: LoadedObject, directory: str, reuse: Mapping[str, Map], pinned: list[str]) -> None:
    os.makedirs(directory, exist_ok=True)
    for name, table in loaded.maps.items():
        if name in reuse:
            continue
        # bpffs takes no dots in names; ``.rodata`` becomes ``_rodata``, as libbpf has it.
        path = f"{directory}/{name.replace('.', '_')}"
        table.pin(path)
        pinned.append(path)


def _retyped(obj: Object, section: str) -> Object:
    kind = section_kind(section)
    if kind is None:
        raise UsageError(f"there is no section type '{section}'")

    def change(program: ProgramDef) -> ProgramDef:
        return program._replace(
            type=kind.type,
            expected_attach_type=kind.attach_type,
            flags=kind.flags,
            section=section,
            attach_target=section.partition("/")[2] if kind.target else "",
        )

    return obj._replace(programs=tuple(change(program) for program in obj.programs))


def _by_name(obj: Object, reuse: Mapping[str | int, Map]) -> dict[str, Map]:
    names = [definition.name for definition in obj.maps]
    found: dict[str, Map] = {}
    for key, table in reuse.items():
        if isinstance(key, int):
            if key >= len(names):
                raise UsageError(f"the file has {len(names)} maps, none with number {key}")
            key = names[key]
        if key not in names:
            raise UsageError(f"the file has no map '{key}'", hint="its maps: " + ", ".join(names))
        found[key] = table
    return found
