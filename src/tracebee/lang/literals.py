"""Values of integer and string literals."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Nanoseconds per unit.
DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_SUFFIX = r"(?:[uU](?:ll|LL|l|L)?|(?:ll|LL|l|L)[uU]?)?"
# Compiled where used: most scripts hold plain decimals only.
_NUMBER = (
    rf"(0[xX][0-9a-fA-F_]+){_SUFFIX}\Z"  # 1: hexadecimal
    rf"|(0[0-7_]+){_SUFFIX}\Z"  # 2: octal
    r"|([1-9])[eE]([0-9]+)\Z"  # 3, 4: scientific
    rf"|([1-9][0-9_]*|0)(?:(ns|us|ms|s|m|h|d)|{_SUFFIX})\Z"  # 5: decimal, 6: duration
)
_MAXIMUM = (1 << 64) - 1
_ESCAPE = re.compile(r"\\(?:([ntr\"\\abfv'])|([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.?))", re.DOTALL)
_NAMED = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    '"': '"',
    "\\": "\\",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "'": "'",
}


def integer(text: str) -> int:
    """The value of an integer literal: C bases and suffixes, ``1e6``, ``1_000``, ``10ms`` (in ns).

    :raises Diagnostic: not a number of the language, or above 2**64 - 1; without a span.
    """
    if text.isdecimal() and text[0] != "0" and len(text) < 20:
        return int(text)
    match = re.match(_NUMBER, text)
    if match is None:
        raise Diagnostic(f"'{text}' is not a number", hint=_number_hint(text))
    hexadecimal, octal, mantissa, exponent, decimal, unit = match.groups()
    if hexadecimal:
        value = int(hexadecimal.replace("_", "")[2:] or "0", 16)
    elif octal:
        value = int(octal.replace("_", ""), 8)
    elif mantissa:
        value = int(mantissa) * 10 ** min(int(exponent), 30)
    else:
        digits = decimal.replace("_", "")
        value = (int(digits) if len(digits) < 40 else 1 << 64) * DURATIONS.get(unit or "ns", 1)
    if value > _MAXIMUM:
        raise Diagnostic(f"'{text}' does not fit 64 bits", hint=f"the largest number is {_MAXIMUM}")
    return value


def _number_hint(text: str) -> str:
    if re.match(r"0[0-9]+\Z", text):
        return "a leading 0 makes a number octal, which has no digits 8 and 9"
    if re.match(r"[0-9]+[eE]", text):
        return "scientific numbers are one digit, 'e' and an exponent: 1e6"
    if re.match(r"0[bB]", text):
        return "there are no binary numbers: use hexadecimal"
    return "numbers are decimal, 0x, 0 (octal) or 1e6, with a suffix u, l, ns, us, ms, s, m, h or d"


def string(text: str) -> str:
    """The value of a quoted string, one character for each byte of its UTF-8 encoding.

    :raises Diagnostic: an escape is wrong (``bad_escapes`` says which); without a span.
    """
    body = text[1:-1]
    if not body.isascii():
        body = body.encode("utf-8", "surrogateescape").decode("latin-1")
    return body if "\\" not in body else _ESCAPE.sub(_unescape, body)


def _unescape(match: re.Match[str]) -> str:
    named, octal, hexadecimal, other = match.groups()
    if named:
        return _NAMED[named]
    if octal:
        if int(octal, 8) > 255:
            raise Diagnostic(f"the escape '\\{octal}' is above 255", hint="octal escapes end at \\377")
        return chr(int(octal, 8))
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if other in ("x", "X"):
        raise Diagnostic(f"'\\{other}' needs hexadecimal digits", hint="write \\x41")
    raise Diagnostic(
        f"unknown escape '\\{other}'",
        hint='the escapes are \\n \\t \\r \\" \\\\ \\a \\b \\f \\v, octal \\033 and hexadecimal \\x1b',
    )


def bad_escapes(text: str) -> Iterator[tuple[int, int, Diagnostic]]:
    """The wrong escapes of a quoted string: start and end offsets in ``text``, and what is wrong."""
    for match in _ESCAPE.finditer(text):
        try:
            _unescape(match)
        except Diagnostic as error:
            yield match.start(), match.end(), error


def quote(value: str) -> str:
    """The literal that ``string`` reads back as ``value``."""
    out = []
    for char in value:
        if char in _QUOTED:
            out.append(_QUOTED[char])
        elif " " <= char <= "~":
            out.append(char)
        else:
            out.append(f"\\x{ord(char):02x}")
    return '"' + "".join(out) + '"'


_QUOTED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
