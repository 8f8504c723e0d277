"""An address space of a traced process: its memory, its mappings, the places probed in it."""

from __future__ import annotations

import os
from bisect import bisect_right

from tracebee.engine.user import ptrace
from tracebee.engine.user.ptrace import Gone, Registers
from tracebee.engine.user.x86_insn import move
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.kernel import procmaps
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.kernel.procmaps import Mapping

INT3 = b"\xcc"
SLOT = 32  # bytes of a moved instruction: 15, and at most two jumps
SCRATCH = 1 << 16
_REACH = 1 << 30  # half of what a 32-bit displacement reaches: an image lies on either side
_MMAP, _PROT_READ_EXEC, _MAP_FLAGS = 9, 5, 0x100022  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
_LOWEST = 1 << 16
_SIGTRAP = 5


class Breakpoint:
    """One probed address. ``slot`` is where its instruction's copy lies; 0 when that is a branch done by
    hand, and ``next`` then is the branch's target.
    """

    __slots__ = ("addr", "entries", "next", "original", "pushes", "returns", "slot")

    def __init__(self, addr: int, original: bytes, slot: int, after: int, *, pushes: bool) -> None:
        self.addr, self.original, self.slot, self.next, self.pushes = addr, original, slot, after, pushes
        self.entries: list[int] = []  # numbers of sites
        self.returns = False  # whether it may be the return of a traced call


class Scratch(NamedTuple):
    """A page of moved instructions, near what they were moved from."""

    start: int
    used: list[int]  # one number: bytes taken


