"""The one seam to the kernel: every system call without a wrapper in Python's own library.

Calls go through :func:`syscall`; a test puts its own kernel in place with :func:`stand_in`.
Numbers: ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# name: (x86-64, arm64)
NUMBERS: dict[str, tuple[int, int]] = {
    "mmap": (9, 222),
    "munmap": (11, 215),
    "ioctl": (16, 29),
    "ptrace": (101, 117),
    "mount": (165, 40),
    "umount2": (166, 39),
    "perf_event_open": (298, 241),
    "prctl": (157, 167),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "seccomp": (317, 277),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
}

_MACHINES = {"x86_64": 0, "aarch64": 1}
MACHINE = os.uname().machine


def _make_native() -> Callable[[str, tuple[int, ...]], int]:
    libc_syscall = ctypes.CDLL(None, use_errno=True).syscall
    libc_syscall.restype = ctypes.c_long
    column = _MACHINES.get(MACHINE)
    c_long, get_errno = ctypes.c_long, ctypes.get_errno

    def native(name: str, args: tuple[int, ...]) -> int:
        if column is None:
            from tracebee.errors import UnsupportedError

            raise UnsupportedError(
                f"no system call numbers for {MACHINE}", hint="x86-64 and arm64 are supported"
            )
        # A variadic C function takes each argument in a whole register only when told that it is long.
        result: int = libc_syscall(c_long(NUMBERS[name][column]), *[c_long(arg) for arg in args])
        return result if result != -1 else -get_errno()

    return native


_native: Callable[[str, tuple[int, ...]], int] | None = None
_handler: Callable[[str, tuple[int, ...]], int] | None = None


def syscall(name: str, *args: int) -> int:
    """Make a system call.

    :param args: integers; memory as an address (see :func:`address`), kept alive by the caller.
    :returns: the result, or the negative error number.
    """
    global _native
    if _handler is not None:
        return _handler(name, args)
    if _native is None:
        _native = _make_native()
    return _native(name, args)


class stand_in:  # noqa: N801 - used like a function
    """Context manager: ``handler(name, args) -> result or -errno`` takes the kernel's place."""

    def __init__(self, handler: Callable[[str, tuple[int, ...]], int]) -> None:
        self._new = handler
        self._old: Callable[[str, tuple[int, ...]], int] | None = None

    def __enter__(self) -> None:
        global _handler
        self._old, _handler = _handler, self._new

    def __exit__(self, *exc: object) -> None:
        global _handler
        _handler = self._old


def address(buffer: bytes | bytearray | memoryview) -> int:
    """Address of a buffer's first byte, 0 for an empty one. The caller keeps the buffer alive."""
    if len(buffer) == 0:
        return 0
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def read_memory(at: int, size: int) -> bytes:
    """Bytes of this process's own memory: how a stand-in reads what a call points to."""
    return ctypes.string_at(at, size)


def write_memory(at: int, data: bytes) -> None:
    """Write this process's own memory: how a stand-in answers."""
    ctypes.memmove(at, data, len(data))
