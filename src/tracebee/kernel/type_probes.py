"""Whether the running kernel has a map type, a program type or a helper: found out by trying.

Some types ask for particular sizes, flags or targets before they can be made at all: the tables
hold what differs. Answers are kept for the life of the process.
"""

from __future__ import annotations

import mmap
from functools import cache

from tracebee import uapi
from tracebee.isa.codec import encode
from tracebee.isa.insn import BPF_ALU64, BPF_CALL, BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, R0, Insn
from tracebee.kernel.attr import BTF_LOAD, MAP_CREATE, PROG_LOAD
from tracebee.kernel.bpf import try_bpf
from tracebee.kernel.fd import Fd
from tracebee.kernel.syscall import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENOTSUPP, _EPERM, _EACCES = -524, -1, -13

RETURN_ZERO = encode([Insn(BPF_ALU64 | BPF_MOV | BPF_K, R0), Insn(BPF_JMP | BPF_EXIT)])

# A BTF blob with nothing but ``int``: header, BTF_KIND_INT of 4 bytes, strings.
INT_BTF = (
    bytes.fromhex("9feb01001800000000000000100000001000000005000000")
    + bytes.fromhex("01000000000000010400000020000001")
    + b"\0int\0"
)

_STORAGE = {"max_entries": 0, "map_flags": uapi.BPF_F_NO_PREALLOC, "int_types": 1}
_KEYLESS = {"key_size": 0}
_RING = {"key_size": 0, "value_size": 0, "max_entries": mmap.PAGESIZE}
_OF_MAPS = {"inner": 1}

# What a map type needs instead of 4-byte keys and values and one entry.
_MAPS: dict[int, dict[str, int]] = {
    uapi.BPF_MAP_TYPE_STACK_TRACE: {"value_size": 8},
    uapi.BPF_MAP_TYPE_LPM_TRIE: {"key_size": 8, "value_size": 8, "map_flags": uapi.BPF_F_NO_PREALLOC},
    uapi.BPF_MAP_TYPE_CGROUP_STORAGE: {"key_size": 16, "value_size": 8, "max_entries": 0},
    uapi.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: {"key_size": 16, "value_size": 8, "max_entries": 0},
    uapi.BPF_MAP_TYPE_QUEUE: _KEYLESS,
    uapi.BPF_MAP_TYPE_STACK: _KEYLESS,
    uapi.BPF_MAP_TYPE_BLOOM_FILTER: _KEYLESS,
    uapi.BPF_MAP_TYPE_RINGBUF: _RING,
    uapi.BPF_MAP_TYPE_USER_RINGBUF: _RING,
    uapi.BPF_MAP_TYPE_ARENA: {
        "key_size": 0,
        "value_size": 0,
        "map_flags": uapi.BPF_F_MMAPABLE,
    },
    uapi.BPF_MAP_TYPE_SK_STORAGE: _STORAGE,
    uapi.BPF_MAP_TYPE_INODE_STORAGE: _STORAGE,
    uapi.BPF_MAP_TYPE_TASK_STORAGE: _STORAGE,
    uapi.BPF_MAP_TYPE_CGRP_STORAGE: _STORAGE,
    uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS: _OF_MAPS,
    uapi.BPF_MAP_TYPE_HASH_OF_MAPS: _OF_MAPS,
    # Type 1 of vmlinux is no struct_ops structure: a kernel with the map type says ENOTSUPP.
    uapi.BPF_MAP_TYPE_STRUCT_OPS: {"btf_vmlinux_value_type_id": 1},
}

# What a program type needs besides a body that returns 0; ``log`` is what a kernel with the type
# writes when it then refuses the target that was made up.
_PROGRAMS: dict[int, dict[str, Any]] = {
    uapi.BPF_PROG_TYPE_CGROUP_SOCK_ADDR: {"expected_attach_type": uapi.BPF_CGROUP_INET4_CONNECT},
    uapi.BPF_PROG_TYPE_CGROUP_SOCKOPT: {"expected_attach_type": uapi.BPF_CGROUP_GETSOCKOPT},
    uapi.BPF_PROG_TYPE_SK_LOOKUP: {"expected_attach_type": uapi.BPF_SK_LOOKUP},
    uapi.BPF_PROG_TYPE_LIRC_MODE2: {"expected_attach_type": uapi.BPF_LIRC_MODE2},
    uapi.BPF_PROG_TYPE_NETFILTER: {"expected_attach_type": uapi.BPF_NETFILTER},
    uapi.BPF_PROG_TYPE_SYSCALL: {"prog_flags": uapi.BPF_F_SLEEPABLE},
    # Raw tracepoints, because a locked-down kernel may forbid fentry alone.
    uapi.BPF_PROG_TYPE_TRACING: {
        "expected_attach_type": uapi.BPF_TRACE_RAW_TP,
        "attach_btf_id": 1,
        "log": "attach_btf_id 1 is not a typedef",
    },
    uapi.BPF_PROG_TYPE_LSM: {
        "expected_attach_type": uapi.BPF_LSM_MAC,
        "attach_btf_id": 1,
        "log": "attach_btf_id 1 is not a function",
    },
    uapi.BPF_PROG_TYPE_EXT: {"attach_btf_id": 1, "log": "Cannot replace kernel functions"},
    uapi.BPF_PROG_TYPE_STRUCT_OPS: {"attach_btf_id": 1, "errno": _ENOTSUPP, "log": "not a supported struct"},
}

