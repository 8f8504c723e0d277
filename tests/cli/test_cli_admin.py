"""The administration commands beside bpftool, on objects of our own."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.btf.builder import Builder
from tracebee.cli.main import guarded
from tracebee.elf.file import ElfFile
from tracebee.elf.symbols import find_symbol
from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel.link import Link
from tracebee.kernel.map import Map
from tracebee.kernel.perf import PerfEvent
from tracebee.kernel.program import Program
from tracebee.kernel.tracefs import event_id
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import MapDef

pytestmark = [pytest.mark.needs("bpf", "clang", "bpftool")]

Ask = Callable[..., str]
VALUE = struct.pack("=i8s4xqi4xQ3h?x", 1, b"AB", -2, 1, 0x1234, 1, -2, 3, True)
VALUE = VALUE[:12] + bytes([0x2B, 0, 0, 0]) + VALUE[16:]


@pytest.fixture
def loaded(compiled: Callable[[str], str]) -> Iterator[LoadedObject]:
    with load_object(read_object(compiled("admin"))) as made:
        made.maps["table"].update(struct.pack("=i", 3), VALUE)
        yield made


def bpftool(*words: object) -> str:
    command = ["bpftool", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def bpftool_json(*words: object) -> Any:
    return json.loads(bpftool("-j", *words))


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def test_program_listing(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["watch"].info().id
    ours = json.loads(ask("prog", "show", "id", number, "-j"))
    # This process's own hold on it is not ours to report, and is theirs.
    theirs = without(bpftool_json("prog", "show", "id", number), "pids")
    assert without(ours, "orphaned") == without(theirs, "orphaned")  # bpftool has that since 7.3
    assert list(without(ours, "orphaned")) == list(without(theirs, "orphaned"))
    text = bpftool("prog", "show", "id", number)
    assert ask("prog", "show", "id", number).rstrip() == re.sub(r"\n\tpids .*", "", text).rstrip()
    everything = {record["id"] for record in json.loads(ask("prog", "-j"))}
    assert {program.info().id for program in loaded.programs.values()} <= everything


def test_programs_by_name_tag_and_pin(loaded: LoadedObject, ask: Ask, bpffs: str) -> None:
    program = loaded.programs["watch"]
    program.pin(f"{bpffs}/watch")
    number = program.info().id
    found = json.loads(ask("prog", "show", "pinned", f"{bpffs}/watch", "-j"))
    assert found["id"] == number
    assert json.loads(ask("prog", "show", f"{bpffs}/watch", "-j"))["id"] == number
    for how, value in (("name", "watch"), ("tag", program.info().tag)):
        records = json.loads(ask("prog", "show", how, value, "-j"))
        listed = records if isinstance(records, list) else [records]
        assert number in {record["id"] for record in listed}


def test_translated_code(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["watch"].info().id
    ours = ask("prog", "dump", "xlated", "id", number, "linum").splitlines()
    theirs = bpftool("prog", "dump", "xlated", "id", number, "linum").splitlines()

    def same(line: str) -> str:
        # bpftool 7.1 does not know the kernel's per-CPU address move, writes ``void * ctx``, and leaves
        # spaces at the ends of source lines.
        line = re.sub(r"&\(void __percpu \*\)\((r\d+)\)", r"\1", line)
        return re.sub(r" +\[file", " [file", line.replace("* ", "*")).rstrip()

    assert [same(line) for line in ours] == [same(line) for line in theirs]
    assert any("long *count" in line or "weigh" in line for line in ours)


def test_translated_records(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["length"].info().id
    words = ("prog", "dump", "xlated", "id", number, "opcodes")
    records = json.loads(ask(*words, "-j"))
    assert records[0]["proto"] == "int length(struct __sk_buff *skb)"
    assert records[-1]["disasm"] == "(95) exit"
    assert records[-1]["opcodes"] == {
        "code": "0x95",
        "src_reg": "0x0",
        "dst_reg": "0x0",
        "off": ["0x00", "0x00"],
        "imm": ["0x00"] * 4,
    }
    assert "       95 00 00 00 00 00 00 00" in ask(*words)


def test_opcodes_are_bpftools(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["watch"].info().id
    words = ("prog", "dump", "xlated", "id", number, "opcodes")
    ours, theirs = json.loads(ask(*words, "-j")), bpftool_json(*words)
    assert [row["opcodes"] for row in ours] == [row["opcodes"] for row in theirs]
    assert any(len(row["opcodes"]["imm"]) > 4 for row in ours)  # a wide load
    assert any(row["opcodes"]["code"].startswith("0x0") for row in ours)


def test_control_flow(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["watch"].info().id
    graph = ask("prog", "dump", "xlated", "id", number, "visual")
    assert graph.startswith('digraph "watch" {')
    blocks = set(re.findall(r'^  "(\d+)" \[', graph, re.MULTILINE))
    arrows = re.findall(r'^  "(\d+)" -> "(\d+)"', graph, re.MULTILINE)
    assert {block for arrow in arrows for block in arrow} <= blocks
    # The check of the looked-up pointer goes two ways; each function ends in a block that leads nowhere.
    assert any(sum(a == block for a, _ in arrows) == 2 for block in blocks)
    assert len(blocks - {a for a, _ in arrows}) == 2


def test_code_to_files(loaded: LoadedObject, ask: Ask, tmp_path: Path) -> None:
    program = loaded.programs["watch"]
    details = program.details()
    for kind, code in (("xlated", details.xlated), ("jited", details.jited)):
        ask("prog", "dump", kind, "id", program.info().id, "file", tmp_path / kind)
        assert (tmp_path / kind).read_bytes() == code


def test_machine_code(loaded: LoadedObject, ask: Ask) -> None:
    program = loaded.programs["watch"]
    text = ask("prog", "dump", "jited", "id", program.info().id)
    assert re.search(r"^int watch\(void \*ctx\):\nbpf_prog_\w+_watch:$", text, re.MULTILINE)
    assert re.search(r"^int weigh\(int a\):\nbpf_prog_\w+_weigh:$", text, re.MULTILINE)
    records = json.loads(ask("prog", "dump", "jited", "id", program.info().id, "opcodes", "-j"))
    code = b"".join(
        bytes(int(byte, 16) for byte in insn["opcodes"]) for record in records for insn in record["insns"]
    )
    assert code == program.details().jited
    assert records[0]["proto"] == "int watch(void *ctx)"
    assert records[-1]["insns"][-1]["operation"] in ("ret", "jmp", "int3")


def test_map_listing(loaded: LoadedObject, ask: Ask) -> None:
    for table in loaded.maps.values():
        number = table.info().id
        ours = json.loads(ask("map", "show", "id", number, "-j"))
        theirs = without(bpftool_json("map", "show", "id", number), "pids")
        assert ours == theirs
        assert list(ours) == list(theirs)
        text = re.sub(r"\n\tpids .*", "", bpftool("map", "show", "id", number))
        assert ask("map", "show", "id", number).rstrip() == text.rstrip()


@pytest.mark.parametrize("name", ["table", "per_cpu", "plain", ".data", ".rodata", ".bss"])
def test_map_dump(loaded: LoadedObject, ask: Ask, name: str) -> None:
    table = loaded.maps[name]
    if name == "plain":
        table.update(b"\x01\x02", b"abcd")
    number = table.info().id
    assert json.loads(ask("map", "dump", "id", number, "-j")) == bpftool_json("map", "dump", "id", number)


def test_plain_dump_is_text(loaded: LoadedObject, ask: Ask) -> None:
    table = loaded.maps["plain"]
    table.update(b"\x01\x02", b"abcd")
    number = table.info().id
    assert ask("map", "dump", "id", number) == bpftool("map", "dump", "id", number)
    table.update(b"\x01\x03", b"abcd")
    assert ask("map", "dump", "id", number).endswith("Found 2 elements\n")


def test_typed_dump_is_readable(loaded: LoadedObject, ask: Ask) -> None:
    (element,) = json.loads(ask("map", "dump", "id", loaded.maps["table"].info().id))
    assert element["key"] == 3
    assert element["value"] == {
        "a": 1,
        "s": "AB",
        "b": "0x3",
        "c": "0x5",
        "": {"x": -2, "y": -2},
        "e": "GREEN",
        "p": 0x1234,
        "arr": [1, -2, 3],
        "ok": True,
    }


def test_map_elements(loaded: LoadedObject, ask: Ask, fail: Ask) -> None:
    table = loaded.maps["plain"]
    number = table.info().id
    ask("map", "update", "id", number, "key", 1, "0x02", "value", "hex", "de", "ad", "be", "ef", "noexist")
    assert table.lookup(b"\x01\x02") == b"\xde\xad\xbe\xef"
    assert ask("map", "lookup", "id", number, "key", 1, 2) == "key: 01 02  value: de ad be ef\n"
    assert json.loads(ask("map", "lookup", number, "key", 1, 2, "-j")) == bpftool_json(
        "map", "lookup", "id", number, "key", 1, 2
    )
    assert ask("map", "getnext", number) == bpftool("map", "getnext", "id", number)
    table.update(b"\x01\x03", bytes(4))
    first = next(table.keys())
    assert ask("map", "getnext", number, "key", *first) == bpftool(
        "map", "getnext", "id", number, "key", *first
    )
    assert "the map has no further key" in fail("map", "getnext", number, "key", *list(table.keys())[-1])
    assert "the key exists already" in fail(
        "map", "update", number, "key", 1, 2, "value", 0, 0, 0, 0, "noexist"
    )
    assert ask("map", "delete", number, "key", 1, 2, "-j") == "null\n"
    assert "the map has no key 01 02" in fail("map", "delete", number, "key", 1, 2)
    assert "the key has 2 bytes, not 1" in fail("map", "lookup", number, "key", 1)
    assert "300 is no byte" in fail("map", "lookup", number, "key", 300, 1)


def test_typed_elements_from_json(loaded: LoadedObject, ask: Ask, fail: Ask) -> None:
    number = loaded.maps["table"].info().id
    ask("map", "update", number, "key", "json", 9, "value", "json", '{"a": -4, "s": "hey", "arr": [7, 8, 9]}')
    value = json.loads(ask("map", "lookup", number, "key", "json", 9))["value"]
    assert (value["a"], value["s"], value["arr"]) == (-4, "hey", [7, 8, 9])
    assert "that is no JSON" in fail("map", "update", number, "key", "json", "{")
    plain = loaded.maps["plain"].info().id
    assert "says nothing of its key's type" in fail("map", "lookup", plain, "key", "json", 1)


def test_per_cpu_update_is_for_all(loaded: LoadedObject, ask: Ask) -> None:
    table = loaded.maps["per_cpu"]
    ask("map", "update", table.info().id, "key", "json", 1, "value", "json", 77)
    value = table.lookup(struct.pack("=I", 1))
    assert value is not None
    assert set(table.slots(value)) == {struct.pack("=q", 77)}


def test_queues_arrays_of_programs_and_pins(loaded: LoadedObject, ask: Ask, fail: Ask, bpffs: str) -> None:
    ask("map", "create", f"{bpffs}/q", "type", "queue", "key", 0, "value", 4, "entries", 4, "name", "q")
    ask("map", "push", "pinned", f"{bpffs}/q", "value", 1, 2, 3, 4)
    assert ask("map", "peek", "pinned", f"{bpffs}/q") == "value: 01 02 03 04\n"
    assert json.loads(ask("map", "pop", f"{bpffs}/q", "-j")) == {"value": ["0x01", "0x02", "0x03", "0x04"]}
    assert "the map is empty" in fail("map", "pop", f"{bpffs}/q")
    number = loaded.programs["watch"].info().id
    ask(
        "map",
        "create",
        f"{bpffs}/jump",
        "type",
        "prog_array",
        "key",
        4,
        "value",
        4,
        "entries",
        2,
        "name",
        "j",
    )
    ask("map", "update", f"{bpffs}/jump", "key", 1, 0, 0, 0, "value", "id", number)
    with Map.pinned(f"{bpffs}/jump") as table:
        assert table.lookup(struct.pack("=I", 1)) == struct.pack("=I", number)
        table.delete(struct.pack("=I", 1))
    listed = json.loads(ask("pin", "list", bpffs, "-j"))
    assert [(pin["path"][len(bpffs) :], pin["kind"]) for pin in listed] == [("/jump", "map"), ("/q", "map")]
    ask("pin", "rm", f"{bpffs}/q", f"{bpffs}/jump")
    assert "nothing is pinned there" in fail("pin", "show", f"{bpffs}/q")
    ask("pin", "prog", "id", number, f"{bpffs}/again")
    assert ask("pin", "show", f"{bpffs}/again") == f"prog {number}  {bpffs}/again\n"


def test_bpftool_grammar(loaded: LoadedObject, ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    number = loaded.programs["watch"].info().id
    shown = ask("prog", "show", "id", number, "-j")
    assert ask("-j", "prog", "show", "id", number) == shown  # options first
    assert ask("prog", "sh", "id", number, "--json") == shown  # the beginning of a command's name
    assert json.loads(ask("-jp", "prog", "s", "id", number)) == json.loads(shown)
    # Errors are JSON for those who asked for it.
    assert guarded(["map", "show", "id", "999999999", "-j"]) == 1
    out = capfd.readouterr()
    assert out.err == ""
    assert json.loads(out.out) == {
        "error": "bpf(BPF_MAP_GET_FD_BY_ID) of map 999999999 failed: no map has this id (ENOENT)"
    }


def test_several_maps_of_one_name(ask: Ask) -> None:
    definition = MapDef("twin", uapi.BPF_MAP_TYPE_HASH, 4, 4, 2)
    with Map.create(definition) as one, Map.create(definition) as other:
        one.update(bytes(4), b"abcd")
        numbers = [table.info().id for table in (one, other)]
        first, second = json.loads(ask("map", "dump", "name", "twin", "-j"))
        assert [first["id"], second["id"]] == numbers
        assert first["elements"] == [{"key": ["0x00"] * 4, "value": [f"0x{byte:02x}" for byte in b"abcd"]}]
        assert second["elements"] == []
        text = ask("map", "dump", "name", "twin")
        assert f"{numbers[0]}: hash  name twin" in text
        assert "Found 1 element\n" in text
        assert "Found 0 elements\n" in text


METADATA = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
const volatile char bpf_metadata_author[] SEC(".rodata") = "bee";
const volatile int bpf_metadata_version SEC(".rodata") = 7;
SEC("socket") int a_name_of_more_than_fifteen(void *ctx)
{
	return bpf_metadata_version + bpf_metadata_author[0];
}
SEC("socket") int a_name_of_more_or_less(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_whole_names_and_metadata(ask: Ask, fail: Ask, tmp_path: Path) -> None:
    source, target = tmp_path / "named.bpf.c", tmp_path / "named.bpf.o"
    source.write_text(METADATA)
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", include, "-c", source, "-o", target], check=True)
    with load_object(read_object(str(target))) as made:
        program = made.programs["a_name_of_more_than_fifteen"]
        number = program.info().id
        record = json.loads(ask("prog", "show", "id", number, "-j"))
        theirs = without(bpftool_json("prog", "show", "id", number), "pids", "orphaned")
        assert without(record, "orphaned") == theirs
        assert record["name"] == "a_name_of_more_than_fifteen"
        assert record["metadata"] == {"author": "bee", "version": 7}
        assert 'author = "bee"' in ask("prog", "show", "id", number)
        # One of two programs that the kernel's own 15 bytes do not tell apart.
        found = json.loads(ask("prog", "show", "name", "a_name_of_more_or_less", "-j"))
        assert found["id"] == made.programs["a_name_of_more_or_less"].info().id
        assert "no program with the name" in fail("prog", "show", "name", "a_name_of_more_x")


def test_pins_of_another_kind(loaded: LoadedObject, fail: Ask, bpffs: str) -> None:
    loaded.programs["watch"].pin(f"{bpffs}/watch")
    loaded.maps["plain"].pin(f"{bpffs}/plain")
    assert fail("map", "show", "pinned", f"{bpffs}/watch") == (
        f"ERROR: what is pinned at {bpffs}/watch is no map, but a prog\n"
        f"  hint: 'tracebee prog show pinned {bpffs}/watch' shows it\n"
    )
    assert "is no prog, but a map" in fail("prog", "dump", "xlated", "pinned", f"{bpffs}/plain")
    assert "is no link, but a map" in fail("link", "detach", "pinned", f"{bpffs}/plain")
    with Link.raw_tracepoint(loaded.programs["watch"], "sys_enter") as link:
        link.pin(f"{bpffs}/link")
        assert "is no map, but a link" in fail("map", "show", "pinned", f"{bpffs}/link")


def test_maps_that_are_not_asked_so(loaded: LoadedObject, fail: Ask) -> None:
    number = loaded.maps["plain"].info().id
    for words in (("pop",), ("peek",), ("push", "value", 1, 2, 3, 4)):
        said = fail("map", words[0], "id", number, *words[1:])
        assert said.startswith("ERROR: map 'plain' has keys: it is no queue, stack or bloom filter\n")
    assert "expected 'value' at the end of the command" in fail("map", "update", "id", number, "key", 1, 2)
    with (
        Map.create(MapDef("inner", uapi.BPF_MAP_TYPE_HASH, 4, 4, 2)) as inner,
        Map.create(MapDef("outer", uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 1), inner=inner) as outer,
    ):
        words = ("map", "update", "id", outer.info().id, "key", 0, 0, 0, 0, "value", "id", number)
        assert "an inner map must be like the outer map's template" in fail(*words)


def test_freeze(loaded: LoadedObject, ask: Ask, fail: Ask) -> None:
    number = loaded.maps["plain"].info().id
    ask("map", "freeze", "id", number)
    assert "frozen" in ask("map", "show", "id", number)
    assert "frozen or read-only" in fail("map", "update", number, "key", 1, 2, "value", 0, 0, 0, 0)
    assert "the map is frozen already" in fail("map", "freeze", "id", number)


def test_links(loaded: LoadedObject, ask: Ask, bpffs: str, fail: Ask) -> None:
    program = loaded.programs["watch"]
    with Link.raw_tracepoint(program, "sys_enter") as link:
        number = link.info().id
        ours = json.loads(ask("link", "show", "id", number, "-j"))
        theirs = bpftool_json("link", "show", "id", number)
        assert ours == without(theirs[0] if isinstance(theirs, list) else theirs, "pids")
        assert "raw_tracepoint  prog" in ask("link")
        ask("link", "pin", "id", number, f"{bpffs}/kept")
    assert json.loads(ask("link", "show", f"{bpffs}/kept", "-j"))["id"] == number
    assert "links of this type are detached by closing them" in fail("link", "detach", "id", number)
    ask("pin", "rm", f"{bpffs}/kept")
    assert "no link has this id" in fail("link", "show", "id", number)


def test_btf(loaded: LoadedObject, ask: Ask, compiled: Callable[[str], str]) -> None:
    number = loaded.programs["watch"].info().btf_id
    ours = json.loads(ask("btf", "show", "id", number, "-j"))
    theirs = bpftool_json("btf", "show", "id", number)
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    assert without(ours, "prog_ids", "map_ids", "pids") == without(theirs, "prog_ids", "map_ids", "pids")
    for key in ("prog_ids", "map_ids"):
        assert sorted(ours[key]) == sorted(theirs[key])
    assert ask("btf", "dump", "id", number) == bpftool("btf", "dump", "id", number)
    assert (
        ask("btf", "dump", "prog", "id", loaded.programs["watch"].info().id, "format", "c").count(
            "struct val"
        )
        > 0
    )
    table = loaded.maps["table"].info().id
    assert ask("btf", "dump", "map", "id", table, "value") == bpftool(
        "btf", "dump", "map", "id", table, "value"
    )
    assert ask("btf", "dump", "file", compiled("admin")) == bpftool("btf", "dump", "file", compiled("admin"))
    header = ask("btf", "dump", "file", compiled("admin"), "format", "c", "unsorted")
    assert sorted(header) == sorted(ask("btf", "dump", "file", compiled("admin"), "format", "c")) != header
    assert json.loads(ask("btf", "dump", "id", number, "-j")) == bpftool_json("btf", "dump", "id", number)


def test_btf_of_a_file_on_top_of_another(ask: Ask, fail: Ask, tmp_path: Path) -> None:
    base, split = tmp_path / "base.btf", tmp_path / "split.btf"
    types = Builder()
    number = types.integer("int", 4, signed=True)
    base.write_bytes(types.to_bytes())
    more = Builder(base=types.build())
    more.struct("pair", 8, [("a", number, 0), ("b", number, 32)])
    split.write_bytes(more.to_bytes())
    words = ("btf", "dump", "file", split)
    assert ask(*words, "-B", base) == bpftool(*words, "-B", base)
    assert ask("btf", "--base-btf", base, "dump", "file", split).startswith("[2] STRUCT 'pair' size=8 vlen=2")
    assert "need them as base: -B FILE" in fail(*words)
    assert "expected a value after -B" in fail(*words, "-B")


def test_run(loaded: LoadedObject, ask: Ask, tmp_path: Path) -> None:
    number = loaded.programs["length"].info().id
    (tmp_path / "in").write_bytes(bytes(range(64)))
    words = (
        "prog",
        "run",
        "id",
        number,
        "data_in",
        tmp_path / "in",
        "data_out",
        tmp_path / "out",
        "repeat",
        5,
    )
    assert re.fullmatch(r"Return value: 50, duration \(average\): \d+ns\n", ask(*words))
    assert (tmp_path / "out").read_bytes() == bytes(14) + bytes(range(14, 64))
    record = json.loads(ask("prog", "run", number, "data_in", tmp_path / "in", "data_out", "-", "-j"))
    assert record["retval"] == 50
    assert record["data_out"] == list(bytes(14) + bytes(range(14, 64)))
    given = ("prog", "run", "id", number, "data_in", tmp_path / "in", "data_out", "-")
    assert without(bpftool_json(*given), "duration") == without(record, "duration")
    (tmp_path / "in").write_bytes(b"fourteen bytes, and then some")
    *ours, last = ask(*given).splitlines()
    assert ours == [line.rstrip() for line in bpftool(*given).splitlines()[:-1]]
    assert re.fullmatch(r"Return value: 15, duration: \d+ns", last)


def test_statistics(loaded: LoadedObject, ask: Ask) -> None:
    number = loaded.programs["watch"].info().id
    with Link.raw_tracepoint(loaded.programs["watch"], "sys_enter"):
        (record,) = json.loads(ask("prog", "stats", "id", number, "duration", 1, "-j"))
    assert record["id"] == number
    assert record["run_cnt"] > 0
    assert record["ns_per_run"] > 0


def test_statistics_until_interrupted(loaded: LoadedObject) -> None:
    number = loaded.programs["watch"].info().id
    words = [sys.executable, "-m", "tracebee", "prog", "stats", "id", str(number), "duration", "600"]
    with (
        Link.raw_tracepoint(loaded.programs["watch"], "sys_enter"),
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process,
    ):
        while "nanosleep" not in Path(f"/proc/{process.pid}/wchan").read_text():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 0
    assert re.search(rf"^ +{number} +\d+ .* watch$", out, re.MULTILINE)


def test_load_from_the_command_line(compiled: Callable[[str], str], ask: Ask, fail: Ask, bpffs: str) -> None:
    ask("prog", "load", compiled("admin"), f"{bpffs}/one", "pinmaps", f"{bpffs}/maps")
    with Map.pinned(f"{bpffs}/maps/plain") as plain:
        plain_id = plain.info().id
    ask("prog", "loadall", compiled("admin"), f"{bpffs}/all", "map", "name", "plain", "id", plain_id)
    with Program.pinned(f"{bpffs}/all/watch") as program:
        assert plain_id in program.details().map_ids
    assert sorted(os.listdir(f"{bpffs}/all")) == ["length", "watch"]
    assert "the name exists already" in fail("prog", "load", compiled("admin"), f"{bpffs}/one")


def test_load_as_a_question(compiled: Callable[[str], str], ask: Ask) -> None:
    before = {record["id"] for record in json.loads(ask("prog", "-j"))}
    assert ask("prog", "loadall", compiled("admin")) == "watch\nlength\n"
    assert json.loads(ask("prog", "load", compiled("admin"), "-j")) == ["watch", "length"]
    mine = [r for r in json.loads(ask("prog", "-j")) if r["id"] not in before and r.get("name") == "watch"]
    assert mine == []
    assert ask("prog", "loadall", compiled("no_programs")) == ""
    assert json.loads(ask("prog", "loadall", compiled("no_programs"), "-j")) == []


def test_files_that_load_no_program(compiled: Callable[[str], str], fail: Ask) -> None:
    assert "no_programs.bpf.o has no programs\n" in fail("prog", "load", compiled("no_programs"))
    text = fail("prog", "loadall", compiled("optional"))
    assert "no program of it is loaded by itself: all their sections start with '?'" in text


def test_attach_to_a_socket_map(compiled: Callable[[str], str], ask: Ask, bpffs: str) -> None:
    code = bytes.fromhex("b700000001000000 9500000000000000")
    definition = MapDef("sockets", uapi.BPF_MAP_TYPE_SOCKMAP, 4, 4, 2)
    with (
        Program.load(code, uapi.BPF_PROG_TYPE_SK_SKB, name="verdict") as program,
        Map.create(definition) as table,
    ):
        words = (program.info().id, "sk_skb_stream_verdict", "id", table.info().id)
        ask("prog", "attach", "id", *words)
        ask("prog", "detach", "id", *words)


def test_mistakes_have_hints(loaded: LoadedObject, fail: Ask) -> None:
    assert fail("prog", "shwo") == "ERROR: there is no command 'shwo'\n  hint: did you mean 'show'?\n"
    assert fail("prog", "show", "id", "x").startswith("ERROR: expected a number after 'id', not 'x'\n")
    assert fail("map", "show", "table") == (
        "ERROR: expected one of id, pinned, name instead of 'table'\n  hint: see 'tracebee map help'\n"
    )
    assert "no program with the name 'nosuchthing' is loaded" in fail("prog", "show", "name", "nosuchthing")
    assert "'more' is not expected here" in fail("link", "show", "id", 1, "more")
    assert "there is no map type 'hsah'" in fail("map", "create", "/x", "type", "hsah")
    assert "expected xlated or jited" in fail("prog", "dump", "both")


def test_features(ask: Ask) -> None:
    answer = json.loads(ask("feature", "-j"))
    theirs = bpftool_json("feature", "probe")
    for section in ("program_types", "map_types", "misc", "syscall_config"):
        for key, value in theirs[section].items():
            # This bpftool misreads what newer kernels say when a tracing program has no target.
            if key != "have_tracing_prog_type":
                assert answer[section][key] == value, key
    for key, value in theirs["system_config"].items():
        if "BPFILTER" not in key:  # options of old kernels
            assert answer["system_config"][key] == value, key
    known = {name for names in theirs["helpers"].values() for name in names}
    for key, value in theirs["helpers"].items():
        # It tries no tracing program with a real target, and takes newer kernels' "no" for a "yes".
        if key != "tracing_available_helpers":
            assert set(answer["helpers"][key]) & known <= set(value), key
    assert answer["limits"]["stack"] == 512
    assert answer["limits"]["verified_instructions"] == 1_000_000
    assert answer["limits"]["call_frames"] == 8
    assert answer["limits"]["tail_calls"] == 33
    assert answer["limits"]["loop_rounds"] == 8 * 1024 * 1024
    assert answer["limits"]["branches"] == 8192  # BPF_COMPLEXITY_LIMIT_JMP_SEQ
    assert answer["limits"]["functions"] == 256  # BPF_MAX_SUBPROGS
    assert answer["limits"]["maps"] == 64  # MAX_USED_MAPS
    assert answer["limits"]["helpers"] == len(Btf.vmlinux().enumerators("bpf_func_id")) - 2
    assert answer["commands"]["BPF_PROG_LOAD"] == 5
    assert "bpf_ktime_get_ns" in answer["helpers"]["kprobe_available_helpers"]


@pytest.mark.parametrize("group", ["prog_types", "map_types", "attach_types", "link_types", "helpers"])
def test_names_that_are_known(ask: Ask, group: str) -> None:
    theirs = bpftool_json("feature", "list_builtins", group)
    assert json.loads(ask("feature", "list_builtins", group, "-j"))[: len(theirs)] == theirs  # it is older
    assert ask("feature", "list_builtins", group).splitlines()[: len(theirs)] == theirs


def test_other_forms_of_features(ask: Ask, fail: Ask) -> None:
    assert json.loads(ask("feature", "probe", "kernel", "limits", "-j"))["limits"]["stack"] == 512
    assert "CONFIG_: BPF=y" in ask("feature", "system")
    assert "what network cards run is not tried" in fail("feature", "probe", "dev", "eth0")
    assert "did you mean 'helpers'?" in fail("feature", "helprs")
    assert "there is no program type 'xpd'" in fail("feature", "helpers", "xpd")


def test_features_are_described(ask: Ask) -> None:
    text = ask("feature", "helpers", "xdp")
    assert "void *bpf_map_lookup_elem(void *map, const void *key)" in text
    assert "pointer to the value under a key, or NULL" in text
    assert "bpf_get_stackid" not in text
    kfuncs = ask("feature", "kfuncs")
    # Kernels built with an older pahole do not say which of their functions are kfuncs.
    assert ("int bpf_iter_num_new(" in kfuncs) == bool(Btf.vmlinux().find_all("bpf_kfunc"))


def number_bytes(number: int) -> bytes:
    return struct.pack("=I", number)


# Type, key size, value size, flags, and an element: a map without types of every shape.
SHAPES = {
    "short": (uapi.BPF_MAP_TYPE_HASH, 4, 8, 0, number_bytes(7), bytes(range(8))),
    "two lines": (uapi.BPF_MAP_TYPE_HASH, 12, 16, 0, bytes(range(12)), bytes(range(16))),
    "many lines": (uapi.BPF_MAP_TYPE_HASH, 4, 40, 0, number_bytes(1), bytes(range(40))),
    "long key": (uapi.BPF_MAP_TYPE_HASH, 20, 4, 0, bytes(range(20)), bytes(4)),
    "prefixes": (
        uapi.BPF_MAP_TYPE_LPM_TRIE,
        8,
        4,
        uapi.BPF_F_NO_PREALLOC,
        number_bytes(24) + bytes([10, 0, 0, 0]),
        bytes(4),
    ),
    "per CPU": (uapi.BPF_MAP_TYPE_PERCPU_HASH, 4, 12, 0, number_bytes(3), bytes(12)),
    "per CPU, long": (uapi.BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 24, 0, number_bytes(3), bytes(range(24))),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_dumps_of_every_shape(ask: Ask, shape: str) -> None:
    kind, key_size, value_size, flags, key, value = SHAPES[shape]
    with Map.create(MapDef("shape", kind, key_size, value_size, 4, flags)) as table:
        table.update(key, table.join_slots([value] * 64)[: table.value_bytes] if table.is_per_cpu else value)
        number = table.info().id
        assert ask("map", "dump", "id", number) == bpftool("map", "dump", "id", number)
        assert json.loads(ask("map", "dump", "id", number, "-j")) == bpftool_json("map", "dump", "id", number)
        lookup = ("lookup", "id", number, "key", *key)
        assert ask("map", *lookup) == bpftool("map", *lookup)


def test_maps_whose_elements_cannot_be_listed(fail: Ask) -> None:
    for kind, sizes, hint in (
        (uapi.BPF_MAP_TYPE_QUEUE, (0, 4, 2), "take them out: tracebee map dequeue"),
        (uapi.BPF_MAP_TYPE_RINGBUF, (0, 0, 4096), "wait for events: tracebee map event_pipe"),
    ):
        with Map.create(MapDef("closed", kind, *sizes)) as table:
            said = fail("map", "dump", "id", table.info().id)
            assert "cannot be listed" in said
            assert hint in said


SEND = """
    *(u64 *)(r10 - 8) = 0x55
    {target}
    call bpf_{helper}
    r0 = 0
    exit
