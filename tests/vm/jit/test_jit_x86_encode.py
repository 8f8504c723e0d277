"""Every x86-64 encoder against a disassembler of record."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.vm.jit import x86_encode as x86

pytestmark = pytest.mark.needs("x86_64")

LOW = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"]
NAMES64 = [f"r{name}" for name in LOW] + [f"r{n}" for n in range(8, 16)]
NAMES32 = [f"e{name}" for name in LOW] + [f"r{n}d" for n in range(8, 16)]
NAMES16 = LOW + [f"r{n}w" for n in range(8, 16)]
NAMES8 = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"] + [f"r{n}b" for n in range(8, 16)]
NAMES = {8: NAMES8, 16: NAMES16, 32: NAMES32, 64: NAMES64}
POINTERS = {8: "byte", 16: "word", 32: "dword", 64: "qword"}

REG = st.integers(0, 15)
WIDE = st.integers(0, 1)
IMM = st.one_of(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-130, 130))
DISP = st.one_of(st.integers(-(1 << 15), (1 << 15) - 1), st.integers(-130, 130))
BITS = st.sampled_from([8, 16, 32, 64])
ARITHMETIC = st.sampled_from([(x86.ADD, "add"), (x86.OR, "or"), (x86.AND, "and"), (x86.SUB, "sub"),
                              (x86.XOR, "xor"), (x86.CMP, "cmp")])  # fmt: skip
SHIFT = st.sampled_from([(x86.SHL, "shl"), (x86.SHR, "shr"), (x86.SAR, "sar")])


def disassembled(code: bytes) -> str:
    """The one instruction in the bytes, without blanks."""
    # Only on x86-64 is the disassembler there to be installed.
    import iced_x86 as iced

    decoder = iced.Decoder(64, code)
    instruction = decoder.decode()
    assert decoder.position == len(code), f"{code.hex()} is more than {instruction}"
    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    formatter.hex_prefix, formatter.hex_suffix = "0x", ""
    formatter.branch_leading_zeros = False
    formatter.small_hex_numbers_in_decimal = False
    formatter.leading_zeros = False
    formatter.use_pseudo_ops = False
    return str(formatter.format(instruction)).replace(" ", "").lower()


def reg(number: int, bits: int) -> str:
    return NAMES[bits][number]


def number(value: int, bits: int = 64) -> str:
    return f"0x{value & ((1 << bits) - 1):x}"


def place(base: int, disp: int) -> str:
    sign = "" if disp == 0 else f"+0x{disp:x}" if disp > 0 else f"-0x{-disp:x}"
    return f"[{NAMES64[base]}{sign}]"


def width(wide: int) -> int:
    return 64 if wide else 32


@given(ARITHMETIC, REG, REG, WIDE)
def test_arithmetic(op: tuple[int, str], dst: int, src: int, wide: int) -> None:
    bits = width(wide)
    assert disassembled(x86.arithmetic(op[0], dst, src, wide)) == f"{op[1]}{reg(dst, bits)},{reg(src, bits)}"


@given(ARITHMETIC, REG, IMM, WIDE)
def test_arithmetic_immediate(op: tuple[int, str], dst: int, value: int, wide: int) -> None:
    bits = width(wide)
    text = disassembled(x86.arithmetic_immediate(op[0], dst, value, wide)).removeprefix(op[1])
    register, _, shown = text.partition(",")
    assert register == reg(dst, bits)
    assert (int(shown, 16) - value) % (1 << bits) == 0


@given(REG, st.integers(-(1 << 63), (1 << 64) - 1))
def test_move_immediate(dst: int, value: int) -> None:
    code = x86.move_immediate(dst, value)
    text = disassembled(code)
    value &= (1 << 64) - 1
    if value == 0:
        assert text == f"xor{reg(dst, 32)},{reg(dst, 32)}"
    else:
        bits = 32 if value < 1 << 32 else 64
        register, _, shown = text.removeprefix("mov").partition(",")
        assert register == reg(dst, bits)
        assert int(shown, 16) & ((1 << 64) - 1) == value
    assert len(code) <= (3 if value == 0 else 6 if value < 1 << 32 else 10)


@given(REG, REG, WIDE)
def test_two_registers(dst: int, src: int, wide: int) -> None:
    bits = width(wide)
    pair = f"{reg(dst, bits)},{reg(src, bits)}"
    assert disassembled(x86.move(dst, src, wide)) == f"mov{pair}"
    assert disassembled(x86.test(dst, src, wide)) == f"test{pair}"
    assert disassembled(x86.multiply(dst, src, wide)) == f"imul{pair}"


@given(REG, IMM, WIDE)
def test_multiply_and_test_immediate(dst: int, value: int, wide: int) -> None:
    bits = width(wide)
    first, second, shown = (
        disassembled(x86.multiply_immediate(dst, value, wide)).removeprefix("imul").split(",")
    )
    assert (first, second) == (reg(dst, bits), reg(dst, bits))
    assert (int(shown, 16) - value) % (1 << bits) == 0
    assert disassembled(x86.test_immediate(dst, value, wide)) == f"test{reg(dst, bits)},{number(value, bits)}"


@given(REG, WIDE)
def test_one_register(dst: int, wide: int) -> None:
    bits = width(wide)
    assert disassembled(x86.negate(dst, wide)) == f"neg{reg(dst, bits)}"
    assert disassembled(x86.divide(dst, wide, signed=False)) == f"div{reg(dst, bits)}"
    assert disassembled(x86.divide(dst, wide, signed=True)) == f"idiv{reg(dst, bits)}"
    assert disassembled(x86.byte_swap(dst, wide)) == f"bswap{reg(dst, bits)}"
    assert disassembled(x86.rotate_word(dst)) == f"ror{reg(dst, 16)},0x8"
    assert disassembled(x86.sign_to_rdx(wide)) == ("cqo" if wide else "cdq")
    assert disassembled(x86.push(dst)) == f"push{reg(dst, 64)}"
    assert disassembled(x86.pop(dst)) == f"pop{reg(dst, 64)}"
    assert disassembled(x86.call_register(dst)) == f"call{reg(dst, 64)}"
    assert disassembled(x86.jump_register(dst)) == f"jmp{reg(dst, 64)}"


@given(SHIFT, REG, REG, st.integers(0, 63), WIDE)
def test_shifts(op: tuple[int, str], dst: int, count: int, constant: int, wide: int) -> None:
    bits = width(wide)
    assert disassembled(x86.shift_by_cl(op[0], dst, wide)) == f"{op[1]}{reg(dst, bits)},cl"
    constant &= bits - 1
    assert disassembled(x86.shift_immediate(op[0], dst, constant, wide)) == (
        f"{op[1]}{reg(dst, bits)},{number(constant)}"
    )
    assert disassembled(x86.shift_by_register(op[0], dst, count, wide)) == (
        f"{op[1]}x{reg(dst, bits)},{reg(dst, bits)},{reg(count, bits)}"
    )


@given(REG, REG, WIDE)
def test_extensions(dst: int, src: int, wide: int) -> None:
    to = reg(dst, width(wide))
    for bits in (8, 16):
        assert disassembled(x86.zero_extend(dst, src, bits)) == f"movzx{reg(dst, 32)},{reg(src, bits)}"
        assert disassembled(x86.sign_extend(dst, src, bits, wide)) == f"movsx{to},{reg(src, bits)}"
    assert disassembled(x86.zero_extend(dst, src, 32)) == f"mov{reg(dst, 32)},{reg(src, 32)}"
    assert disassembled(x86.sign_extend(dst, src, 32, 1)) == f"movsxd{reg(dst, 64)},{reg(src, 32)}"


@given(REG, REG, DISP, BITS)
def test_loads_and_stores(register: int, base: int, disp: int, bits: int) -> None:
    memory = f"{POINTERS[bits]}ptr{place(base, disp)}"
    plain = place(base, disp)
    assert disassembled(x86.store(base, disp, register, bits)) == f"mov{plain},{reg(register, bits)}"
    loaded = disassembled(x86.load(register, base, disp, bits))
    if bits < 32:
        assert loaded == f"movzx{reg(register, 32)},{memory}"
    else:
        assert loaded == f"mov{reg(register, bits)},{plain}"
    if bits < 64:
        name = "movsxd" if bits == 32 else "movsx"
        memory = plain if bits == 32 else memory  # the disassembler shows no size that the name implies
        assert (
            disassembled(x86.load_signed(register, base, disp, bits)) == f"{name}{reg(register, 64)},{memory}"
        )


@given(REG, DISP, IMM, BITS)
def test_store_immediate(base: int, disp: int, value: int, bits: int) -> None:
    assert disassembled(x86.store_immediate(base, disp, value, bits)) == (
        f"mov{POINTERS[bits]}ptr{place(base, disp)},{number(value, bits)}"
    )


ATOMICS: list[tuple[Callable[[int, int, int, int], bytes], str]] = [
    (x86.exchange_add, "lockxadd"),
    (x86.exchange, "xchg"),
    (x86.compare_exchange, "lockcmpxchg"),
]


@given(REG, REG, DISP, WIDE, ARITHMETIC)
def test_memory_operations(src: int, base: int, disp: int, wide: int, op: tuple[int, str]) -> None:
    rest = f"{place(base, disp)},{reg(src, width(wide))}"
    for encode, name in ATOMICS:
        assert disassembled(encode(base, disp, src, wide)) == name + rest
    assert disassembled(x86.arithmetic_memory(op[0], base, disp, src, wide)) == op[1] + rest


def test_fixed_instructions() -> None:
    assert disassembled(x86.RETURN) == "ret"
    assert disassembled(x86.LEAVE) == "leave"
    assert disassembled(x86.skip_if(x86.BELOW, b"\x90" * 5)[:2]) == "jbshort0x7"
    conditions = {"je": x86.EQUAL, "jne": x86.NOT_EQUAL, "jb": x86.BELOW, "jbe": x86.BELOW_EQUAL,
                  "ja": x86.ABOVE, "jae": x86.ABOVE_EQUAL, "jl": x86.LESS, "jge": x86.GREATER_EQUAL,
                  "jle": x86.LESS_EQUAL, "jg": x86.GREATER}  # fmt: skip
    for name, condition in conditions.items():
        assert disassembled(x86.skip_if(condition, b"")) == f"{name}short0x2"
