"""Bytes of script values to Python values.

=====================================  ==================================================
script type                            Python value
=====================================  ==================================================
int, enum, pointer, username           int
bool                                   bool
string, probe, inet, mac, strerror,    str
timestamp, cgroup_path
buffer                                 bytes
tuple                                  tuple
record                                 dict by member name
array                                  list
ksym, usym                             str
kstack, ustack                         tuple of Frame, innermost first
count, sum, min, max                   int
avg, stats                             Totals
hist, lhist                            list of Bucket
tseries                                list of Interval
=====================================  ==================================================
"""

from __future__ import annotations

import struct

from tracebee.report import aggregate, fields, histogram, names, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tracebee.lang.types import Type
    from tracebee.report.scene import Scene


def decode(t: Type, data: bytes | Sequence[bytes], scene: Scene) -> Any:
    """The Python value of one script value; ``data`` is a list of bytes for an aggregation."""
    if aggregate.is_aggregation(t):
        merged = aggregate.merge(t, [data] if isinstance(data, bytes) else data)
        if t.kind == "hist":
            return histogram.log_buckets(merged, t.number)  # type: ignore[arg-type]
        if t.kind == "lhist":
            return histogram.linear_buckets(merged, *t.args)  # type: ignore[arg-type]
        return merged
    return decoder(t, scene)(data if isinstance(data, bytes) else data[0])


def decoder(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    """A function from the bytes of a value that is no aggregation to its Python value."""
    if t.kind in ("int", "enum", "pointer", "username"):
        return fields.integer(t)
    return _DECODERS[t.kind](t, scene)


def _tuple(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    members = [(fields.member(f), decoder(f.type, scene)) for f in t.fields]
    return lambda data: tuple([value(cut(data)) for cut, value in members])


def _record(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    members = [(f.name, fields.member(f), decoder(f.type, scene)) for f in t.fields]
    return lambda data: {name: value(cut(data)) for name, cut, value in members}


def _array(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    assert t.element is not None
    size, value = fields.size_of(t.element), decoder(t.element, scene)
    return lambda data: [value(data[i * size : (i + 1) * size]) for i in range(t.number)]


def _ksym(_t: Type, scene: Scene) -> Callable[[bytes], Any]:
    return lambda data: resolve.kernel_name(data, scene)


def _kstack(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    return lambda data: tuple(scene.kernel_stack(struct.unpack_from("=q", data)[0], t.number))


def _ustack(t: Type, scene: Scene) -> Callable[[bytes], Any]:
    def stack(data: bytes) -> Any:
        stack_id, tgid, pid = struct.unpack_from("=qII", data)
        return tuple(scene.user_stack(stack_id, t.number, tgid, pid))

    return stack


_DECODERS: dict[str, Callable[[Type, Scene], Callable[[bytes], Any]]] = {
    "none": lambda _t, _s: lambda _data: None,
    "bool": lambda _t, _s: lambda data: data[0] != 0,
    "string": lambda _t, s: lambda data: fields.text_of(data, s.cut),
    "buffer": lambda _t, _s: fields.buffer_of,
    "tuple": _tuple,
    "record": _record,
    "array": _array,
    "ksym": _ksym,
    "usym": lambda _t, s: lambda data: resolve.user_name(data, s),
    "kstack": _kstack,
    "ustack": _ustack,
    "inet": lambda _t, _s: names.inet,
    "mac": lambda _t, _s: names.mac,
    "strerror": lambda t, _s: lambda data: names.error(fields.integer(t)(data)),
    "probe": resolve.probe,
    "timestamp": resolve.timestamp,
    "cgroup_path": resolve.control_group,
}