# How a verifier says that a helper is missing, or not for this type of program.
_NO_HELPER = (
    "invalid func ",
    "unknown func ",
    "program of this type cannot use helper ",
    "not supported for program type ",
)


@cache
def has_map_type(number: int) -> bool:
    """Whether a map of this type can be made.

    :raises PrivilegeError: this process may not find out.
    """
    needs = dict(_MAPS.get(number, {}))
    values: dict[str, int | bytes] = {"key_size": 4, "value_size": 4, "max_entries": 1, "map_type": number}
    wants_inner, wants_types = needs.pop("inner", 0), needs.pop("int_types", 0)
    values.update(needs)
    held: list[Fd] = []
    try:
        if wants_inner:
            inner = MAP_CREATE.pack(map_type=uapi.BPF_MAP_TYPE_HASH, key_size=4, value_size=4, max_entries=1)
            held.append(Fd(_made(uapi.BPF_MAP_CREATE, inner)))
            values["inner_map_fd"] = held[0].fd
        if wants_types:
            attr = BTF_LOAD.pack(btf=address(INT_BTF), btf_size=len(INT_BTF))
            held.append(Fd(_made(uapi.BPF_BTF_LOAD, attr)))
            values.update(btf_fd=held[0].fd, btf_key_type_id=1, btf_value_type_id=1)
        result = try_bpf(uapi.BPF_MAP_CREATE, MAP_CREATE.pack(**values))
    finally:
        for fd in held:
            fd.close()
    if result >= 0:
        Fd(result).close()
        return True
    refuse_to_guess(uapi.BPF_MAP_CREATE, result)
    return number == uapi.BPF_MAP_TYPE_STRUCT_OPS and result == _ENOTSUPP


@cache
def has_program_type(number: int) -> bool:
    """Whether a program of this type can be loaded.

    :raises PrivilegeError: this process may not find out.
    """
    result, log = try_program(number, RETURN_ZERO)
    if result >= 0:
        return True
    needs = _PROGRAMS.get(number, {})
    if "log" in needs and needs["log"] in log:
        return True
    if needs.get("errno") == result:
        return True
    if not log:
        refuse_to_guess(uapi.BPF_PROG_LOAD, result)
    return False


@cache
def has_helper(program_type: int, helper: int) -> bool:
    """Whether programs of a type may call a helper, by its number.

    :raises PrivilegeError: this process may not find out.
    """
    call = encode([Insn(BPF_JMP | BPF_CALL, imm=helper), Insn(BPF_JMP | BPF_EXIT)])
    target: dict[str, int] = {}
    if program_type == uapi.BPF_PROG_TYPE_TRACING:
        target = _tracepoint()
    if "log" in _PROGRAMS.get(program_type, {}) and not target:
        return False  # such a program cannot be loaded without a real target
    result, log = try_program(program_type, call, **target)
    if result >= 0:
        return True
    if not log:
        refuse_to_guess(uapi.BPF_PROG_LOAD, result)
        return False
    return not any(text in log for text in _NO_HELPER)


@cache
def _tracepoint() -> dict[str, int]:
    """A target for tracing programs that every kernel with BTF has."""
    from tracebee.btf.opening import open_vmlinux
    from tracebee.errors import TracebeeError

    try:
        found = open_vmlinux().find_all("btf_trace_sys_enter")
    except TracebeeError:
        return {}
    return {"attach_btf_id": found[0]} if found else {}


def loads(number: int, code: bytes, **more: int) -> bool:
    """Whether a program of a type, with these instructions and attributes, can be loaded.

    :raises PrivilegeError: this process may not find out.
    """
    result, log = try_program(number, code, **more)
    if result < 0 and not log:
        refuse_to_guess(uapi.BPF_PROG_LOAD, result)
    return result == 0


def try_program(number: int, code: bytes, **more: int) -> tuple[int, str]:
    """Load and drop a program: 0 or the negative error number, and the verifier's log."""
    needs = {k: v for k, v in _PROGRAMS.get(number, {}).items() if k not in ("log", "errno")}
    needs.update(more)
    licence, log = b"GPL\0", bytearray(1 << 16)
    attr = PROG_LOAD.pack(
        prog_type=number,
        insn_cnt=len(code) // 8,
        insns=address(code),
        license=address(licence),
        log_level=1,
        log_size=len(log),
        log_buf=address(log),
        **needs,
    )
    result = try_bpf(uapi.BPF_PROG_LOAD, attr)
    if result >= 0:
        Fd(result).close()
        result = 0
    return result, log[: log.find(0)].decode(errors="replace")


def _made(command: int, attr: bytearray) -> int:
    result = try_bpf(command, attr)
    refuse_to_guess(command, result)
    return result


def refuse_to_guess(command: int, result: int) -> None:
    """Raise PrivilegeError when a call failed for want of a privilege, which says nothing of the kernel."""
    if result in (_EPERM, _EACCES):
        from tracebee.kernel.explain import bpf_error
        from tracebee.kernel.privileges import has

        if has("CAP_SYS_ADMIN"):
            return  # it is this kernel's policy for everyone, not a capability that is missing

        raise bpf_error(command, -result)
