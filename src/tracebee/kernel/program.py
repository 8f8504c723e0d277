"""Programs in the kernel: loaded with their type information, found, examined, test-run."""

from __future__ import annotations

import os
import struct

from tracebee import uapi
from tracebee.kernel.attr import (
    ENABLE_STATS,
    PROG_ATTACH,
    PROG_BIND_MAP,
    PROG_INFO,
    PROG_LOAD,
    PROG_STREAM_READ,
    QUERY,
    TEST_RUN,
)
from tracebee.kernel.bpf import bpf, fd_by_id, ids, info_by_fd, pin, pinned, try_bpf
from tracebee.kernel.fd import Fd
from tracebee.kernel.map import kernel_name
from tracebee.kernel.syscall import address
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from tracebee.kernel.btf import Btf
    from tracebee.kernel.map import Map
    from tracebee.kernel.program_info import ProgramDetails, ProgramInfo

_ENOSPC, _EINVAL, _EPERM = -28, -22, -1
_LOG_SIZE = 1 << 24  # not touched memory costs nothing; a log that does not fit costs another verification
_LOG_MAX = 0xFFFFFFFF >> 2  # the kernel's own limit (UINT_MAX >> 2 since 5.2)

# The tracing types, whose kernel_version field kernels before 5.0 compare with their own.
_VERSIONED = frozenset((uapi.BPF_PROG_TYPE_KPROBE,))


class TestRun(NamedTuple):
    """Result of a test run: return value, average nanoseconds, data and context afterwards."""

    retval: int
    duration: int
    data: bytes
    ctx: bytes


