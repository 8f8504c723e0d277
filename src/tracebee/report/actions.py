"""What each kind of action does: one function per kind prepares all it can for an action of the
script, and returns the function that is called with each of its records.
"""

from __future__ import annotations

import os
import struct
from time import time_ns as now

from tracebee.report import fields
from tracebee.report.names import strftime
from tracebee.report.values import Style, quote
from tracebee.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.api import MapReader
    from tracebee.lang.script import Action, MapInfo
    from tracebee.report.reporter import Reporter

    Handler = Callable[[bytes | memoryview], bytes]

# The printf engine and the map reader are imported where a script uses them: that is startup time.
HEADER = 8  # bytes before a record's payload (lang.script)


def encode(text: str) -> bytes:
    """Text to the bytes it came from: what is no UTF-8 goes through unchanged."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """The inverse of ``encode``."""
    return data.decode("utf-8", "surrogateescape")


def _format(reporter: Reporter, action: Action) -> Handler:
    from tracebee.report.printf import compile_format

    return compile_format(action.format, action.layout, reporter.scene)


def printf(reporter: Reporter, action: Action) -> Handler:
    """``format`` with the record's fields."""
    form = _format(reporter, action)
    if reporter.json:
        return lambda record: reporter.message("printf", decode(form(record)))
    return form


def to_stderr(reporter: Reporter, action: Action) -> Handler:
    """``errorf`` and ``warnf``: a line on stderr with the place in the script."""
    form = _format(reporter, action)
    severity = "ERROR" if action.kind == "errorf" else "WARNING"

    def write(record: bytes | memoryview) -> bytes:
        reporter.flush()
        reporter.err.write(
            encode(_place(reporter, action) + f"{severity}: ") + form(record).rstrip(b"\n") + b"\n"
        )
        reporter.err.flush()
        return b""

    return write


def helper_error(reporter: Reporter, action: Action) -> Handler:
    """A helper call that failed: what, why, and where in the script (``-k``)."""
    helper, place = action.format, _place(reporter, action)
    source, at = reporter.script.source, Span(action.line, action.column, action.line, action.column + 1)
    excerpt = f"{source.excerpt(at)}\n" if source.text else ""

    def write(record: bytes | memoryview) -> bytes:
        (code,) = struct.unpack_from("=q", record, HEADER)
        reason = os.strerror(-code)
        if reporter.json:
            what = f'"msg": {quote(reason)}, "helper": {quote(helper)}, "retcode": {code}'
            where = f'"line": {action.line}, "col": {action.column}'
            return encode(f'{{"type": "helper_error", {what}, {where}}}\n')
        reporter.flush()
        reporter.err.write(encode(f"{place}WARNING: Failed to {helper}: {reason} ({code})\n{excerpt}"))
        reporter.err.flush()
        return b""

    return write


def _place(reporter: Reporter, action: Action) -> str:
    if not action.line:
        return ""
    return f"{reporter.script.config.get('source', 'stdin')}:{action.line}:{action.column}: "


def print_value(reporter: Reporter, action: Action) -> Handler:
    """``print(expression)``."""
    field = action.layout.fields[0]
    write = Style(reporter.scene, json=reporter.json).writer(field.type)
    start, end = HEADER + field.offset, HEADER + field.offset + fields.size_of(field.type)
    if reporter.json:
        return lambda record: encode(f'{{"type": "value", "data": {write(bytes(record[start:end]))}}}\n')
    return lambda record: encode(write(bytes(record[start:end])) + "\n")


def print_map(reporter: Reporter, action: Action) -> Handler:
    """``print(@x, top, div)``."""
    name, top, div = action.args["map"], action.args.get("top") or 0, action.args.get("div") or 1
    return lambda _record: encode(reporter.map_text(name, top, div))


