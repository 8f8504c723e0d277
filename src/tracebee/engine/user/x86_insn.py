"""The length of an x86-64 instruction, and a copy of it that works at another address.

Only what moving an instruction needs is decoded: prefixes, opcode, ModRM, displacement and immediate
sizes. Source: Intel SDM volume 2, chapter 2 and appendix A (opcode maps).
"""
# ruff: noqa: SIM905 - an opcode map reads as a map, not as a list of 256 strings

from __future__ import annotations

import struct

from tracebee.errors import DecodeError
from tracebee.typed import NamedTuple

_PREFIXES = frozenset(b"\xf0\xf2\xf3\x2e\x36\x3e\x26\x64\x65\x66\x67")

# Per opcode of the one-byte map: "m" has ModRM; then the immediate: "b" 1 byte, "w" 2, "z" 2 or 4 by operand
# size, "v" 2, 4 or 8 (mov with REX.W), "j" 1-byte branch, "J" 4-byte branch, "o" a memory offset of address
# size, "e" enter's 2 + 1; "-" neither; "!" no instruction in 64-bit mode; "g" ModRM and an immediate only for
# TEST (groups 3).
_ONE = (
    "m m m m b z ! ! m m m m b z ! ! "  # 00
    "m m m m b z ! ! m m m m b z ! ! "  # 10
    "m m m m b z ! ! m m m m b z ! ! "  # 20
    "m m m m b z ! ! m m m m b z ! ! "  # 30
    "! ! ! ! ! ! ! ! ! ! ! ! ! ! ! ! "  # 40: REX
    "- - - - - - - - - - - - - - - - "  # 50
    "! ! ! m ! ! ! ! z mz b mb - - - - "  # 60
    "j j j j j j j j j j j j j j j j "  # 70
    "mb mz ! mb m m m m m m m m m m m m "  # 80
    "- - - - - - - - - - ! - - - - - "  # 90
    "o o o o - - - - b z - - - - - - "  # A0
    "b b b b b b b b v v v v v v v v "  # B0
    "mb mb w - ! ! mb mz e - w - - b ! - "  # C0
    "m m m m ! ! ! - m m m m m m m m "  # D0
    "j j j j b b b b J J ! j - - - - "  # E0
    "! - ! ! - - g g - - - - - - m m "  # F0
).split()

# The two-byte map (0F xx), the same letters.
_TWO = (
    "m m m m ! - - - - - ! - ! m - mb "  # 00
    "m m m m m m m m m m m m m m m m "  # 10
    "m m m m ! ! ! ! m m m m m m m m "  # 20
    "- - - - - - ! - ! ! ! ! ! ! ! ! "  # 30
    "m m m m m m m m m m m m m m m m "  # 40
    "m m m m m m m m m m m m m m m m "  # 50
    "m m m m m m m m m m m m m m m m "  # 60
    "mb mb mb mb m m m - m m ! ! m m m m "  # 70
    "J J J J J J J J J J J J J J J J "  # 80
    "m m m m m m m m m m m m m m m m "  # 90
    "- - - m mb m ! ! - - - m mb m m m "  # A0
    "m m m m m m m m m m mb m m m m m "  # B0
    "m m mb m mb mb mb m - - - - - - - - "  # C0
    "m m m m m m m m m m m m m m m m "  # D0
    "m m m m m m m m m m m m m m m m "  # E0
    "m m m m m m m m m m m m m m m m "  # F0
).split()


class Decoded(NamedTuple):
    """An instruction's parts.

    :param opcode: one byte, or 0x0F00 | byte, 0x0F3800 | byte, 0x0F3A00 | byte.
    :param displacement_at: offset of a displacement relative to the next instruction, -1 without.
    :param branch_at: offset of a branch's distance, -1 without.
    """

    length: int
    opcode: int
    modrm: int
    displacement_at: int
    branch_at: int
    prefixes: bytes


def decode(code: bytes) -> Decoded:
    """Decode the first instruction of some bytes (15 are enough for any).

    :raises DecodeError: they are no instruction, or too few.
    """
    try:
        return _decode(code)
    except IndexError:
        raise DecodeError("the bytes end inside an instruction") from None


