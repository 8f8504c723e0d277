"""What a Reporter does with event records, in text and JSON."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tracebee.errors import DecodeError
from tracebee.lang import types
from tracebee.lang.script import Action, MapInfo, Script
from tracebee.lang.types import Type, tuple_of
from tracebee.obj.model import Object
from tracebee.report.decode import decode
from tracebee.report.histogram import Bucket
from tracebee.report.reporter import Reporter
from tracebee.symbols.frame import Frame


class Names:
    def kernel_frame(self, address: int) -> Frame:
        return Frame(address, "vfs_read", address - 0x1000) if address >= 0x1000 else Frame(address)

    def user_frame(self, address: int, tgid: int, pid: int) -> Frame:
        return Frame(address)


class Stacks:
    def stack(self, frames: int, number: int) -> bytes | None:
        return struct.pack("=2Q", 0x1004, 0x20)

    def more(self) -> Iterable[tuple[bytes, bytes]]:
        return []


class Reader:
    def __init__(self, entries: dict[bytes, Any]) -> None:
        self.entries = entries
        self.calls: list[Any] = []

    def items(self) -> Iterable[tuple[bytes, bytes | Sequence[bytes]]]:
        return list(self.entries.items())

    def clear(self) -> None:
        self.calls.append("clear")

    def zero(self) -> None:
        self.calls.append("zero")

    def write(self, offset: int, data: bytes) -> None:
        self.calls.append((offset, data))


class Run:
    """A reporter over the given actions, and one map of each shape."""

    def __init__(self, *actions: Action, as_json: bool = False) -> None:
        infos = (
            MapInfo("@k", "k", types.INT64, Type("count", 8)),
            MapInfo("@s", "scalars", None, types.INT64, 16),
        )
        self.readers = {
            "k": Reader({struct.pack("=q", 7): [struct.pack("=Q", 2), struct.pack("=Q", 3)]}),
            "scalars": Reader({bytes(4): bytes(8) + struct.pack("=qq", 1, 42)}),
        }
        script = Script(
            Object("t", "GPL", (), ()), (), actions, infos, ("BEGIN",), ("%H:%M:%S.%f",), {"source": "t.bt"}
        )
        self.out, self.err = io.BytesIO(), io.BytesIO()
        self.reporter = Reporter(
            script, self.readers, Stacks(), Names(), out=self.out, err=self.err, json=as_json
        )

    def __call__(self, *records: bytes) -> str:
        self.code = self.reporter.events(records)
        text = self.out.getvalue().decode()
        self.out.seek(0)
        self.out.truncate()
        return text


def record(action: int, payload: bytes = b"") -> bytes:
    return struct.pack("=II", action, 0) + payload


NOTHING = tuple_of([])
PRINTF = Action("printf", tuple_of([types.INT64, types.string(8)]), "%d %s\n")
VALUES = struct.pack("=q8s", -5, b"hi")


def test_printf_in_order() -> None:
    run = Run(PRINTF, Action("printf", NOTHING, "--\n"))
    assert run(record(0, VALUES), record(1), record(0, VALUES)) == "-5 hi\n--\n-5 hi\n"
    assert run.code is None


def test_records_may_be_memoryviews() -> None:
    run = Run(PRINTF, Action("print_value", tuple_of([types.string(8)])))
    run.reporter.events([memoryview(record(0, VALUES)), memoryview(record(1, b"x\0      "))])
    assert run.out.getvalue() == b"-5 hi\nx\n"


def test_json_printf() -> None:
    assert Run(PRINTF, as_json=True)(record(0, VALUES)) == '{"type": "printf", "data": "-5 hi\\n"}\n'


def test_json_is_valid_for_any_bytes() -> None:
    run = Run(Action("printf", tuple_of([types.string(8)]), "%s"), as_json=True)
    assert json.loads(run(record(0, b'\xff\x01"\\\x7f\0\0\0'))) == {
        "type": "printf",
        "data": '\ufffd\x01"\\\x7f',
    }


@pytest.mark.parametrize(
    ("kind", "payload", "text", "in_json"),
    [
        (types.INT64, struct.pack("=q", -1), "-1", "-1"),
        (types.string(8), b"s\0", "s", '"s"'),
        (tuple_of([types.INT64, types.string(8)]), VALUES, "(-5, hi)", '[-5,"hi"]'),
        (Type("ksym", 8), bytes(8), "0", '"0"'),
        (Type("kstack", 16, number=127), bytes(16), "\n        vfs_read+4\n        0x20\n",
         '"\\n        vfs_read+4\\n        0x20\\n"'),
        (Type("probe", 4), bytes(4), "BEGIN", '"BEGIN"'),
    ],
)  # fmt: skip
def test_print_value(kind: Type, payload: bytes, text: str, in_json: str) -> None:
    payload = payload.ljust(kind.size, b"\0")
    action = Action("print_value", tuple_of([kind]))
    assert Run(action)(record(0, payload)) == text + "\n"
    assert Run(action, as_json=True)(record(0, payload)) == f'{{"type": "value", "data": {in_json}}}\n'


def test_print_map_and_one_entry() -> None:
    whole = Action("print_map", NOTHING, args={"map": "@k", "top": 1, "div": 2})
    entry = Action("print_key", tuple_of([types.INT64, types.INT64]), args={"map": "@k"})
    scalar = Action("print_map", NOTHING, args={"map": "@s", "top": 0, "div": 0})
    run = Run(whole, entry, scalar)
    assert run(record(0), record(1, struct.pack("=qq", 3, 9)), record(2)) == "@k[7]: 2\n@k[3]: 9\n@s: 42\n"


def test_clear_and_zero() -> None:
    actions = [Action(kind, NOTHING, args={"map": m}) for kind in ("clear", "zero") for m in ("@k", "@s")]
    run = Run(*actions)
    run(*[record(i) for i in range(4)])
    assert run.readers["k"].calls == ["clear", "zero"]
    assert run.readers["scalars"].calls == [(8, bytes(16)), (16, bytes(8))]


def test_exit_stops_at_once_and_gives_its_code() -> None:
    run = Run(Action("exit", tuple_of([types.UINT8])), Action("printf", NOTHING, "after\n"))
    assert run(record(0, b"\x03"), record(1)) == ""
    assert run.code == 3
    assert run(record(1)) == "after\n"
    assert run.code is None


def test_join() -> None:
    layout = tuple_of([types.UINT64, Type("array", 24, element=types.string(8), number=3)])
    payload = struct.pack("=Q8s8s8s", 2, b"ls", b"-l", b"junk")
    action = Action("join", layout, args={"sep": ","})
    assert Run(action)(record(0, payload)) == "ls,-l\n"
    assert Run(action, as_json=True)(record(0, payload)) == '{"type": "join", "data": "ls,-l"}\n'


def test_time_has_the_clock_of_user_space() -> None:
    text = Run(Action("time", NOTHING, "%Y %f%%f\n"))(record(0))
    year, micros = text.split()
    assert int(year) > 2000
    assert micros.endswith("%f")
    assert len(micros) == 8


def test_cat_and_system(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("contents\n")
    actions = (
        Action("cat", tuple_of([types.string(8)]), f"{tmp_path}/%s"),
        Action("system", tuple_of([types.INT64]), "echo %d"),
    )
    records = record(0, b"file\0\0\0\0"), record(1, struct.pack("=q", 5))
    assert Run(*actions)(*records) == "contents\n5\n"
    assert Run(*actions, as_json=True)(*records) == (
        '{"type": "cat", "data": "contents\\n"}\n{"type": "syscall", "data": "5\\n"}\n'
    )


def test_cat_of_a_missing_file_says_so() -> None:
    run = Run(Action("cat", NOTHING, "/nonexistent"))
    assert run(record(0)) == ""
    assert b"'/nonexistent': No such file" in run.err.getvalue()


def test_errorf_and_helper_errors_name_their_place() -> None:
    number = tuple_of([types.INT64])
    run = Run(
        Action("errorf", number, "bad %d\n", line=3, column=7),
        Action("helper_error", number, "map_update_elem", line=1, column=2),
    )
    assert run(record(0, struct.pack("=q", 5)), record(1, struct.pack("=q", -7))) == ""
    assert run.err.getvalue() == (
        b"t.bt:3:7: ERROR: bad 5\nt.bt:1:2: WARNING: Failed to map_update_elem: Argument list too long (-7)\n"
    )


def test_helper_errors_in_json() -> None:
    run = Run(
        Action("helper_error", tuple_of([types.INT64]), "get_stack", line=1, column=2),
        as_json=True,
    )
    assert json.loads(run(record(0, struct.pack("=q", -14)))) == {
        "type": "helper_error",
        "msg": "Bad address",
        "helper": "get_stack",
        "retcode": -14,
        "line": 1,
        "col": 2,
    }


@pytest.mark.parametrize(
    ("as_json", "expected"),
    [
        (False, "Attaching 1 probe...\nAttaching 2 probes...\nLost 5 events\n"),
        (True, '{"type": "attached_probes", "data": {"probes": 1}}\n'
               '{"type": "attached_probes", "data": {"probes": 2}}\n'
               '{"type": "lost_events", "data": {"events": 5}}\n'),
    ],
)  # fmt: skip
def test_messages(as_json: bool, expected: str) -> None:
    run = Run(as_json=as_json)
    run.reporter.attached(1)
    run.reporter.attached(2)
    run.reporter.lost(5)
    assert run.out.getvalue().decode() == expected


def test_a_record_of_no_action_is_refused() -> None:
    run = Run(PRINTF)
    for bad in (record(7), b"", record(0, b"short")):
        with pytest.raises(DecodeError, match="fits no action"):
            run(bad)


def test_an_action_of_no_kind_is_refused() -> None:
    with pytest.raises(DecodeError, match="unknown kind 'dance'"):
        Run(Action("dance", NOTHING))(record(0))


def test_values_in_python() -> None:
    scene = Run().reporter.scene
    record_type = Type(
        "record", 16, fields=(types.TypeField("a", types.INT32, 0), types.TypeField("s", types.string(8), 8))
    )
    assert decode(record_type, struct.pack("=i4x8s", -1, b"x"), scene) == {"a": -1, "s": "x"}
    assert decode(tuple_of([types.INT8, types.BOOL]), b"\xff\x01", scene) == (-1, True)
    assert decode(Type("array", 4, element=types.UINT16, number=2), b"\1\0\2\0", scene) == [1, 2]
    assert decode(Type("buffer", 8), struct.pack("=I4s", 2, b"ab"), scene) == b"ab"
    assert decode(Type("count", 8), [struct.pack("=Q", 2)] * 2, scene) == 4
    average = decode(Type("avg", 16), [struct.pack("=qQ", -7, 2), bytes(16)], scene)
    assert (average.number, average.total, average.average) == (2, -7, -3)
    counts = [0, 0, 0, 2, *[0] * 61]
    assert decode(Type("hist", 520), [struct.pack("=65Q", *counts)] * 2, scene) == [Bucket(2, 3, 4)]
    assert decode(Type("kstack", 16, number=2), bytes(16), scene)[0].name == "vfs_read"
