"""What an object can be told between opening and loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tracebee
from tracebee import uapi
from tracebee.errors import EncodeError, SymbolError, UnsupportedError, UsageError
from tracebee.kernel import pins
from tracebee.kernel.program import Program

pytestmark = [pytest.mark.needs("bpf", "clang")]
PACKET = bytes(14)


@pytest.fixture
def obj(compiled: Callable[[str], str]) -> Iterator[tracebee.Object]:
    with tracebee.Object(compiled("changes")) as opened:
        opened.maps["kept"].pin_path = None
        yield opened


RULE = {
    "colour": "BLUE",
    "name": "second",
    "where": [{"port": 80, "weight": -3}, {"port": 65535, "weight": 1}],
    "on": True,
}


def test_constants_of_every_type(obj: tracebee.Object) -> None:
    values = obj.variables
    assert values["limits"] == [1, 2, 3, 4]
    assert values["colour"] == 7
    values["rules"] = [{"colour": 0}, RULE]
    values["limits"] = [0, 0, 0, 100]
    values["colour"] = "BLUE"
    values["on"] = True
    values["big"] = 1 << 62
    values["bytes"] = bytes([0, 0, 0, 0, 0, 9])
    values["table"] = [0, 0, 1000]
    for name, value in (("colour", "PINK"), ("last", {"colour": "PINK"})):
        with pytest.raises(SymbolError, match="no enumerator 'PINK'"):
            values[name] = value
    with pytest.raises(EncodeError, match=r"limits: 5 elements do not fit an array of 4"):
        values["limits"] = [1, 2, 3, 4, 5]
    with pytest.raises(EncodeError, match=r"rules\[0\].where\[1\].weight: 256 does not fit"):
        values["rules"] = [{"where": [{}, {"weight": 256}]}]
    obj.load()
    assert obj.programs["sum"].test_run(PACKET).retval == 100 + (1 << 20) + 1 + 1000 + 1 + 9
    assert values["last"] == {**RULE, "colour": 1 << 20}
    assert obj.maps["counts"][1] == 65535 - 3
    values["table"] = [0, 0, 5]
    assert obj.programs["sum"].test_run(PACKET).retval == 100 + (1 << 20) + 1 + 5 + 1 + 9
    with pytest.raises(UsageError, match="'limits' is read-only"):
        values["limits"] = [1]


def test_parts_of_variables(obj: tracebee.Object) -> None:
    values = obj.variables
    values["rules[1]"] = RULE
    values["rules[1].where[1].port"] = 7
    values["rules[1].name"] = "other"
    values["limits[3]"] = 50
    values["packed.high"] = 1 << 39
    values["packed.middle"] = -64
    assert values["rules[1].where"] == [{"port": 80, "weight": -3}, {"port": 7, "weight": 1}]
    assert values["limits"] == [1, 2, 3, 50]
    for name, words in (
        ("limits[4]", "the array has 4 elements"),
        ("limits.x", r"const volatile __u32\[4\] has no '.x'"),
        ("rules[0].prot", "prot"),
        ("limits[x]", r"cannot read '\[x\]'"),
        ("limit[0]", "no global variable 'limit'"),
    ):
        with pytest.raises(SymbolError, match=words):
            values[name]
    with pytest.raises(EncodeError, match=r"packed.middle: 128 does not fit a bit-field of 7"):
        values["packed.middle"] = 128
    obj.load()
    obj.programs["sum"].test_run(PACKET)
    assert values["last.where[1]"] == {"port": 7, "weight": 1}
    assert values["last.name"] == "other"
    assert values["packed"] == {"low": 1, "middle": 63, "high": (1 << 39) + 1}
    values["packed.low"] = 5
    values["table[1]"] = -1
    obj.programs["sum"].test_run(PACKET)
    assert values["packed"] == {"low": 5, "middle": 62, "high": (1 << 39) + 6}
    assert values["table"] == [1, -1, 3]
    values["packed"] = dict(values["packed"])
    assert values["packed.high"] == (1 << 39) + 6


def test_maps_are_made_as_they_are_asked_to_be(obj: tracebee.Object) -> None:
    counts = obj.maps["counts"]
    counts.max_entries = 1000
    counts.flags = uapi.BPF_F_NO_PREALLOC
    counts.numa_node = 0
    obj.maps["filter"].extra = 7
    obj.maps["small"].map_type = uapi.MAP_TYPES["percpu_array"]
    obj.maps["wide"].value_size = 24
    obj.load()
    info = counts.map.info()
    assert (info.max_entries, info.map_flags) == (1000, uapi.BPF_F_NO_PREALLOC | uapi.BPF_F_NUMA_NODE)
    assert info.btf_key_type_id != 0
    assert obj.maps["filter"].map.info().map_extra == 7
    assert obj.maps["small"].map.info().type == uapi.MAP_TYPES["percpu_array"]
    info = obj.maps["wide"].map.info()
    assert (info.value_size, info.btf_value_type_id) == (24, 0)
    assert obj.maps["wide"][3] == bytes(24)
    with pytest.raises(UsageError, match="too late to change map 'counts'"):
        counts.max_entries = 1


def test_the_size_of_variables_is_theirs(obj: tracebee.Object) -> None:
    with pytest.raises(UsageError, match=r"map '.bss' holds the object's variables"):
        obj.maps[".bss"].value_size = 4096


def test_inner_maps(obj: tracebee.Object) -> None:
    outer = obj.maps["outer"]
    assert outer.inner is not None
    assert outer.inner.max_entries == 1
    outer.inner = obj.maps["wide"]
    obj.load()
    outer[1] = obj.maps["wide"]
    with pytest.raises(tracebee.KernelError):
        outer[2] = obj.maps["small"]  # another shape than what was asked for


def test_pinned_by_name(compiled: Callable[[str], str], bpffs: str) -> None:
    with tracebee.Object(compiled("changes")) as first:
        assert first.maps["kept"].pin_path == "kept"
        first.load(pin_root=f"{bpffs}")
        first.maps["kept"][0] = 41
    with tracebee.Object(compiled("changes")) as second:
        second.load(pin_root=bpffs)
        assert second.maps["kept"][0] == 41
    with tracebee.Object(compiled("changes")) as third:
        third.maps["kept"].max_entries = 2
        with pytest.raises(
            UnsupportedError, match=r"what is pinned at .*/kept has max_entries 1 instead of 2"
        ):
            third.load(pin_root=bpffs)


def test_pinned_elsewhere_with_flags_of_its_own(compiled: Callable[[str], str], bpffs: str) -> None:
    for expected in (0, 3):
        with tracebee.Object(compiled("changes")) as obj:
            obj.maps["kept"].pin_path = None
            obj.maps["counts"].pin_path = f"{bpffs}/elsewhere"
            obj.maps["counts"].numa_node = 0
            obj.load()
            assert obj.maps["counts"].get(2, 0) == expected
            obj.maps["counts"][2] = 3
    assert [pin.path.rpartition("/")[2] for pin in pins.walk(bpffs)] == ["elsewhere"]


def test_maps_of_others(compiled: Callable[[str], str], obj: tracebee.Object, bpffs: str) -> None:
    obj.load()
    obj.maps["counts"].pin(f"{bpffs}/counts")
    obj.maps["counts"][1] = 5
    for given in (obj.maps["counts"].map, f"{bpffs}/counts", Path(f"{bpffs}/counts")):
        with tracebee.Object(compiled("changes")) as other:
            other.maps["kept"].pin_path = None
            other.maps["counts"].reuse(given)
            other.variables["rules"] = [{}, {"where": [{"weight": 1}, {"port": 9}]}]
            with pytest.raises(UnsupportedError, match=r"map wide: map 'counts' has type 1 instead of 2"):
                other.maps["wide"].reuse(obj.maps["counts"].map)
            other.load()
            other.programs["sum"].test_run(PACKET)
            assert other.maps["counts"][1] == 10
        assert obj.maps["counts"][1] == 10
        obj.maps["counts"][1] = 5


def test_variables_of_others(compiled: Callable[[str], str], obj: tracebee.Object) -> None:
    obj.load()
    with tracebee.Object(compiled("changes")) as other:
        other.maps["kept"].pin_path = None
        other.maps[".data.custom"].reuse(obj.maps[".data.custom"].map)
        other.load()
        other.variables["table"] = [7, 8, 9]
        assert other.variables["table"] == [7, 8, 9]
        assert obj.variables["table"] == [7, 8, 9]


def test_how_programs_are_loaded(obj: tracebee.Object, bpffs: str) -> None:
    program = obj.programs["sum"]
    assert program.section == "socket"
    program.prog_type = uapi.PROG_TYPES["sched_cls"]
    program.expected_attach_type = uapi.ATTACH_TYPES["tcx_egress"]
    obj.load(log_level=1)
    assert program.kernel.info().type == uapi.PROG_TYPES["sched_cls"]
    assert "processed" in program.log
    program.attach_device("lo").close()  # which takes only this attach type
    program.pin(f"{bpffs}/sum")
    with Program.pinned(f"{bpffs}/sum") as found:
        assert found.info().id == program.kernel.info().id


def test_which_programs_are_attached(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name in ("tracepoint_long", "raw_short")
        obj.programs["raw_short"].autoattach = False
        obj.load()
        with obj.attach() as attachment:
            assert attachment.probes == ("tracepoint_long",)
        with obj.attach("raw_short") as attachment:
            assert attachment.probes == ("raw_short",)


def test_pinned_attachments(compiled: Callable[[str], str], bpffs: str) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name in ("tracepoint_long", "raw_short")
        obj.load()
        attachment = obj.attach()
        attachment.pin(f"{bpffs}/mine")
        assert len(attachment.links) == 2
        attachment.close()
        assert attachment.links == []
        assert {p.path.rpartition("/")[2]: p.kind for p in pins.walk(bpffs)} == {
            "mine": "link",
            "mine_1": "link",
        }
        before = obj.maps["hits"][0]
        os.getpgid(0)
        assert obj.maps["hits"][0] > before
        for name in ("mine", "mine_1"):
            pins.unpin(f"{bpffs}/{name}")


@pytest.mark.parametrize("target", ["sys_exit", "vmlinux:sys_exit"])
def test_another_target(compiled: Callable[[str], str], target: str) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name == "typed"
        obj.programs["typed"].attach_target = target
        obj.load()
        with obj.attach():
            os.getpgid(0)
        assert obj.maps["hits"][4] > 0
    with tracebee.Object(compiled("sections")) as obj:
        obj.programs["typed"].attach_target = "no_such_event"
        with pytest.raises(SymbolError, match="no 'btf_trace_no_such_event'"):
            obj.load()


@pytest.mark.needs("fentry")
def test_functions_of_other_programs(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("replace_target")) as target:
        target.load()
        rate = target.programs["rate"]
        with tracebee.Object(compiled("replace")) as obj:
            obj.programs["better"].target_program = rate
            obj.load()
            with obj.attach():
                assert rate.test_run(bytes(40)).retval == 26 * 100
            assert rate.test_run(bytes(40)).retval == 27
        with tracebee.Object(compiled("watch_program")) as obj:
            obj.programs["called"].target_program = rate
            obj.programs["returned"].target_program = rate
            obj.programs["returned"].attach_target = "score"
            obj.load()
            with obj.attach():
                rate.test_run(bytes(40))
            assert (obj.variables["calls"], obj.variables["result"]) == (1, 27)


def test_members_of_struct_ops(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("struct_ops")) as obj:
        plain = obj.struct_ops["plain"]
        assert plain["name"] == "bee_plain"
        assert plain["init"] == "start"
        assert list(plain) == ["name", "ssthresh", "cong_avoid", "undo_cwnd", "init"]
        plain["name"] = "bee_other"
        plain["init"] = None
        assert (plain["name"], plain["init"]) == ("bee_other", None)
        with pytest.raises(SymbolError, match="no program 'strat'"):
            plain["init"] = "strat"
        with pytest.raises(SymbolError, match="struct tcp_congestion_ops has no member 'inti'"):
            plain["inti"] = "start"
        with pytest.raises(EncodeError, match=r"plain.name: 17 bytes do not fit 16"):
            plain["name"] = "x" * 17
        assert obj.struct_ops["linked"]["name"] == "bee_linked"


@pytest.mark.needs("tcp_struct_ops")
def test_struct_ops_are_registered_as_changed(compiled: Callable[[str], str]) -> None:
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with tracebee.Object(compiled("struct_ops")) as obj:
        obj.struct_ops["linked"]["name"] = name = f"bee_{os.getpid()}"
        obj.load()
        with obj.attach("linked"):
            assert name in available.read_text().split()
        with pytest.raises(UsageError, match="too late to change 'linked'"):
            obj.struct_ops["linked"]["name"] = "x"


@pytest.mark.needs("tcp_struct_ops")
def test_struct_ops_that_are_made_on_demand(compiled: Callable[[str], str]) -> None:
    names = {name: f"bee_{name[:2]}{os.getpid()}" for name in ("always", "asked")}
    for wanted in (["always"], ["always", "asked"]):
        with tracebee.Object(compiled("optional_ops")) as obj:
            for variable, name in names.items():
                obj.struct_ops[variable]["name"] = name
            assert [n for n, ops in obj.struct_ops.items() if ops.autoload] == ["always"]
            obj.struct_ops["asked"].autoload = "asked" in wanted
            obj.load()
            assert ("start" in obj.loaded.programs) == ("asked" in wanted)  # type: ignore[union-attr]
            with obj.attach() as attachment:
                assert attachment.probes == tuple(wanted)
            if "asked" not in wanted:
                with pytest.raises(SymbolError, match="no struct_ops variable 'asked'"):
                    obj.attach("asked")
