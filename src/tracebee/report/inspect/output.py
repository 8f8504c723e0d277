"""Records as JSON, on one line or indented for reading, and what several kinds of them have in common."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def json_text(value: Any, *, pretty: bool) -> str:
    """JSON as a script (one line) or a person (indented) wants it."""
    if pretty:
        return json.dumps(value, indent=4)
    return json.dumps(value, separators=(",", ":"))


_HEX = [f"0x{byte:02x}" for byte in range(256)]


def hex_bytes(data: bytes) -> list[str]:
    """Bytes as bpftool's JSON has them: ``["0x01", "0x00"]``."""
    return [_HEX[byte] for byte in data]


def hex_text(data: bytes) -> str:
    """Bytes as bpftool's text has them: ``01 00``, sixteen a line, with a gap after eight."""
    lines = []
    for at in range(0, len(data), 16):
        halves = (data[at : at + 8], data[at + 8 : at + 16])
        lines.append("  ".join(half.hex(" ") for half in halves if half))
    return "\n".join(lines)


def hex_dump(data: bytes) -> str:
    """Bytes as a dump has them: offset, sixteen in pairs, and as characters."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:07x}\t{part.hex(' ', -2):<39} | {f'{shown[:8]} {shown[8:]}'.rstrip()}")
    return "\n".join(lines)


def holder_lines(record: dict[str, Any]) -> list[str]:
    """The line that names the processes of a record, when it has any."""
    if "pids" not in record:
        return []
    return ["pids " + ",".join(f"{holder['comm']}({holder['pid']})" for holder in record["pids"])]
