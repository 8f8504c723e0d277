"""Runs a script's programs for what the tracer sees: builds each one's context, says who is traced."""

from __future__ import annotations

import struct

from tracebee.engine.user import ptrace
from tracebee.errors import ProgramFaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.engine.user.plan import Plan, Run
    from tracebee.engine.user.programs import Programs
    from tracebee.engine.user.tracer import Call, Thread

# Records begin with the common fields: u16 type, u8 flags, u8 preempt count, s32 pid.
_COMMON = struct.Struct("=HBBi")
_ENTER = struct.Struct("=q6Q")  # number, arguments
_EXIT = struct.Struct("=qq")  # number, result
# Words of struct pt_regs.
_A0, _A1, _A2, _A3, _A4, _A5 = (
    r >> 3 for r in (ptrace.RDI, ptrace.RSI, ptrace.RDX, ptrace.R10, ptrace.R8, ptrace.R9)
)
_EXEC = struct.Struct("=Iii")
_FORK = struct.Struct("=IiIi")
_EXITED = struct.Struct("=16sii?")
_NAME = 16
_MAX_PATH = 400


class Dispatcher:
    """The tracer's Handler. ``faults`` are what programs did wrong, each message once."""

    def __init__(self, plan: Plan, programs: Programs) -> None:
        self.plan, self.programs = plan, programs
        self.current = programs.current
        self.due: list[Run] = []  # what the next samples run
        self.faults: dict[str, int] = {}
        self._enter, self._enter_all = _by_number(plan.enter)
        self._exit, self._exit_all = _by_number(plan.exit)
        self._record = memoryview(programs.context).cast("B")
        self._record_at = programs.context_address

    def _run(self, run: Run, address: int) -> None:
        try:
            self.programs.run(run.program, address)
        except ProgramFaultError as error:
            self.faults[error.message] = self.faults.get(error.message, 0) + 1

    def _with_regs(self, thread: Thread, runs: list[Run], function: int) -> None:
        for run in runs:
            self.current.enter(thread, run.cookie, function)
            self._run(run, thread.regs.address)

    def _with_record(self, thread: Thread, runs: list[Run]) -> None:
        _COMMON.pack_into(self._record, 0, 0, 0, 0, thread.tid)
        for run in runs:
            self.current.enter(thread, run.cookie)
            self._run(run, self._record_at)

    def hit(self, thread: Thread, sites: list[int], addr: int) -> None:
        """A probed instruction."""
        for number in sites:
            self._with_regs(thread, self.plan.at_site[number], addr)

    def returned(self, thread: Thread, call: Call) -> None:
        """A probed function has returned."""
        self._with_regs(thread, self.plan.at_site[call.site], call.function)

    def syscall_enter(self, thread: Thread, number: int) -> None:
        """A system call begins."""
        runs = self._enter.get(number, self._enter_all)
        if runs:
            r = thread.regs.buffer
            _ENTER.pack_into(self._record, 8, number, r[_A0], r[_A1], r[_A2], r[_A3], r[_A4], r[_A5])
            self._with_record(thread, runs)

    def syscall_exit(self, thread: Thread, number: int) -> None:
        """A system call has returned."""
        runs = self._exit.get(number, self._exit_all)
        if runs:
            result = thread.regs[ptrace.RAX]
            _EXIT.pack_into(self._record, 8, number, result - (1 << 64) if result >> 63 else result)
            self._with_record(thread, runs)

    def forked(self, thread: Thread, child: int, child_pid: int) -> None:  # noqa: ARG002 - threads count too
        """A new process or thread."""
        runs = self.plan.life.get("fork")
        if runs:
            name = thread.comm().ljust(_NAME, b"\0")
            _FORK.pack_into(self._record, 8, _place(24), thread.tid, _place(24 + _NAME), child)
            self._record[24 : 24 + 2 * _NAME] = name * 2
            self._with_record(thread, runs)

    def executed(self, thread: Thread, path: str, old_tid: int) -> None:
        """Another program in a process."""
        self.current.forget(thread.pid)
        runs = self.plan.life.get("exec")
        if runs:
            data = path.encode("utf-8", "surrogateescape")[:_MAX_PATH] + b"\0"
            _EXEC.pack_into(self._record, 8, 20 | len(data) << 16, thread.pid, old_tid)
            self._record[20 : 20 + len(data)] = data
            self._with_record(thread, runs)

    def renamed(self, thread: Thread) -> None:
        """A thread gets another name."""
        self.current.forget(thread.pid)

    def exiting(self, thread: Thread) -> None:
        """A thread is about to end."""
        runs = self.plan.life.get("exit")
        if runs:
            _EXITED.pack_into(self._record, 8, thread.comm(), thread.tid, 120, thread.tid == thread.pid)
            self._with_record(thread, runs)

    def sample(self, thread: Thread) -> None:
        """A running thread, for the timers that were due."""
        self._with_regs(thread, self.due, 0)

    def interval(self, run: Run) -> None:
        """A timer that belongs to no thread."""
        self.current.enter(None, run.cookie)
        self._record[:] = bytes(len(self._record))
        self._run(run, self._record_at)


def _by_number(calls: dict[int | None, list[Run]]) -> tuple[dict[int, list[Run]], list[Run]]:
    """What to run at each call that is named, the programs of all calls included, and at any other."""
    every = calls.get(None, [])
    return {n: [*runs, *every] for n, runs in calls.items() if n is not None}, every


def _place(offset: int) -> int:
    """A ``__data_loc`` field: offset in the low half, length in the high one."""
    return offset | _NAME << 16
