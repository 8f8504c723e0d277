"""Finds where a C definition in a script ends, and which names it makes into types."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(r'//[^\n]*|/\*(?s:.*?)\*/|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|[{};]|[^{};/"\']+|.')
_ATTRIBUTE = re.compile(r"\s*(?:__attribute__\s*\(\(.*?\)\)\s*|__packed\b\s*)*;?", re.DOTALL | re.ASCII)
_TAGGED = re.compile(r"(?:struct|union|enum)\s+([A-Za-z_]\w*)", re.ASCII)
_TYPEDEF = re.compile(
    r"(?:([A-Za-z_]\w*)\s*(?:\[[^]]*\]\s*)*|\(\s*\*\s*([A-Za-z_]\w*)\s*\)[^;]*);?\s*\Z", re.ASCII
)


def definition_end(text: str, start: int, kind: str) -> int:
    """Offset behind a definition of ``kind`` at ``start``; the ";" behind a body is optional.

    :raises ValueError: it does not end.
    """
    level = 0
    opened = False
    for match in _TOKEN.finditer(text, start):
        part = match.group()
        if part == "{":
            level += 1
            opened = True
        elif part == "}":
            level -= 1
            if level < 0:
                break
            if level == 0 and kind != "typedef":
                rest = _ATTRIBUTE.match(text, match.end())
                assert rest is not None
                return rest.end()
        elif part == ";" and level == 0:
            return match.end()
    raise ValueError(f"this {kind}'s '{{' is not closed" if opened else f"this {kind} has no body")


def type_names(text: str, kind: str) -> Iterator[str]:
    """The tags and typedef names of a definition."""
    for match in _TAGGED.finditer(text):
        yield match.group(1)
    if kind == "typedef":
        name = _TYPEDEF.search(text)
        if name is not None:
            yield name.group(1) or name.group(2)
