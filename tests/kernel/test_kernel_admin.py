"""Holders, pins, limits, and one line about every helper."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.errors import KernelError, SymbolError
from tracebee.isa.helpers import BY_NAME
from tracebee.kernel import choose, limits, pins
from tracebee.kernel.helper_texts import HELPER_TEXTS
from tracebee.kernel.holders import fdinfo, holders, kind_of
from tracebee.kernel.link import Link
from tracebee.kernel.map import Map
from tracebee.kernel.mounts import open_detached
from tracebee.kernel.program import Program
from tracebee.kernel.type_probes import RETURN_ZERO
from tracebee.obj.model import MapDef

HOLD = """
import sys
from tracebee import uapi
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.link import Link
from tracebee.kernel.type_probes import RETURN_ZERO
from tracebee.obj.model import MapDef
with (
    Map.create(MapDef("held", 1, 4, 4, 1)) as table,
    Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT, name="held") as program,
    Link.raw_tracepoint(program, "sched_switch") as link,
):
    print(table.info().id, program.info().id, link.info().id, flush=True)
    sys.stdin.read()
"""


@pytest.mark.needs("bpf")
def test_holders_of_another_process() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        table, program, link = map(int, child.stdout.readline().split())
        found = holders()
        for thing in (("map", table), ("prog", program), ("link", link)):
            assert [holder.pid for holder in found[thing]] == [child.pid], thing
        assert _ids(choose.maps("name", "held")) == [table]
        assert _ids(choose.programs("name", "held")) == [program]
    finally:
        child.communicate()
    assert ("map", table) not in holders()


def _ids(things: list[Map] | list[Program]) -> list[int]:
    numbers = []
    for thing in things:
        with thing:
            numbers.append(thing.info().id)
    return numbers


@pytest.mark.needs("bpf")
def test_kinds_of_descriptors() -> None:
    with (
        Map.create(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 4, 4, 1)) as table,
        Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program,
        Link.raw_tracepoint(program, "sched_switch") as link,
        Link.by_id(link.info().id) as again,
    ):
        assert [kind_of(thing.fd) for thing in (table, program, link, again)] == [
            "map",
            "prog",
            "link",
            "link",
        ]
        assert fdinfo(table.fd)["map_id"] == str(table.info().id)
        assert fdinfo(program.fd)["prog_tag"] == program.info().tag
    assert kind_of(0) is None


@pytest.mark.needs("bpf")
def test_pins() -> None:
    with (
        open_detached("bpf") as root,
        Map.create(MapDef("m", uapi.BPF_MAP_TYPE_HASH, 4, 4, 1)) as table,
        Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program,
        Link.raw_tracepoint(program, "sched_switch") as link,
    ):
        place = f"/proc/self/fd/{root.fd}"
        os.mkdir(f"{place}/d")
        table.pin(f"{place}/d/table")
        program.pin(f"{place}/program")
        link.pin(f"{place}/link")
        assert {(pin.path[len(place) :], pin.kind, pin.id) for pin in pins.walk(place)} == {
            ("/d/table", "map", table.info().id),
            ("/program", "prog", program.info().id),
            ("/link", "link", link.info().id),
        }
        pins.unpin(f"{place}/link")
        with pytest.raises(KernelError, match="nothing is pinned there"):
            pins.unpin(f"{place}/link")


@pytest.mark.needs("bpf")
def test_names_that_nothing_has() -> None:
    with pytest.raises(SymbolError, match="no program with the tag"):
        choose.programs("tag", "0" * 16)
    with pytest.raises(SymbolError, match="no map with the name"):
        choose.maps("name", "no_such_map")


# MAX_BPF_STACK, BPF_COMPLEXITY_LIMIT_INSNS, BPF_MAXINSNS, BPF_COMPLEXITY_LIMIT_JMP_SEQ, BPF_MAX_SUBPROGS,
# MAX_CALL_FRAMES, MAX_TAIL_CALL_CNT, BPF_MAX_LOOPS, MAX_USED_MAPS, BPF_OBJ_NAME_LEN of the kernel's headers.
EXPECTED = {
    "stack": 512,
    "program_length": 1_000_000,
    "verified_instructions": 1_000_000,
    "unprivileged_length": 4096,
    "branches": 8192,
    "functions": 256,
    "call_frames": 8,
    "tail_calls": 33,
    "loop_rounds": 8 << 20,
    "maps": 64,
    "call_arguments": 5,
    "name_length": 15,
}


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.name)
def test_limits(limit: limits.Limit) -> None:
    if limit.name == "helpers":  # differs between kernels
        known = {e.name for e in Btf.vmlinux().enumerators("bpf_func_id")}
        assert limits.measured(limit) == sum(f"BPF_FUNC_{name}" in known for name in BY_NAME)
    else:
        assert limits.measured(limit) == EXPECTED[limit.name]


def test_a_line_about_every_helper() -> None:
    assert set(HELPER_TEXTS) == set(BY_NAME)
    assert all(0 < len(text) < 90 and not text.endswith(".") for text in HELPER_TEXTS.values())