def _decode(code: bytes) -> Decoded:
    at = 0
    operand_16 = address_32 = False
    while code[at] in _PREFIXES:
        operand_16 = operand_16 or code[at] == 0x66
        address_32 = address_32 or code[at] == 0x67
        at += 1
    prefixes = code[:at]
    wide = False
    if code[at] & 0xF0 == 0x40:
        wide = bool(code[at] & 8)
        at += 1
    if code[at] in (0xC4, 0xC5, 0x62) and at == len(prefixes):
        return _decode_vector(code, at, prefixes)
    opcode = code[at]
    at += 1
    if opcode != 0x0F:
        kind = _ONE[opcode]
    else:
        opcode = 0x0F00 | code[at]
        kind = _TWO[code[at]]
        at += 1
        if opcode in (0x0F38, 0x0F3A):
            kind = "mb" if opcode == 0x0F3A else "m"
            opcode = opcode << 8 | code[at]
            at += 1
    if kind == "!":
        raise DecodeError(f"opcode {opcode:#x} is no 64-bit instruction")
    modrm, displacement_at = 0, -1
    if kind[0] in "mg":
        modrm = code[at]
        at, displacement_at = _skip_modrm(code, at)
    if kind == "g":
        kind = ("b" if opcode == 0xF6 else "z") if modrm >> 3 & 7 < 2 else "-"
    immediate = kind[-1] if kind[-1] in "bwzvjJoe" else ""
    branch_at = -1
    size = {"": 0, "b": 1, "w": 2, "e": 3, "j": 1, "J": 4}.get(immediate, 4)
    if immediate == "z":
        size = 2 if operand_16 and not wide else 4
    elif immediate == "v":
        size = 8 if wide else 2 if operand_16 else 4
    elif immediate == "o":
        size = 4 if address_32 else 8
    elif immediate in ("j", "J"):
        branch_at = at
    at += size
    if at > len(code):
        raise IndexError
    return Decoded(at, opcode, modrm, displacement_at, branch_at, prefixes)


def _decode_vector(code: bytes, at: int, prefixes: bytes) -> Decoded:
    """VEX (C4, C5) and EVEX (62): always ModRM; an immediate in map 3, and for few of map 1."""
    if code[at] == 0xC5:
        space, at = 1, at + 2
    elif code[at] == 0xC4:
        space, at = code[at + 1] & 31, at + 3
    else:
        space, at = code[at + 1] & 7, at + 4
    opcode = code[at]
    at += 1
    modrm, displacement_at = 0, -1
    if not (space == 1 and opcode == 0x77):  # vzeroupper
        modrm = code[at]
        at, displacement_at = _skip_modrm(code, at)
    if space == 3 or (space == 1 and _TWO[opcode] == "mb"):
        at += 1
    if at > len(code):
        raise IndexError
    return Decoded(at, 0x0F00 | opcode, modrm, displacement_at, -1, prefixes)


def _skip_modrm(code: bytes, at: int) -> tuple[int, int]:
    """(offset behind ModRM, SIB and displacement, offset of a RIP-relative displacement or -1)."""
    modrm = code[at]
    mode, rm = modrm >> 6, modrm & 7
    at += 1
    if mode == 3:
        return at, -1
    if rm == 4:
        base = code[at] & 7
        at += 1
        if mode == 0 and base == 5:
            return at + 4, -1
    elif mode == 0 and rm == 5:
        return at + 4, at
    return at + (0, 1, 4)[mode], -1


class Moved(NamedTuple):
    """How to run an instruction elsewhere.

    ``code`` runs at the new place and comes back behind the original; when it is empty the instruction is a
    branch to be done by hand: ``target`` is where it goes, ``pushes`` whether it leaves a return address.
    """

    code: bytes
    target: int = 0
    pushes: bool = False


def move(code: bytes, old: int, new: int) -> Moved:
    """Make a copy of the instruction at ``old`` that does the same at ``new``.

    :param code: bytes from ``old`` on, at least 15 or to the end of the mapping.
    :raises DecodeError: it is no instruction, or cannot reach from the new place.
    """
    insn = decode(code)
    after = old + insn.length
    text = bytearray(code[: insn.length])
    if insn.opcode in (0xE8, 0xE9, 0xEB):
        distance = int.from_bytes(text[insn.branch_at :], "little", signed=True)
        return Moved(b"", after + distance, insn.opcode == 0xE8)
    if insn.branch_at >= 0:
        distance = int.from_bytes(text[insn.branch_at :], "little", signed=True)
        return Moved(_conditional(insn, text, after + distance, after, new))
    if insn.displacement_at >= 0:
        at = insn.displacement_at
        value = int.from_bytes(text[at : at + 4], "little", signed=True) + old - new
        text[at : at + 4] = _near(value)
    back = b"\xe9" + _near(after - (new + len(text) + 5))
    return Moved(bytes(text) + back)


def _conditional(insn: Decoded, text: bytearray, target: int, after: int, new: int) -> bytes:
    """A conditional branch: over two jumps, to the target and to what follows."""
    if insn.opcode in (0xE0, 0xE1, 0xE2, 0xE3):  # loop and jrcxz have only the short form
        head = bytes(text[:-1]) + b"\x05"
    else:
        head = bytes([0x70 | insn.opcode & 15, 5])
    at = new + len(head)
    # Not taken: the first jump, back. Taken: over it, to the second.
    return head + b"\xe9" + _near(after - (at + 5)) + b"\xe9" + _near(target - (at + 10))


def _near(distance: int) -> bytes:
    try:
        return struct.pack("<i", distance)
    except struct.error:
        raise DecodeError("the place for the copy is further than 2 GiB from the original") from None
