"""The types of values in scripts, and how each lies in memory.

One layout serves map keys, map values, tuples and event records, so that the code that fills a
value (lang), the code that reads it back (report) and BTF agree. All integers are little- or
big-endian as the machine is; every type has a size and an alignment, fields of tuples and
records are aligned as C aligns them, and padding is zero.

Types are plain data: ``to_json``/``from_json`` carry them through an object file.
"""

from __future__ import annotations

from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Type(NamedTuple):
    """A script type.

    ============  ========================================================================
    kind          meaning, and what lies in memory
    ============  ========================================================================
    none          no value (statements)
    int           ``size`` 1, 2, 4 or 8 bytes, ``signed``
    bool          1 byte, 0 or 1
    string        ``size`` bytes, NUL-terminated; zero-padded, except in event records, where
                  the bytes after the NUL are undefined. A string that was cut off has 0xff as
                  its last byte instead of NUL (its text is the ``size - 1`` bytes before)
    buffer        u32 length, then ``size - 4`` bytes of data
    pointer       8 bytes; ``element`` is the pointee, ``name`` the address space: kernel or user
    record        a C struct or union: ``name`` is its C name, ``fields`` its members, ``size`` bytes
    tuple         ``fields`` one after another, aligned; names are "0", "1", ... or the given ones
    array         ``number`` times ``element``
    enum          ``size`` bytes; ``name`` is the C name, printed as the enumerator where known;
                  ``fields`` are its enumerators, each with its value as ``offset``
    kstack        stack key, 16 bytes: s64 id, u64 0 (see lang.script.STACKS for the id);
                  ``name`` is the mode (bpftrace, perf, raw), ``number`` the frames asked for
    ustack        stack key, 16 bytes: s64 id, u32 tgid, u32 pid; ``name`` and ``number`` as kstack
    ksym          8 bytes, a kernel address
    usym          16 bytes: u64 user address, u32 tgid, u32 pid
    inet          u32 family (AF_INET, AF_INET6), 16 bytes of address: 20 bytes
    mac           6 bytes
    username      4 bytes, a uid
    probe         4 bytes, index into Script.probe_names
    timestamp     u64 nanoseconds; ``number`` is the format's index in Script.strings, ``name`` the clock
    cgroup_path   u64 cgroup id; ``number`` is the pattern's index in Script.strings
    strerror      4 bytes, an errno
    count         per-CPU u64
    sum           per-CPU s64 (u64 when not ``signed``)
    avg           per-CPU {s64 total, u64 count}
    min, max      per-CPU {s64 value, u64 set}
    stats         per-CPU {s64 total, u64 count}
    hist          per-CPU u64 buckets, ``hist_buckets(number)`` of them; ``number`` is ``bits``
                  (bpftrace's 0 to 5). Bucket 0: negative; n + 1 for n < 2**bits; then, for the
                  n whose highest set bit is l: ((l - bits + 1) << bits) + the next ``bits`` bits + 1
    lhist         per-CPU u64 buckets: below, ceil((max-min)/step) of them, above;
                  ``args`` (min, max, step)
    tseries       per-CPU ring of ``args[1]`` intervals, each {u64 epoch + 1 or 0, s64 value,
                  u64 meta}; epoch is nsecs / interval, its place epoch % intervals; ``args``
                  (interval ns, intervals), ``name`` the aggregation or "" (the last value, whose
                  nsecs is meta; avg: meta is the number of values)
    ============  ========================================================================
    """

    kind: str
    size: int = 0
    signed: bool = False
    name: str = ""
    element: Type | None = None
    number: int = 0
    fields: tuple[TypeField, ...] = ()
    args: tuple[int, ...] = ()

    def to_json(self) -> list[Any]:
        """The type as JSON values, trailing defaults left out."""
        values: list[Any] = [
            self.kind,
            self.size,
            self.signed,
            self.name,
            None if self.element is None else self.element.to_json(),
            self.number,
            [[f.name, f.type.to_json(), f.offset, f.bit_offset, f.bit_size] for f in self.fields],
            list(self.args),
        ]
        while len(values) > 2 and not values[-1]:
            values.pop()
        return values

    @classmethod
    def from_json(cls, values: list[Any]) -> Type:
        """The inverse of ``to_json``."""
        padded = list(values) + [0, False, "", None, 0, [], []][len(values) - 1 :]
        kind, size, signed, name, element, number, fields, args = padded
        return cls(
            kind,
            size,
            bool(signed),
            name or "",
            None if element is None else cls.from_json(element),
            number,
            tuple(TypeField(f[0], cls.from_json(f[1]), f[2], f[3], f[4]) for f in fields or ()),
            tuple(args or ()),
        )


