"""The structs behind tracepoints' records: found by name and by shape, and checked where they are not."""

from __future__ import annotations

import pytest

from tracebee.btf import Btf
from tracebee.btf.builder import Builder
from tracebee.errors import UnsupportedError
from tracebee.probes.tracepoint import check_layout
from tracebee.probes.tracepoint_format import FormatField, parse_format
from tracebee.probes.tracepoint_record import members

FORMAT = """name: x
ID: 7
format:
\tfield:int one;\toffset:8;\tsize:4;\tsigned:1;
\tfield:__data_loc char[] text;\toffset:12;\tsize:4;\tsigned:0;
"""
FIELDS = parse_format(FORMAT).fields


def kernel(*classes: tuple[str, ...]) -> Btf:
    """A kernel with these classes of events, each a name and its members."""
    b = Builder("little")
    word = b.integer("int", 4, signed=True)
    for name, *fields in classes:
        rows = [(f, word, 64 + 32 * n) for n, f in enumerate(fields)]
        b.struct(f"trace_event_raw_{name}", 64, [("ent", word, 0), *rows, ("__data", word, 256)])
    return b.build()


def test_the_record_of_the_event_s_name() -> None:
    btf = kernel(("event", "zero", "one", "__data_loc_text"), ("other", "one", "__data_loc_text"))
    record = "struct trace_event_raw_event"
    assert members("s", "event", FIELDS, ["event"], btf) == {
        "one": (record, "one"),
        "text": (record, "__data_loc_text"),
    }
    # What another kernel's record does not have is not looked up there.
    assert members("s", "event", FIELDS, ["event"], kernel(("event", "one"))) == {"one": (record, "one")}


def test_the_one_class_with_these_fields() -> None:
    btf = kernel(("class", "one", "__data_loc_text"), ("else", "one"), ("third", "one", "__data_loc_text"))
    found = members("s", "event", FIELDS, ["event", "third"], btf)
    assert found["text"] == ("struct trace_event_raw_class", "__data_loc_text")
    assert members("s", "event", FIELDS, ["event"], btf) == {}  # two of them


@pytest.mark.needs("btf")
def test_arguments_of_system_calls_by_number() -> None:
    enter = "struct syscall_trace_enter"
    names = ("__syscall_nr", "fd", "buf", "count")
    fields = [FormatField(n, "long", 8 * i, 8, False, None, "", "") for i, n in enumerate(names)]
    assert members("syscalls", "sys_enter_write", fields, [], Btf.vmlinux()) == {
        "__syscall_nr": (enter, "nr"),
        "fd": (enter, "args[0]"),
        "buf": (enter, "args[1]"),
        "count": (enter, "args[2]"),
    }


@pytest.mark.needs("bpf")
def test_a_field_at_another_place_is_an_error() -> None:
    spec = {"system": "sched", "event": "sched_process_exit"}
    check_layout(spec)
    check_layout({**spec, "layout": {"comm": [8, 16]}})
    with pytest.raises(UnsupportedError, match="'comm' of tracepoint:sched:sched_process_exit is not where"):
        check_layout({**spec, "layout": {"comm": [12, 16]}})
