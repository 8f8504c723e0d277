"""What the running kernel can do: found out by trying, never from its version.

One row per feature, each probed only when it is asked for and then remembered:
``has("kprobe_multi")``. Map types, program types and helpers are in ``type_probes``.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from tracebee import uapi
from tracebee.isa.helpers import BY_NAME
from tracebee.kernel.attr import LINK_CREATE, MAP_CREATE
from tracebee.kernel.bpf import try_bpf
from tracebee.kernel.fd import Fd
from tracebee.kernel.syscall import address
from tracebee.kernel.type_probes import RETURN_ZERO, has_helper, has_map_type, loads, refuse_to_guess
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EBADF, _ENOENT, _ESRCH, _EINVAL = -9, -2, -3, -22
_DEVICES = "/sys/bus/event_source/devices/"


class Feature(NamedTuple):
    """One thing a kernel may have.

    :param since: the kernel release that brought it.
    :param enables: what it is good for, for a person.
    """

    name: str
    since: str
    enables: str
    probe: Callable[[], bool]


def has(name: str) -> bool:
    """Whether the running kernel has a feature of :data:`FEATURES`.

    :raises KeyError: no such row; PrivilegeError: this process may not find out.
    """
    return _answer(_BY_NAME[name])


@cache
def _answer(feature: Feature) -> bool:
    return feature.probe()


def _helper(name: str, program_type: int = uapi.BPF_PROG_TYPE_KPROBE) -> Callable[[], bool]:
    return lambda: has_helper(program_type, BY_NAME[name].number)


def _map_type(number: int) -> Callable[[], bool]:
    return lambda: has_map_type(number)


def _device(name: str, field: str = "type") -> Callable[[], bool]:
    return lambda: os.path.exists(f"{_DEVICES}{name}/{field}")


def _kernel_type(name: str) -> Callable[[], bool]:
    """A kfunc, or a structure, in vmlinux's type information."""

    def probe() -> bool:
        from tracebee.btf.opening import open_vmlinux
        from tracebee.errors import TracebeeError

        try:
            return bool(open_vmlinux().find_all(name))
        except TracebeeError:
            return False

    return probe


def _map_flag(flag: int) -> Callable[[], bool]:
    def probe() -> bool:
        attr = MAP_CREATE.pack(
            map_type=uapi.BPF_MAP_TYPE_ARRAY, key_size=4, value_size=4, max_entries=1, map_flags=flag
        )
        result = try_bpf(uapi.BPF_MAP_CREATE, attr)
        if result >= 0:
            Fd(result).close()
            return True
        refuse_to_guess(uapi.BPF_MAP_CREATE, result)
        return False

    return probe


def _link(
    program_type: int, load_as: int, attach_type: int, answers: tuple[int, ...], **fields: int | bytes
) -> Callable[[], bool]:
    """Whether making a link to a target that cannot exist fails for that reason, in ``answers``."""

    def probe() -> bool:
        from tracebee.errors import KernelError
        from tracebee.kernel.program import Program

        try:
            program = Program.load(RETURN_ZERO, program_type, expected_attach_type=load_as)
        except KernelError:
            return False
        with program:
            numbers = {
                name: value if isinstance(value, int) else address(value) for name, value in fields.items()
            }
            attr = LINK_CREATE.pack(prog_fd=program.fd, attach_type=attach_type, **numbers)
            result = try_bpf(uapi.BPF_LINK_CREATE, attr)
        if result >= 0:
            Fd(result).close()
            return True
        return result in answers

    return probe


# An array of one pointer to the name of a function that does not exist, and one offset of 0.
_NO_FUNCTION = b"tracebee_no_such_function\0"
_ONE_NAME = address(_NO_FUNCTION).to_bytes(8, sys.byteorder)
_ONE_OFFSET = bytes(8)


def _kprobe_multi(attach_type: int) -> Callable[[], bool]:
    return _link(
        uapi.BPF_PROG_TYPE_KPROBE,
        attach_type,
        attach_type,
        (_ESRCH, _ENOENT),
        kprobe_multi_cnt=1,
        kprobe_multi_syms=_ONE_NAME,
    )


def _uprobe_multi(attach_type: int) -> Callable[[], bool]:
    # A directory cannot be probed: kernels with this link say EBADF.
    return _link(
        uapi.BPF_PROG_TYPE_KPROBE,
        attach_type,
        attach_type,
        (_EBADF,),
        uprobe_multi_cnt=1,
        uprobe_multi_path=b"/\0",
        uprobe_multi_offsets=_ONE_OFFSET,
    )


