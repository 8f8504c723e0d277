"""Instruction lengths against a disassembler, on whole programs; moved copies against it too."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.elf import ElfFile
from tracebee.engine.user.x86_insn import decode, move
from tracebee.errors import DecodeError


@pytest.mark.needs("x86_64")
@pytest.mark.parametrize(
    "path", ["/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"]
)
def test_every_instruction_has_the_disassemblers_length(path: str) -> None:
    import iced_x86 as iced  # only on x86-64 is it there to be installed

    with ElfFile(path) as elf:
        section = elf.section(".text")
        assert section is not None
        code = elf.contents(section)[:400_000]
    wrong = []
    for insn in iced.Decoder(64, code):
        if insn.is_invalid or insn.ip + 15 > len(code):
            continue
        ours = decode(code[insn.ip : insn.ip + 15])
        relative = insn.is_ip_rel_memory_operand
        branch = insn.is_jcc_short_or_near or insn.is_jmp_short_or_near or insn.is_call_near
        if (ours.length, ours.displacement_at >= 0, ours.branch_at >= 0) != (
            insn.len,
            relative,
            branch,
        ) and not (insn.is_loop or insn.is_jcx_short):
            wrong.append(f"{insn.ip:x}: {insn} {ours}")
    assert not wrong, wrong[:5]


OLD, NEW = 0x5555_0000_1000, 0x5555_4000_0000


def back(code: bytes, at: int) -> int:
    """Where the jump at an offset of a moved copy goes."""
    assert code[at] == 0xE9
    return NEW + at + 5 + struct.unpack_from("<i", code, at + 1)[0]


def test_a_plain_instruction_is_copied_and_jumps_back() -> None:
    moved = move(b"\x48\x89\xe5" + bytes(12), OLD, NEW)  # mov rbp, rsp
    assert moved.code[:3] == b"\x48\x89\xe5"
    assert back(moved.code, 3) == OLD + 3


def test_a_relative_operand_still_points_to_the_same_byte() -> None:
    moved = move(b"\x48\x8b\x05\x10\x00\x00\x00" + bytes(8), OLD, NEW)  # mov rax, [rip + 0x10]
    assert NEW + 7 + struct.unpack_from("<i", moved.code, 3)[0] == OLD + 7 + 0x10
    assert back(moved.code, 7) == OLD + 7


def test_calls_and_jumps_are_left_to_the_caller() -> None:
    call = move(b"\xe8\x00\x01\x00\x00" + bytes(10), OLD, NEW)
    assert (call.code, call.target, call.pushes) == (b"", OLD + 5 + 0x100, True)
    jump = move(b"\xeb\xfe" + bytes(13), OLD, NEW)
    assert (jump.code, jump.target, jump.pushes) == (b"", OLD, False)


def test_a_conditional_branch_reaches_both_sides() -> None:
    moved = move(b"\x74\x20" + bytes(13), OLD, NEW)  # je +0x20
    assert moved.code[:2] == b"\x74\x05"
    assert back(moved.code, 2) == OLD + 2
    assert back(moved.code, 7) == OLD + 2 + 0x20


def test_out_of_reach_is_an_error() -> None:
    with pytest.raises(DecodeError, match="2 GiB"):
        move(b"\x90" + bytes(14), OLD, OLD + (1 << 32))


@given(st.binary(max_size=16))
def test_any_bytes_decode_or_raise(code: bytes) -> None:
    try:
        assert 0 < decode(code).length <= len(code)
    except DecodeError:
        pass
