"""Numbers of this machine that go into a script: as it is compiled, or as a built one is run."""

from __future__ import annotations

import os

# The inode of the first PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC


def possible_cpus() -> int:
    """How many CPUs there may be."""
    from tracebee.kernel.cpus import possible

    return len(possible())


def pid_namespace() -> tuple[int, int] | None:
    """Device and inode of this process's PID namespace; None for the first one, with the kernel's ids."""
    found = os.stat("/proc/self/ns/pid")
    return None if found.st_ino == _FIRST_PID_NAMESPACE else (found.st_dev, found.st_ino)


def kernel_address(name: str) -> int:
    """The address of a kernel symbol, 0 when there is none."""
    from tracebee.kernel.kallsyms import address_of

    return address_of(name) or 0


def user_symbol(path: str, name: str) -> tuple[int, int]:
    """Address and size of a symbol of an ELF file; zeros when it has none of this name."""
    from tracebee.elf import ElfFile, find_symbol

    with ElfFile(path) as image:
        found = find_symbol(image, name, tuple(range(16)))
    return (found.addr, found.size) if found is not None else (0, 0)
