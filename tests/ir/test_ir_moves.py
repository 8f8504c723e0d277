"""Parallel moves give each target what its source held before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracebee.ir.moves import sequence

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
