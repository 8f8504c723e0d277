"""perf_event_open(2): tracepoints, counters, samples, kprobes and uprobes."""

from __future__ import annotations

import errno
from functools import cache

from tracebee.errors import KernelError, UnsupportedError
from tracebee.kernel.fd import Fd
from tracebee.kernel.layout import Layout
from tracebee.kernel.syscall import address, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_HW_CACHE = range(4)
PERF_TYPE_RAW, PERF_TYPE_BREAKPOINT = 4, 5

# struct perf_event_attr, the fields used here; bit-fields are one 64-bit word, ``flags``.
EVENT_ATTR = Layout(
    "perf_event_attr",
    136,
    (
        ("type", 0, "I"),
        ("size", 4, "I"),
        ("config", 8, "Q"),
        ("sample_period", 16, "Q"),
        ("sample_freq", 16, "Q"),
        ("sample_type", 24, "Q"),
        ("read_format", 32, "Q"),
        ("flags", 40, "Q"),
        ("wakeup_events", 48, "I"),
        ("wakeup_watermark", 48, "I"),
        ("bp_type", 52, "I"),
        ("bp_addr", 56, "Q"),
        ("kprobe_func", 56, "Q"),
        ("uprobe_path", 56, "Q"),
        ("config1", 56, "Q"),
        ("bp_len", 64, "Q"),
        ("kprobe_addr", 64, "Q"),
        ("probe_offset", 64, "Q"),
        ("config2", 64, "Q"),
        ("branch_sample_type", 72, "Q"),
        ("sample_regs_user", 80, "Q"),
        ("sample_stack_user", 88, "I"),
        ("clockid", 92, "i"),
        ("sample_max_stack", 108, "H"),
    ),
)

# Bits of ``flags``, by the kernel's names.
FLAGS = {
    "disabled": 1 << 0,
    "inherit": 1 << 1,
    "pinned": 1 << 2,
    "exclude_user": 1 << 4,
    "exclude_kernel": 1 << 5,
    "exclude_hv": 1 << 6,
    "exclude_idle": 1 << 7,
    "mmap": 1 << 8,
    "comm": 1 << 9,
    "freq": 1 << 10,
    "enable_on_exec": 1 << 12,
    "task": 1 << 13,
    "watermark": 1 << 14,
    "sample_id_all": 1 << 18,
    "use_clockid": 1 << 25,
}

SOFTWARE_EVENTS = {
    "cpu-clock": 0,
    "task-clock": 1,
    "page-faults": 2,
    "context-switches": 3,
    "cpu-migrations": 4,
    "minor-faults": 5,
    "major-faults": 6,
    "alignment-faults": 7,
    "emulation-faults": 8,
    "dummy": 9,
    "bpf-output": 10,
    "cgroup-switches": 11,
}

HARDWARE_EVENTS = {
    "cpu-cycles": 0,
    "instructions": 1,
    "cache-references": 2,
    "cache-misses": 3,
    "branch-instructions": 4,
    "branch-misses": 5,
    "bus-cycles": 6,
    "stalled-cycles-frontend": 7,
    "stalled-cycles-backend": 8,
    "ref-cycles": 9,
}

PERF_SAMPLE_RAW = 1 << 10

_IOC_ENABLE, _IOC_RESET = 0x2400, 0x2403
_IOC_SET_FILTER = 0x40082406
_IOC_SET_BPF = 0x40042408
_FLAG_FD_CLOEXEC = 8

_DEVICES = "/sys/bus/event_source/devices/"


