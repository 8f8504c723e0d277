"""``tracebee batch file FILE``: many administration commands, one a line, up to the first that fails."""

from __future__ import annotations

import shlex
import sys

from tracebee.cli.words import Words
from tracebee.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

USAGE = """\
usage: tracebee batch file FILE      the commands of a file, or '-' for standard input, one a line
  a line: prog show id 3    without 'tracebee'; '#' begins a comment, a backslash at its end continues it
  options: -j, -p: an array of objects, each with a 'command' and its 'output'"""


def run(argv: list[str]) -> int:
    """The command ``tracebee batch``."""
    words = Words(argv, USAGE)
    if words.help or not words or words.peek() == "help":
        print(USAGE)
        return 0 if words.help or words else 1
    words.expect("file")
    path = words.next("a file")
    words.end()
    if path == "-":
        return _all(words, sys.stdin)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return _all(words, file)


def _all(words: Words, file: TextIO) -> int:
    done: list[dict[str, Any]] = []
    code = number = 0
    for command in _commands(file):
        if words.json:
            code, output = _output(command)
            done.append({"command": command, "output": output})
        else:
            code = _one(command)
        if code:
            break
        number += 1
    if words.json:
        words.print_json(done)
    elif not code:
        print(f"processed {number} commands")
    return code


def _commands(file: TextIO) -> Iterator[list[str]]:
    line = ""
    for part in file:
        line += part
        if line.endswith("\\\n"):
            line = line[:-2] + " "
            continue
        try:
            command = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"the line '{line.strip()}' cannot be read: {str(error).lower()}") from None
        line = ""
        if command:
            yield command
    if line:
        raise UsageError(f"the last line goes on behind its end: '{line.strip()}'")


def _one(command: list[str]) -> int:
    from tracebee.cli.main import COMMANDS, guarded

    if command[0] not in COMMANDS or command[0] == "batch":
        raise UsageError(f"there is no command '{command[0]}' for a batch")
    return guarded(command)


def _output(command: list[str]) -> tuple[int, Any]:
    """A command's exit code and what it printed, as JSON where that is what it is."""
    import contextlib
    import io
    import json

    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = _one([*command, "-j"])
    text = out.getvalue()
    try:
        return code, json.loads(text)
    except ValueError:
        return code, text