class Program(Fd):
    """A program held by its descriptor. ``log`` is what the verifier wrote, empty unless asked."""

    __slots__ = ("log", "name", "type")

    def __init__(self, fd: int, prog_type: int, name: str, log: str = "") -> None:
        super().__init__(fd)
        self.type = prog_type
        self.name = name
        self.log = log

    @classmethod
    def load(
        cls,
        insns: bytes,
        prog_type: int,
        *,
        name: str = "",
        license_name: str = "GPL",
        expected_attach_type: int = 0,
        flags: int = 0,
        btf: Btf | None = None,
        func_info: Sequence[tuple[int, int]] = (),
        line_info: Sequence[tuple[int, int, int, int]] = (),
        attach_btf_id: int = 0,
        attach_fd: int = 0,
        fd_array: Sequence[int] = (),
        log_level: int = 0,
        log_size: int = 0,
        kern_version: int = 0,
        ifindex: int = 0,
        token_fd: int = 0,
    ) -> Self:
        """Load a program (``BPF_PROG_LOAD``).

        The first try is without a log, which costs the verifier time; a refusal is repeated with one, of
        which the end will do. A log that was asked for is whole: the buffer grows until it fits.

        :param insns: encoded instructions, subprograms behind the main one; descriptors filled in.
        :param func_info: ``(first slot, BTF id)`` of each function, ascending.
        :param line_info: ``(slot, file name offset, line text offset, line << 10 | column)`` ascending;
            offsets into the BTF's strings.
        :param attach_btf_id: the kernel function or type, for programs that attach to one.
        :param attach_fd: a module's BTF, or the program to extend or trace.
        :param fd_array: descriptors that kfunc calls and map indexes refer to.
        :param log_level: BPF_LOG_* bits for a log even on success.
        :param log_size: bytes of the buffer that is tried first; by default one that most logs fit.
        :param kern_version: what kprobe programs of old kernels must name; by default the running one.
        :raises VerifierError: refused, ``log`` says why; KernelError, PrivilegeError: another failure.
        """
        functions = b"".join(struct.pack("=2I", *row) for row in func_info)
        lines = b"".join(struct.pack("=4I", *row) for row in line_info)
        licence = license_name.encode() + b"\0"
        fds = struct.pack(f"={len(fd_array)}i", *fd_array)
        values: dict[str, int | bytes] = {
            "prog_type": prog_type,
            "insn_cnt": len(insns) // 8,
            "insns": address(insns),
            "license": address(licence),
            "prog_flags": flags,
            "prog_name": kernel_name(name),
            "prog_ifindex": ifindex,
            "expected_attach_type": expected_attach_type,
            "attach_btf_id": attach_btf_id,
            "attach_btf_obj_fd": attach_fd,
            "fd_array": address(fds),
        }
        if kern_version or prog_type in _VERSIONED:
            values["kern_version"] = kern_version or _kernel_version_code()
        if btf is not None:
            values["prog_btf_fd"] = btf.fd
            values.update(func_info_rec_size=8, func_info=address(functions), func_info_cnt=len(func_info))
            values.update(line_info_rec_size=16, line_info=address(lines), line_info_cnt=len(line_info))
        if token_fd:
            values["prog_token_fd"] = token_fd
            values["prog_flags"] = flags | uapi.BPF_F_TOKEN_FD
        attr = PROG_LOAD.pack(**values)
        log = ""
        if log_level:
            result, log = _load_with_log(attr, log_level, log_size or _LOG_SIZE)
        else:
            result = try_bpf(uapi.BPF_PROG_LOAD, attr)
            if result < 0:
                number = result
                result, log = _load_with_log(
                    attr, uapi.BPF_LOG_LEVEL1, log_size or _LOG_SIZE, end_will_do=True
                )
                if result == _ENOSPC or (result < 0 and not log):
                    result = number  # a kernel may refuse the log itself: the first answer counts
        if result < 0:
            raise _refusal(name, -result, log)
        return cls(result, prog_type, name, log)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Own a descriptor of an existing program."""
        try:
            info = info_by_fd(fd, PROG_INFO)
        except BaseException:
            Fd(fd).close()
            raise
        return cls(fd, PROG_INFO.get(info, "type"), PROG_INFO.get(info, "name").partition(b"\0")[0].decode())

    @classmethod
    def by_id(cls, object_id: int) -> Self:
        """The program with an id."""
        return cls.from_fd(fd_by_id(uapi.BPF_PROG_GET_FD_BY_ID, object_id, f"program {object_id}"))

    @classmethod
    def pinned(cls, path: str) -> Self:
        """The program pinned at a path of bpffs."""
        return cls.from_fd(pinned(path, kind="prog"))

    @staticmethod
    def ids() -> Iterator[int]:
        """Ids of all programs in the kernel."""
        return ids(uapi.BPF_PROG_GET_NEXT_ID)

    @property
    def what(self) -> str:
        """How errors name it."""
        return f"program '{self.name}'" if self.name else "a program"

    def info(self) -> ProgramInfo:
        """What the kernel says of it, without its code and lists."""
        from tracebee.kernel.program_info import read  # only administration asks

        return read(self.fd)

    def details(self) -> ProgramDetails:
        """Its translated and machine code, maps, functions and lines: what ``dump`` shows."""
        from tracebee.kernel.program_info import read_details

        return read_details(self.fd)

    def pin(self, path: str) -> None:
        """Give it a name in bpffs."""
        pin(self.fd, path)

    def bind_map(self, other: Map) -> None:
        """Keep a map alive as long as this program (``BPF_PROG_BIND_MAP``)."""
        bpf(uapi.BPF_PROG_BIND_MAP, PROG_BIND_MAP.pack(prog_fd=self.fd, map_fd=other.fd), self.what)

    def attach(self, target_fd: int, attach_type: int, *, flags: int = 0, replace_fd: int = 0) -> None:
        """Attach without a link (``BPF_PROG_ATTACH``): to a cgroup, a sockmap, a network namespace."""
        attr = PROG_ATTACH.pack(
            target_fd=target_fd,
            attach_bpf_fd=self.fd,
            attach_type=attach_type,
            attach_flags=flags,
            replace_bpf_fd=replace_fd,
        )
        bpf(uapi.BPF_PROG_ATTACH, attr, self.what)

    def detach_from(self, target_fd: int, attach_type: int) -> None:
        """Undo :meth:`attach`."""
        attr = PROG_ATTACH.pack(target_fd=target_fd, attach_bpf_fd=self.fd, attach_type=attach_type)
        bpf(uapi.BPF_PROG_DETACH, attr, self.what)

    def test_run(
        self,
        *,
        data: bytes = b"",
        ctx: bytes = b"",
        data_out: int = 0,
        ctx_out: int = 0,
        repeat: int = 1,
        flags: int = 0,
        cpu: int = 0,
        batch_size: int = 0,
    ) -> TestRun:
        """Run it on given input (``BPF_PROG_TEST_RUN``).

        :param data: the packet, for types that have one.
        :param ctx: the context structure, for types that take one.
        :param data_out, ctx_out: bytes to receive of each afterwards.
        :param repeat: number of runs; the duration is their average.
        :raises KernelError: this type cannot be test-run, or the input does not suit it.
        """
        out, context, given = bytearray(data_out), bytearray(ctx_out), bytearray(ctx)
        in_place = self.type == uapi.BPF_PROG_TYPE_SYSCALL  # the kernel writes back to the input
        if in_place:
            context = bytearray()
        attr = TEST_RUN.pack(
            prog_fd=self.fd,
            data_in=address(data),
            data_size_in=len(data),
            data_out=address(out),
            data_size_out=data_out,
            ctx_in=address(given),
            ctx_size_in=len(given),
            ctx_out=address(context),
            ctx_size_out=len(context),
            # Tracing types know no repetition and refuse any number but 0.
            repeat=0 if repeat == 1 else repeat,
            flags=flags,
            cpu=cpu,
            batch_size=batch_size,
        )
        bpf(uapi.BPF_PROG_TEST_RUN, attr, self.what)
        return TestRun(
            TEST_RUN.get(attr, "retval"),
            TEST_RUN.get(attr, "duration"),
            bytes(out[: TEST_RUN.get(attr, "data_size_out")]),
            bytes(given if in_place else context[: TEST_RUN.get(attr, "ctx_size_out")]),
        )

    def read_stream(self, stream: int = 1, size: int = 1 << 16) -> bytes:
        """What the program printed to a stream (``BPF_PROG_STREAM_READ_BY_FD``, Linux 6.17).

        :param stream: 1 is its standard output, 2 its standard error.
        """
        buffer = bytearray(size)
        attr = PROG_STREAM_READ.pack(
            stream_buf=address(buffer), stream_buf_len=size, stream_id=stream, prog_fd=self.fd
        )
        return bytes(buffer[: bpf(uapi.BPF_PROG_STREAM_READ_BY_FD, attr, self.what)])


def detach_any(target: int, attach_type: int) -> None:
    """Detach what is attached to a device or control group, whichever program that is.

    :param target: a network device's number, or a control group's descriptor.
    :raises KernelError: nothing is, or several programs are.
    """
    attr = PROG_ATTACH.pack(target_fd=target, attach_type=attach_type)
    bpf(uapi.BPF_PROG_DETACH, attr, "the program")


def query(target_fd: int, attach_type: int, *, flags: int = 0, limit: int = 256) -> list[int]:
    """Ids of the programs attached somewhere (``BPF_PROG_QUERY``)."""
    buffer = bytearray(4 * limit)
    attr = QUERY.pack(
        target_fd=target_fd,
        attach_type=attach_type,
        query_flags=flags,
        prog_ids=address(buffer),
        prog_cnt=limit,
    )
    bpf(uapi.BPF_PROG_QUERY, attr)
    return list(struct.unpack_from(f"={QUERY.get(attr, 'prog_cnt')}I", buffer))


def enable_stats(kind: int = uapi.BPF_STATS_RUN_TIME) -> Fd:
    """Count runs and time of all programs while the result is open (``BPF_ENABLE_STATS``)."""
    return Fd(bpf(uapi.BPF_ENABLE_STATS, ENABLE_STATS.pack(type=kind)))


def _load_with_log(attr: bytearray, level: int, size: int, *, end_will_do: bool = False) -> tuple[int, str]:
    """The result and the log, in a buffer that grows until it is large enough.

    The log of a program that is known to be refused may be cut: verifying a large one once more takes
    seconds. Kernels that say how long it is (``log_true_size``, 6.4) keep its end, where the reason is.
    """
    while True:
        log = bytearray(size)
        PROG_LOAD.set(attr, log_level=level, log_size=size, log_buf=address(log))
        result = try_bpf(uapi.BPF_PROG_LOAD, attr)
        true_size = PROG_LOAD.get(attr, "log_true_size")
        if result != _ENOSPC or size >= _LOG_MAX or (end_will_do and true_size):
            return result, log[: log.find(0)].decode(errors="replace")
        size = min(max(size * 4, true_size), _LOG_MAX)


def _refusal(name: str, number: int, log: str) -> Exception:
    from tracebee.errors import VerifierError
    from tracebee.kernel.explain import bpf_error, describe, errno_name

    what = f"program '{name}'" if name else "a program"
    if not log.strip():
        error = bpf_error(uapi.BPF_PROG_LOAD, number, what)
        error.program = name
        return error
    meaning = _last_words(log)
    _, hint = describe("BPF_PROG_LOAD", number)
    message = f"the kernel's verifier refused {what}: {meaning} ({errno_name(number)})"
    return VerifierError("bpf(BPF_PROG_LOAD)", number, message, log, hint=hint, program=name)


def _last_words(log: str) -> str:
    """The line of a verifier log that says what is wrong: the last before the statistics."""
    for line in reversed(log.splitlines()):
        if line and not line.startswith(_STATISTICS):
            return line
    return "no reason given"


_STATISTICS = ("processed ", "verification time", "stack depth", "mark_precise:", "insns processed")


def _kernel_version_code() -> int:
    """LINUX_VERSION_CODE of the running kernel, from the vDSO's place: uname(2)."""
    numbers = [*os.uname().release.split("-")[0].split("."), "0", "0"]
    major, minor, patch = (int("".join(c for c in part if c.isdigit()) or 0) for part in numbers[:3])
    return major << 16 | minor << 8 | min(patch, 255)
