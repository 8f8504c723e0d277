"""Attach points: ``kprobe:vfs_read+8``, ``uprobe:"/bin/my sh":f``, ``usdt:$1:probe``.

They have a lexical grammar of their own: everything up to a blank, "," or "{" belongs to the point,
and a "/" may open the predicate or be part of a path. Source: bpftrace's language reference,
"Probes", and its parser's description.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.source import Span
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Providers of which one part is a path: index of the first part that may hold a "/".
_PATH_PARTS = {
    "uprobe": 1,
    "u": 1,
    "uretprobe": 1,
    "ur": 1,
    "usdt": 1,
    "U": 1,
    "iter": 2,
    "it": 2,
    "watchpoint": 1,
    "w": 1,
    "asyncwatchpoint": 1,
    "aw": 1,
}
_PLAIN = re.compile(r"[^\s{,/:\"\\$]+", re.ASCII)
_SPACED_SLASH = re.compile(r"\s/", re.ASCII)
_POSITIONAL = re.compile(r"\$([0-9]+)")


class Scanned(NamedTuple):
    """An attach point as scanned: its parts, and the offset where it ends."""

    parts: list[str]
    end: int


def scan(text: str, start: int, params: Sequence[str]) -> Scanned:
    """Read one attach point of ``text`` from offset ``start``.

    Quotes and backslash escapes are resolved and ``$1`` outside quotes is replaced from ``params``.

    :raises Diagnostic: an unclosed quote, a parameter that was not given; the span's ``column`` and
        ``end_column`` are offsets into ``text``, its lines are 0.
    """
    parts = [""]
    position = start
    while position < len(text):
        char = text[position]
        if char in " \t\r\n\f\v{,":
            break
        if char == ":":
            parts.append("")
            position += 1
        elif char == '"':
            stop = _quote_end(text, position)
            parts[-1] += re.sub(r"\\(.)", r"\1", text[position + 1 : stop])
            position = stop + 1
        elif char == "\\":
            if text[position + 1 : position + 2] in ("", "\n"):
                raise _fail(
                    "a '\\' needs a character behind it", position, position + 1, "it takes away its meaning"
                )
            parts[-1] += text[position + 1]
            position += 2
        elif char == "/":
            if _opens_predicate(text, position, parts):
                break
            parts[-1] += char
            position += 1
        elif char == "$":
            value, position = _parameter(text, position, params)
            parts[-1] += value
        else:
            match = _PLAIN.match(text, position)
            assert match is not None
            parts[-1] += match.group()
            position = match.end()
    return Scanned(parts, position)


def _quote_end(text: str, start: int) -> int:
    position = start + 1
    while position < len(text) and text[position] != "\n":
        if text[position] == '"':
            return position
        position += 2 if text[position] == "\\" else 1
    raise _fail("this quote is not closed", start, min(position, len(text)), "quotes end on their own line")


def _opens_predicate(text: str, position: int, parts: list[str]) -> bool:
    """Whether the "/" is the predicate's. In a function's name it is only when all up to the block
    ends in another one: ``readline/pid == 1/ {``, while ``github.com/a.B`` is a name.
    """
    first_path = _PATH_PARTS.get(parts[0], 0)
    index = len(parts) - 1
    if first_path == 0 or index < first_path:
        return True
    if index == first_path:
        return False
    block = text.find("{", position)
    between = text[position + 1 : block if block >= 0 else len(text)].rstrip()
    return between.endswith("/") and _SPACED_SLASH.search(between, 0, len(between) - 1) is None


def _parameter(text: str, position: int, params: Sequence[str]) -> tuple[str, int]:
    match = _POSITIONAL.match(text, position)
    if match is None:
        return "$", position + 1
    number = int(match.group(1)[:9])
    if number == 0:
        raise _fail("there is no positional parameter '$0'", position, match.end(), "they count from $1")
    if number > len(params):
        given = (
            "none was" if not params else f"only {len(params)} were" if len(params) > 1 else "only one was"
        )
        raise _fail(
            f"the probe needs the positional parameter ${number}, but {given} given",
            position,
            match.end(),
            "give it after the script's name",
        )
    return params[number - 1], match.end()


def _fail(message: str, start: int, end: int, hint: str) -> Diagnostic:
    return Diagnostic(message, Span(0, start, 0, end), hint=hint)