def print_key(reporter: Reporter, action: Action) -> Handler:
    """``print(@x[key])``: one entry."""
    from tracebee.report import entries

    info = reporter.infos[action.args["map"]]
    key, value = action.layout.fields[:2]
    cut_key, cut_value = fields.member(key), fields.member(value)

    def write(record: bytes | memoryview) -> bytes:
        payload = bytes(record[HEADER:])
        entry = entries.Entry(cut_key(payload), entries.single(info.value, cut_value(payload)))
        return encode(reporter.printer(info).render([entry]))

    return write


def clear(reporter: Reporter, action: Action) -> Handler:
    """``clear(@x)`` and ``zero(@x)``."""
    from tracebee.report import entries

    info = reporter.infos[action.args["map"]]
    return _reset(reporter, info, entries.clear if action.kind == "clear" else entries.zero)


def _reset(reporter: Reporter, info: MapInfo, reset: Callable[[MapInfo, MapReader], None]) -> Handler:
    def act(_record: bytes | memoryview) -> bytes:
        reset(info, reporter.maps[info.map])
        return b""

    return act


def exit_action(reporter: Reporter, action: Action) -> Handler:
    """``exit(code)``."""
    code = fields.integer(action.layout.fields[0].type) if action.layout.fields else None
    start = HEADER + (action.layout.fields[0].offset if action.layout.fields else 0)

    def act(record: bytes | memoryview) -> bytes:
        reporter.request_exit(code(bytes(record[start:])) if code else 0)
        return b""

    return act


def join(reporter: Reporter, action: Action) -> Handler:
    """``join(array, separator)``."""
    counter, strings = action.layout.fields
    element = strings.type.element
    assert element is not None
    start, size = HEADER + strings.offset, fields.size_of(element)
    separator, cut = action.args.get("sep", " "), reporter.scene.cut

    def write(record: bytes | memoryview) -> bytes:
        (count,) = struct.unpack_from("=Q", record, HEADER + counter.offset)
        parts = [
            fields.text_of(bytes(record[start + i * size : start + (i + 1) * size]), cut)
            for i in range(min(count, strings.type.number))
        ]
        return reporter.message("join", separator.join(parts) + ("" if reporter.json else "\n"))

    return write


def print_time(reporter: Reporter, action: Action) -> Handler:
    """``time(format)``: user space's clock when the record is read, or the time that the record holds."""
    form = action.format or "%H:%M:%S\n"
    if not action.layout.fields:
        return lambda _record: reporter.message("time", strftime(form, now()))
    unpack, at = struct.Struct("=Q").unpack_from, HEADER + action.layout.fields[0].offset
    wall = reporter.scene.clock.wall
    return lambda record: reporter.message("time", strftime(form, wall(unpack(record, at)[0])))


def cat(reporter: Reporter, action: Action) -> Handler:
    """``cat(path)``: the file's contents."""
    form = _format(reporter, action)

    def write(record: bytes | memoryview) -> bytes:
        path = form(record)
        try:
            with open(path, "rb") as file:
                return reporter.message("cat", decode(file.read())) if reporter.json else file.read()
        except OSError as error:
            reporter.err.write(encode(f"ERROR: failed to open file '{decode(path)}': {error.strerror}\n"))
            reporter.err.flush()
            return b""

    return write


def system(reporter: Reporter, action: Action) -> Handler:
    """``system(command)``: what the command prints."""
    form = _format(reporter, action)

    def run(record: bytes | memoryview) -> bytes:
        import subprocess  # only scripts with system() need it

        reporter.flush()
        done = subprocess.run(["/bin/sh", "-c", form(record)], stdout=subprocess.PIPE, check=False)
        return reporter.message("syscall", decode(done.stdout)) if reporter.json else done.stdout

    return run


ACTIONS: dict[str, Callable[[Reporter, Action], Handler]] = {
    "printf": printf,
    "errorf": to_stderr,
    "warnf": to_stderr,
    "print_value": print_value,
    "print_map": print_map,
    "print_key": print_key,
    "clear": clear,
    "zero": clear,
    "exit": exit_action,
    "join": join,
    "time": print_time,
    "cat": cat,
    "system": system,
    "helper_error": helper_error,
}
