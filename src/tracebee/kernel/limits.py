"""What a program may not exceed on this kernel: measured by trying, where trying can tell.

Source of the meanings: ``include/linux/bpf_verifier.h``, ``include/linux/filter.h``, ``kernel/bpf/``.
"""

from __future__ import annotations

import errno
import re
import struct

from tracebee import uapi
from tracebee.errors import TracebeeError
from tracebee.isa.codec import encode
from tracebee.isa.insn import (
    BPF_ADD,
    BPF_ALU64,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_DW,
    BPF_EXIT,
    BPF_IMM,
    BPF_JEQ,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_MEM,
    BPF_MOV,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    BPF_ST,
    BPF_STX,
    BPF_X,
    Insn,
)
from tracebee.kernel.attr import PROG_LOAD
from tracebee.kernel.bpf import try_bpf
from tracebee.kernel.btf import Btf
from tracebee.kernel.fd import Fd
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.syscall import address
from tracebee.kernel.type_probes import RETURN_ZERO, try_program
from tracebee.obj.model import MapDef
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FILTER = uapi.BPF_PROG_TYPE_SOCKET_FILTER
_GET_PRANDOM_U32 = 7  # BPF_FUNC_get_prandom_u32
_EXIT = Insn(BPF_JMP | BPF_EXIT)
_ZERO = Insn(BPF_ALU64 | BPF_MOV | BPF_K, 0)


