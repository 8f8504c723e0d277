"""Values as text and as JSON: the two forms share everything but brackets and quotes."""

from __future__ import annotations

import struct

from tracebee.report import fields, names, resolve
from tracebee.stacks.text import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.types import Type
    from tracebee.report.scene import Scene

    Writer = Callable[[bytes], str]

KEY_INDENT, VALUE_INDENT = 4, 8


class Style:
    """One form of output, and the functions that write values in it.

    :param json: JSON; else bpftrace's text.
    :param indent: spaces before the frames of a stack.
    """

    def __init__(self, scene: Scene, *, json: bool = False, indent: int = VALUE_INDENT) -> None:
        self.scene = scene
        self.json = json
        self.indent = indent

    def writer(self, t: Type) -> Writer:
        """A function that writes a value, which is no aggregation, from its bytes."""
        write = _WRITERS[t.kind](self, t)
        if self.json and t.kind in _QUOTED:
            return lambda data: quote(write(data))
        return write

    def tuple(self, t: Type) -> Writer:
        """``(1, abc)``, in JSON ``[1,"abc"]``."""
        members = [(fields.member(f), self.writer(f.type)) for f in t.fields]
        opening, comma, closing = ("[", ",", "]") if self.json else ("(", ", ", ")")
        return lambda data: opening + comma.join([write(cut(data)) for cut, write in members]) + closing

    def record(self, t: Type) -> Writer:
        """``{ .a = 1, .b = 2 }``, in JSON ``{"a": 1, "b": 2}``."""
        if not t.fields:
            return lambda _data: "{}"
        form = '"{}": ' if self.json else ".{} = "
        members = [(form.format(f.name), fields.member(f), self.writer(f.type)) for f in t.fields]
        opening, closing = ("{", "}") if self.json else ("{ ", " }")
        return lambda data: (
            opening + ", ".join([name + write(cut(data)) for name, cut, write in members]) + closing
        )

    def array(self, t: Type) -> Writer:
        """``[1,2]`` in both forms."""
        assert t.element is not None
        size, write = fields.size_of(t.element), self.writer(t.element)
        return lambda data: (
            "[" + ",".join([write(data[i * size : (i + 1) * size]) for i in range(t.number)]) + "]"
        )

    def enum(self, t: Type) -> Writer:
        """The enumerator's name where there is one; JSON has the number."""
        number = fields.integer(t)
        known = {} if self.json else {f.offset: f.name for f in t.fields}
        return lambda data: known.get(number(data)) or str(number(data))

    def kstack(self, t: Type) -> Writer:
        """A kernel stack, one line for each frame."""
        unpack, scene = struct.Struct("=q").unpack_from, self.scene
        return lambda data: render(
            scene.kernel_stack(unpack(data)[0], t.number), t.name, self.indent, user=False
        )

    def ustack(self, t: Type) -> Writer:
        """A user stack, one line for each frame."""
        unpack, scene = struct.Struct("=qII").unpack_from, self.scene

        def write(data: bytes) -> str:
            stack_id, tgid, pid = unpack(data)
            frames = scene.user_stack(stack_id, t.number, tgid, pid)
            return render(frames, t.name, self.indent, user=True)

        return write


def _decimal(_style: Style, t: Type) -> Writer:
    number = fields.integer(t)
    return lambda data: str(number(data))


def _pointer(_style: Style, t: Type) -> Writer:
    number = fields.integer(t)
    return lambda data: f"{number(data):#x}"


def _user(_style: Style, t: Type) -> Writer:
    number = fields.integer(t)
    return lambda data: names.user(number(data))


def _error(_style: Style, t: Type) -> Writer:
    number = fields.integer(t)
    return lambda data: names.error(number(data))


_WRITERS: dict[str, Callable[[Style, Type], Writer]] = {
    "none": lambda _s, _t: lambda _data: "",
    "int": _decimal,
    "bool": lambda _s, _t: lambda data: "true" if data[0] else "false",
    "string": lambda s, _t: lambda data: fields.text_of(data, s.scene.cut),
    "buffer": lambda _s, _t: lambda data: fields.escaped(fields.buffer_of(data)),
    "pointer": _pointer,
    "record": Style.record,
    "tuple": Style.tuple,
    "array": Style.array,
    "enum": Style.enum,
    "kstack": Style.kstack,
    "ustack": Style.ustack,
    "ksym": lambda s, _t: lambda data: resolve.kernel_name(data, s.scene),
    "usym": lambda s, _t: lambda data: resolve.user_name(data, s.scene),
    "inet": lambda _s, _t: names.inet,
    "mac": lambda _s, _t: names.mac,
    "username": _user,
    "probe": lambda s, t: resolve.probe(t, s.scene),
    "timestamp": lambda s, t: resolve.timestamp(t, s.scene),
    "cgroup_path": lambda s, t: resolve.control_group(t, s.scene),
    "strerror": _error,
}

_QUOTED = frozenset(
    ("string", "buffer", "kstack", "ustack", "ksym", "usym", "inet", "mac", "username", "probe",
     "timestamp", "cgroup_path", "strerror", "pointer")
)  # fmt: skip

_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"} | {
    code: f"\\u{code:04x}" for code in range(32) if code not in (9, 10, 13)
}


def quote(text: str) -> str:
    """A JSON string. Bytes that are no UTF-8 become U+FFFD, as JSON has no way to carry them."""
    if not text.isprintable():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f'"{text.translate(_ESCAPES)}"'
