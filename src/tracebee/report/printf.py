"""bpftrace's printf: each format and record layout becomes one Python function.

A record is unpacked by one ``struct.Struct`` and formatted by one ``%`` of bytes; what C and Python
write differently (signedness, ``%p``, ``%#x`` of zero) is an expression in the function's text.
"""

from __future__ import annotations

import re
import struct

from tracebee.errors import DecodeError
from tracebee.report import fields
from tracebee.report.actions import HEADER
from tracebee.report.values import Style
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tracebee.lang.types import Type
    from tracebee.report.scene import Scene


class Conversion(NamedTuple):
    """One ``%...`` of a format."""

    flags: str
    width: str
    precision: str | None
    length: str
    letter: str  # d i o u x X c s p r rx rh


_CONVERSION = re.compile(
    r"%(?:%|([-+ #0]*)(\d*)(?:\.(\d*))?(hh|h|ll|l|j|z|t|L|)(rx|rh|r|[diouxXcsp]))"
)  # fmt: skip


def parse(form: str) -> list[str | Conversion]:
    """A format's literal pieces and conversions in order; ``%%`` is a literal percent sign, and a
    ``%`` that starts no conversion stands for itself.
    """
    parts: list[str | Conversion] = []
    at = 0
    for found in _CONVERSION.finditer(form):
        if found.start() > at:
            parts.append(form[at : found.start()])
        at = found.end()
        flags, width, precision, length, letter = found.groups()
        parts.append("%" if letter is None else Conversion(flags, width, precision, length, letter))
    if at < len(form):
        parts.append(form[at:])
    return parts


def compile_format(form: str, layout: Type, scene: Scene, header: int = HEADER) -> Callable[[Any], bytes]:
    """A function from a whole event record to the formatted bytes.

    :param layout: tuple type of the payload, one field for each conversion.
    :param header: bytes of the record before the payload.
    :raises DecodeError: the layout has another number of fields than the format has conversions.
    """
    parts = parse(form)
    count = sum(1 for part in parts if isinstance(part, Conversion))
    if count != len(layout.fields):
        raise DecodeError(f"format {form!r} has {count} conversions, its record {len(layout.fields)} fields")
    if not count:
        text = "".join(part for part in parts if isinstance(part, str)).encode("utf-8", "surrogateescape")
        return lambda _record: text
    maker = _Maker(layout, scene, header)
    template = b"".join(
        [
            part.replace("%", "%%").encode("utf-8", "surrogateescape")
            if isinstance(part, str)
            else maker.add(part)
            for part in parts
        ]
    )
    return maker.function(template)


class _Maker:
    """Collects the unpack format, the expressions and the names that they use."""

    def __init__(self, layout: Type, scene: Scene, header: int) -> None:
        self.fields = iter(layout.fields)
        self.style = Style(scene)
        self.cut = scene.cut.encode()
        self.codes = [f"={header}x"]
        self.end = 0
        self.arguments: list[str] = []
        self.expressions: list[str] = []
        self.names: dict[str, Any] = {"Z": b"\0"}

    def add(self, conversion: Conversion) -> bytes:
        """Take the next field for a conversion; returns the conversion for Python's ``%``."""
        field = next(self.fields)
        value = f"a{len(self.arguments)}"
        if field.offset > self.end:
            self.codes.append(f"{field.offset - self.end}x")
        size = fields.size_of(field.type)
        self.end = field.offset + size
        signed = conversion.letter in "dic" if size == _WORD else None
        code = fields.integer_code(field.type, signed=signed)
        as_integer = code is not None and conversion.letter in "diouxXcp"
        self.codes.append(code if as_integer and code else f"{size}s")
        self.arguments.append(value)
        if as_integer and code:
            shape, expression = _integer(conversion, value, signed=code.islower(), size=size)
        else:
            shape, expression = _padded(conversion), self.text(conversion, value, field.type, size)
        self.expressions.append(expression)
        return shape

    def text(self, conversion: Conversion, value: str, t: Type, size: int) -> str:
        """The expression for a field that prints as text, and the functions it calls."""
        name = f"f{len(self.arguments)}"
        if t.kind == "string":
            self.names[name] = _cut_string(self.cut)
            return f"s if len(s := {value}.partition(Z)[0]) < {size} else {name}({value})"
        if t.kind == "buffer":
            shape = _BUFFERS.get(conversion.letter, fields.escaped)
            self.names[name] = lambda data: shape(fields.buffer_of(data)).encode("ascii")
        else:
            write = self.style.writer(t)
            self.names[name] = lambda data: write(data).encode("utf-8", "surrogateescape")
        return f"{name}({value})"

    def function(self, template: bytes) -> Callable[[Any], bytes]:
        """The function of the whole format."""
        self.names["unpack"] = struct.Struct("".join(self.codes)).unpack_from
        self.names["template"] = template
        self.names.update(pointer=_pointer, integer=_c_integer)
        arguments = "".join([a + ", " for a in self.arguments])
        expressions = "".join([f"({e}), " for e in self.expressions])
        # Everything in the text is made above from checked pieces: no script text goes into it.
        source = f"def f(record):\n ({arguments}) = unpack(record)\n return template % ({expressions})"
        exec(source, self.names)  # noqa: S102
        return self.names["f"]  # type: ignore[no-any-return]


