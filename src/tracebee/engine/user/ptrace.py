"""ptrace(2) as the tracer uses it: requests, stops, registers.

Every call acts on one thread, which must be stopped, and must come from the thread that attached.
Registers are kept as the bytes the kernel gives: on x86-64 their first 168 bytes are ``struct pt_regs``,
which is a uprobe program's context. Source: ptrace(2), ``arch/x86/include/asm/user_64.h``.
"""

from __future__ import annotations

import ctypes
import os

from tracebee.errors import KernelError, PrivilegeError, UnsupportedError
from tracebee.typed import NamedTuple

PTRACE_CONT = 7
PTRACE_SINGLESTEP = 9
PTRACE_GETREGS = 12
PTRACE_SETREGS = 13
PTRACE_DETACH = 17
PTRACE_SYSCALL = 24
PTRACE_GETEVENTMSG = 0x4201
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208

PTRACE_O_TRACESYSGOOD = 1 << 0
PTRACE_O_TRACEFORK = 1 << 1
PTRACE_O_TRACEVFORK = 1 << 2
PTRACE_O_TRACECLONE = 1 << 3
PTRACE_O_TRACEEXEC = 1 << 4
PTRACE_O_TRACEEXIT = 1 << 6
PTRACE_O_TRACESECCOMP = 1 << 7

PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC = 1, 2, 3, 4
PTRACE_EVENT_EXIT, PTRACE_EVENT_SECCOMP, PTRACE_EVENT_STOP = 6, 7, 128

WALL = 0x40000000  # __WALL: threads made by clone too
EINTR, ESRCH, ECHILD = 4, 3, 10

PT_REGS_SIZE = 21 * 8

# Offsets in struct pt_regs.
R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP = range(0, 17 * 8, 8)
CS, EFLAGS, RSP, SS = range(17 * 8, 21 * 8, 8)

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long
_wait4 = _libc.wait4
_wait4.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_status = ctypes.c_int()
_status_at = ctypes.addressof(_status)


class Gone(Exception):  # noqa: N818 - an event, not an error
    """The thread died while it was being worked on: what was to be done is moot."""


def request(what: int, tid: int, addr: int = 0, data: int = 0) -> None:
    """One ptrace request.

    :raises Gone: the thread is dead; KernelError: the kernel refuses for another reason.
    """
    if _ptrace(what, tid, addr, data) < 0:
        number = ctypes.get_errno()
        if number == ESRCH:
            raise Gone
        raise KernelError(f"ptrace({what})", number, f"ptrace({what}) of thread {tid}: {os.strerror(number)}")


class Registers:
    """A thread's registers; read and written whole. ``buffer`` starts with ``struct pt_regs``."""

    __slots__ = ("address", "buffer")

    def __init__(self) -> None:
        self.buffer = (ctypes.c_ulong * 27)()
        self.address = ctypes.addressof(self.buffer)

    def read(self, tid: int) -> None:
        """Take the thread's registers."""
        request(PTRACE_GETREGS, tid, 0, self.address)

    def write(self, tid: int) -> None:
        """Give the thread these registers."""
        request(PTRACE_SETREGS, tid, 0, self.address)

    def __getitem__(self, offset: int) -> int:
        return self.buffer[offset >> 3]

    def __setitem__(self, offset: int, value: int) -> None:
        self.buffer[offset >> 3] = value

    def context(self) -> bytes:
        """The bytes of ``struct pt_regs``."""
        return bytes(memoryview(self.buffer).cast("B")[:PT_REGS_SIZE])


class Stop(NamedTuple):
    """What wait4 said: the thread, and its wait status."""

    tid: int
    status: int

    @property
    def ended(self) -> bool:
        """The thread is gone: it exited or was killed."""
        return self.status & 0x7F != 0x7F

    @property
    def signal(self) -> int:
        """The signal it stopped for; SIGTRAP | 0x80 at system calls."""
        return self.status >> 8 & 0xFF

    @property
    def event(self) -> int:
        """A PTRACE_EVENT, or 0."""
        return self.status >> 16


def wait(pid: int = -1, flags: int = WALL) -> Stop | None:
    """Wait for a thread to stop or end.

    :returns: None when a signal came in between, or, with WNOHANG, when there is nothing.
    :raises ChildProcessError: there is nothing left to wait for.
    """
    tid = _wait4(pid, _status_at, flags, None)
    if tid > 0:
        # Not by its own constructor: this runs at every stop.
        return _make_stop(Stop, (tid, _status.value))
    if tid < 0 and ctypes.get_errno() == ECHILD:
        raise ChildProcessError
    return None


_make_stop = tuple.__new__


def event_message(tid: int) -> int:
    """The number that comes with an event: a new thread's id, an exit status."""
    value = ctypes.c_ulong()
    request(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(value))
    return value.value


def seize(tid: int, options: int) -> None:
    """Attach to a thread without stopping it.

    :raises PrivilegeError: not permitted; says which setting stands in the way.
    :raises Gone: there is no such thread.
    """
    if os.uname().machine != "x86_64":
        raise UnsupportedError(
            "the user engine traces x86-64 processes only",
            hint="use --engine kernel, which needs CAP_BPF and CAP_PERFMON",
        )
    if _ptrace(PTRACE_SEIZE, tid, 0, options) < 0:
        number = ctypes.get_errno()
        if number == ESRCH:
            raise Gone
        raise PrivilegeError(f"cannot trace process {tid}: {os.strerror(number)}", hint=_why_not(tid))


def _why_not(tid: int) -> str:
    """The likeliest reason why attaching is refused, and what helps."""
    try:
        with open(f"/proc/{tid}/status") as file:
            fields = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return "is the process still there?"
    if fields.get("TracerPid", "0") != "0":
        return f"process {fields['TracerPid']} traces it already: a process has one tracer"
    if fields["Uid"].split()[0] != str(os.getuid()):
        return "it belongs to another user: trace your own processes, or take CAP_SYS_PTRACE"
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            scope = file.read().strip()
    except OSError:
        scope = "0"
    if scope != "0":
        return (
            f"kernel.yama.ptrace_scope is {scope}: start the program with -c COMMAND instead of -p, "
            "or set it to 0 (sysctl kernel.yama.ptrace_scope=0)"
        )
    return "a seccomp filter or a security module forbids ptrace, as in some containers: use -c, or allow it"
