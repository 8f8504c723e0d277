"""The format files of tracefs (Documentation/trace/events.rst, "Event formats"): fields and their places."""

from __future__ import annotations

import re

from tracebee.lang.records import INTEGERS
from tracebee.typed import NamedTuple

_FIELD = re.compile(
    r"\tfield:(?P<decl>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>[01]);)?"
)
_DECL = re.compile(r"(?P<type>.*?[\s*])(?P<name>[A-Za-z_]\w*)\s*(?P<array>\[[^\]]*\])?$")


class FormatField(NamedTuple):
    """One field of a tracepoint's record.

    ``type`` is as C has it, without an array's brackets; ``array`` is its element count (0 for a
    length the record carries, None for no array); ``dynamic`` is ``data`` or ``rel`` when the record
    holds a u32, offset in its low and length in its high half, in place of the data, else empty;
    ``declaration`` is the file's own text, for listings.
    """

    name: str
    type: str
    offset: int
    size: int
    signed: bool
    array: int | None
    dynamic: str
    declaration: str


class Format(NamedTuple):
    """A tracepoint: its number for perf_event_open and its fields, common ones first."""

    id: int
    fields: tuple[FormatField, ...]


def parse_format(text: str) -> Format:
    """Parse a format file's text; what does not look like a field is left out."""
    number = 0
    fields = []
    for line in text.splitlines():
        if line.startswith("ID:"):
            number = int(line[3:])
        elif match := _FIELD.match(line):
            field = _field(match)
            if field is not None:
                fields.append(field)
    return Format(number, tuple(fields))


def _field(match: re.Match[str]) -> FormatField | None:
    declaration = match["decl"].strip()
    offset, size, signed = int(match["offset"]), int(match["size"]), match["signed"] == "1"
    dynamic = ""
    for prefix, kind in (("__data_loc ", "data"), ("__rel_loc ", "rel")):
        if declaration.startswith(prefix):
            # The brackets stand after the element type here: "__data_loc char[] name".
            dynamic = kind
            element, _, name = declaration[len(prefix) :].partition("[]")
            return FormatField(name.strip(), element.strip(), offset, size, signed, 0, dynamic, declaration)
    found = _DECL.match(declaration)
    if found is None:
        return None
    array: int | None = None
    type_name = found["type"].strip()
    if found["array"] is not None:
        # The length may be a name (TASK_COMM_LEN): the size then tells, given the element's size.
        element = INTEGERS.get(type_name)
        array = size // element.size if element is not None and element.size else size
    return FormatField(found["name"], type_name, offset, size, signed, array, dynamic, declaration)