class Limit(NamedTuple):
    """A limit: its name, what it bounds and in which unit, and how it is found (None: unknown)."""

    name: str
    meaning: str
    measure: Callable[[], int | None]


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number that fits, between one that does and one that does not; None if low does not."""
    if not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _stack() -> int | None:
    def fits(words: int) -> bool:
        store = Insn(BPF_ST | BPF_MEM | BPF_DW, 10, off=-8 * words)
        return try_program(_FILTER, encode([store, _ZERO, _EXIT]))[0] == 0

    words = _largest(fits, 1, 4095)
    return None if words is None else 8 * words


def program_length() -> int | None:
    """Instructions a program may have. The kernel looks at their number before it reads them, so none
    need be there.
    """

    def fits(count: int) -> bool:
        # Their address is 0, which the kernel finds out when it wants to read them.
        return try_bpf(uapi.BPF_PROG_LOAD, PROG_LOAD.pack(prog_type=_FILTER, insn_cnt=count)) == -errno.EFAULT

    return _largest(fits, 1, 1 << 26)


def _visited() -> int | None:
    """The verifier states its limit in the log of any program."""
    with Program.load(RETURN_ZERO, _FILTER, log_level=uapi.BPF_LOG_STATS | uapi.BPF_LOG_LEVEL1) as program:
        found = re.search(r"\(limit (\d+)\)", program.log)
    return int(found[1]) if found else None


def _frames() -> int | None:
    """Functions that each call the next: the deepest chain that loads, the program itself included."""

    def fits(depth: int) -> bool:
        code: list[Insn] = []
        for _ in range(depth - 1):
            # The callee begins two instructions on, right behind this function's exit.
            code += [Insn(BPF_JMP | BPF_CALL, src=BPF_PSEUDO_CALL, imm=1), _EXIT]
        return try_program(_FILTER, encode([*code, _ZERO, _EXIT]))[0] == 0

    return _largest(fits, 1, 64)


def _tail_calls() -> int | None:
    """A program that counts and tail-calls itself, run once."""
    with (
        Map.create(MapDef("count", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)) as counter,
        Map.create(MapDef("self", uapi.BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1)) as table,
    ):
        code = [
            Insn(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1),
            Insn(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_VALUE, imm=counter.fd),
            Insn(BPF_ALU64 | BPF_MOV | BPF_K, 3, imm=1),
            Insn(BPF_STX | BPF_ATOMIC | BPF_DW, 2, 3, imm=BPF_ADD),
            Insn(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6),
            Insn(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, imm=table.fd),
            Insn(BPF_ALU64 | BPF_MOV | BPF_K, 3),
            Insn(BPF_JMP | BPF_CALL, imm=12),
            _ZERO,
            _EXIT,
        ]
        with Program.load(encode(code), _FILTER) as program:
            table.update(bytes(4), struct.pack("=I", program.fd))
            program.test_run(data=bytes(64))
            table.delete(bytes(4))  # an array that holds the program that holds it is never freed
        value = counter.lookup(bytes(4))
    return None if value is None else int(struct.unpack("=Q", value)[0]) - 1


def _loops() -> int | None:
    """bpf_loop refuses too large a number before it begins; the callback ends it after one round."""

    def code(rounds: int) -> bytes:
        return encode(
            [
                Insn(BPF_LD | BPF_IMM | BPF_DW, 1, imm=rounds),
                Insn(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_FUNC, imm=5),
                Insn(BPF_ALU64 | BPF_MOV | BPF_K, 3),
                Insn(BPF_ALU64 | BPF_MOV | BPF_K, 4),
                Insn(BPF_JMP | BPF_CALL, imm=181),
                _EXIT,
                Insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, imm=1),
                _EXIT,
            ]
        )

    with Btf.load(_TWO_FUNCTIONS) as btf:

        def fits(rounds: int) -> bool:
            functions = [(0, 3), (8, 4)]
            with Program.load(code(rounds), _FILTER, btf=btf, func_info=functions) as program:
                return program.test_run(data=bytes(64)).retval == 1

        return _largest(fits, 1, (1 << 31) - 1)


# Types of ``int f(void)`` and ``int g(void)``: callbacks need a function's type.
_TYPES = (
    struct.pack("=4I", 1, 1 << 24, 4, 0x01000020)
    + struct.pack("=3I", 0, 13 << 24, 1)
    + struct.pack("=3I", 5, 12 << 24, 2)
    + struct.pack("=3I", 7, 12 << 24, 2)
)
_STRINGS = b"\0int\0f\0g\0"
_TWO_FUNCTIONS = (
    struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_TYPES), len(_TYPES), len(_STRINGS)) + _TYPES + _STRINGS
)


def _loads(insns: list[Insn]) -> bool:
    """Whether a program loads; without a log, for which a long one would need a large buffer."""
    code, licence = encode(insns), b"GPL\0"
    attr = PROG_LOAD.pack(
        prog_type=_FILTER, insn_cnt=len(code) // 8, insns=address(code), license=address(licence)
    )
    result = try_bpf(uapi.BPF_PROG_LOAD, attr)
    if result >= 0:
        Fd(result).close()
    return result >= 0


def _functions() -> int | None:
    """Functions that the first one calls one after the other: as many as load, with itself."""

    def fits(count: int) -> bool:
        calls = count - 1
        # The functions, two instructions each, lie behind the calls and the first one's end.
        code = [
            Insn(BPF_JMP | BPF_CALL, src=BPF_PSEUDO_CALL, imm=calls + 2 + 2 * at - at - 1)
            for at in range(calls)
        ]
        code += [_ZERO, _EXIT] * count
        return _loads(code)

    return _largest(fits, 1, 1025)


def _branches() -> int | None:
    """Conditional jumps in a row, each of which may go either way."""

    def fits(count: int) -> bool:
        code = [Insn(BPF_JMP | BPF_CALL, imm=_GET_PRANDOM_U32)]
        code += [Insn(BPF_JMP | BPF_JEQ | BPF_K, 0, off=count - at - 1, imm=at) for at in range(count)]
        return _loads([*code, _ZERO, _EXIT])

    return _largest(fits, 1, 1 << 15)


def _maps() -> int | None:
    """Maps that one program refers to."""
    made: list[Map] = []

    def fits(count: int) -> bool:
        while len(made) < count:
            made.append(Map.create(MapDef("limit", uapi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)))
        code = [Insn(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, imm=table.fd) for table in made[:count]]
        return _loads([*code, _ZERO, _EXIT])

    try:
        return _largest(fits, 1, 257)
    finally:
        for table in made:
            table.close()


def _helpers() -> int | None:
    from tracebee.btf.opening import open_vmlinux

    # The first is no function, the last says how many there are.
    return len(open_vmlinux().enumerators("bpf_func_id")) - 2


LIMITS: tuple[Limit, ...] = (
    Limit("stack", "bytes of stack of one function and those it calls", _stack),
    Limit("program_length", "instructions of a program, for a privileged process", program_length),
    Limit("verified_instructions", "instructions the verifier follows over all paths", _visited),
    Limit("unprivileged_length", "instructions of a program without CAP_BPF", lambda: 4096),
    Limit("branches", "conditional jumps in a row that may go either way", _branches),
    Limit("functions", "functions of a program, itself included", _functions),
    Limit("call_frames", "functions deep, the program itself included", _frames),
    Limit("tail_calls", "tail calls one after the other", _tail_calls),
    Limit("loop_rounds", "rounds of one bpf_loop", _loops),
    Limit("maps", "maps that one program refers to", _maps),
    Limit("helpers", "helpers; beside them and kfuncs, a program calls no function of the kernel", _helpers),
    Limit("call_arguments", "arguments of a helper or function", lambda: 5),
    Limit("name_length", "characters of a map's or program's name", lambda: uapi.BPF_OBJ_NAME_LEN - 1),
)


def measured(limit: Limit) -> int | None:
    """A limit's value here; None where it cannot be found out."""
    try:
        return limit.measure()
    except TracebeeError:
        return None


# Settings that bound or allow what BPF does: path below /proc/sys, and what it is about.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("kernel/unprivileged_bpf_disabled", "0: everyone may load simple programs; 1, 2: only CAP_BPF"),
    ("net/core/bpf_jit_enable", "0: programs are interpreted; 1: compiled; 2: compiled, code logged"),
    ("net/core/bpf_jit_harden", "constant blinding: 0 off, 1 for the unprivileged, 2 for all"),
    ("net/core/bpf_jit_kallsyms", "whether compiled programs have symbols"),
    ("net/core/bpf_jit_limit", "bytes of compiled programs of unprivileged users"),
    ("kernel/bpf_stats_enabled", "whether every program's runs and time are counted"),
    ("kernel/perf_event_paranoid", "who may open perf events: -1 everyone, 2 one's own processes only"),
    ("kernel/perf_event_max_sample_rate", "samples per second of a perf event"),
    ("kernel/perf_event_max_stack", "frames of a recorded stack"),
    ("kernel/kptr_restrict", "0, 1: root sees kernel addresses; 2: nobody does"),
    ("kernel/ftrace_enabled", "whether functions can be hooked (fentry, kprobe.multi)"),
    ("debug/kprobes-optimization", "whether kprobes become jumps"),
)
