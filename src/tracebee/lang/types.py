"""The types of values in scripts, and how each lies in memory.

One layout serves map keys, map values, tuples and event records, so that the code that fills a
value (lang), the code that reads it back (report) and BTF agree. All integers are little- or
big-endian as the machine is; every type has a size and an alignment, fields of tuples and
records are aligned as C aligns them, and padding is zero.

Types are plain data: ``to_json``/``from_json`` carry them through an object file.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Type(NamedTuple):
    """A script type.

    ============  ========================================================================
    kind          meaning, and what lies in memory
    ============  ========================================================================
    none          no value (statements)
    int           ``size`` 1, 2, 4 or 8 bytes, ``signed``
    bool          1 byte, 0 or 1
    string        ``size`` bytes, NUL-terminated and zero-padded
    buffer        u32 length, then ``size - 4`` bytes of data
    pointer       8 bytes; ``element`` is the pointee, ``name`` the address space: kernel or user
    record        a C struct or union: ``name`` is its C name, ``fields`` its members, ``size`` bytes
    tuple         ``fields`` one after another, aligned; names are "0", "1", ... or the given ones
    array         ``number`` times ``element``
    enum          ``size`` bytes; ``name`` is the C name, printed as the enumerator where known
    kstack        stack key, 16 bytes: s64 id, u32 frames kept, u32 0 (see lang.script.STACKS);
                  ``name`` is the mode (bpftrace, perf, raw), ``number`` the frames asked for
    ustack        stack key, 16 bytes: s64 id, u32 tgid, u32 pid
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
    hist          per-CPU u64 buckets; ``number`` is ``bits`` (bpftrace's 0 to 5)
    lhist         per-CPU u64 buckets: below, (max-min)/step of them, above; ``args`` (min, max, step)
    tseries       per-CPU intervals; ``args`` (interval ns, intervals), ``name`` the aggregation
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
