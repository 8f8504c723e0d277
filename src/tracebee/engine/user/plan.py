"""What a script asks of the user engine: places to stop at, calls, events and timers, with their programs."""

from __future__ import annotations

import os

from tracebee.engine.user.tracer import Site
from tracebee.errors import UnsupportedError, UsageError
from tracebee.obj.model import RelocKind
from tracebee.source import Span
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.lang.script import Attachment, Script, Target
    from tracebee.obj.model import Function
    from tracebee.source import Source

_NANOSECOND = 1e-9
# Probe kinds that only the kernel can serve, and what its engine needs.
_KERNEL_ENGINE = "needs the kernel engine: run as root, or with CAP_BPF and CAP_PERFMON"
_LIFE = {"sched_process_exec": "exec", "sched_process_fork": "fork", "sched_process_exit": "exit"}
_CLOCKS = ("cpu-clock", "task-clock")


class Run(NamedTuple):
    """A program to run, with its target's cookie."""

    program: str
    cookie: int


class Timer(NamedTuple):
    """A program that runs every ``period`` seconds; ``samples``: once for each running thread."""

    run: Run
    period: float
    samples: bool


class Plan(NamedTuple):
    """Everything to be traced. ``at_site[n]`` are the programs of ``sites[n]``; calls are by number,
    all calls by None.
    """

    sites: list[Site]
    at_site: list[list[Run]]
    enter: dict[int | None, list[Run]]
    exit: dict[int | None, list[Run]]
    life: dict[str, list[Run]]
    timers: list[Timer]

    @property
    def calls(self) -> frozenset[int] | None:
        """The system calls that must stop; None for all."""
        if None in self.enter or None in self.exit:
            return None
        return frozenset(n for n in (*self.enter, *self.exit) if n is not None)

    @property
    def exits(self) -> frozenset[int] | None:
        """The system calls that must stop again when they return; None for all."""
        return None if None in self.exit else frozenset(n for n in self.exit if n is not None)


def make_plan(script: Script) -> Plan:
    """Sort a script's attachments by what serves them.

    :raises UnsupportedError: a probe, or something a program reads, is the kernel's alone; with its place.
    """
    plan = Plan([], [], {}, {}, {}, [])
    for attachment in script.attachments:
        try:
            for target in attachment.targets:
                _add(plan, attachment, target)
        except UnsupportedError as error:
            error.place(script.source, attachment.span)
            raise
    for program in script.object.programs:
        for function in (program.function, *script.object.functions):
            _refuse_kernel_memory(function, script.source)
    return plan


def _add(plan: Plan, attachment: Attachment, target: Target) -> None:
    run = Run(attachment.program, target.cookie)
    kind, spec = attachment.kind, target.spec
    if kind in ("begin", "end"):
        return
    if kind in ("uprobe", "uretprobe", "usdt"):
        _add_site(plan, run, target, is_return=kind == "uretprobe")
    elif kind == "tracepoint":
        _add_tracepoint(plan, run, spec["system"], spec["event"])
    elif kind in ("interval", "profile"):
        period = 1 / spec["freq"] if "freq" in spec else spec["period"] * _NANOSECOND
        plan.timers.append(Timer(run, period, kind == "profile"))
    elif kind == "software" and spec["event"] in _CLOCKS:
        plan.timers.append(Timer(run, spec["period"] * _NANOSECOND, samples=True))
    else:
        raise UnsupportedError(f"{target.probe} {_KERNEL_ENGINE}")


def _add_site(plan: Plan, run: Run, target: Target, *, is_return: bool) -> None:
    stat = os.stat(target.spec["path"])
    site = Site((stat.st_dev, stat.st_ino), target.spec["offset"], is_return, target.spec.get("ref", 0))
    if site in plan.sites:
        plan.at_site[plan.sites.index(site)].append(run)
    else:
        plan.sites.append(site)
        plan.at_site.append([run])


def _add_tracepoint(plan: Plan, run: Run, system: str, event: str) -> None:
    if system == "sched" and event in _LIFE:
        plan.life.setdefault(_LIFE[event], []).append(run)
        return
    number: int | None = None
    when, _, name = event.removeprefix("sys_").partition("_")
    if system == "syscalls":
        from tracebee.probes.user_events import system_calls

        call = system_calls().get(name)
        if call is None:
            raise UnsupportedError(f"tracepoint:{system}:{event} {_KERNEL_ENGINE}")
        number = call.number
    elif system != "raw_syscalls":
        raise UnsupportedError(f"tracepoint:{system}:{event} {_KERNEL_ENGINE}")
    (plan.enter if when == "enter" else plan.exit).setdefault(number, []).append(run)


def _refuse_kernel_memory(function: Function, source: Source) -> None:
    for reloc in function.relocs:
        if reloc.kind == RelocKind.CORE and reloc.core is not None:
            what = f"{reloc.core.type_name}.{reloc.core.access}".rstrip(".")
            error = UnsupportedError(f"the script reads {what}, kernel memory, which {_KERNEL_ENGINE}")
        elif reloc.kind in (RelocKind.KFUNC, RelocKind.KSYM):
            error = UnsupportedError(f"the script uses the kernel's {reloc.symbol}, which {_KERNEL_ENGINE}")
        else:
            continue
        lines = [line for line in function.lines if line.at <= reloc.at]
        if lines:
            line, column = lines[-1].line, lines[-1].column
            error.place(source, Span(line, column, line, column + 1))
        raise error


def check_target(pid: int | None, plan: Plan) -> None:
    """The user engine traces processes it is told of.

    :raises UsageError: there is something to trace, but nobody named.
    """
    traces = plan.sites or plan.enter or plan.exit or plan.life or any(t.samples for t in plan.timers)
    if traces and pid is None:
        raise UsageError(
            "the user engine traces one process and its children: say which",
            hint="give -c COMMAND or -p PID; to trace the whole system, run as root (--engine kernel)",
        )