_WORD = 8
_BITS = {"hh": 8, "h": 16}
_BUFFERS: dict[str, Callable[[bytes], str]] = {
    "r": fields.escaped,
    "rx": fields.escaped_hex,
    "rh": lambda data: data.hex(" "),
}


def _padded(conversion: Conversion) -> bytes:
    """``%s`` with the conversion's alignment, width and (for ``%s``) precision."""
    left = "-" if "-" in conversion.flags else ""
    precision = f".{conversion.precision or 0}" if conversion.precision is not None else ""
    return f"%{left}{conversion.width}{precision if conversion.letter == 's' else ''}s".encode()


def _integer(conversion: Conversion, value: str, *, signed: bool, size: int) -> tuple[bytes, str]:
    """The Python conversion for an integer and the expression of its operand."""
    flags, width, precision, length, letter = conversion
    left = "-" in flags
    if letter == "c":
        return f"%{'-' if left else ''}{width}c".encode(), f"{value} & 255"
    if letter == "p":
        return f"%{'-' if left else ''}{width}s".encode(), f"pointer({value})"
    bits = _BITS.get(length, 64)
    if letter in "di":
        if bits < 8 * size or (bits == 8 * size and not signed):
            half = 1 << (bits - 1)
            value = f"({value} + {half} & {2 * half - 1}) - {half}"
    elif bits < 8 * size or signed:
        value = f"{value} & {(1 << bits) - 1}"
    if "#" in flags or (precision is not None and ("0" in flags or int(precision or 0) == 0)):
        shape = repr((flags, int(width or 0), None if precision is None else int(precision or 0), letter))
        return b"%s", f"integer({value}, *{shape})"
    if letter in "di":
        kept = "".join([flag for flag in "-+ 0" if flag in flags and not (flag == "0" and left)])
        letter = "d"
    else:
        kept = "-" if left else "0" if "0" in flags else ""
        letter = "d" if letter == "u" else letter
    point = "" if precision is None else f".{precision}"
    return f"%{kept}{width}{point}{letter}".encode(), value


def _c_integer(value: int, flags: str, width: int, precision: int | None, letter: str) -> bytes:
    """An integer as C formats it, for the cases that Python's ``%`` does not do alike."""
    digits = format(abs(value), {"d": "d", "i": "d", "u": "d"}.get(letter, letter))
    sign = ""
    if letter in "di":
        sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    if precision is not None:
        digits = digits.rjust(precision, "0") if precision or value else ""
    if "#" in flags:
        if letter == "o" and not digits.startswith("0"):
            digits = "0" + digits
        elif letter in "xX" and value:
            sign = "0" + letter
    if "-" not in flags and "0" in flags and precision is None:
        digits = digits.rjust(width - len(sign), "0")
    text = (sign + digits).encode()
    return text.ljust(width) if "-" in flags else text.rjust(width)


def _pointer(value: int) -> bytes:
    """``%p`` as the C library prints it."""
    return b"%#x" % (value & (1 << 64) - 1) if value else b"(nil)"


def _cut_string(trailer: bytes) -> Callable[[bytes], bytes]:
    def text(data: bytes) -> bytes:
        return data[:-1] + trailer if data[-1:] == b"\xff" else data

    return text
