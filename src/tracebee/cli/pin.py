"""``tracebee pin``: names in the BPF file system that keep objects alive without a process."""

from __future__ import annotations

from tracebee.cli import choice
from tracebee.cli.words import Words, dispatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = """\
usage: tracebee pin [list] [DIRECTORY]        what is pinned, everywhere or below a directory
       tracebee pin show PATH                 what is pinned at a path
       tracebee pin prog PROG PATH            pin a program
       tracebee pin map MAP PATH              pin a map
       tracebee pin link LINK PATH            pin a link: it stays attached
       tracebee pin rm PATH...                remove names
  PROG, MAP, LINK := { id NUMBER | name NAME | tag TAG | pinned PATH }
  options: -j JSON, -p indented JSON"""


def run(argv: list[str]) -> int:
    """The command ``tracebee pin``."""
    commands = {
        "list": _list,
        "show": _show,
        "prog": _program,
        "map": _map,
        "link": _link,
        "rm": _remove,
    }
    return dispatch(argv, commands, USAGE)


def _list(words: Words) -> int:
    from tracebee.kernel import pins

    root = words.next("a directory") if words else None
    words.end()
    records = [pin._asdict() for pin in pins.walk(root)]
    return choice.show(words, records, _text, one=False)


def _show(words: Words) -> int:
    from tracebee.kernel import pins

    path = words.next("a path")
    words.end()
    return choice.show(words, [pins.pin_at(path)._asdict()], _text, one=True)


def _text(record: dict[str, Any]) -> str:
    return f"{record['kind']} {record['id']}  {record['path']}"


def _program(words: Words) -> int:
    with choice.program(words) as program:
        choice.pin(words, program, _path(words))
    return choice.done(words)


def _map(words: Words) -> int:
    with choice.one_map(words) as table:
        choice.pin(words, table, _path(words))
    return choice.done(words)


def _link(words: Words) -> int:
    with choice.link(words) as link:
        choice.pin(words, link, _path(words))
    return choice.done(words)


def _path(words: Words) -> str:
    path = choice.pin_path(words)
    words.end()
    return path


def _remove(words: Words) -> int:
    from tracebee.kernel import pins

    for path in [words.next("a path"), *words.rest()]:
        pins.unpin(path)
    return choice.done(words)