class PerfEvent(Fd):
    """A perf event held by its descriptor."""

    __slots__ = ()

    @classmethod
    def open(
        cls,
        attr: bytearray,
        *,
        pid: int = -1,
        cpu: int = -1,
        group_fd: int = -1,
        flags: int = _FLAG_FD_CLOEXEC,
        what: str = "",
    ) -> Self:
        """Open an event described by :data:`EVENT_ATTR`.

        :param pid: one process or thread, 0 for this one, -1 for all (then ``cpu`` is needed).
        :raises KernelError, PrivilegeError: the kernel refuses.
        """
        EVENT_ATTR.set(attr, size=len(attr))
        result = syscall("perf_event_open", address(attr), pid, cpu, group_fd, flags)
        if result == -7 and len(attr) > 128:  # E2BIG: before 6.3 the structure ended 8 bytes earlier
            return cls.open(attr[:128], pid=pid, cpu=cpu, group_fd=group_fd, flags=flags, what=what)
        if result < 0:
            from tracebee.kernel.explain import call_error

            raise call_error("perf_event_open", -result, what)
        return cls(result)

    @classmethod
    def tracepoint(cls, event_id: int, *, pid: int = -1, cpu: int = 0, what: str = "") -> Self:
        """A tracepoint by its tracefs id. A program attached to it sees events on all CPUs."""
        attr = EVENT_ATTR.pack(
            type=PERF_TYPE_TRACEPOINT,
            config=event_id,
            sample_period=1,
            sample_type=PERF_SAMPLE_RAW,
            wakeup_events=1,
        )
        return cls.open(attr, pid=pid, cpu=cpu, what=what)

    @classmethod
    def sampled(
        cls,
        event_type: int,
        config: int,
        *,
        period: int = 0,
        frequency: int = 0,
        pid: int = -1,
        cpu: int = -1,
        inherit: bool = False,
        what: str = "",
    ) -> Self:
        """A counter that fires every ``period`` events, or ``frequency`` times a second.

        :raises UnsupportedError: that is more often than the kernel allows.
        """
        flags = (FLAGS["freq"] if frequency else 0) | (FLAGS["inherit"] if inherit else 0)
        attr = EVENT_ATTR.pack(type=event_type, config=config, sample_period=frequency or period, flags=flags)
        try:
            return cls.open(attr, pid=pid, cpu=cpu, what=what)
        except KernelError as error:
            limit = _max_sample_rate()
            if error.errno != errno.EINVAL or frequency <= limit:
                raise
            message = f"{frequency} samples a second are more than the kernel allows: {limit}"
            hint = f"sysctl kernel.perf_event_max_sample_rate={frequency} would allow it"
            raise UnsupportedError(message, hint=hint) from error

    @classmethod
    def cpu_clock(cls, *, period_ns: int = 0, hertz: int = 0, cpu: int, pid: int = -1) -> Self:
        """A timer on one CPU, whether it idles or not: what profile and interval probes fire on."""
        return cls.sampled(
            PERF_TYPE_SOFTWARE,
            SOFTWARE_EVENTS["cpu-clock"],
            period=period_ns,
            frequency=hertz,
            cpu=cpu,
            pid=pid,
            what="the CPU clock",
        )

    @classmethod
    def kprobe(cls, function: str | int, *, offset: int = 0, retprobe: bool = False, what: str = "") -> Self:
        """A kprobe or kretprobe on a function by name, or on an address."""
        kind = pmu_type("kprobe")
        name = b"" if isinstance(function, int) else function.encode() + b"\0"
        attr = EVENT_ATTR.pack(
            type=kind,
            config=1 << format_bit("kprobe", "retprobe") if retprobe else 0,
            kprobe_func=address(name),
            probe_offset=function if isinstance(function, int) else offset,
        )
        return cls.open(attr, cpu=0, what=what or f"kprobe on {function!r}")

    @classmethod
    def uprobe(
        cls,
        path: str,
        offset: int,
        *,
        pid: int = -1,
        retprobe: bool = False,
        ref_ctr_offset: int = 0,
        what: str = "",
    ) -> Self:
        """A uprobe or uretprobe at an offset of a file.

        :param pid: only in this process; -1 for all.
        :param ref_ctr_offset: file offset of a USDT semaphore, counted up while attached.
        """
        kind = pmu_type("uprobe")
        name = path.encode() + b"\0"
        config = 1 << format_bit("uprobe", "retprobe") if retprobe else 0
        if ref_ctr_offset:
            config |= ref_ctr_offset << format_bit("uprobe", "ref_ctr_offset")
        attr = EVENT_ATTR.pack(type=kind, config=config, uprobe_path=address(name), probe_offset=offset)
        return cls.open(
            attr, pid=pid, cpu=-1 if pid > 0 else 0, what=what or f"uprobe on '{path}' at {offset:#x}"
        )

    def set_program(self, program_fd: int) -> None:
        """Run a program on each event (``PERF_EVENT_IOC_SET_BPF``): the way without a link."""
        self._ioctl("PERF_EVENT_IOC_SET_BPF", _IOC_SET_BPF, program_fd)

    def set_filter(self, text: str) -> None:
        """Filter a tracepoint's events by an expression on its fields."""
        expression = text.encode() + b"\0"
        self._ioctl("PERF_EVENT_IOC_SET_FILTER", _IOC_SET_FILTER, address(expression))

    def enable(self) -> None:
        """Start it."""
        self._ioctl("PERF_EVENT_IOC_ENABLE", _IOC_ENABLE, 0)

    def reset(self) -> None:
        """Set its count to 0."""
        self._ioctl("PERF_EVENT_IOC_RESET", _IOC_RESET, 0)

    def _ioctl(self, name: str, request: int, argument: int) -> None:
        result = syscall("ioctl", self.fd, request, argument)
        if result < 0:
            from tracebee.kernel.explain import call_error

            raise call_error(name, -result)


@cache
def pmu_type(name: str) -> int:
    """Number of a dynamic event source (``kprobe``, ``uprobe``, a CPU's own).

    :raises UnsupportedError: this kernel has none of that name.
    """
    try:
        with open(f"{_DEVICES}{name}/type") as file:
            return int(file.read())
    except FileNotFoundError:
        from tracebee.errors import UnsupportedError

        raise UnsupportedError(
            f"this kernel has no {name}s: {_DEVICES}{name} does not exist",
            hint={"kprobe": "it was built without CONFIG_KPROBE_EVENTS; use fentry or tracepoints"}.get(name),
        ) from None


@cache
def format_bit(pmu: str, field: str) -> int:
    """First bit of a field in an event source's ``config`` (``config:32-63`` gives 32)."""
    with open(f"{_DEVICES}{pmu}/format/{field}") as file:
        return int(file.read().strip().partition(":")[2].partition("-")[0])


def _max_sample_rate() -> int:
    with open("/proc/sys/kernel/perf_event_max_sample_rate") as file:
        return int(file.read())
