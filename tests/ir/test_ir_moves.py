"""Parallel moves give each target what its source held before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracebee.ir.contents import Contents
from tracebee.ir.moves import sequence
from tracebee.isa import insn as isa

PLACES = [*range(10), -8, -16, -24]
ASIDE = -32


@given(st.dictionaries(st.sampled_from(PLACES), st.sampled_from(PLACES)))
def test_sequence(wanted: dict[int, int]) -> None:
    before = {place: f"in {place}" for place in PLACES}
    state = dict(before)
    for source, target in sequence([(s, t) for t, s in wanted.items()], ASIDE):
        assert isinstance(source, int)
        state[target] = state[source]
    for place in PLACES:
        assert state[place] == before[wanted.get(place, place)]


def test_no_moves_for_what_stays() -> None:
    assert sequence([(1, 1), (2, 2)], ASIDE) == []


def test_a_swap_takes_one_place_aside() -> None:
    assert len(sequence([(1, 2), (2, 1)], 0)) == 3


def test_contents_follow_copies_and_forget_what_is_written() -> None:
    contents = Contents()
    copy, add = isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, isa.BPF_ALU64 | isa.BPF_ADD
    contents.note(copy, 6, 1, 0, 0)
    contents.note(copy, 2, 6, 0, 0)
    assert contents.same(1, 6)
    assert contents.same(2, 1)
    contents.note(add, 6, 0, 0, 1)
    assert not contents.same(1, 6)
    contents.note(isa.BPF_JMP | isa.BPF_CALL, 0, 0, 0, 1)
    assert not contents.same(1, 2)
    contents.note(copy, 7, 6, 8, 0)  # extends the sign of 8 bits
    assert not contents.same(6, 7)
