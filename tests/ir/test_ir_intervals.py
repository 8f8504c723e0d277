"""Lifetime intervals: against the liveness of random programs, found in another way; and by themselves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_programs import Generator

from tracebee.ir import Builder, Module, compile_module
from tracebee.ir.intervals import FAR, Interval, Numbering, build, needs_register
from tracebee.ir.types import VOID
from tracebee.ir.value import CALLS, Function, Value

Places = list[tuple[int, Value]]


def places(function: Function, numbering: Numbering) -> list[Places]:
    """Every block's instructions but phis, with their positions."""
    found = []
    for block in function.blocks:
        insns = [i for i in block.insns if i.op != "phi"]
        first = numbering.block_start[block] + 2
        found.append([(first + 2 * n, insn) for n, insn in enumerate(insns)])
        assert numbering.block_end[block] == first + 2 * len(insns)
    return found


def live_after(function: Function, numbering: Numbering, blocks: list[Places]) -> dict[int, set[Value]]:
    """The values that are read later, by the position of the instruction or block head before."""
    number = {block: n for n, block in enumerate(function.blocks)}
    starts: list[set[Value]] = [set() for _ in blocks]
    after: dict[int, set[Value]] = {}
    changed = True
    while changed:
        changed = False
        for n in reversed(range(len(blocks))):
            block = function.blocks[n]
            live: set[Value] = set()
            for succ in block.succs:
                live |= starts[number[succ]] - set(succ.phis())
                for phi in succ.phis():
                    live |= {
                        a for a, p in zip(phi.args, phi.aux, strict=True) if p is block and needs_register(a)
                    }
            for position, insn in reversed(blocks[n]):
                if after.get(position) != live:
                    after[position] = set(live)
                    changed = True
                live = (live - {insn}) | {a for a in insn.args if needs_register(a)}
            starts[n] = after[numbering.block_start[block]] = live
    return after


def covers(interval: Interval, position: int) -> bool:
    return any(start <= position < end for start, end in interval.ranges)


def check_intervals(function: Function) -> int:
    """Compare the intervals of a legalized function with its liveness; returns how many there are."""
    numbering = build(function)
    intervals = numbering.intervals
    blocks = places(function, numbering)
    after = live_after(function, numbering, blocks)
    for start in numbering.block_start.values():
        for value in after[start]:
            assert covers(intervals[value], start)
            assert covers(intervals[value], start + 1)
    for block in blocks:
        for position, insn in block:
            live = after[position]
            for value, interval in intervals.items():
                inside = covers(interval, position + 1)
                if value in live:
                    assert inside, (value, insn)
                elif inside:
                    # What is written and never read; an operand that must not share the result's register.
                    assert value is insn or value in insn.args, (value, insn)
            for arg in insn.args:
                if needs_register(arg) and insn.op not in CALLS and insn.op != "ret":
                    used = intervals[arg].uses
                    assert covers(intervals[arg], position)
                    assert position in used or position + 1 in used or insn.op == "atomic"
            if insn.type != VOID and insn in intervals:
                assert insn.op in CALLS or insn.op == "alloca" or intervals[insn].start == position + 1
    assert numbering.calls == [p for block in blocks for p, insn in block if insn.op in CALLS]
    for interval in intervals.values():
        flat = [edge for pair in interval.ranges for edge in pair]
        assert flat == sorted(set(flat)), "ranges are in order, apart, and not empty"
        assert interval.uses == sorted(interval.uses)
    starts = [interval.start for interval in intervals.values()]
    assert starts == sorted(starts)
    return len(intervals)


@pytest.mark.parametrize("cpu_version", [3, 4])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 32), statements=st.integers(1, 40))
def test_a_value_is_alive_until_it_is_read_last(cpu_version: int, seed: int, statements: int) -> None:
    counts: list[int] = []

    def checked(function: Function) -> Numbering:
        counts.append(check_intervals(function))
        return build(function)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracebee.ir.regalloc.build", checked)
        compile_module(Generator(Random(seed), statements).program(), cpu_version=cpu_version)
    assert counts[0] > 0


def some_value() -> Value:
    module = Module()
    return Builder(module.function("f")).const(1)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    edges = sorted(draw(st.sets(st.integers(0, 60), min_size=2, max_size=10)))
    pairs = [list(pair) for pair in zip(edges[::2], edges[1::2], strict=False)]
    inside = [p for start, end in pairs for p in range(start, end)]
    uses = sorted(draw(st.sets(st.sampled_from(inside), max_size=8)))
    return Interval(some_value(), pairs, uses)


def alive(interval: Interval) -> set[int]:
    return {p for start, end in interval.ranges for p in range(start, end)}


@given(intervals(), st.data())
def test_splitting_loses_nothing(whole: Interval, data: st.DataObject) -> None:
    before, uses = alive(whole), list(whole.uses)
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(whole.parts))
        if part.end - part.start < 2:
            continue
        position = data.draw(st.integers(part.start + 1, part.end - 1))
        rest = part.split(position)
        assert alive(part)
        assert alive(rest)
        assert max(alive(part)) < position <= min(alive(rest))
        assert rest.hints[0] is part
    parts = whole.parts
    assert set().union(*(alive(part) for part in parts)) == before
    assert sum(len(alive(part)) for part in parts) == len(before)
    assert [use for part in parts for use in part.uses] == uses
    assert whole.starts == [part.start for part in parts]
    for position in before:
        for part in parts:
            assert position in alive(part.location_at(position))
    for part in parts:
        for position in range(62):
            assert part.next_use(position) == min((u for u in part.uses if u >= position), default=FAR)


@given(intervals(), intervals())
def test_intersection_is_the_first_place_both_are_alive(one: Interval, other: Interval) -> None:
    assert one.intersection(other) == min(alive(one) & alive(other), default=-1)
    assert one.intersection(other) == other.intersection(one)
