"""Counters read when a program starts and when it ends: what its runs cost.

Two programs, attached where the profiled one begins (fentry) and ends (fexit), read perf counters of their
CPU; the second adds up the differences. Source: Linux ``tools/bpf/bpftool/Documentation/bpftool-prog.rst``.
"""

from __future__ import annotations

import struct

from tracebee import uapi
from tracebee.engine.kernel.loader import load_object
from tracebee.errors import KernelError, UnsupportedError
from tracebee.isa.asm import assemble_functions
from tracebee.kernel import cpus
from tracebee.kernel.link import Link
from tracebee.kernel.perf import (
    EVENT_ATTR,
    FLAGS,
    HARDWARE_EVENTS,
    PERF_TYPE_HARDWARE,
    PERF_TYPE_HW_CACHE,
    PERF_TYPE_SOFTWARE,
    SOFTWARE_EVENTS,
    PerfEvent,
)
from tracebee.obj.model import Function, MapDef, Object, ProgramDef, Reloc
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.program import Program

_VALUE = struct.Struct("=3Q")  # struct bpf_perf_event_value: counter, enabled, running
_FIRST = bytes(4)

# Errors of perf_event_open(2) that say that there is no such counter.
_NO_COUNTER = frozenset((2, 19, 22, 95))  # ENOENT, ENODEV, EINVAL, EOPNOTSUPP


class Metric(NamedTuple):
    """What is counted: ``type`` and ``config`` of perf_event_attr.

    ``ratio`` names the metric it is set against in ``words``, multiplied by ``scale``.
    """

    name: str
    type: int
    config: int
    ratio: str = ""
    words: str = ""
    scale: float = 1


def _cache(cache: int, result: int) -> int:
    """Reads of a cache (PERF_COUNT_HW_CACHE_*); ``result`` 0 for all, 1 for the missing ones."""
    return cache | 0 << 8 | result << 16


_L1D, _LL, _DTLB, _ITLB = 0, 2, 3, 4

# bpftool's metrics, which count in the kernel only, and those of software for machines without counters.
METRICS = (
    Metric("cycles", PERF_TYPE_HARDWARE, HARDWARE_EVENTS["cpu-cycles"]),
    Metric("instructions", PERF_TYPE_HARDWARE, HARDWARE_EVENTS["instructions"], "cycles", "insns per cycle"),
    Metric("l1d_loads", PERF_TYPE_HW_CACHE, _cache(_L1D, 0)),
    *(
        Metric(name, PERF_TYPE_HW_CACHE, _cache(cache, 1), "instructions", f"{words} per million insns", 1e6)
        for name, cache, words in (
            ("llc_misses", _LL, "LLC misses"),
            ("itlb_misses", _ITLB, "itlb misses"),
            ("dtlb_misses", _DTLB, "dtlb misses"),
        )
    ),
    Metric("cpu_clock", PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS["cpu-clock"]),
    Metric("page_faults", PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS["page-faults"]),
    Metric("context_switches", PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS["context-switches"]),
)
MAX_METRICS = 4  # as many as fit the stack beside the rest, and as processors count at once


class Reading(NamedTuple):
    """A metric's sum over all runs, and the nanoseconds it was wanted and did count."""

    metric: Metric
    value: int
    enabled: int
    running: int


class Profiler:
    """A program's runs counted, from making this to ``close``.

    :param program: a loaded program; it must have been loaded with BTF.
    :param metrics: at most ``MAX_METRICS``.
    :raises UnsupportedError: it cannot be traced, or this machine has no such counter.
    """

    def __init__(self, program: Program, metrics: Sequence[Metric]) -> None:
        self._metrics = tuple(metrics)
        self._events: list[PerfEvent] = []
        self._links: list[Link] = []
        self._loaded: LoadedObject | None = None
        try:
            self._open_events()
            self._loaded = self._load(program)
            self._fill(self._loaded)
            for part in self._loaded.programs.values():
                self._links.append(Link.raw_tracepoint(part))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self) -> tuple[int, list[Reading]]:
        """The number of runs so far, and the sum of each metric, in the order they were given."""
        assert self._loaded is not None
        table = self._loaded.maps["sums"]
        slots = table.slots(table.lookup(_FIRST) or b"")
        runs = sum(int.from_bytes(slot[:8], "little") for slot in slots)
        readings = []
        for number, metric in enumerate(self._metrics):
            at = 8 + number * _VALUE.size
            sums = (sum(column) for column in zip(*(_VALUE.unpack_from(s, at) for s in slots), strict=True))
            readings.append(Reading(metric, *sums))
        return runs, readings

    def close(self) -> None:
        """Detach and unload."""
        for owned in (*self._links, *([self._loaded] if self._loaded else ()), *self._events):
            owned.close()
        self._links, self._events, self._loaded = [], [], None

    def _open_events(self) -> None:
        for metric in self._metrics:
            for cpu in cpus.online():
                attr = EVENT_ATTR.pack(type=metric.type, config=metric.config, flags=FLAGS["exclude_user"])
                if metric.type == PERF_TYPE_SOFTWARE:
                    EVENT_ATTR.set(attr, flags=0)
                try:
                    event = PerfEvent.open(attr, cpu=cpu, what=metric.name)
                except KernelError as error:
                    if error.errno not in _NO_COUNTER or metric.type == PERF_TYPE_SOFTWARE:
                        raise
                    software = ", ".join(m.name for m in METRICS if m.type == PERF_TYPE_SOFTWARE)
                    raise UnsupportedError(
                        f"this machine does not count {metric.name}: virtual and emulated ones often have no "
                        "hardware counters",
                        hint=f"{software} are counted everywhere; 'tracebee prog stats' measures time",
                    ) from error
                event.enable()
                self._events.append(event)

    def _load(self, program: Program) -> LoadedObject:
        obj = profiling_object(len(self._metrics), cpus.possible_count())
        try:
            return load_object(obj, targets={p.name: program for p in obj.programs})
        except KernelError as error:
            # Without a log it is the kernel as a whole that refuses: no trampolines, or not on this program.
            if getattr(error, "log", ""):
                raise
            raise UnsupportedError(
                f"{program.what} cannot be profiled: {error.message}",
                hint="it takes fentry programs on other programs; 'tracebee prog stats' needs nothing",
            ) from error

    def _fill(self, loaded: LoadedObject) -> None:
        events = iter(self._events)
        for number in range(len(self._metrics)):
            for cpu in cpus.online():
                index = number * cpus.possible_count() + cpu
                loaded.maps["events"].update(
                    index.to_bytes(4, "little"), next(events).fd.to_bytes(4, "little")
                )