class TypeField(NamedTuple):
    """A member of a record or tuple. Offsets in bytes; ``bit_size`` 0 unless a bit-field, whose
    ``bit_offset`` counts from the start of the record.
    """

    name: str
    type: Type
    offset: int
    bit_offset: int = 0
    bit_size: int = 0


NONE = Type("none")
BOOL = Type("bool", 1)
INT8, INT16, INT32, INT64 = (Type("int", n, signed=True) for n in (1, 2, 4, 8))
UINT8, UINT16, UINT32, UINT64 = (Type("int", n) for n in (1, 2, 4, 8))

AGGREGATIONS = frozenset({"count", "sum", "avg", "min", "max", "stats", "hist", "lhist", "tseries"})


def hist_buckets(bits: int) -> int:
    """How many buckets a ``hist`` with this many bits has.

    The last ``2**bits`` are for values above 2**63, which there are none of: the verifier cannot
    always see that.
    """
    return ((65 - bits) << bits) + 1


def lhist_buckets(low: int, high: int, step: int) -> int:
    """How many buckets an ``lhist`` has, with those below and above its range."""
    return -((low - high) // step) + 2


def string(size: int) -> Type:
    """A string of ``size`` bytes with its NUL."""
    return Type("string", size)


def pointer(element: Type, space: str) -> Type:
    """A pointer to ``element`` in ``kernel`` or ``user`` memory ("" when nothing says which)."""
    return Type("pointer", 8, name=space, element=element)


def alignment(t: Type) -> int:
    """The alignment C (or this module, for its own kinds) gives a value of the type."""
    if t.kind in ("int", "enum", "pointer", "bool"):
        return t.size or 1
    if t.kind in ("record", "tuple"):
        return max((alignment(f.type) for f in t.fields if not f.bit_size), default=1)
    if t.kind == "array" and t.element is not None:
        return alignment(t.element)
    return _ALIGNMENTS.get(t.kind, 8)


_ALIGNMENTS = {
    "none": 1,
    "string": 1,
    "buffer": 4,
    "inet": 4,
    "mac": 1,
    "username": 4,
    "probe": 4,
    "strerror": 4,
}


def tuple_of(types: Iterable[Type], names: Iterable[str] | None = None) -> Type:
    """A tuple with its members laid out as C would; ``names`` makes it a record of a script."""
    fields: list[TypeField] = []
    at, align = 0, 1
    given = iter(names) if names is not None else None
    for i, t in enumerate(types):
        a = alignment(t)
        align = max(align, a)
        at = -(-at // a) * a
        fields.append(TypeField(str(i) if given is None else next(given), t, at))
        at += t.size
    return Type("tuple", -(-at // align) * align, fields=tuple(fields))


def display(t: Type) -> str:
    """The type as an error message names it: ``uint64``, ``string[16]``, ``struct file *``."""
    if t.kind == "int":
        return f"{'' if t.signed else 'u'}int{8 * t.size}"
    if t.kind == "pointer":
        inner = "void" if t.element is None or t.element.kind == "none" else display(t.element)
        return inner + (" *" if not inner.endswith("*") else "*")
    if t.kind == "array":
        return f"{'' if t.element is None else display(t.element)}[{t.number}]"
    if t.kind in ("string", "buffer"):
        return f"{t.kind}[{t.size}]"
    if t.kind == "tuple":
        named = bool(t.fields) and t.fields[0].name != "0"
        return "(" + ",".join((f"{f.name}=" if named else "") + display(f.type) for f in t.fields) + ")"
    if t.kind == "record":
        return t.name or "anonymous struct"
    if t.kind == "enum":
        return t.name or "enum"
    if t.kind in AGGREGATIONS:
        return f"{t.kind}_t"
    return t.kind
