"""Descriptions of USDT arguments for libbpf's programs: the fields of ``struct __bpf_usdt_arg_spec``."""

from __future__ import annotations

import struct

import pytest

from tracebee.engine.kernel.usdt import encode_spec
from tracebee.errors import UnsupportedError
from tracebee.probes.regs import registers
from tracebee.probes.usdt_args import parse_arguments

CONST, REG, DEREF, SIB = range(4)
MASK = (1 << 64) - 1

# Offsets in struct pt_regs (x86-64) and struct user_pt_regs (arm64) from the kernel's asm/ptrace.h; the index
# register and the scale stand in bits 8 to 19 and 20 to 23 of the type's word (libbpf 1.7, usdt.bpf.h).
X86_64 = [
    ("-4@$-9", (-9 & MASK, CONST, 0, 1, 32)),
    ("8@%rdi", (0, REG, 112, 0, 0)),
    ("4@%r9d", (0, REG, 64, 0, 32)),
    ("-2@%ax", (0, REG, 80, 1, 48)),
    ("1@%bl", (0, REG, 40, 0, 56)),
    ("1@%ah", (0, REG, 81, 0, 56)),
    ("-4@-20(%rbp)", (-20 & MASK, DEREF, 32, 1, 32)),
    ("8@(%rsp)", (0, DEREF, 152, 0, 0)),
    ("-4@counter(%rip)", (0x1000, DEREF, 128, 1, 32)),
    ("8@counter+8(%rip)", (0x1008, DEREF, 128, 0, 0)),
    ("8@16(%rdx,%rax,8)", (16, SIB | 80 << 8 | 3 << 20, 96, 0, 0)),
    ("4@(%rdx,%rcx)", (0, SIB | 88 << 8, 96, 0, 32)),
]
AARCH64 = [
    ("-4@-9", (-9 & MASK, CONST, 0, 1, 32)),
    ("8@x3", (0, REG, 24, 0, 0)),
    ("-4@w30", (0, REG, 240, 1, 32)),
    ("8@[sp, 16]", (16, DEREF, 248, 0, 0)),
    ("1@[x0]", (0, DEREF, 0, 0, 56)),
    ("-4@[x19, -8]", (-8 & MASK, DEREF, 152, 1, 32)),
]


@pytest.mark.parametrize(
    ("machine", "text", "fields"),
    [("x86_64", *row) for row in X86_64] + [("aarch64", *row) for row in AARCH64],
)
def test_one_argument(machine: str, text: str, fields: tuple[int, ...]) -> None:
    arguments = parse_arguments(text, machine)
    spec = encode_spec(arguments, registers(machine), {"counter": 0x1000}, 77, indexed=True)
    assert len(spec) == 208
    assert struct.unpack_from("=QIhBb", spec) == fields
    assert struct.unpack_from("=Qh", spec, 192) == (77, 1)


def test_what_cannot_be_described() -> None:
    regs = registers("x86_64")
    with pytest.raises(UnsupportedError, match=r"arg1 .* sum of two registers"):
        encode_spec(parse_arguments("8@%rax 8@(%rdx,%rax,8)", "x86_64"), regs, {})
    with pytest.raises(UnsupportedError, match="arg0 lies at 'gone'"):
        encode_spec(parse_arguments("8@gone(%rip)", "x86_64"), regs, {})
    with pytest.raises(UnsupportedError, match="13 arguments, programs see 12"):
        encode_spec(parse_arguments(" ".join(["8@%rax"] * 13), "x86_64"), regs, {})
