"""Encoding: golden bytes by hand from RFC 9669's figures, and decode∘encode is identity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import DecodeError, EncodeError
from tracebee.isa.codec import decode, encode
from tracebee.isa.insn import Insn

GOLDEN = [
    # (instruction, little-endian bytes, big-endian bytes)
    (Insn(0xB7, 1, 0, 0, -2), "b701 0000 feffffff", "b710 0000 fffffffe"),
    (Insn(0x61, 0, 6, 8, 0), "6160 0800 00000000", "6106 0008 00000000"),
    (Insn(0x7B, 10, 3, -8, 0), "7b3a f8ff 00000000", "7ba3 fff8 00000000"),
    (
        Insn(0x18, 2, 1, 0, 0x1122334455667788),
        "1812 0000 88776655 00000000 44332211",
        "1821 0000 55667788 00000000 11223344",
    ),
]


@pytest.mark.parametrize(("insn", "little", "big"), GOLDEN)
def test_golden(insn: Insn, little: str, big: str) -> None:
    assert encode([insn], "little") == bytes.fromhex(little)
    assert encode([insn], "big") == bytes.fromhex(big)


register = st.integers(0, 15)
narrow = st.builds(
    Insn,
    st.integers(0, 255).filter(lambda op: op != 0x18),
    register,
    register,
    st.integers(-(1 << 15), (1 << 15) - 1),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
wide = st.builds(Insn, st.just(0x18), register, register, st.just(0), st.integers(0, (1 << 64) - 1))


@given(st.lists(narrow | wide, max_size=20), st.sampled_from(["little", "big"]))
def test_round_trip(insns: list[Insn], order: str) -> None:
    data = encode(insns, order)
    assert len(data) == 8 * sum(insn.slots for insn in insns)
    assert decode(data, order) == insns


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (Insn(0xB7, 16), "destination register 16"),
        (Insn(0xB7, -1), "destination register -1"),
        (Insn(0xBF, 0, 16), "source register 16"),
        (Insn(0x61, 0, 0, 1 << 15), "offset 32768"),
        (Insn(0xB7, 0, 0, 0, 1 << 31), "immediate 2147483648"),
        (Insn(0x18, 0, 0, 0, 1 << 64), "immediate 18446744073709551616"),
        (Insn(0x18, 0, 0, 0, -1), "immediate -1"),
        (Insn(256), "opcode 256"),
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_what_does_not_fit_is_named(bad: Insn, field: str, order: str) -> None:
    with pytest.raises(EncodeError, match=f"instruction 1: {field} is not in"):
        encode([Insn(0x95), bad], order)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x95", "1 bytes"),
        (bytes.fromhex("9500000000000000 1800000000000000"), "slot 2"),
        (bytes.fromhex("1800000000000000 9500000000000000"), "slot 1"),
    ],
)
def test_undecodable(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(data)


@given(st.binary(max_size=64))
def test_decode_gives_a_value_or_our_error(data: bytes) -> None:
    try:
        insns = decode(data)
    except DecodeError:
        return
    # A wide load's offset is the one field of the two slots that need not survive: it does.
    assert encode(insns) == data
