"""Object files from Python: what is set before loading, read after it, attached and run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import EncodeError, SymbolError, UnsupportedError, UsageError

pytestmark = [pytest.mark.needs("clang")]
bpf = pytest.mark.needs("bpf")
PACKET = bytes(14)


@bpf
def test_variables_before_and_after_loading(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("globals")) as obj:
        assert obj.variables["limit"] == 10
        assert obj.variables["greeting"] == "hello"
        obj.variables["limit"] = 1000
        obj.variables["custom"] = 0
        obj.load()
        assert obj.programs["first"].test_run(PACKET).retval == 1002
        assert obj.variables["counter"] == 1
        obj.variables["counter"] = 40
        obj.variables["pair"] = {"a": 7, "b": [1, 2]}
        obj.programs["first"].test_run(PACKET)
        assert obj.variables["counter"] == 41
        assert obj.variables["pair"] == {"a": 7, "b": [1, 3]}
        with pytest.raises(UsageError, match="'limit' is read-only once globals is loaded"):
            obj.variables["limit"] = 1
        with pytest.raises(EncodeError, match="does not fit int"):
            obj.variables["counter"] = 1 << 40


@bpf
def test_which_programs_are_loaded(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("globals")) as obj:
        assert (obj.programs["first"].autoload, obj.programs["second"].autoload) == (True, False)
        obj.programs["first"].autoload = False
        obj.programs["second"].autoload = True
        obj.load()
        assert obj.programs["second"].test_run(PACKET).retval == sum(range(10)) + ord("h")
        with pytest.raises(UsageError, match="'first' was not loaded"):
            obj.programs["first"].test_run(PACKET)
        with pytest.raises(UsageError, match="too late"):
            obj.programs["first"].autoload = True


@bpf
def test_maps_have_the_types_of_their_declarations(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("link_main"), compiled("link_library")) as obj:
        obj.maps["points"].max_entries = 2
        obj.load()
        points = obj.maps["points"]
        assert obj.programs["fill"].test_run(PACKET).retval == 0
        assert dict(points) == {3: {"x": 1, "y": 2, "next": 0}}
        points[4] = {"x": -5}
        assert points[4] == {"x": -5, "y": 0, "next": 0}
        with pytest.raises(tracebee.KernelError):
            points[5] = {"y": 1}  # two entries is what was asked for
        del points[3]
        assert points.read() == {4: {"x": -5, "y": 0, "next": 0}}
        with pytest.raises(EncodeError, match="key of map 'points'"):
            points["four"]


@bpf
def test_what_goes_while_it_is_read(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("changes")) as obj:
        obj.maps["kept"].pin_path = None
        obj.load()
        counts = obj.maps["counts"]
        counts.update({1: 10, 2: 20, 3: 30})
        seen = {}
        for key, value in counts.items():
            seen[key] = value
            counts.clear()
        assert seen == {1: 10, 2: 20, 3: 30}
        counts[4] = 40
        assert list(counts.values()) == [40]


@bpf
def test_attached_by_section(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name in ("tracepoint_long", "raw_short")
        obj.load()
        hits = obj.maps["hits"]
        with obj.attach():
            os.getpgid(0)
        assert hits[0] > 0
        assert hits[2] > 0
        before = hits[0]
        os.getpgid(0)
        assert hits[0] == before
        with obj.programs["tracepoint_long"].attach() as attachment:
            assert attachment.probes == ("tracepoint_long",)
            os.getpgid(0)
        assert hits[0] > before


@pytest.mark.needs("bpf", "tcp_struct_ops")
def test_struct_ops_are_attached_too(compiled: Callable[[str], str]) -> None:
    names = {variable: f"bee_{variable[:3]}{os.getpid()}" for variable in ("plain", "linked")}
    with tracebee.Object(compiled("struct_ops")) as obj:
        for variable, name in names.items():
            obj.struct_ops[variable]["name"] = name
        obj.load()
        with obj.attach() as attachment, open("/proc/sys/net/ipv4/tcp_available_congestion_control") as file:
            assert attachment.probes == ("plain", "linked")
            assert set(names.values()) <= set(file.read().split())
            with pytest.raises(UnsupportedError, match="no link, and cannot be pinned"):
                attachment.pin("/sys/fs/bpf/nothing")


def test_names_that_are_not_there(compiled: Callable[[str], str]) -> None:
    obj = tracebee.Object(compiled("globals"))
    with pytest.raises(SymbolError, match="no program 'frist'") as caught:
        obj.programs["frist"]
    assert "first" in caught.value.candidates
    with pytest.raises(SymbolError, match="no map 'hits'"):
        obj.maps["hits"]
    with pytest.raises(SymbolError, match="no global variable"):
        obj.variables["limits"]
    with pytest.raises(UsageError, match="is not loaded"):
        obj.attach()


@bpf
def test_records_by_type(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("records")) as obj:
        obj.load()
        send, comm = obj.programs["send"], Path("/proc/self/comm").read_text().strip()
        for _ in range(3):
            send.test_run(ctx=bytes(16))
        records = list(obj.maps["ring"].records(timeout=0, type_name="struct event"))
        assert records == [{"number": n, "comm": comm} for n in (1, 2, 3)]
        send.test_run(ctx=bytes(16))
        (plain,) = obj.maps["ring"].records(timeout=0)
        assert plain[:4] == bytes([4, 0, 0, 0])
        with pytest.raises(SymbolError):
            next(obj.maps["ring"].records(type_name="struct evnet"))
        with pytest.raises(UsageError, match="map 'jumps' has elements, not records"):
            next(obj.maps["jumps"].records())
        lines = obj.maps["buffers"].records(timeout=0, type_name="struct event")
        assert list(lines) == []
        with send.attach():
            waiting = obj.maps["buffers"].records(timeout=10, type_name="struct event")
            assert next(waiting)["number"] > 4
            waiting.close()


@bpf
def test_programs_and_maps_as_values(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("records")) as obj:
        obj.programs["send"].autoload = False
        obj.load()
        assert obj.programs["jump"].test_run(PACKET).retval == 1
        obj.maps["jumps"][1] = obj.programs["target"]
        assert obj.programs["jump"].test_run(PACKET).retval == 7
        del obj.maps["jumps"][1]
        assert obj.programs["jump"].test_run(PACKET).retval == 1


def test_what_they_look_like(compiled: Callable[[str], str]) -> None:
    obj = tracebee.Object(compiled("records"))
    assert repr(obj).startswith(
        "<object records, not loaded: programs send, jump, target; maps ring, buffers"
    )
    assert repr(obj.programs["send"]) == "<program send: raw_tp/sys_enter>"
    assert repr(obj.maps["jumps"]) == "<map jumps: type 3, 4 -> 4 bytes, 2 entries>"
