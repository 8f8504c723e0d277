"""The tracer: follows processes and threads through their stops, and tells a Handler what happened.

One stop a probe hit: the thread stops at an int3, the handler runs, and the thread goes on in a moved copy
of the instruction that the int3 covers, so that the breakpoint never has to be lifted and no other
thread can slip past it. Returns are seen by breakpoints at the return address rather than by changing
it on the stack, so exceptions, longjmp and stack walks go through traced functions undisturbed.
"""

from __future__ import annotations

import os

from tracebee.engine.user import ptrace
from tracebee.engine.user.ptrace import Gone, Registers, Stop
from tracebee.engine.user.space import Space, read_mappings
from tracebee.errors import KernelError
from tracebee.typed import NamedTuple, Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGTRAP = 5
_STOP_SIGNALS = frozenset((19, 20, 21, 22))
_SYSCALL_STOP = SIGTRAP | 0x80
_MMAP, _PROT_EXEC, _PRCTL = 9, 4, 157
_WORD = 8
_NOHANG = ptrace.WALL | os.WNOHANG

OPTIONS = (
    ptrace.PTRACE_O_TRACESYSGOOD
    | ptrace.PTRACE_O_TRACEFORK
    | ptrace.PTRACE_O_TRACEVFORK
    | ptrace.PTRACE_O_TRACECLONE
    | ptrace.PTRACE_O_TRACEEXEC
    | ptrace.PTRACE_O_TRACEEXIT
    | ptrace.PTRACE_O_TRACESECCOMP
)


class Site(NamedTuple):
    """A place to probe in every process that maps the file: a byte of it, on entry or on return."""

    file: tuple[int, int]  # device, inode
    offset: int
    is_return: bool
    semaphore: int = 0  # file offset of a USDT semaphore to raise, 0 without


class Call(NamedTuple):
    """A traced function that has not returned: where it will, the stack there, its site, its address."""

    addr: int
    stack: int
    site: int
    function: int


class Thread:
    """A traced thread. ``regs`` are read at stops that a handler is told of."""

    __slots__ = ("calls", "entered", "name", "pid", "regs", "space", "syscall", "tid", "wanted")

    def __init__(self, tid: int, pid: int, space: Space) -> None:
        self.tid, self.pid, self.space = tid, pid, space
        self.regs = Registers()
        self.calls: list[Call] = []
        self.syscall = -1  # the system call whose exit is awaited
        self.entered = False  # at system call stops without a filter: whether the next is an exit
        self.name: bytes | None = None
        self.wanted = False  # an interrupt for a sample is under way

    def comm(self) -> bytes:
        """Its name, up to 15 bytes, as the kernel has it."""
        if self.name is None:
            try:
                with open(f"/proc/{self.pid}/task/{self.tid}/comm", "rb") as file:
                    self.name = file.read().rstrip(b"\n")
            except OSError:
                self.name = b""
        return self.name


class Handler(Protocol):
    """What the tracer tells. The thread is stopped and goes on when the method returns."""

    def hit(self, thread: Thread, sites: list[int], addr: int) -> None:
        """The thread is at a probed instruction; its regs say so."""

    def returned(self, thread: Thread, call: Call) -> None:
        """A traced function returned; regs are those after the return instruction."""

    def syscall_enter(self, thread: Thread, number: int) -> None:
        """The thread is about to make a system call."""

    def syscall_exit(self, thread: Thread, number: int) -> None:
        """A system call has returned."""

    def forked(self, thread: Thread, child: int, child_pid: int) -> None:
        """The thread made a process or a thread."""

    def executed(self, thread: Thread, path: str, old_tid: int) -> None:
        """The process executes another program."""

    def renamed(self, thread: Thread) -> None:
        """The thread is about to change its name."""

    def exiting(self, thread: Thread) -> None:
        """The thread is about to end; it can still be examined."""

    def sample(self, thread: Thread) -> None:
        """The thread was running when a sampling timer fired."""


