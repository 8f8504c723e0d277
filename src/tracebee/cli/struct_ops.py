"""``tracebee struct_ops``: kernel structs whose functions are BPF programs."""

from __future__ import annotations

import os
from contextlib import ExitStack

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch
from tracebee.errors import DecodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map

USAGE = """\
usage: tracebee struct_ops [show|list] [STRUCT_OPS]      the maps, and which kernel struct each is
       tracebee struct_ops dump [STRUCT_OPS]             their contents
       tracebee struct_ops register OBJ [DIRECTORY]      give those of an object file to the kernel
       tracebee struct_ops unregister STRUCT_OPS
  STRUCT_OPS := { id NUMBER | name NAME }
  DIRECTORY := where links are pinned, for variables in .struct_ops.link
  options: -j JSON, -p indented JSON"""


def run(argv: list[str]) -> int:
    """The command ``tracebee struct_ops``."""
    commands = {
        "show": _show,
        "list": _show,
        "dump": _dump,
        "register": _register,
        "unregister": _unregister,
    }
    return dispatch(argv, commands, USAGE)


def _maps(words: Words, *, all_of_them: bool = True) -> list[Map]:
    from tracebee.report.inspect.struct_ops import struct_ops_maps

    how = words.choice("id", "name") if words or not all_of_them else ("", "")
    words.end()
    return struct_ops_maps(*how)


def _show(words: Words) -> int:
    from tracebee.report.inspect.struct_ops import struct_ops_record, struct_ops_text

    records = []
    for table in _maps(words):
        with table:
            records.append(struct_ops_record(table))
    return choice.show(words, records, struct_ops_text, one=False)


def _dump(words: Words) -> int:
    from tracebee.report.inspect.output import json_text
    from tracebee.report.inspect.struct_ops import struct_ops_dump

    records = []
    for table in _maps(words):
        with table:
            records += struct_ops_dump(table)
    print(json_text(records, pretty=words.pretty or not words.json))
    return 0


def _register(words: Words) -> int:
    from tracebee.engine.kernel.loader import load_object
    from tracebee.obj.elf_reader import read_object

    path = words.next("an object file")
    directory = words.next("a directory of a BPF file system") if words else ""
    words.end()
    obj = read_object(path)
    if not obj.struct_ops:
        raise DecodeError(f"{path} has no struct_ops variables")
    links = [ops.map for ops in obj.struct_ops if ops.link]
    if links and not directory:
        raise UsageError(
            f"'{links[0]}' is registered by a link, which would end with this command",
            hint=f"say where to pin it: tracebee struct_ops register {path} DIRECTORY",
        )
    if directory:
        choice.mount_for(words, f"{directory}/")
        os.makedirs(directory, exist_ok=True)
    with load_object(obj) as loaded, ExitStack() as undo:
        said = [_register_one(loaded, ops.map, directory, undo) for ops in obj.struct_ops]
        undo.pop_all()  # all of them: they stay
    if words.json:
        return choice.done(words)
    print("\n".join(said))
    return 0


def _register_one(loaded: LoadedObject, name: str, directory: str, undo: ExitStack) -> str:
    """Register one variable; what to say of it."""
    from tracebee.engine.kernel.struct_ops import attach_struct_ops
    from tracebee.kernel.link import Link
    from tracebee.report.inspect.struct_ops import kernel_struct

    table = loaded.maps[name]
    made = attach_struct_ops(loaded, name)
    said = f"Registered {kernel_struct(table)} {name} id {table.info().id}"
    if isinstance(made, Link):
        with made as link:
            link.pin(f"{directory}/{name}")
            undo.callback(os.unlink, f"{directory}/{name}")
            return f"{said} link id {link.info().id}"
    undo.callback(made.close)
    return said


def _unregister(words: Words) -> int:
    from tracebee.report.inspect.struct_ops import kernel_struct, unregister

    for table in _maps(words, all_of_them=False):
        with table:
            unregister(table)
            if not words.json:
                print(f"Unregistered {kernel_struct(table)} {table.name} id {table.info().id}")
    return choice.done(words)
