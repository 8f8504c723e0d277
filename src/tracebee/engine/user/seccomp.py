"""A seccomp filter that stops a process at the system calls that are traced, and at no other.

The filter is classic BPF over ``struct seccomp_data``; it is installed in the child between fork and exec and
inherited by all it starts. Source: Linux ``Documentation/userspace-api/seccomp_filter.rst``.
"""

from __future__ import annotations

import ctypes
import struct

from tracebee.errors import KernelError
from tracebee.kernel.syscall import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
RET_TRACE, RET_ALLOW = 0x7FF00000, 0x7FFF0000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_PROT_EXEC = 4
_PR_SET_NAME = 15


def build_filter(
    arch: int, calls: Iterable[int] | None, mmap: int, prctl: int, *, every_mmap: bool = False
) -> bytes:
    """The filter program.

    :param calls: numbers to stop at; None for all.
    :param mmap: number of mmap(2), which stops when it maps code, so that new code can be probed.
    :param prctl: number of prctl(2), which stops when it changes a thread's name.
    :param every_mmap: it stops whatever it maps: data has semaphores to raise.
    """
    numbers = None if calls is None else sorted({*calls, *((mmap,) if every_mmap else ())})
    rows = [(_LD, 0, 0, _ARCH), (_JEQ, 1, 0, arch), (_RET, 0, 0, RET_ALLOW)]
    if numbers is None:
        rows.append((_RET, 0, 0, RET_TRACE))
    else:
        rows.append((_LD, 0, 0, _NR))
        for number in numbers:
            rows += [(_JEQ, 0, 1, number), (_RET, 0, 0, RET_TRACE)]
        if mmap not in numbers:
            rows += [(_JEQ, 0, 4, mmap), (_LD, 0, 0, _ARGS + 2 * 8), (_JSET, 0, 1, _PROT_EXEC)]
            rows += [(_RET, 0, 0, RET_TRACE), (_LD, 0, 0, _NR)]
        # A thread that names itself: what was known of its name is void.
        rows += [(_JEQ, 0, 3, prctl), (_LD, 0, 0, _ARGS), (_JEQ, 0, 1, _PR_SET_NAME), (_RET, 0, 0, RET_TRACE)]
        rows.append((_RET, 0, 0, RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def install(program: bytes) -> None:
    """Put this process under a filter, for good.

    :raises KernelError: refused (the kernel lacks seccomp filters).
    """
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(code))
    holder = ctypes.create_string_buffer(fprog, len(fprog))
    result = syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or syscall(
        "prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(holder), 0, 0
    )
    if result < 0:
        raise KernelError("prctl(PR_SET_SECCOMP)", -result, "the kernel refuses a seccomp filter")
