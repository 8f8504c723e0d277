"""``tracebee iter``: iterators under a name, whose file runs them as it is read."""

from __future__ import annotations

from tracebee import uapi
from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import DecodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.map import Map

USAGE = """\
usage: tracebee iter pin OBJ PATH [map MAP]      load an iterator and pin it; 'cat PATH' runs it
  MAP := { id NUMBER | name NAME | pinned PATH }, which an iterator over a map's elements walks through"""


def run(argv: list[str]) -> int:
    """The command ``tracebee iter``."""
    if not argv:
        argv = ["help"]
    return dispatch(argv, {"pin": _pin}, USAGE)


def _pin(words: Words) -> int:
    path = words.next("an object file")
    place = choice.pin_path(words)
    table = choice.one_map(words) if words.accept("map") else None
    try:
        words.end()
        _load_and_pin(words, path, place, table)
    finally:
        if table is not None:
            table.close()
    return choice.done(words)


def _load_and_pin(words: Words, path: str, place: str, table: Map | None) -> None:
    from tracebee.engine.kernel.loader import load_object
    from tracebee.kernel.link import Link
    from tracebee.obj.elf_reader import read_object

    obj = read_object(path)
    if not obj.programs:
        raise DecodeError(f"{path} has no programs")
    with load_object(obj) as loaded:
        definition = next(program for program in obj.programs if program.name in loaded.programs)
        if definition.expected_attach_type != uapi.BPF_TRACE_ITER:
            raise UsageError(
                f"'{definition.name}' is no iterator: its section is '{definition.section}'",
                hint='write SEC("iter/task"), or another of its kind',
            )
        program = loaded.programs[definition.name]
        with Link.iterator(program, map_fd=0 if table is None else table.fd) as link:
            choice.pin(words, link, place)