def _fentry() -> bool:
    """Attach to a function made for such tests, which nothing else calls, and let go."""
    from tracebee.btf.kinds import BTF_KIND_FUNC
    from tracebee.btf.opening import open_vmlinux
    from tracebee.errors import PrivilegeError, TracebeeError
    from tracebee.kernel.link import Link
    from tracebee.kernel.privileges import has as has_capability
    from tracebee.kernel.program import Program

    try:
        for name in ("bpf_fentry_test1", "vfs_create"):
            if target := open_vmlinux().find_all(name, BTF_KIND_FUNC):
                break
        else:
            return False
        with (
            Program.load(
                RETURN_ZERO,
                uapi.BPF_PROG_TYPE_TRACING,
                expected_attach_type=uapi.BPF_TRACE_FENTRY,
                attach_btf_id=target[0],
            ) as program,
            Link.raw_tracepoint(program),
        ):
            return True
    except PrivilegeError:
        if has_capability("CAP_SYS_ADMIN"):
            return False  # this kernel forbids it to everyone
        raise
    except TracebeeError:
        return False


def _member(struct: str, member: str) -> Callable[[], bool]:
    """Whether a structure of the kernel has a member: for what cannot be tried without doing it."""

    def probe() -> bool:
        from tracebee.btf.opening import open_vmlinux
        from tracebee.errors import TracebeeError

        try:
            btf = open_vmlinux()
            return any(field.name == member for field in btf.fields(btf.find(f"struct {struct}")))
        except TracebeeError:
            return False

    return probe


def _module_btf() -> bool:
    try:
        return len(os.listdir("/sys/kernel/btf")) > 1
    except OSError:
        return False


def _sleepable() -> bool:
    return loads(uapi.BPF_PROG_TYPE_KPROBE, RETURN_ZERO, prog_flags=uapi.BPF_F_SLEEPABLE)


def _batch() -> bool:
    from tracebee.kernel.attr import MAP_BATCH

    # A descriptor that is no map: kernels with the command look at it, others do not know the number.
    return try_bpf(uapi.BPF_MAP_LOOKUP_BATCH, MAP_BATCH.pack(map_fd=0x7FFFFFFF)) == _EBADF


def _code(text: str) -> Callable[[], bool]:
    """Whether the verifier takes a program, in the kernel's notation, that uses an instruction."""

    def probe() -> bool:
        from tracebee.isa.asm import assemble
        from tracebee.isa.codec import encode

        return loads(uapi.BPF_PROG_TYPE_SOCKET_FILTER, encode(assemble(text)))

    return probe


def _large_programs() -> bool:
    from tracebee.kernel.limits import program_length

    return loads(uapi.BPF_PROG_TYPE_SOCKET_FILTER, RETURN_ZERO) and (program_length() or 0) > 4096


