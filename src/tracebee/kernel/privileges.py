"""What this process may do, and what stands in the way when it may not."""

from __future__ import annotations

import os

from tracebee.errors import PrivilegeError

# Numbers of include/uapi/linux/capability.h, those that matter here.
CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}

# The capabilities a call asks for: any one of the alternatives in a row does.
_BPF = ("CAP_BPF", "CAP_SYS_ADMIN")
_PERFMON = ("CAP_PERFMON", "CAP_SYS_ADMIN")
_ADMIN = ("CAP_SYS_ADMIN",)
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "BPF_MAP_CREATE": (_BPF,),
    "BPF_PROG_LOAD": (_BPF, _PERFMON),
    "BPF_BTF_LOAD": (_BPF,),
    "BPF_LINK_CREATE": (_BPF, _PERFMON),
    "BPF_RAW_TRACEPOINT_OPEN": (_BPF, _PERFMON),
    "BPF_PROG_ATTACH": (_BPF,),
    "BPF_PROG_TEST_RUN": (_BPF,),
    "BPF_PROG_GET_NEXT_ID": (_ADMIN,),
    "BPF_MAP_GET_NEXT_ID": (_ADMIN,),
    "BPF_BTF_GET_NEXT_ID": (_ADMIN,),
    "BPF_LINK_GET_NEXT_ID": (_ADMIN,),
    "BPF_PROG_GET_FD_BY_ID": (_ADMIN,),
    "BPF_MAP_GET_FD_BY_ID": (_ADMIN,),
    "BPF_BTF_GET_FD_BY_ID": (_BPF,),
    "BPF_LINK_GET_FD_BY_ID": (_ADMIN,),
    "BPF_ENABLE_STATS": (_ADMIN,),
    "BPF_TASK_FD_QUERY": (_ADMIN,),
    "BPF_OBJ_PIN": (_BPF,),
    "BPF_OBJ_GET": (_BPF,),
    "BPF_TOKEN_CREATE": (_BPF,),
    "perf_event_open": (_PERFMON,),
    "PERF_EVENT_IOC_SET_BPF": (_PERFMON,),
    "mount": (_ADMIN,),
}
# What anyone may do, in a small way, where kernel.unprivileged_bpf_disabled is 0.
_SOMETIMES_FREE = ("BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_BTF_LOAD")


def effective() -> int:
    """This process's effective capabilities as a bit mask (``CapEff`` of proc(5))."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return int(line[7:], 16)
    return 0


def has(capability: str) -> bool:
    """Whether this process has a capability, by its full name.

    :raises KeyError: not one of :data:`CAPABILITIES`.
    """
    return bool(effective() >> CAPABILITIES[capability] & 1)


def setting(path: str) -> str | None:
    """A kernel setting's text below ``/proc/sys``, None where the kernel lacks or hides it."""
    try:
        with open(f"/proc/sys/{path}") as file:
            return file.read().strip()
    except OSError:
        return None


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel: for messages, never to decide what it can do."""
    major, minor = os.uname().release.split(".")[:2]
    digits = ""
    for char in minor:
        if not char.isdigit():
            break
        digits += char
    return int(major), int(digits or 0)


def lockdown() -> str | None:
    """The lockdown mode in force, ``none``, ``integrity`` or ``confidentiality``; None when unknown."""
    try:
        with open("/sys/kernel/security/lockdown") as file:
            text = file.read()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None


def missing(call: str, message: str) -> PrivilegeError:
    """The error for a call that was not permitted, with the reasons this process can find out."""
    reasons: list[str] = []
    lacks = [row for row in NEEDS.get(call, (_BPF,)) if not any(has(name) for name in row)]
    if lacks:
        wanted = " and ".join(row[0] for row in lacks)
        reasons.append(f"run as root, or give it {wanted}")
        if call in _SOMETIMES_FREE and (value := setting("kernel/unprivileged_bpf_disabled")) not in (
            "0",
            None,
        ):
            reasons.append(f"kernel.unprivileged_bpf_disabled is {value}")
        if call.startswith(("perf", "PERF")) and (value := setting("kernel/perf_event_paranoid")):
            reasons.append(
                f"kernel.perf_event_paranoid is {value}: 1 allows one's own processes, -1 everything"
            )
    else:
        mode = lockdown()
        if mode not in (None, "none"):
            reasons.append(f"kernel lockdown is in {mode} mode, which forbids this")
        elif call in _SOMETIMES_FREE and kernel_version() < (5, 11):
            reasons.append("the limit on locked memory does this on kernels before 5.11: ulimit -l unlimited")
        elif call == "BPF_PROG_LOAD":
            reasons.append(
                "this kernel forbids it to everyone: a security module, or a ban on hooking functions "
                "(fentry, fexit, lsm); see 'tracebee feature features'"
            )
        else:
            reasons.append("a security module, a container's seccomp filter or kernel lockdown may forbid it")
    return PrivilegeError(message, hint="; ".join(reasons))