class Tracer:
    """Drives the traced processes.

    :param sites: what to probe in them; numbers in Handler calls index it.
    :param calls: system calls the handler is told of: None for all, an empty set for none.
    :param exits: those of them whose exit it is told of as well; by default all.
    :param journal: see ``space.Space``.
    """

    def __init__(
        self,
        handler: Handler,
        sites: list[Site],
        calls: frozenset[int] | None,
        journal: Callable[[int, int, int], None],
        exits: frozenset[int] | None = None,
    ) -> None:
        self.handler, self.sites, self.calls, self.journal = handler, sites, calls, journal
        self.exits = calls if exits is None else exits
        self.threads: dict[int, Thread] = {}
        self.roots: set[int] = set()
        self.errors: list[str] = []
        self._strays: dict[int, Stop] = {}  # first stops of children whose parent has not told of them yet
        self._by_file: dict[tuple[int, int], list[int]] = {}
        for number, site in enumerate(sites):
            self._by_file.setdefault(site.file, []).append(number)
        self._semaphores = any(site.semaphore for site in sites)
        self._filtered = False
        self._told = set[str]()

    # Attaching.

    def adopt(self, pid: int) -> None:
        """Trace a held child that will install the seccomp filter itself and then exec."""
        self._filtered = True
        ptrace.seize(pid, OPTIONS)
        self.threads[pid] = Thread(pid, pid, Space(pid, self.journal))
        self.roots.add(pid)

    def attach(self, pid: int) -> None:
        """Trace a running process, all its threads, and what it starts from now on.

        :raises PrivilegeError: not permitted; Gone: no such process.
        """
        space = Space(pid, self.journal)
        # Threads may be made while we attach: until no new one is found.
        new = True
        while new:
            new = False
            for name in os.listdir(f"/proc/{pid}/task"):
                tid = int(name)
                if tid not in self.threads:
                    try:
                        ptrace.seize(tid, OPTIONS)
                    except Gone:
                        continue
                    self.threads[tid] = Thread(tid, pid, space)
                    new = True
        self.roots.add(pid)
        self._halt_all()
        try:
            self._probe_mappings(self.threads[pid])
        finally:
            for tid in self.threads:
                self._go(tid)

    def _halt_all(self) -> None:
        """Stop every thread, handling what it stops for meanwhile."""
        waiting = set()
        for tid in list(self.threads):
            if self._interrupt(tid):
                waiting.add(tid)
            else:
                self._forget(tid)
        while waiting:
            stop = ptrace.wait()
            if stop is None:
                continue
            if stop.tid in waiting:
                if stop.ended or stop.event == ptrace.PTRACE_EVENT_STOP:
                    waiting.discard(stop.tid)
                    if stop.ended:
                        self._forget(stop.tid)
                    continue
                # Another stop came in its place and used the interrupt up: ask for one more.
                self._interrupt(stop.tid)
            self._handle(stop)

    @staticmethod
    def _interrupt(tid: int) -> bool:
        """Ask a thread to stop; False when it is dead."""
        try:
            ptrace.request(ptrace.PTRACE_INTERRUPT, tid)
        except Gone:
            return False
        return True

    def _go(self, tid: int, signal: int = 0) -> None:
        thread = self.threads.get(tid)
        # Without a filter (attached processes) system calls stop by PTRACE_SYSCALL, when any is traced.
        every = not self._filtered and (self.calls is None or bool(self.calls))
        how = ptrace.PTRACE_SYSCALL if every or (thread and thread.syscall >= 0) else ptrace.PTRACE_CONT
        try:
            ptrace.request(how, tid, 0, signal)
        except Gone:
            pass  # its end will be reported

    # The loop.

    def step(self) -> bool:
        """Wait for one stop and handle it, and those that are there already.

        :returns: False when nothing is left to trace. A signal to this process ends the wait too.
        """
        try:
            stop = ptrace.wait()
            while stop is not None:
                self._handle(stop)
                # With more threads others are likely to have stopped meanwhile.
                stop = ptrace.wait(-1, _NOHANG) if len(self.threads) > 1 else None
        except ChildProcessError:
            return False
        return bool(self.threads)

    def _handle(self, stop: Stop) -> None:
        try:
            self._dispatch(stop)
        except Gone:
            pass  # killed while we looked at it: wait reports its end

    def _dispatch(self, stop: Stop) -> None:
        tid = stop.tid
        thread = self.threads.get(tid)
        if stop.ended:
            if thread is not None:
                self._forget(tid)
            self._strays.pop(tid, None)
            return
        if thread is None:
            self._strays[tid] = stop
            return
        signal, event = stop.signal, stop.event
        if event != ptrace.PTRACE_EVENT_STOP:
            thread.wanted = False  # this stop came in place of a sample's
        if event:
            self._event(thread, signal, event)
        elif signal == SIGTRAP and self._trap(thread):
            self._go(tid)
        elif signal == _SYSCALL_STOP:
            self._syscall_stop(thread)
            self._go(tid)
        else:
            self._go(tid, signal)

    def _trap(self, thread: Thread) -> bool:
        """A breakpoint of ours; False when the trap is the process's own."""
        regs = thread.regs
        regs.read(thread.tid)
        addr = regs[ptrace.RIP] - 1
        point = thread.space.breakpoints.get(addr)
        if point is None:
            return False
        regs[ptrace.RIP] = addr
        if point.returns:
            self._return(thread, addr)
        if point.entries:
            self._enter(thread, point.entries, addr)
        if point.slot:
            regs[ptrace.RIP] = point.slot
        else:
            if point.pushes:
                regs[ptrace.RSP] -= _WORD
                after = addr + 5
                thread.space.write(regs[ptrace.RSP], after.to_bytes(8, "little"))
            regs[ptrace.RIP] = point.next
        regs.write(thread.tid)
        return True

    def _enter(self, thread: Thread, entries: list[int], addr: int) -> None:
        sites = self.sites
        here = [n for n in entries if not sites[n].is_return]
        if here:
            self.handler.hit(thread, here, addr)
        returns = [n for n in entries if sites[n].is_return]
        if returns:
            stack = thread.regs[ptrace.RSP]
            back = int.from_bytes(thread.space.read(stack, _WORD), "little")
            thread.space.probe_return(back, thread.tid)
            self._drop_calls(thread, stack + _WORD, back, returns)
            thread.calls += [Call(back, stack + _WORD, n, addr) for n in returns]

    def _return(self, thread: Thread, addr: int) -> None:
        """Calls that return here with this stack are done; those deeper were left by longjmp or throw."""
        stack = thread.regs[ptrace.RSP]
        while thread.calls and thread.calls[-1].stack < stack:
            thread.calls.pop()
        done = []
        while thread.calls and thread.calls[-1].stack == stack and thread.calls[-1].addr == addr:
            done.append(thread.calls.pop())
        for call in done:
            self.handler.returned(thread, call)

    @staticmethod
    def _drop_calls(thread: Thread, stack: int, back: int, sites: list[int]) -> None:
        """Forget calls whose frames a new call has overwritten: they were left without returning.

        A call with the same stack and return address is still there when the new one was a jump to
        another function (a tail call).
        """
        calls = thread.calls
        while calls and (
            calls[-1].stack < stack
            or (calls[-1].stack == stack and (calls[-1].addr != back or calls[-1].site in sites))
        ):
            calls.pop()

    # Events of ptrace.

    def _event(self, thread: Thread, signal: int, event: int) -> None:
        tid = thread.tid
        if event == ptrace.PTRACE_EVENT_STOP:
            if signal in _STOP_SIGNALS:
                ptrace.request(ptrace.PTRACE_LISTEN, tid)  # a group stop: until SIGCONT
                return
            if thread.wanted:
                thread.wanted = False
                thread.regs.read(tid)
                self.handler.sample(thread)
        elif event == ptrace.PTRACE_EVENT_SECCOMP:
            thread.regs.read(tid)
            number = thread.regs[ptrace.ORIG_RAX]
            if self._traces(number):
                self.handler.syscall_enter(thread, number)
            if number == _PRCTL:
                thread.name = None
                self.handler.renamed(thread)
            if number == _MMAP or self.exits is None or number in self.exits:
                # On to the call's exit: for the handler, or to probe the code that mmap brings.
                thread.syscall = number
        elif event == ptrace.PTRACE_EVENT_EXEC:
            self._exec(thread)
        elif event == ptrace.PTRACE_EVENT_EXIT:
            thread.regs.read(tid)
            self.handler.exiting(thread)
        elif event in (ptrace.PTRACE_EVENT_FORK, ptrace.PTRACE_EVENT_VFORK, ptrace.PTRACE_EVENT_CLONE):
            self._born(thread, ptrace.event_message(tid), event)
        self._go(tid)

    def _syscall_stop(self, thread: Thread) -> None:
        thread.regs.read(thread.tid)
        if self._filtered:
            number, thread.syscall = thread.syscall, -1
        else:
            thread.entered = not thread.entered
            number = thread.regs[ptrace.ORIG_RAX]
            if thread.entered:
                if self._traces(number):
                    self.handler.syscall_enter(thread, number)
                return
        if self._traces(number):
            self.handler.syscall_exit(thread, number)
        if number == _MMAP and (thread.regs[ptrace.RDX] & _PROT_EXEC or self._semaphores):
            self._probe_mappings(thread)

    def _traces(self, number: int) -> bool:
        return self.calls is None or number in self.calls

    def _born(self, parent: Thread, tid: int, event: int) -> None:
        """A new thread or process: it is stopped, or soon will be."""
        try:
            with open(f"/proc/{tid}/status") as file:
                pid = next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
        except (OSError, StopIteration):
            self._strays.pop(tid, None)
            return
        if pid == parent.pid or event == ptrace.PTRACE_EVENT_VFORK:
            space = parent.space
        else:
            space = parent.space.fork(pid)
        child = Thread(tid, pid, space)
        child.calls = [] if pid == parent.pid else list(parent.calls)
        self.threads[tid] = child
        self.handler.forked(parent, tid, pid)
        early = self._strays.pop(tid, None)
        if early is not None:
            self._handle(early)

    def _exec(self, thread: Thread) -> None:
        """A new program: a new address space, one thread left, with the process's id."""
        old = ptrace.event_message(thread.tid)
        if old != thread.tid:
            # Another thread called exec: it took over the leader's id.
            self.threads.pop(old, None)
        shared = any(t.space is thread.space and t is not thread for t in self.threads.values())
        if not shared:
            thread.space.close()
        thread.space = Space(thread.pid, self.journal)
        thread.calls.clear()
        thread.name = None
        thread.entered = False
        try:
            path = os.readlink(f"/proc/{thread.pid}/exe")
        except OSError as error:
            raise Gone from error
        self._probe_mappings(thread)
        thread.regs.read(thread.tid)
        self.handler.executed(thread, path, old)

    def _forget(self, tid: int) -> None:
        thread = self.threads.pop(tid)
        if not any(t.space is thread.space for t in self.threads.values()):
            thread.space.close()

    # Probing.

    def _probe_mappings(self, thread: Thread) -> None:
        """Set breakpoints in what the process has mapped since the last look."""
        if not self._by_file:
            return
        space = thread.space
        for mapping in read_mappings(thread.pid):
            if mapping.file not in self._by_file or (mapping.start, mapping.offset) in space.seen:
                continue
            space.seen.add((mapping.start, mapping.offset))
            for number in self._by_file[mapping.file]:
                site = self.sites[number]
                if mapping.executable and mapping.holds(site.offset):
                    self._probe_site(space, mapping.start + site.offset - mapping.offset, number, thread.tid)
                if mapping.writable and site.semaphore and mapping.holds(site.semaphore):
                    space.raise_semaphore(mapping.start + site.semaphore - mapping.offset)

    def _probe_site(self, space: Space, addr: int, number: int, tid: int) -> None:
        try:
            space.probe(addr, number, tid)
        except KernelError as error:
            self._say(error.message)
        except Gone:
            raise
        except Exception as error:  # an instruction that cannot be moved: said once, the rest goes on
            self._say(str(error))

    def _say(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self.errors.append(message)

    # Sampling.

    def sample_running(self, most: int) -> int:
        """Interrupt up to ``most`` threads that are running now; each then is a sample.

        :returns: how many were interrupted.
        """
        sent = 0
        for thread in list(self.threads.values()):
            if sent >= most:
                break
            if not thread.wanted and _is_running(thread) and self._interrupt(thread.tid):
                thread.wanted = True
                sent += 1
        return sent

    # Detaching.

    def detach(self) -> None:
        """Leave every process as it was found: stopped, cleaned of breakpoints, let go."""
        self._halt_all()
        for space in {id(t.space): t.space for t in self.threads.values()}.values():
            space.remove_all()
        for tid in list(self.threads):
            try:
                ptrace.request(ptrace.PTRACE_DETACH, tid)
            except (Gone, KernelError):
                pass
            self._forget(tid)


def _is_running(thread: Thread) -> bool:
    try:
        with open(f"/proc/{thread.pid}/task/{thread.tid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] == b"R"
    except OSError:
        return False
