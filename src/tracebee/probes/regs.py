"""Where registers lie in a traced context, per architecture: one row each.

Offsets are into ``struct pt_regs`` (x86-64) and ``struct user_pt_regs`` (arm64), which is what BPF
programs of type kprobe and perf_event see. Sources: arch/*/include/uapi/asm/ptrace.h, the System V
ABI (AMD64 supplement, 3.2.3) and the AAPCS64 (6.8).
"""

from __future__ import annotations

from tracebee.errors import UnsupportedError
from tracebee.typed import NamedTuple


class Registers(NamedTuple):
    """One architecture's layout. ``offsets`` has bytes into the context by the kernel's register name."""

    machine: str
    offsets: dict[str, int]
    arguments: tuple[str, ...]  # integer arguments, in order
    result: str
    pc: str
    sp: str
    stack_arguments: int  # bytes from sp, at a function's first instruction, to its first stack argument
    aliases: dict[str, str]  # other spellings of registers: assembler's, bpftrace's


# struct pt_regs from its start.
_X86_ORDER = (
    *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8"),
    *("ax", "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss"),
)

X86_64 = Registers(
    machine="x86_64",
    offsets={name: 8 * i for i, name in enumerate(_X86_ORDER)},
    arguments=("di", "si", "dx", "cx", "r8", "r9"),
    result="ax",
    pc="ip",
    sp="sp",
    stack_arguments=8,  # the return address lies between
    aliases={f"r{name}": name for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")}
    | {"eflags": "flags", "rflags": "flags", "pc": "ip"},
)

ARM64 = Registers(
    machine="aarch64",
    offsets={f"r{i}": 8 * i for i in range(31)} | {"sp": 248, "pc": 256, "pstate": 264},
    arguments=tuple(f"r{i}" for i in range(8)),
    result="r0",
    pc="pc",
    sp="sp",
    stack_arguments=0,
    aliases={f"x{i}": f"r{i}" for i in range(31)} | {"lr": "r30", "fp": "r29"},
)

_BY_MACHINE = {r.machine: r for r in (X86_64, ARM64)}


def registers(machine: str) -> Registers:
    """The layout for a machine as uname(2) spells it.

    :raises UnsupportedError: no table for it yet.
    """
    found = _BY_MACHINE.get(machine)
    if found is None:
        raise UnsupportedError(f"no register layout for {machine}", hint=f"known: {', '.join(_BY_MACHINE)}")
    return found
