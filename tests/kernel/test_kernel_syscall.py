"""The seam: what is passed to the kernel, and what becomes of its answers."""

from __future__ import annotations

import _thread
import errno
import os
import resource
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee import uapi
from tracebee.errors import KernelError, PrivilegeError, UnsupportedError, VerifierError
from tracebee.kernel import attr, barrier, bpf, choose, explain, privileges
from tracebee.kernel.fd import Fd
from tracebee.kernel.layout import Layout
from tracebee.kernel.map import Map, kernel_name
from tracebee.kernel.program import Program
from tracebee.kernel.syscall import NUMBERS, address, read_memory, stand_in, syscall, write_memory
from tracebee.obj.model import MapDef


class FakeKernel:
    """Answers bpf(2) from a list of functions of (command, attributes' address) -> result."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, bytes]] = []

    def __call__(self, name: str, args: tuple[int, ...]) -> int:
        assert name == "bpf"
        command, at, size = args
        self.calls.append((command, read_memory(at, size)))
        answer = self.answers.pop(0)
        return answer(at) if callable(answer) else answer


def test_native_call() -> None:
    assert syscall("pidfd_open", os.getpid(), 1 << 30) == -errno.EINVAL


def test_address_reaches_the_bytes() -> None:
    for buffer in (b"hello", bytearray(b"hello"), memoryview(bytearray(b"hello"))):
        assert read_memory(address(buffer), 5) == b"hello"
    assert address(b"") == 0
    target = bytearray(4)
    write_memory(address(target), b"abcd")
    assert target == b"abcd"


@given(
    st.dictionaries(
        st.sampled_from(["map_type", "key_size", "map_flags", "numa_node"]), st.integers(0, 2**32 - 1)
    )
)
def test_pack_and_get_agree(values: dict[str, int]) -> None:
    packed = attr.MAP_CREATE.pack(**values)
    assert len(packed) == attr.MAP_CREATE.size
    assert {name: attr.MAP_CREATE.get(packed, name) for name in values} == values
    assert sum(packed) == sum(sum(struct.pack("=I", value)) for value in values.values())


def test_layout_beyond_a_short_buffer_is_zero() -> None:
    layout = Layout("t", 12, (("a", 0, "I"), ("b", 4, "Q"), ("c", 4, "8s")))
    assert layout.unpack(struct.pack("=I", 7)) == {"a": 7, "b": 0, "c": b""}


def test_map_create_passes_every_field() -> None:
    kernel = FakeKernel(os.open("/dev/null", os.O_RDONLY))
    with stand_in(kernel):
        made = Map.create(
            MapDef("a map-name that is long", uapi.BPF_MAP_TYPE_HASH, 4, 8, 16, flags=1, numa_node=1)
        )
    made.close()
    command, sent = kernel.calls[0]
    assert command == uapi.BPF_MAP_CREATE
    wanted = attr.MAP_CREATE.pack(
        map_type=1,
        key_size=4,
        value_size=8,
        max_entries=16,
        map_flags=1 | 4,
        numa_node=1,
        map_name=b"a_map_name_that",
    )
    assert sent == wanted


def test_listing_passes_over_what_is_made_or_gone() -> None:
    def number(at: int) -> int:
        write_memory(at + 4, struct.pack("=I", 7))  # next_id
        return 0

    kernel = FakeKernel(number, -errno.ENOENT, -errno.EAGAIN)
    with stand_in(kernel):
        assert list(choose.all_links()) == []
    assert [command for command, _ in kernel.calls] == [
        uapi.BPF_LINK_GET_NEXT_ID,
        uapi.BPF_LINK_GET_NEXT_ID,
        uapi.BPF_LINK_GET_FD_BY_ID,
    ]


def test_interrupted_loads_are_repeated() -> None:
    kernel = FakeKernel(-errno.EAGAIN, -errno.EINTR, os.open("/dev/null", os.O_RDONLY))
    with stand_in(kernel):
        Program.load(bytes(16), uapi.BPF_PROG_TYPE_KPROBE).close()
    assert len(kernel.calls) == 3


def test_log_grows_until_it_fits() -> None:
    text = "0: R1=ctx()\n; return x\nR0 !read_ok\nprocessed 1 insns\n"

    def refuse(at: int) -> int:
        write_memory(struct.unpack("=Q", read_memory(at + 32, 8))[0], text.encode())
        return -errno.EACCES

    kernel = FakeKernel(-errno.EACCES, -errno.ENOSPC, refuse)
    with stand_in(kernel), pytest.raises(VerifierError) as caught:
        Program.load(bytes(16), uapi.BPF_PROG_TYPE_KPROBE, name="p")
    assert caught.value.log == text
    assert caught.value.errno == errno.EACCES
    assert caught.value.message == "the kernel's verifier refused program 'p': R0 !read_ok (EACCES)"
    sizes = [attr.PROG_LOAD.get(sent, "log_size") for _, sent in kernel.calls]
    assert sizes == [0, 1 << 24, 1 << 26]


def test_the_end_of_a_long_log_is_enough() -> None:
    """A kernel that tells its length keeps its end, and a verification more costs seconds."""

    def cut(at: int) -> int:
        write_memory(at + 140, struct.pack("=I", 100 << 20))  # log_true_size
        write_memory(
            struct.unpack("=Q", read_memory(at + 32, 8))[0], b"5: (05) goto pc-1\nloop\nprocessed 9 insns\n"
        )
        return -errno.ENOSPC

    kernel = FakeKernel(-errno.E2BIG, cut)
    with stand_in(kernel), pytest.raises(VerifierError) as caught:
        Program.load(bytes(16), uapi.BPF_PROG_TYPE_KPROBE, name="p")
    assert caught.value.errno == errno.E2BIG
    assert caught.value.message == "the kernel's verifier refused program 'p': loop (E2BIG)"
    assert len(kernel.calls) == 2


def test_a_log_that_was_asked_for_is_whole() -> None:
    def too_small(at: int) -> int:
        write_memory(at + 140, struct.pack("=I", 100 << 20))  # log_true_size
        return -errno.ENOSPC

    kernel = FakeKernel(too_small, os.open("/dev/null", os.O_RDONLY))
    with stand_in(kernel):
        Program.load(bytes(16), uapi.BPF_PROG_TYPE_KPROBE, log_level=1).close()
    assert [attr.PROG_LOAD.get(sent, "log_size") for _, sent in kernel.calls] == [1 << 24, 100 << 20]


def test_a_batch_falls_back_to_single_lookups() -> None:
    def next_key(key: bytes) -> object:
        def answer(at: int) -> int:
            write_memory(attr.MAP_ELEMENT.get(read_memory(at, 32), "next_key"), key)
            return 0

        return answer

    def lookup(value: bytes) -> object:
        def answer(at: int) -> int:
            write_memory(attr.MAP_ELEMENT.get(read_memory(at, 32), "value"), value)
            return 0

        return answer

    kernel = FakeKernel(
        -errno.EINVAL, next_key(b"k1"), lookup(b"v1"), next_key(b"k2"), -errno.ENOENT, -errno.ENOENT
    )
    with Map(os.open("/dev/null", os.O_RDONLY), 1, "m", 2, 2, 10) as table, stand_in(kernel):
        assert table.items() == [(b"k1", b"v1")]  # k2 went away between the two calls
    commands = [command for command, _ in kernel.calls]
    assert commands[0] == uapi.BPF_MAP_LOOKUP_BATCH
    assert commands[1:] == [4, 1, 4, 1, 4]


def test_sizes_are_checked_before_the_kernel_reads_memory() -> None:
    with Map(os.open("/dev/null", os.O_RDONLY), 1, "m", 4, 8, 10) as table:
        with pytest.raises(ValueError, match="keys of 4 bytes, not 3"):
            table.lookup(b"abc")
        with pytest.raises(ValueError, match="values of 8 bytes, not 1"):
            table.update(b"abcd", b"x")


def test_descriptor_has_one_owner() -> None:
    number = os.open("/dev/null", os.O_RDONLY)
    fd = Fd(number)
    fd.close()
    fd.close()
    assert fd.closed
    with pytest.raises(ValueError, match="Fd is closed"):
        fd.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    given = Fd(os.open("/dev/null", os.O_RDONLY))
    kept = given.detach()
    given.close()
    os.close(kept)


def test_forgotten_descriptor_is_closed_and_told() -> None:
    number = os.open("/dev/null", os.O_RDONLY)
    with pytest.warns(ResourceWarning, match=f"unclosed Fd .fd {number}"):
        Fd(number)  # the only reference goes at once
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("start", b"start"),
        ("a-b c", b"a_b_c"),
        ("x" * 20, b"x" * 15),
        ("été", b"_t_"),
        ("vfs.read", b"vfs.read"),
    ],
)
def test_names_the_kernel_accepts(name: str, expected: bytes) -> None:
    assert kernel_name(name) == expected


def test_errors_name_command_number_and_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: (1 << 41) - 1)
    error = explain.bpf_error(uapi.BPF_MAP_UPDATE_ELEM, errno.E2BIG, "map 'x'")
    assert isinstance(error, KernelError)
    assert (error.call, error.errno) == ("bpf(BPF_MAP_UPDATE_ELEM)", errno.E2BIG)
    assert str(error) == (
        "bpf(BPF_MAP_UPDATE_ELEM) of map 'x' failed: "
        "the map is full, or the index is beyond its end (E2BIG)\n"
        "  hint: raise its number of entries (max_map_keys)"
    )
    unknown = explain.bpf_error(uapi.BPF_MAP_CREATE, errno.EXDEV, "")
    assert str(unknown) == "bpf(BPF_MAP_CREATE) failed: invalid cross-device link (EXDEV)"
    frozen = explain.bpf_error(uapi.BPF_MAP_UPDATE_ELEM, errno.EPERM, "map 'x'")
    assert isinstance(frozen, KernelError)
    assert "frozen or read-only" in frozen.message
    assert isinstance(explain.bpf_error(uapi.BPF_MAP_CREATE, errno.ENOSYS, ""), UnsupportedError)


def test_missing_privileges_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"kernel/unprivileged_bpf_disabled": "2", "kernel/perf_event_paranoid": "3"}
    monkeypatch.setattr(privileges, "effective", lambda: 0)
    monkeypatch.setattr(privileges, "setting", settings.get)
    error = explain.bpf_error(uapi.BPF_PROG_LOAD, errno.EPERM, "program 'p'")
    assert isinstance(error, PrivilegeError)
    assert error.message == "bpf(BPF_PROG_LOAD) of program 'p' is not permitted"
    assert error.hint == (
        "run as root, or give it CAP_BPF and CAP_PERFMON; kernel.unprivileged_bpf_disabled is 2"
    )
    perf = explain.call_error("perf_event_open", errno.EACCES)
    assert perf.hint is not None
    assert "kernel.perf_event_paranoid is 3" in perf.hint
    monkeypatch.setattr(privileges, "effective", lambda: 1 << privileges.CAPABILITIES["CAP_BPF"])
    monkeypatch.setattr(privileges, "lockdown", lambda: "confidentiality")
    locked = explain.bpf_error(uapi.BPF_MAP_CREATE, errno.EPERM, "")
    assert locked.hint == "kernel lockdown is in confidentiality mode, which forbids this"


def test_every_meaning_is_about_a_call_that_exists() -> None:
    calls = {*uapi.COMMANDS, "perf_event_open", "PERF_EVENT_IOC_SET_BPF", "PERF_EVENT_IOC_SET_FILTER"}
    assert {call for call, _ in explain.MEANINGS} <= calls
    assert set(privileges.NEEDS) <= calls | {"mount"}


def test_ids_end_at_enoent() -> None:
    def answer(number: int) -> object:
        def write(at: int) -> int:
            write_memory(at + 4, struct.pack("=I", number))
            return 0

        return write

    kernel = FakeKernel(answer(3), answer(9), -errno.ENOENT)
    with stand_in(kernel):
        assert list(bpf.ids(uapi.BPF_MAP_GET_NEXT_ID)) == [3, 9]
    assert [attr.ID.get(sent, "start_id") for _, sent in kernel.calls] == [0, 3, 9]


def test_fence_of_machines_that_reorder_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    class Lock:
        def acquire(self) -> None:
            taken.append("acquire")

        def release(self) -> None:
            taken.append("release")

    monkeypatch.setattr(barrier, "MACHINE", "aarch64")
    monkeypatch.setattr(_thread, "allocate_lock", Lock)
    fence = barrier._make()
    assert taken == ["acquire"]
    fence()
    # A release followed by an acquire, in this order, is what separates the loads.
    assert taken == ["acquire", "release", "acquire"]


def test_numbers_of_system_calls() -> None:
    # The generic numbers are one for all newer calls; those of x86-64 are older than the rest.
    for name, (x86, arm) in NUMBERS.items():
        assert (x86 == arm) == (x86 >= 424), name


@pytest.mark.parametrize("command", ["BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_BTF_LOAD", "BPF_LINK_CREATE"])
def test_a_limit_on_locked_memory_is_raised_once(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    limits = [(1 << 16, 1 << 16)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    kernel = FakeKernel(-errno.EPERM, -errno.EPERM)
    with stand_in(kernel):
        assert bpf.try_bpf(getattr(uapi, command), bytearray(16)) == -errno.EPERM
    charged = command != "BPF_LINK_CREATE"
    assert len(kernel.calls) == 1 + charged
    assert limits[1:] == [(resource.RLIM_INFINITY, resource.RLIM_INFINITY)] * charged


def test_without_privilege_the_limit_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1 << 16, 1 << 20)]

    def set_limit(_: int, new: tuple[int, int]) -> None:
        if new[1] != 1 << 20:
            raise ValueError("not allowed to raise maximum limit")
        limits.append(new)

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    with stand_in(FakeKernel(-errno.EPERM, -errno.EPERM)):
        assert bpf.try_bpf(uapi.BPF_MAP_CREATE, bytearray(16)) == -errno.EPERM
    assert limits == [(1 << 16, 1 << 20), (1 << 20, 1 << 20)]


OPEN_AT_THE_END = """
import os
from tracebee.kernel.fd import Fd
class Knot: pass
knot = Knot()
knot.itself, knot.fd = knot, Fd(os.open("/dev/null", os.O_RDONLY))
"""


def test_the_end_of_a_process_is_silent() -> None:
    done = subprocess.run([sys.executable, "-c", OPEN_AT_THE_END], capture_output=True, text=True, check=True)
    assert done.stderr == ""
