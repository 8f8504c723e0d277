"""Macro constants of the kernel's and C library's headers, which BTF does not hold.

Scripts include those headers for them; no header is read here. Values that this machine's Python
knows (they come from the C library it was built with) are taken from it, the rest is a table.
"""

from __future__ import annotations

import re

# Prefix of a name: the module that has such names. Imported only when a script uses one.
_MODULES = (
    (re.compile(r"(AF|SOCK|SOL|SO|IPPROTO|MSG|TCP)_[A-Z0-9_]+\Z"), "socket"),
    (re.compile(r"PF_[A-Z0-9]+\Z"), "socket"),
    (re.compile(r"SIG[A-Z0-9]+\Z"), "signal"),
    (re.compile(r"E[A-Z0-9]+\Z"), "errno"),
    (re.compile(r"(O|F|R|W|X|CLONE|PRIO|SCHED|WNOHANG|P|SEEK)_[A-Z0-9_]+\Z"), "os"),
    (re.compile(r"S_I[A-Z]+\Z"), "stat"),
    (re.compile(r"(PROT|MAP|MADV)_[A-Z0-9_]+\Z"), "mmap"),
    (re.compile(r"(F|LOCK|FD)_[A-Z0-9_]+\Z"), "fcntl"),
    (re.compile(r"EPOLL[A-Z]+\Z"), "select"),
)

# include/linux/sched.h, include/linux/kdev_t.h, include/linux/fs.h, include/uapi/linux/stat.h.
_TABLE = {
    "TASK_RUNNING": 0x0,
    "TASK_INTERRUPTIBLE": 0x1,
    "TASK_UNINTERRUPTIBLE": 0x2,
    "TASK_STOPPED": 0x4,
    "TASK_TRACED": 0x8,
    "EXIT_DEAD": 0x10,
    "EXIT_ZOMBIE": 0x20,
    "TASK_PARKED": 0x40,
    "TASK_DEAD": 0x80,
    "PF_IDLE": 0x2,
    "PF_EXITING": 0x4,
    "PF_WQ_WORKER": 0x20,
    "PF_MEMALLOC": 0x800,
    "PF_KSWAPD": 0x20000,
    "PF_KTHREAD": 0x200000,
    "MINORBITS": 20,
    "MINORMASK": (1 << 20) - 1,
    "DNAME_INLINE_LEN": 40,
    "TASK_COMM_LEN": 16,
    "PATH_MAX": 4096,
    "NAME_MAX": 255,
    "MAX_ERRNO": 4095,
    "NULL": 0,
    "INT_MAX": (1 << 31) - 1,
    "UINT_MAX": (1 << 32) - 1,
    "LONG_MAX": (1 << 63) - 1,
    "ULONG_MAX": (1 << 64) - 1,
    "IFNAMSIZ": 16,
    "ETH_P_IP": 0x0800,
    "ETH_P_ARP": 0x0806,
    "ETH_P_IPV6": 0x86DD,
    "ETH_ALEN": 6,
    "AF_INET": 2,
    "AF_INET6": 10,
    "AF_UNIX": 1,
}


def header_constant(name: str) -> int | None:
    """The value of a header's macro, None when it is not known here."""
    if name == "PAGE_SIZE":
        import os

        return os.sysconf("SC_PAGE_SIZE")
    found = _TABLE.get(name)
    if found is not None:
        return found
    for pattern, module in _MODULES:
        if pattern.match(name):
            from importlib import import_module

            value = getattr(import_module(module), name, None)
            if isinstance(value, int):
                return int(value)
    return None