def profiling_object(metrics: int, cpu_count: int) -> Object:
    """The two programs, for a number of metrics.

    ``events`` has the counters, those of a metric together, one for each CPU; ``before`` what they were when
    the run began; ``sums`` the number of runs and the differences.
    """
    codes = assemble_functions(_enter(metrics, cpu_count) + _leave(metrics, cpu_count))
    sections = {"enter": uapi.BPF_TRACE_FENTRY, "leave": uapi.BPF_TRACE_FEXIT}
    return Object(
        "profiler",
        "GPL",
        (
            MapDef("events", uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, metrics * cpu_count),
            MapDef("before", uapi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, metrics * _VALUE.size, 1),
            MapDef("sums", uapi.BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8 + metrics * _VALUE.size, 1),
        ),
        tuple(
            ProgramDef(
                Function(code.name, code.insns, tuple(Reloc(*symbol) for symbol in code.symbols)),
                "fentry" if code.name == "enter" else "fexit",
                uapi.BPF_PROG_TYPE_TRACING,
                sections[code.name],
            )
            for code in codes
        ),
    )


def _element(table: str, register: str) -> str:
    """The one element of a per-CPU array, or out."""
    return f"""
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[{table}]
    call map_lookup_elem
    if r0 == 0 goto out
    {register} = r0"""


def _read(number: int, cpu_count: int, base: str, offset: int) -> str:
    """One counter of this CPU (in r7), written to ``base + offset``; r0 is not 0 if that fails."""
    return f"""
    r1 = map[events]
    r2 = r7
    r2 += {number * cpu_count}
    r3 = {base}
    r3 += {offset}
    r4 = {_VALUE.size}
    call perf_event_read_value"""


def _enter(metrics: int, cpu_count: int) -> str:
    reads = "".join(_read(n, cpu_count, "r6", n * _VALUE.size) for n in range(metrics))
    return f"""
.func enter{_element("before", "r6")}
    call get_smp_processor_id
    r7 = r0{reads}
out:
    r0 = 0
    exit
"""


def _leave(metrics: int, cpu_count: int) -> str:
    places = [-8 - _VALUE.size * (n + 1) for n in range(metrics)]
    # Everything is read before anything is written, for the counters to count little of this program.
    reads = "".join(
        _read(n, cpu_count, "r10", place) + "\n    if r0 != 0 goto out" for n, place in enumerate(places)
    )
    return f"""
.func leave
    call get_smp_processor_id
    r7 = r0{reads}{_element("before", "r6")}{_element("sums", "r8")}
    r1 = *(u64 *)(r8 +0)
    r1 += 1
    *(u64 *)(r8 +0) = r1{"".join(_add(n, place) for n, place in enumerate(places))}
out:
    r0 = 0
    exit
"""


def _add(number: int, place: int) -> str:
    """Add a counter's difference, unless the beginning of the run was not seen (nothing was enabled then)."""
    at = number * _VALUE.size
    parts = "".join(
        f"""
    r2 = *(u64 *)(r10 {place + part:+})
    r3 = *(u64 *)(r6 +{at + part})
    r2 -= r3
    r3 = *(u64 *)(r8 +{8 + at + part})
    r3 += r2
    *(u64 *)(r8 +{8 + at + part}) = r3"""
        for part in (0, 8, 16)
    )
    return f"""
    r1 = *(u64 *)(r6 +{at + 8})
    if r1 == 0 goto next{number}{parts}
next{number}:"""
