"""Soundness of the abstract domains: whatever concrete execution computes, they contain."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.isa import insn as isa
from tracebee.vm.semantics import ALU32, ALU64, JUMP32, JUMP64
from tracebee.vm.verifier import arithmetic, comparison, tnum
from tracebee.vm.verifier.bounds import Number, s32, s64

M64 = (1 << 64) - 1
EDGES = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0x80,
    0xFF,
    1 << 31,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 32,
    1 << 63,
    M64,
    M64 - 1,
]
VALUES = st.one_of(
    st.sampled_from(EDGES), st.integers(0, M64), st.integers(0, 300), st.integers(M64 - 300, M64)
)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Number, int]:
    """An abstract number and a value it contains."""
    value = draw(VALUES)
    number = Number()
    number.set_unknown()
    if draw(st.booleans()):
        number.set_known(value)
        return number, value
    if draw(st.booleans()):
        mask = draw(st.one_of(VALUES, st.sampled_from([0xFF, 0xFFFF, 0xFFFFFFFF, ~0xFF & M64])))
        number.bits = (value & ~mask & M64, mask)
    if draw(st.booleans()):
        number.umin, number.umax = min(value, draw(VALUES)), max(value, draw(VALUES))
    if draw(st.booleans()):
        number.smin, number.smax = min(s64(value), s64(draw(VALUES))), max(s64(value), s64(draw(VALUES)))
    low = value & 0xFFFFFFFF
    if draw(st.booleans()):
        number.umin32, number.umax32 = (
            min(low, draw(VALUES) & 0xFFFFFFFF),
            max(low, draw(VALUES) & 0xFFFFFFFF),
        )
    if draw(st.booleans()):
        number.smin32, number.smax32 = min(s32(low), s32(draw(VALUES))), max(s32(low), s32(draw(VALUES)))
    assert number.contains(value)
    number.sync()
    return number, value


@given(numbers())
@settings(max_examples=250, deadline=None)
def test_sync_keeps_every_value(pair: tuple[Number, int]) -> None:
    number, value = pair
    assert number.contains(value)
    assert not number.is_empty()


@given(st.sampled_from(sorted(set(ALU64) - {isa.BPF_MOV})), st.sampled_from([32, 64]), numbers(), numbers())
@settings(max_examples=500, deadline=None)
def test_arithmetic_is_sound(op: int, bits: int, a: tuple[Number, int], b: tuple[Number, int]) -> None:
    result = (ALU64 if bits == 64 else ALU32)[op](a[1], b[1])
    arithmetic.apply(op, a[0], b[0], bits)
    assert a[0].contains(result)


@given(st.sampled_from([32, 64]), numbers())
@settings(max_examples=500, deadline=None)
def test_negation_is_sound(bits: int, a: tuple[Number, int]) -> None:
    arithmetic.apply(isa.BPF_NEG, a[0], a[0], bits)
    assert a[0].contains(-a[1] & ((1 << bits) - 1))


@given(st.sampled_from(sorted(JUMP64)), st.sampled_from([32, 64]), numbers(), numbers())
@settings(max_examples=500, deadline=None)
def test_comparisons_are_sound(op: int, bits: int, a: tuple[Number, int], b: tuple[Number, int]) -> None:
    concrete = (JUMP64 if bits == 64 else JUMP32)[op](a[1], b[1])
    assert comparison.outcome(op, a[0], b[0], bits) in (None, concrete)
    comparison.refine(op if concrete else comparison.REVERSE[op], a[0], b[0], bits)
    a[0].sync()
    b[0].sync()
    assert a[0].contains(a[1])
    assert b[0].contains(b[1])


@given(st.sampled_from([1, 2, 4]), numbers(), st.booleans())
@settings(max_examples=250, deadline=None)
def test_changes_of_width_are_sound(size: int, a: tuple[Number, int], to32: bool) -> None:
    value = a[1] & (1 << size * 8) - 1
    narrow = Number()
    narrow.copy_number(a[0])
    narrow.truncate(size)
    assert narrow.contains(value)
    wide = Number()
    wide.copy_number(a[0])
    wide.sign_extend(size, to32=to32)
    extended = value - (1 << size * 8) if value >> size * 8 - 1 else value
    assert wide.contains(extended & (0xFFFFFFFF if to32 else M64))
    low = Number()
    low.copy_number(a[0])
    low.zero_extend32()
    assert low.contains(a[1] & 0xFFFFFFFF)


TNUMS = st.tuples(VALUES, VALUES).map(lambda p: ((p[0] & ~p[1] & M64, p[1]), p[0]))


@given(TNUMS, TNUMS)
@settings(max_examples=250, deadline=None)
def test_tnums_are_sound(a: tuple[tnum.Tnum, int], b: tuple[tnum.Tnum, int]) -> None:
    cases = [
        (tnum.add, lambda x, y: x + y),
        (tnum.sub, lambda x, y: x - y),
        (tnum.mul, lambda x, y: x * y),
        (tnum.and_, lambda x, y: x & y),
        (tnum.or_, lambda x, y: x | y),
        (tnum.xor, lambda x, y: x ^ y),
    ]
    for abstract, concrete in cases:
        value, mask = abstract(a[0], b[0])
        assert concrete(a[1], b[1]) & M64 & ~mask == value
        assert value & mask == 0
    assert tnum.contains(tnum.union(a[0], b[0]), a[0])


def test_tnum_results_known_from_the_kernels_selftests() -> None:
    assert tnum.in_range(0, 255) == (0, 255)
    assert tnum.in_range(8, 15) == (8, 7)
    assert tnum.and_(tnum.UNKNOWN, tnum.const(0xF0)) == (0, 0xF0)
    assert tnum.add((0, 3), tnum.const(4)) == (4, 3)
    assert tnum.mul((0, 1), tnum.const(8)) == (0, 8)
    assert tnum.arshift((0, 1 << 63), 1, 64) == (0, 3 << 62)