FEATURES: tuple[Feature, ...] = (
    Feature(
        "btf",
        "5.2",
        "kernel types: arguments, structures, CO-RE",
        lambda: os.path.exists("/sys/kernel/btf/vmlinux"),
    ),
    Feature("module_btf", "5.11", "types and functions of kernel modules", _module_btf),
    Feature("kprobe", "4.17", "kprobe and kretprobe through perf_event_open", _device("kprobe")),
    Feature("uprobe", "4.17", "uprobe and uretprobe through perf_event_open", _device("uprobe")),
    Feature(
        "uprobe_ref_ctr",
        "4.20",
        "USDT semaphores raised by the kernel",
        _device("uprobe", "format/ref_ctr_offset"),
    ),
    Feature(
        "perf_link",
        "5.15",
        "cookies on kprobes, uprobes and tracepoints",
        _link(uapi.BPF_PROG_TYPE_TRACEPOINT, 0, uapi.BPF_PERF_EVENT, (_EBADF,), target_fd=0x7FFFFFFF),
    ),
    Feature("attach_cookie", "5.15", "one program for many probes", _helper("get_attach_cookie")),
    Feature(
        "kprobe_multi",
        "5.18",
        "thousands of kernel functions at once",
        _kprobe_multi(uapi.BPF_TRACE_KPROBE_MULTI),
    ),
    Feature(
        "kprobe_session",
        "6.10",
        "one program for entry and return",
        _kprobe_multi(uapi.BPF_TRACE_KPROBE_SESSION),
    ),
    Feature(
        "uprobe_multi",
        "6.6",
        "thousands of user functions at once",
        _uprobe_multi(uapi.BPF_TRACE_UPROBE_MULTI),
    ),
    Feature(
        "uprobe_session",
        "6.13",
        "one program for entry and return",
        _uprobe_multi(uapi.BPF_TRACE_UPROBE_SESSION),
    ),
    Feature("fentry", "5.5", "fentry and fexit: the cheapest kernel probes", _fentry),
    Feature(
        "raw_tracepoint_cookie", "6.10", "cookies on raw tracepoints", _member("bpf_raw_tp_link", "cookie")
    ),
    Feature(
        "tracing_cookie",
        "5.19",
        "cookies on fentry, fexit and BTF tracepoints",
        _member("bpf_tramp_link", "cookie"),
    ),
    Feature("sleepable_uprobe", "6.0", "probes that may wait for user memory", _sleepable),
    Feature("ringbuf", "5.8", "one event buffer for all CPUs", _map_type(uapi.BPF_MAP_TYPE_RINGBUF)),
    Feature("mmapable", "5.5", "data sections read without system calls", _map_flag(uapi.BPF_F_MMAPABLE)),
    Feature("map_batch", "5.6", "maps read in few calls", _batch),
    Feature(
        "probe_read_kernel", "5.5", "reads that tell user from kernel memory", _helper("probe_read_kernel")
    ),
    Feature("get_func_ip", "5.15", "the probed function's address", _helper("get_func_ip")),
    Feature("bpf_loop", "5.17", "loops of any length by callback", _helper("loop")),
    Feature("for_each_map_elem", "5.13", "loops over maps", _helper("for_each_map_elem")),
    Feature(
        "map_lookup_percpu_elem",
        "5.19",
        "other CPUs' values of per-CPU maps",
        _helper("map_lookup_percpu_elem"),
    ),
    Feature("ktime_get_boot_ns", "5.8", "time that counts suspension", _helper("ktime_get_boot_ns")),
    Feature("ktime_get_tai_ns", "6.1", "atomic time", _helper("ktime_get_tai_ns")),
    Feature(
        "get_ns_current_pid_tgid", "5.7", "process ids of a namespace", _helper("get_ns_current_pid_tgid")
    ),
    Feature("jiffies64", "5.6", "jiffies", _helper("jiffies64")),
    Feature("send_signal", "5.3", "signal() from a program", _helper("send_signal")),
    Feature("override_return", "4.16", "changing a function's return value", _helper("override_return")),
    Feature(
        "get_current_task_btf", "5.11", "typed access to the current task", _helper("get_current_task_btf")
    ),
    Feature("task_iter", "5.8", "iter:task and its like", _kernel_type("bpf_iter__task")),
    Feature("open_coded_iter", "6.4", "loops without a callback", _kernel_type("bpf_iter_num_new")),
    Feature("dynptr", "5.19", "memory of a size known only at run time", _helper("dynptr_from_mem")),
    Feature("stream", "6.17", "programs that print to their own stream", _kernel_type("bpf_stream_stage")),
    Feature("large_programs", "5.2", "programs of more than 4,096 instructions", _large_programs),
    Feature(
        "bounded_loops",
        "5.3",
        "loops that the verifier can follow to their end",
        _code("r0 = 0\nagain:\nr0 += 1\nif r0 < 10 goto again\nr0 = 0\nexit"),
    ),
    Feature("isa_v2", "4.14", "jumps on less-than", _code("r0 = 0\nif r0 < 1 goto pc+0\nexit")),
    Feature("isa_v3", "5.1", "32-bit jumps", _code("r0 = 0\nif w0 < 1 goto pc+0\nexit")),
    Feature(
        "isa_v4", "6.6", "signed division and loads, byte swaps, long jumps", _code("r0 = 0\nr0 s/= 3\nexit")
    ),
    Feature(
        "atomics",
        "5.12",
        "atomic exchange, compare and fetch",
        _code("r0 = 0\n*(u64 *)(r10 -8) = r0\nr0 = atomic64_xchg((u64 *)(r10 -8), r0)\nr0 = 0\nexit"),
    ),
    Feature(
        "load_acquire",
        "6.15",
        "loads and stores that order memory",
        _code("r0 = 0\n*(u64 *)(r10 -8) = r0\nr0 = load_acquire((u64 *)(r10 -8))\nr0 = 0\nexit"),
    ),
    Feature("may_goto", "6.9", "loops bounded by a budget", _code("r0 = 0\nmay_goto pc+1\nr0 = 1\nexit")),
)

_BY_NAME = {feature.name: feature for feature in FEATURES}
