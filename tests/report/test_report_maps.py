"""Maps against text that bpftrace 0.17 printed for the same contents, and against bpftrace itself."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.lang import types
from tracebee.lang.script import Action, MapInfo, Script
from tracebee.lang.types import Type, TypeField, tuple_of
from tracebee.obj.model import Object
from tracebee.report import histogram
from tracebee.report.reporter import Reporter
from tracebee.symbols.frame import Frame

CPUS = 3


class Names:
    """Gives every address below 0x1000 no name, and others one made of it."""

    def kernel_frame(self, address: int) -> Frame:
        return Frame(address, "sym", 0x10) if address >= 0x1000 else Frame(address)

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        return Frame(address, "main", 5, "/bin/x") if address >= 0x1000 else Frame(address)


class Stacks:
    def __init__(self) -> None:
        self.stacks = {(127, 4): struct.pack("=3Q", 0x2000, 0x30, 0), (2, 1): struct.pack("=2Q", 1, 2)}

    def stack(self, frames: int, number: int) -> bytes | None:
        return self.stacks.get((frames, number))

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        return [(struct.pack("=127Q", 0x5000, *[0] * 126), struct.pack("=q", -3))]


class Reader:
    def __init__(self, entries: dict[bytes, Any]) -> None:
        self.entries = entries

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        return list(self.entries.items())

    def clear(self) -> None:
        self.entries.clear()

    def zero(self) -> None:
        for key, value in self.entries.items():
            self.entries[key] = [bytes(len(v)) for v in value]

    def write(self, offset: int, data: bytes) -> None:
        value = bytearray(self.entries[bytes(4)])
        value[offset : offset + len(data)] = data
        self.entries[bytes(4)] = bytes(value)


def i64(n: int) -> bytes:
    return struct.pack("=q", n)


def string(text: str, size: int = 16) -> bytes:
    return text.encode().ljust(size, b"\0")


def log_slot(n: int, bits: int = 0) -> int:
    """The bucket of a value, as a program finds it: written from the rule in lang.types."""
    if n < 0:
        return 0
    if n < 1 << bits:
        return n + 1
    high = n.bit_length() - 1
    return ((high - bits + 1) << bits) + (n >> (high - bits) & (1 << bits) - 1) + 1


def counted(kind: Type, values: Iterable[int]) -> list[bytes]:
    """What the CPUs hold after these values, spread over them at random."""
    spread: list[list[int]] = [[] for _ in range(CPUS)]
    for value in values:
        random.Random(value).choice(spread).append(value)
    return [per_cpu(kind, part) for part in spread]


def per_cpu(kind: Type, values: list[int]) -> bytes:
    if kind.kind == "count":
        return struct.pack("=Q", len(values))
    if kind.kind == "sum":
        return i64(sum(values))
    if kind.kind in ("avg", "stats"):
        return struct.pack("=qQ", sum(values), len(values))
    if kind.kind in ("min", "max"):
        extreme = min if kind.kind == "min" else max
        return struct.pack("=qQ", extreme(values, default=0), bool(values))
    if kind.kind == "hist":
        slots = [log_slot(v, kind.number) for v in values]
        size = types.hist_buckets(kind.number)
    else:
        low, high, step = kind.args
        slots = [
            0 if v < low else types.lhist_buckets(*kind.args) - 1 if v >= high else (v - low) // step + 1
            for v in values
        ]
        size = types.lhist_buckets(low, high, step)
    return struct.pack(f"={size}Q", *[slots.count(i) for i in range(size)])


COUNT, SUM, AVG, STATS = Type("count", 8), Type("sum", 8, signed=True), Type("avg", 16), Type("stats", 16)
MIN, MAX, HIST = Type("min", 16), Type("max", 16), Type("hist", 8 * types.hist_buckets(0))
LHIST = Type("lhist", 8 * 12, args=(0, 100, 10))
STR, WIDE = types.string(16), Type("lhist", args=(0, 4096, 512))
ENUM = Type("enum", 4, fields=(TypeField("RED", types.NONE, 1),))


def reporter(
    maps: dict[str, tuple[Type | None, Type, dict[bytes, Any]]],
    *,
    as_json: bool = False,
    actions: Sequence[Action] = (),
) -> tuple[Reporter, io.BytesIO]:
    infos = tuple(MapInfo(name, name[1:] or "AT", key, value) for name, (key, value, _) in maps.items())
    script = Script(
        Object("test", "GPL", (), ()), (), tuple(actions), infos, ("BEGIN", "kprobe:f"), ("%Y",), {}
    )
    out = io.BytesIO()
    readers = {name[1:] or "AT": Reader(entries) for name, (_, _, entries) in maps.items()}
    return Reporter(script, readers, Stacks(), Names(), out=out, err=io.BytesIO(), json=as_json), out


def printed(
    key: Type | None, value: Type, entries: dict[bytes, Any], *, as_json: bool = False, **how: int
) -> str:
    made, out = reporter({"@x": (key, value, entries)}, as_json=as_json)
    made.print_map("@x", **how)
    return out.getvalue().decode()


ZERO = bytes(4)
BY_NAME = {string("a"): [1], string("b"): [2, 2], string("c"): [2, 2, 5]}

TEXT = [
    (None, COUNT, {ZERO: counted(COUNT, [1, 1])}, "@x: 2\n"),
    (None, SUM, {ZERO: counted(SUM, [5, 7])}, "@x: 12\n"),
    (None, AVG, {ZERO: counted(AVG, [4, 9])}, "@x: 6\n\n"),
    (None, AVG, {ZERO: counted(AVG, [-5])}, "@x: -5\n\n"),
    (None, MIN, {ZERO: counted(MIN, [4, -2])}, "@x: -2\n"),
    (None, MAX, {ZERO: counted(MAX, [10, 3])}, "@x: 10\n"),
    (None, STATS, {ZERO: counted(STATS, [4, 8])}, "@x: count 2, average 6, total 12\n\n"),
    (STR, STATS, {string("a"): counted(STATS, [4]), string("b"): counted(STATS, [2])},
     "@x[b]: count 1, average 2, total 2\n@x[a]: count 1, average 4, total 4\n\n"),
    (tuple_of([types.INT64, STR]), types.INT64,
     {i64(1) + string("a"): i64(2), i64(2) + string("b"): i64(1), i64(-1) + string("c"): i64(9)},
     "@x[2, b]: 1\n@x[1, a]: 2\n@x[-1, c]: 9\n"),
    (types.INT64, STR, {i64(2): string("b"), i64(10): string("c"), i64(3): string("a")},
     "@x[2]: b\n@x[3]: a\n@x[10]: c\n"),
    (tuple_of([STR, types.INT64]), STR, {string("z") + i64(2): string("q"), string("z") + i64(1): string("q"),
     string("a") + i64(9): string("q")}, "@x[a, 9]: q\n@x[z, 1]: q\n@x[z, 2]: q\n"),
    (types.INT64, types.INT64, {i64(1): i64(-1)}, "@x[1]: -1\n"),
    (types.INT64, types.UINT64, {i64(1): i64(-1)}, "@x[1]: 18446744073709551615\n"),
    (types.INT64, tuple_of([types.INT64, STR, tuple_of([types.INT64] * 2)]),
     {i64(1): i64(1) + string("abc") + i64(2) + i64(3)}, "@x[1]: (1, abc, (2, 3))\n"),
    (None, types.INT64, {}, "\n"),
    (STR, HIST, {}, "\n"),
    (None, STATS, {ZERO: counted(STATS, [])}, "\n\n"),
    (None, HIST, {ZERO: counted(HIST, [-1])},
     "@x: \n(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n\n"),
    (None, HIST, {ZERO: counted(HIST, [1 << 30, 1 << 31])},
     "@x: \n"
     "[1G, 2G)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
     "[2G, 4G)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n\n"),
    (STR, HIST, {string("zero"): counted(HIST, [])}, "@x[zero]: \n\n"),
    (None, LHIST, {ZERO: counted(LHIST, [-5, 5, 5, 25, 500])},
     "@x: \n"
     "(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |\n"
     "[0, 10)                2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
     "[10, 20)               0 |                                                    |\n"
     "[20, 30)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |\n"
     "[30, 40)               0 |                                                    |\n"
     "[40, 50)               0 |                                                    |\n"
     "[50, 60)               0 |                                                    |\n"
     "[60, 70)               0 |                                                    |\n"
     "[70, 80)               0 |                                                    |\n"
     "[80, 90)               0 |                                                    |\n"
     "[90, 100)              0 |                                                    |\n"
     "[100, ...)             1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |\n\n"),
    (None, WIDE, {ZERO: counted(WIDE, [1000, 1600])},
     "@x: \n"
     "[512, 1K)              1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
     "[1K, 1536)             0 |                                                    |\n"
     "[1536, 2K)             1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n\n"),
    (None, Type("kstack", 16, number=127), {ZERO: i64(4) + i64(0)}, "@x: \n        sym+16\n        0x30\n\n"),
    (None, Type("kstack", 16, name="perf", number=2), {ZERO: i64(1) + i64(0)}, "@x: \n\t1 0x1\n\t2 0x2\n\n"),
    (None, Type("kstack", 16, number=127), {ZERO: i64(-3) + i64(0)}, "@x: \n        sym+16\n\n"),
    (tuple_of([Type("ustack", 16, number=127), types.INT64]), types.INT64,
     {i64(4) + i64(9) + i64(1): i64(1)}, "@x[\n    main+5\n    0x30\n, 1]: 1\n"),
    (Type("ustack", 16, name="perf", number=127), types.INT64, {i64(4) + i64(9): i64(1)},
     "@x[\n\t2000 main+5 (/bin/x)\n\t30 0x30 ([unknown])\n]: 1\n"),
    (Type("ksym", 8), types.INT64, {i64(0): i64(1), i64(0x2000): i64(2)}, "@x[0]: 1\n@x[sym]: 2\n"),
    (Type("usym", 16), types.INT64, {i64(0x4D2) + i64(7): i64(1)}, "@x[0x4d2]: 1\n"),
    (Type("inet", 20), types.INT64, {struct.pack("=I16s", 2, b"\x7f\0\0\x01"): i64(4)}, "@x[127.0.0.1]: 4\n"),
    (Type("inet", 20), types.INT64, {struct.pack("=I16s", 10, bytes(15) + b"\1"): i64(4)}, "@x[::1]: 4\n"),
    (Type("probe", 4), types.INT64, {struct.pack("=I", 1): i64(1)}, "@x[kprobe:f]: 1\n"),
    (Type("username", 4), types.INT64, {struct.pack("=I", 0): i64(2)}, "@x[root]: 2\n"),
    (None, Type("buffer", 8), {ZERO: struct.pack("=I", 4) + b"ab\x01\n"}, "@x: ab\\x01\\x0a\n"),
    (None, Type("strerror", 4), {ZERO: struct.pack("=i", 2)}, "@x: No such file or directory\n"),
    (None, Type("bool", 1), {ZERO: b"\1"}, "@x: true\n"),
    (None, Type("mac", 6), {ZERO: b"\x0a\x1b\x2c\x3d\x4e\x5f"}, "@x: 0A:1B:2C:3D:4E:5F\n"),
    (None, Type("pointer", 8), {ZERO: i64(0x1234)}, "@x: 0x1234\n"),
    (None, Type("array", 12, element=types.INT32, number=3), {ZERO: struct.pack("=3i", 1, -2, 3)},
     "@x: [1,-2,3]\n"),
    (None, ENUM, {ZERO: struct.pack("=I", 1)}, "@x: RED\n"),
    (None, ENUM, {ZERO: struct.pack("=I", 7)}, "@x: 7\n"),
    (None, Type("record", 8, fields=(TypeField("a", types.INT32, 0), TypeField("b", types.UINT8, 4, 35, 3))),
     {ZERO: struct.pack("=iI", -4, 0b10101000)}, "@x: { .a = -4, .b = 5 }\n"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "entries", "expected"), TEXT)
def test_text(key: Type | None, value: Type, entries: dict[bytes, Any], expected: str) -> None:
    assert printed(key, value, entries) == expected


JSON = [
    (tuple_of([types.INT64, STR]), types.INT64, {i64(1) + string("a"): i64(2), i64(2) + string("b"): i64(1)},
     '{"type": "map", "data": {"@x": {"2,b": 1, "1,a": 2}}}\n'),
    (None, types.INT64, {ZERO: i64(5)}, '{"type": "map", "data": {"@x": 5}}\n'),
    (None, STR, {ZERO: string('a"b\\\n\t\x01')},
     '{"type": "map", "data": {"@x": "a\\"b\\\\\\n\\t\\u0001"}}\n'),
    (None, STATS, {ZERO: counted(STATS, [4, 8])},
     '{"type": "stats", "data": {"@x": {"count": 2, "average": 6, "total": 12}}}\n'),
    (STR, AVG, {string("b"): counted(AVG, [1]), string("a"): counted(AVG, [3])},
     '{"type": "stats", "data": {"@x": {"b": 1, "a": 3}}}\n'),
    (STR, HIST, {string("b"): counted(HIST, [3]), string("a"): counted(HIST, [1, 10])},
     '{"type": "hist", "data": {"@x": {"b": [{"min": 2, "max": 3, "count": 1}], "a": [{"min": 1, "max": 1, '
     '"count": 1}, {"min": 2, "max": 3, "count": 0}, {"min": 4, "max": 7, "count": 0}, {"min": 8, "max": 15, '
     '"count": 1}]}}}\n'),
    (None, HIST, {ZERO: counted(HIST, [-4, 0])},
     '{"type": "hist", "data": {"@x": [{"max": -1, "count": 1}, {"min": 0, "max": 0, "count": 1}]}}\n'),
    (None, LHIST, {ZERO: counted(LHIST, [-5, 5])},
     '{"type": "hist", "data": {"@x": [{"max": -1, "count": 1}, {"min": 0, "max": 9, "count": 1}]}}\n'),
    (None, LHIST, {ZERO: counted(LHIST, [500])},
     '{"type": "hist", "data": {"@x": [{"min": 100, "count": 1}]}}\n'),
    (types.INT64, tuple_of([types.INT64, STR, tuple_of([types.INT64] * 2)]),
     {i64(1): i64(1) + string("abc") + i64(2) + i64(3)},
     '{"type": "map", "data": {"@x": {"1": [1,"abc",[2,3]]}}}\n'),
    (None, Type("kstack", 16, number=127), {ZERO: i64(4) + i64(0)},
     '{"type": "map", "data": {"@x": "\\n        sym+16\\n        0x30\\n"}}\n'),
    (tuple_of([Type("ustack", 16, number=127), STR]), types.INT64,
     {i64(4) + i64(9) + string("a"): i64(5)},
     '{"type": "map", "data": {"@x": {"\\n    main+5\\n    0x30\\n,a": 5}}}\n'),
    (STR, types.INT64, {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "entries", "expected"), JSON)
def test_json(key: Type | None, value: Type, entries: dict[bytes, Any], expected: str) -> None:
    assert printed(key, value, entries, as_json=True) == expected
    if expected:
        json.loads(expected)


def test_top_and_div() -> None:
    entries = {i64(1): i64(2), i64(2): i64(1), i64(-1): i64(9)}
    assert printed(types.INT64, types.INT64, entries, top=2) == "@x[1]: 2\n@x[-1]: 9\n"
    assert printed(types.INT64, types.INT64, entries, top=2, div=2) == "@x[1]: 1\n@x[-1]: 4\n"
    averages = {
        string("a"): counted(AVG, [1]),
        string("b"): counted(AVG, [2]),
        string("c"): counted(AVG, [10]),
    }
    assert printed(STR, AVG, averages, top=2, div=5) == "@x[b]: 0\n@x[c]: 2\n\n"


def test_div_leaves_the_bars_and_top_counts_histograms() -> None:
    entries = {name: counted(HIST, values) for name, values in BY_NAME.items()}
    assert printed(STR, HIST, entries, top=1, div=2) == (
        "@x[c]: \n"
        "[2, 4)                 1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|\n"
        "[4, 8)                 0 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |\n\n"
    )


def test_top_is_ignored_for_stats() -> None:
    entries = {string("a"): counted(STATS, [1]), string("b"): counted(STATS, [2])}
    assert printed(STR, STATS, entries, top=1).count("count 1") == 2


def test_a_scalar_that_was_never_set_prints_nothing() -> None:
    for flag, expected in ((0, b"\n"), (1, b"@x: 5\n")):
        script = Script(
            Object("t", "GPL", (), ()), (), (), (MapInfo("@x", "scalars", None, types.INT64, 24),), (), (), {}
        )
        out = io.BytesIO()
        reader = Reader({ZERO: bytes(16) + i64(flag) + i64(5) + bytes(8)})
        made = Reporter(script, {"scalars": reader}, Stacks(), Names(), out=out, err=out)
        made.print_map("@x")
        assert out.getvalue() == expected


def test_finish_prints_all_maps_by_name_after_two_empty_lines() -> None:
    made, out = reporter(
        {"@b": (None, types.INT64, {ZERO: i64(2)}), "@": (None, types.INT64, {ZERO: i64(1)})}
    )
    made.finish()
    assert out.getvalue() == b"\n\n@: 1\n@b: 2\n"


@given(st.integers(0, 5), st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_value_lies_in_its_bucket(bits: int, value: int) -> None:
    slot = log_slot(value, bits)
    assert slot < types.hist_buckets(bits)
    low, high = histogram.log_bounds(slot, bits)
    assert low is None or low <= value
    assert high is not None
    assert value <= high


@given(st.integers(-100, 100), st.integers(1, 200), st.integers(1, 50), st.integers(-500, 500))
def test_every_value_lies_in_its_linear_bucket(low: int, span: int, step: int, value: int) -> None:
    kind = Type("lhist", args=(low, low + span, step))
    (bucket,) = histogram.linear_buckets(
        struct.unpack(f"={types.lhist_buckets(*kind.args)}Q", per_cpu(kind, [value])), *kind.args
    )
    assert bucket.low is None or bucket.low <= value
    assert bucket.high is None or value <= bucket.high


@pytest.mark.needs("bpf", "bpftrace")
@pytest.mark.parametrize("as_json", [False, True])
def test_bpftrace_prints_the_same(as_json: bool) -> None:
    """One script through bpftrace, its maps' contents through the Reporter."""
    rng = random.Random(1)
    numbers = [rng.choice([1, -1]) * rng.randrange(1 << rng.randrange(1, 40)) for _ in range(12)]
    body = []
    maps: dict[str, tuple[Type | None, Type, dict[bytes, Any]]] = {}
    for name, call, kind in [
        ("@a", "count()", COUNT), ("@b", "sum(N)", SUM), ("@c", "avg(N)", AVG), ("@e", "stats(N)", STATS),
        ("@f", "hist(N)", HIST), ("@g", "lhist(N, 0, 100, 10)", LHIST),
    ]:  # fmt: skip
        # bpftrace 0.17 takes hist()'s argument as 32 bits when it is a literal.
        values = [n if kind is not HIST else n % (1 << 30) for n in numbers]
        body += [f"{name} = {call.replace('N', f'({n})')};" for n in values]
        body += [f'{name}k["{n % 3}"] = {call.replace("N", f"({n})")};' for n in values]
        maps[name] = (None, kind, {ZERO: counted(kind, values)})
        by_key = {str(k): [n for n in values if n % 3 == k] for k in range(3)}
        maps[name + "k"] = (STR, kind, {string(k): counted(kind, v) for k, v in by_key.items() if v})
    body += ["@p[1, -2] = 4;", '@q = (1, "x");', '@r["k"] = "v";']
    maps["@p"] = (tuple_of([types.INT64] * 2), types.INT64, {i64(1) + i64(-2): i64(4)})
    maps["@q"] = (None, tuple_of([types.INT64, STR]), {ZERO: i64(1) + string("x")})
    maps["@r"] = (STR, STR, {string("k"): string("v")})
    command = ["bpftrace", "-f", "json" if as_json else "text", "-e", f"BEGIN {{ {' '.join(body)} exit(); }}"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    made, out = reporter(maps, as_json=as_json)
    made.attached(1)
    made.finish()
    ours = out.getvalue().decode()
    # Entries of equal value come in the hash table's order there, in the key's order here; and
    # bpftrace 0.17 prints its two empty lines even between JSON records.
    if as_json:
        records = [json.loads(line) for line in theirs.splitlines() if line]
        assert [json.loads(line) for line in ours.splitlines()] == records
    else:
        assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