class Space:
    """The memory of a process, and of those that share it (threads, vfork children).

    :param journal: told of every byte written over another: (pid, address, original byte).
    """

    def __init__(self, pid: int, journal: Callable[[int, int, int], None]) -> None:
        self.pid = pid
        self.journal = journal
        self.fd = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self.breakpoints: dict[int, Breakpoint] = {}
        self.scratch: list[Scratch] = []
        self.seen: set[tuple[int, int]] = set()  # (start, offset) of mappings already probed
        self.semaphores: list[int] = []  # addresses of u16 counters we have raised by one

    def close(self) -> None:
        """Close the memory; what was written stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def fork(self, pid: int) -> Space:
        """The copy of this space that a forked child has."""
        child = Space(pid, self.journal)
        for addr, old in self.breakpoints.items():
            new = Breakpoint(addr, old.original, old.slot, old.next, pushes=old.pushes)
            new.entries, new.returns = list(old.entries), old.returns
            child.breakpoints[addr] = new
            self.journal(pid, addr, old.original[0])
        child.scratch = [Scratch(s.start, list(s.used)) for s in self.scratch]
        child.seen = set(self.seen)
        child.semaphores = list(self.semaphores)
        return child

    def read(self, addr: int, size: int) -> bytes:
        """Bytes of the process, fewer where they end; raises OSError when there are none."""
        return os.pread(self.fd, size, addr)

    def write(self, addr: int, data: bytes) -> None:
        """Overwrite bytes of the process, code included.

        :raises Gone: the process has ended.
        """
        try:
            os.pwrite(self.fd, data, addr)
        except OSError as error:
            raise Gone from error

    def mappings(self) -> list[Mapping]:
        """Its mappings by rising address."""
        return read_mappings(self.pid)

    def probe(self, addr: int, site: int, tid: int) -> Breakpoint:
        """Have an address stop the process; ``tid`` is a stopped thread of it."""
        point = self.breakpoints.get(addr) or self._insert(addr, tid)
        if site not in point.entries:
            point.entries.append(site)
        return point

    def probe_return(self, addr: int, tid: int) -> Breakpoint:
        """Have the return to an address stop the process."""
        point = self.breakpoints.get(addr) or self._insert(addr, tid)
        point.returns = True
        return point

    def _insert(self, addr: int, tid: int) -> Breakpoint:
        try:
            code = self.read(addr, 15)
        except OSError as error:
            raise UnsupportedError(f"nothing can be traced at {addr:#x}: it is not in memory") from error
        slot = self._slot(addr, tid)
        try:
            moved = move(code, addr, slot)
        except DecodeError as error:
            raise UnsupportedError(
                f"the instruction at {addr:#x} cannot be traced: {error.message}"
            ) from error
        if moved.code:
            self.write(slot, moved.code)
            point = Breakpoint(addr, code, slot, 0, pushes=False)
        else:
            point = Breakpoint(addr, code, 0, moved.target, pushes=moved.pushes)
        self.breakpoints[addr] = point
        self.journal(self.pid, addr, code[0])
        self.write(addr, INT3)
        return point

    def raise_semaphore(self, addr: int) -> None:
        """Tell the program that somebody listens to a USDT probe."""
        self._add(addr, 1)
        self.semaphores.append(addr)

    def _add(self, addr: int, amount: int) -> None:
        count = int.from_bytes(self.read(addr, 2), "little")
        self.write(addr, (count + amount & 0xFFFF).to_bytes(2, "little"))

    def remove_all(self) -> None:
        """Put back every original byte. Moved copies stay: a thread may be inside one."""
        for addr in self.semaphores:
            try:
                self._add(addr, -1)
            except (OSError, Gone):
                continue
        self.semaphores.clear()
        for point in self.breakpoints.values():
            try:
                if self.read(point.addr, 1) == INT3:
                    self.write(point.addr, point.original[:1])
            except (OSError, Gone):
                continue
        self.breakpoints.clear()

    # Room for moved instructions.

    def _slot(self, addr: int, tid: int) -> int:
        for scratch in self.scratch:
            if abs(scratch.start - addr) < _REACH and scratch.used[0] + SLOT <= SCRATCH:
                scratch.used[0] += SLOT
                return scratch.start + scratch.used[0] - SLOT
        start = self._gap(addr)
        got = remote_syscall(self, tid, _MMAP, (start, SCRATCH, _PROT_READ_EXEC, _MAP_FLAGS, 2**64 - 1, 0))
        if got != start:
            raise UnsupportedError(f"process {self.pid} has no memory for traced instructions near {addr:#x}")
        self.scratch.append(Scratch(start, [SLOT]))
        return start

    def _gap(self, addr: int) -> int:
        """An unmapped place for scratch memory, as near to an address as can be."""
        maps = self.mappings()
        index = bisect_right(maps, addr, key=lambda m: m.start)
        best = 0
        ends = [_LOWEST, *(m.end for m in maps)]
        starts = [*(m.start for m in maps), 1 << 47]
        for i in range(len(starts)):
            if starts[i] - ends[i] < SCRATCH * 4:
                continue
            # Not next to the mapping below, which may be a heap that wants to grow, nor a stack above.
            candidate = (
                starts[i] - SCRATCH * 2 if i < index else min(ends[i] + (64 << 20), starts[i] - SCRATCH * 2)
            )
            if not best or abs(candidate - addr) < abs(best - addr):
                best = candidate
        if not best or abs(best - addr) >= _REACH:
            raise UnsupportedError(f"process {self.pid} has no room within 1 GiB of {addr:#x}")
        return best & -4096


def read_mappings(pid: int) -> list[Mapping]:
    """The mappings of a process by rising address; raises Gone when it has ended."""
    found = procmaps.read(pid)
    if found is None:
        raise Gone
    return found


def remote_syscall(space: Space, tid: int, number: int, arguments: tuple[int, ...]) -> int:
    """Have a stopped thread make a system call; its registers are then as before.

    No byte of the process is changed for it: a ``syscall`` instruction is found in its code.

    :returns: the call's result, negative errno as unsigned 64 bits.
    """
    saved, regs = Registers(), Registers()
    saved.read(tid)
    regs.read(tid)
    at = _find_syscall(space)
    regs[ptrace.RIP] = at
    regs[ptrace.RAX] = number
    regs[ptrace.ORIG_RAX] = 2**64 - 1  # no system call to restart
    places = (ptrace.RDI, ptrace.RSI, ptrace.RDX, ptrace.R10, ptrace.R8, ptrace.R9)
    for place, value in zip(places, arguments, strict=False):
        regs[place] = value
    now = Registers()
    while True:
        # A thread stopped inside a system call of its own first finishes that, which sets rax, and
        # stops again before it gets to our instruction: then the registers are put in place once more.
        regs.write(tid)
        _single_step(tid)
        now.read(tid)
        if now[ptrace.RIP] == at + 2:
            break
    # Whole: the kernel sees by rax and orig_rax whether an interrupted call is to be restarted.
    saved.write(tid)
    return now[ptrace.RAX]


def _single_step(tid: int) -> None:
    ptrace.request(ptrace.PTRACE_SINGLESTEP, tid)
    while True:
        stop = ptrace.wait(tid)
        if stop is None:
            continue
        if stop.ended:
            raise Gone
        if stop.signal == _SIGTRAP and not stop.event:
            return
        # The process's own filter asks about the call too; other stops have to wait for their turn.
        ptrace.request(ptrace.PTRACE_SINGLESTEP, tid)


def _find_syscall(space: Space) -> int:
    for mapping in space.mappings():
        if mapping.executable:
            try:
                at = space.read(mapping.start, mapping.end - mapping.start).find(b"\x0f\x05")
            except OSError:
                continue  # [vsyscall] cannot be read
            if at >= 0:
                return mapping.start + at
    raise UnsupportedError(f"process {space.pid} has no system call instruction in its code")
