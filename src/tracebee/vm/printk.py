"""The format language of bpf_trace_printk, bpf_snprintf and their like.

Source: ``bpf_bprintf_prepare`` in ``kernel/bpf/helpers.c``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tracebee.vm.semantics import signed

_SPECIFIER = re.compile(rb"%(?:(%)|([-+ #0]*)(\d*)(?:\.\d+)?(ll|l|hh|h)?([diuxXcsp])([IiKksSBu]?[46]?s?))")
_BITS = {b"": 32, b"h": 16, b"hh": 8, b"l": 64, b"ll": 64}

ReadString = Callable[[int], bytes]


def format_text(template: bytes, arguments: Iterator[int], read: ReadString) -> bytes | None:
    """A template with its specifiers filled in; None where the kernel would refuse it.

    :param arguments: 64-bit values.
    :param read: the string at an address, without its NUL.
    """
    out, at = b"", 0
    while (percent := template.find(b"%", at)) >= 0:
        match = _SPECIFIER.match(template, percent)
        if match is None:
            return None
        out += template[at:percent]
        at = match.end()
        if match[1]:
            out += b"%"
            continue
        flags, width, size, kind, _ = match.group(2, 3, 4, 5, 6)
        value = next(arguments, None)
        if value is None:
            return None
        out += _one(flags.decode(), width.decode(), _BITS[size or b""], kind.decode(), value, read)
    return out + template[at:]


def _one(flags: str, width: str, bits: int, kind: str, value: int, read: ReadString) -> bytes:
    if kind == "s":
        text = read(value)
        fill = int(width or 0)
        return text.ljust(fill) if "-" in flags else text.rjust(fill)
    if kind == "c":
        return bytes([value & 0xFF])
    if kind == "p":
        return b"%016x" % value
    if kind in "di":
        return f"%{flags}{width}d".encode() % signed(value, bits)
    return f"%{flags}{width}{'d' if kind == 'u' else kind}".encode() % (value & (1 << bits) - 1)