"""
# For a ring buffer (map, data, size, flags); for a perf event array (ctx, map, flags, data, size).
RING = "r1 = map[m]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0"
PERF = "r2 = map[m]\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -8\nr5 = 8"


@pytest.mark.parametrize(
    ("kind", "sizes", "target", "helper"),
    [
        (uapi.BPF_MAP_TYPE_RINGBUF, (0, 0, 4096), RING, "ringbuf_output"),
        (uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, (4, 4, 0), PERF, "perf_event_output"),
    ],
    ids=["ring buffer", "perf event array"],
)
def test_event_pipe(kind: int, sizes: tuple[int, int, int], target: str, helper: str) -> None:
    with Map.create(MapDef("m", kind, *sizes)) as table:
        code = encode(assemble(SEND.format(target=target, helper=helper), {"m": table.fd}))
        with (
            Program.load(code, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program,
            subprocess.Popen(
                [sys.executable, "-m", "tracebee", "map", "event_pipe", "id", str(table.info().id), "-j"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as pipe,
        ):
            assert pipe.stdout is not None
            try:
                # Until the other process listens, a perf event array has nowhere to put events.
                while not select.select([pipe.stdout], [], [], 0.05)[0]:
                    assert pipe.poll() is None
                    program.test_run()
                record = json.loads(pipe.stdout.readline())
            finally:
                pipe.send_signal(signal.SIGINT)
            assert pipe.wait() == 130
    assert record["data"][:8] == ["0x55"] + ["0x00"] * 7
    if kind == uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        assert list(record) == ["type", "cpu", "index", "timestamp", "data"]
        assert (record["type"], record["index"]) == (9, record["cpu"])
        assert 0 < record["timestamp"] < time.clock_gettime_ns(time.CLOCK_BOOTTIME) * 2
    else:
        assert list(record) == ["data"]


def test_event_pipe_of_one_place(fail: Ask) -> None:
    cpu = max(os.sched_getaffinity(0))
    with Map.create(MapDef("m", uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 8)) as table:
        number = table.info().id
        text = SEND.format(target=PERF.replace("0xffffffff ll", "5"), helper="perf_event_output")
        code = encode(assemble(text, {"m": table.fd}))
        words = ["map", "event_pipe", "id", str(number), "cpu", str(cpu), "index", "5", "-j"]
        with (
            Program.load(code, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program,
            subprocess.Popen(
                [sys.executable, "-m", "tracebee", *words], stdout=subprocess.PIPE, text=True
            ) as pipe,
        ):
            assert pipe.stdout is not None
            try:
                while not select.select([pipe.stdout], [], [], 0.05)[0]:
                    assert pipe.poll() is None
                    program.test_run(cpu=cpu, flags=uapi.BPF_F_TEST_RUN_ON_CPU)
                record = json.loads(pipe.stdout.readline())
            finally:
                pipe.send_signal(signal.SIGINT)
        assert (record["cpu"], record["index"]) == (cpu, 5)
        assert "cpu and index go together" in fail("map", "event_pipe", number, "cpu", 0)
    with Map.create(MapDef("ring", uapi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)) as ring:
        words = ["map", "event_pipe", str(ring.info().id), "cpu", "0", "index", "0"]
        assert "only perf event arrays have a ring for each CPU" in fail(*words)


def test_perf(loaded: LoadedObject, ask: Ask) -> None:
    counting = encode(assemble("r0 = 0\nexit"))
    libc = next(
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libc.so" in line
    )
    with ElfFile(libc) as image:
        function = find_symbol(image, "getpgid")
        assert function is not None
        offset = image.file_offset(function.addr)
        assert offset is not None
    with (
        Program.load(counting, uapi.BPF_PROG_TYPE_TRACEPOINT) as on_tracepoint,
        Program.load(counting, uapi.BPF_PROG_TYPE_KPROBE) as on_uprobe,
        PerfEvent.tracepoint(event_id("sched", "sched_process_exit")) as tracepoint,
        PerfEvent.uprobe(libc, offset, pid=os.getpid()) as uprobe,
        Link.raw_tracepoint(loaded.programs["watch"], "sys_exit"),
    ):
        tracepoint.set_program(on_tracepoint.fd)
        uprobe.set_program(on_uprobe.fd)
        ours = [record for record in json.loads(ask("perf", "-j")) if record["pid"] == os.getpid()]
        theirs = [record for record in bpftool_json("perf", "show") if record["pid"] == os.getpid()]
        text, their_text = ask("perf").splitlines(), bpftool("perf", "show").splitlines()
    assert ours == theirs
    assert [record["fd_type"] for record in ours] == ["tracepoint", "uprobe", "raw_tracepoint"]
    mine = f"pid {os.getpid()} "
    assert [line for line in text if line.startswith(mine)] == [
        line for line in their_text if line.startswith(mine)
    ]
    assert any(f"uprobe  filename {libc}  offset {offset}" in line for line in text)
