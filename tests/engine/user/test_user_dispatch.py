"""What the user engine makes of a script's probes, and the records it gives their programs."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, cast

import pytest

from tracebee.api.compiling import compile_text
from tracebee.engine.user import ptrace
from tracebee.engine.user.dispatch import Dispatcher
from tracebee.engine.user.plan import Plan, Run, check_target, make_plan
from tracebee.engine.user.programs import CONTEXT_SIZE, Programs
from tracebee.engine.user.space import Space
from tracebee.engine.user.tracer import Call, Site, Thread
from tracebee.errors import ProgramFaultError, UnsupportedError, UsageError
from tracebee.source import Source

pytestmark = [pytest.mark.needs("x86_64")]
GETPGID, READ = 121, 0  # system calls of x86-64


def plan_of(text: str) -> Plan:
    return make_plan(compile_text(Source("x.bt", text), user=True))


def test_every_kind_has_its_place() -> None:
    plan = plan_of("""
        uprobe:libc:getpgid, uretprobe:libc:getpgid { @a = count(); }
        uprobe:libc:getpgid { @b = count(); }
        tracepoint:syscalls:sys_enter_getpgid { @c = count(); }
        tracepoint:syscalls:sys_exit_read { @d = count(); }
        tracepoint:sched:sched_process_fork { @e = count(); }
        profile:hz:50 { @f = count(); }
        interval:ms:20 { @g = count(); }
        software:cpu-clock:1000000 { @h = count(); }
        BEGIN { @i = 1; } END { @i = 2; }
    """)
    assert [site.is_return for site in plan.sites] == [False, True]
    assert [[run.cookie for run in runs] for runs in plan.at_site] == [[0, 2], [1]]
    assert {n: len(runs) for n, runs in plan.enter.items()} == {GETPGID: 1}
    assert {n: len(runs) for n, runs in plan.exit.items()} == {READ: 1}
    assert (plan.calls, plan.exits) == (frozenset({GETPGID, READ}), frozenset({READ}))
    assert list(plan.life) == ["fork"]
    assert [(round(t.period, 6), t.samples) for t in plan.timers] == [
        (0.02, True),
        (0.02, False),
        (0.001, True),
    ]


def test_all_system_calls() -> None:
    plan = plan_of("tracepoint:raw_syscalls:sys_enter { @ = count(); }")
    assert (plan.calls, plan.exits) == (None, frozenset())
    assert list(plan.enter) == [None]
    plan = plan_of("tracepoint:raw_syscalls:sys_exit { @ = count(); }")
    assert (plan.calls, plan.exits) == (None, None)


def test_only_what_belongs_to_a_process_needs_one() -> None:
    check_target(None, plan_of("interval:s:1 { @ = count(); } BEGIN { }"))
    check_target(os.getpid(), plan_of("uprobe:libc:getpgid { }"))
    for probe in (
        *("uprobe:libc:getpgid", "profile:hz:9", "tracepoint:syscalls:sys_enter_read"),
        *("tracepoint:syscalls:sys_exit_read", "tracepoint:sched:sched_process_exec"),
    ):
        with pytest.raises(UsageError, match="say which"):
            check_target(None, plan_of(f"{probe} {{ }}"))


@pytest.mark.parametrize("text", ["kprobe:vfs_read { }", "BEGIN { print(curtask->pid) }"])
def test_what_is_the_kernels_alone(text: str) -> None:
    with pytest.raises(UnsupportedError, match="needs the kernel engine") as caught:
        plan_of(text)
    assert caught.value.message.startswith("x.bt:1:")


class Recorder:
    """Stands for the programs: keeps the context that each run was given, and who it was about."""

    def __init__(self) -> None:
        self.context = ctypes.create_string_buffer(CONTEXT_SIZE)
        self.context_address = ctypes.addressof(self.context)
        self.current = self
        self.runs: list[tuple[str, int, int, bytes]] = []  # program, thread, cookie, context
        self.functions: list[int] = []
        self.forgotten: list[int] = []
        self._entered = (0, 0)

    def enter(self, thread: Thread | None, cookie: int, function: int = 0) -> None:
        self._entered = (0 if thread is None else thread.tid, cookie)
        self.functions.append(function)

    def forget(self, pid: int) -> None:
        self.forgotten.append(pid)

    def run(self, name: str, address: int) -> None:
        if name == "bad":
            raise ProgramFaultError("read beyond the end")
        self.runs.append((name, *self._entered, ctypes.string_at(address, 128)))


def dispatcher(plan: Plan) -> tuple[Dispatcher, Recorder]:
    recorder = Recorder()
    return Dispatcher(plan, cast("Programs", cast(Any, recorder))), recorder


def thread(tid: int = 12, pid: int = 10) -> Thread:
    made = Thread(tid, pid, cast(Space, None))
    made.name = b"name"
    return made


def empty(**parts: Any) -> Plan:
    return Plan([], [], {}, {}, {}, [])._replace(**parts)


def test_system_calls_by_number_and_all_of_them() -> None:
    one, every = Run("one", 1), Run("every", 2)
    d, recorder = dispatcher(empty(enter={READ: [one], None: [every]}, exit={GETPGID: [one]}))
    t = thread()
    for n, register in enumerate((ptrace.RDI, ptrace.RSI, ptrace.RDX, ptrace.R10, ptrace.R8, ptrace.R9)):
        t.regs[register] = 100 + n
    d.syscall_enter(t, READ)
    d.syscall_enter(t, GETPGID)
    assert [run[:3] for run in recorder.runs] == [("one", 12, 1), ("every", 12, 2), ("every", 12, 2)]
    # Common fields with the thread's id, the call's number, its arguments.
    record = recorder.runs[0][3]
    assert struct.unpack_from("=HBBiq6Q", record) == (0, 0, 0, 12, READ, 100, 101, 102, 103, 104, 105)
    t.regs[ptrace.RAX] = (1 << 64) - 2
    d.syscall_exit(t, READ)
    d.syscall_exit(t, GETPGID)
    assert len(recorder.runs) == 4
    assert struct.unpack_from("=HBBiqq", recorder.runs[-1][3]) == (0, 0, 0, 12, GETPGID, -2)


def test_life_of_processes() -> None:
    d, recorder = dispatcher(empty(life={k: [Run(k, 5)] for k in ("fork", "exec", "exit")}))
    t = thread(10, 10)
    d.forked(t, 77, 77)
    d.executed(t, "/bin/true", 10)
    d.exiting(t)
    d.exiting(thread(12, 10))
    d.renamed(t)
    forked, executed, ended, thread_ended = (run[3] for run in recorder.runs)
    # include/trace/events/sched.h: places of strings are offset | length << 16.
    parent, parent_pid, child, child_pid = struct.unpack_from("=IiIi", forked, 8)
    assert (parent_pid, child_pid) == (10, 77)
    for place in (parent, child):
        at, length = place & 0xFFFF, place >> 16
        assert forked[at : at + length].rstrip(b"\0") == b"name"
    place, pid, old = struct.unpack_from("=Iii", executed, 8)
    assert executed[place & 0xFFFF :][: place >> 16] == b"/bin/true\0"
    assert (pid, old) == (10, 10)
    assert struct.unpack_from("=16sii?", ended, 8) == (b"name".ljust(16, b"\0"), 10, 120, True)
    assert struct.unpack_from("=16sii?", thread_ended, 8)[3] is False
    assert recorder.forgotten == [10, 10]  # the name and program that were known of it


def test_places_get_registers_and_the_function() -> None:
    site = Site((1, 2), 0x40, False, 0)
    d, recorder = dispatcher(empty(sites=[site], at_site=[[Run("f", 1), Run("g", 2)]]))
    t = thread()
    t.regs[ptrace.RDI] = 42
    d.hit(t, [0], 0x5000)
    d.returned(t, Call(0x10, 0x20, 0, 0x5000))
    assert [run[:3] for run in recorder.runs] == [("f", 12, 1), ("g", 12, 2)] * 2
    assert recorder.functions == [0x5000] * 4
    assert recorder.runs[0][3] == t.regs.context()[:128]
    assert struct.unpack_from("=Q", recorder.runs[0][3], ptrace.RDI) == (42,)


def test_timers_and_faults() -> None:
    d, recorder = dispatcher(empty())
    recorder.context[0] = b"x"
    d.interval(Run("tick", 3))
    assert recorder.runs == [("tick", 0, 3, bytes(128))]
    d.due = [Run("bad", 1), Run("sampled", 2)]
    d.sample(thread())
    d.sample(thread())
    # A program that goes wrong does not keep the others from running, and is told of once.
    assert [run[0] for run in recorder.runs[1:]] == ["sampled", "sampled"]
    assert d.faults == {"read beyond the end": 2}
