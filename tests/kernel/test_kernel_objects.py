"""Maps, programs, links and BTF in the real kernel: every command of bpf(2) is called here."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.btf import Btf as Types
from tracebee.btf import kinds
from tracebee.errors import KernelError, SymbolError, VerifierError
from tracebee.isa.asm import assemble
from tracebee.isa.codec import encode
from tracebee.kernel import attr, cpus, program, ringbuf
from tracebee.kernel.bpf import try_bpf
from tracebee.kernel.btf import Btf
from tracebee.kernel.fd import Fd
from tracebee.kernel.link import Link, create_token
from tracebee.kernel.map import Map
from tracebee.kernel.perf import PerfEvent
from tracebee.kernel.program import Program
from tracebee.kernel.task_fd import task_fd_query
from tracebee.kernel.tracefs import event_id
from tracebee.kernel.type_probes import INT_BTF, RETURN_ZERO
from tracebee.obj.model import MapDef

pytestmark = pytest.mark.needs("bpf")

COUNT = """
    r1 = map[counter]
    r2 = r10
    r2 += -4
    *(u32 *)(r10 - 4) = 0
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 + 0) += r1
out:
    r0 = 0
    exit
"""


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def make(kind: int, *, key_size: int = 4, value_size: int = 8, entries: int = 16, flags: int = 0) -> Map:
    return Map.create(MapDef("test_map", kind, key_size, value_size, entries, flags))


@pytest.fixture
def counter() -> Iterator[Map]:
    with make(uapi.BPF_MAP_TYPE_ARRAY, entries=1) as table:
        yield table


def counting(counter: Map, kind: int, attach_type: int = 0, **more: int) -> Program:
    code = encode(assemble(COUNT, {"counter": counter.fd}))
    return Program.load(code, kind, name="count", expected_attach_type=attach_type, **more)


def tells_cookie() -> bool:
    """Whether this kernel's description of a raw tracepoint link has the cookie (Linux 6.16)."""
    types = Types.vmlinux()
    info = types.find("struct bpf_link_info")
    try:
        types.member_path(info, "raw_tracepoint.cookie")
    except SymbolError:
        return False
    return True


def total(counter: Map) -> int:
    value = counter.lookup(key(0))
    assert value is not None
    return int(struct.unpack("=Q", value)[0])


HASHES = [uapi.BPF_MAP_TYPE_HASH, uapi.BPF_MAP_TYPE_LRU_HASH]


@pytest.mark.parametrize("kind", HASHES)
def test_hash(kind: int) -> None:
    with make(kind, entries=1000) as table:
        assert table.lookup(key(1)) is None
        assert table.items() == []
        table.update(key(1), b"12345678")
        assert table.lookup(key(1)) == b"12345678"
        with pytest.raises(KernelError) as caught:
            table.update(key(1), bytes(8), uapi.BPF_NOEXIST)
        assert caught.value.errno == errno.EEXIST
        assert table.lookup_and_delete(key(1)) == b"12345678"
        assert table.delete(key(1)) is False
        pairs = {key(i): struct.pack("=Q", i * i) for i in range(500)}
        table.update_many(list(pairs.items()))
        assert dict(table.items()) == pairs
        assert set(table.keys()) == set(pairs)
        table.delete_many([key(i) for i in range(250)])
        assert set(table.keys()) == {key(i) for i in range(250, 500)}
        assert len(table.drain()) == 250
        assert table.items() == []


def test_full_hash_says_so() -> None:
    with make(uapi.BPF_MAP_TYPE_HASH, entries=2) as table:
        table.update(key(1), bytes(8))
        table.update(key(2), bytes(8))
        with pytest.raises(KernelError, match="the map is full") as caught:
            table.update(key(3), bytes(8))
        assert caught.value.errno == errno.E2BIG
        assert caught.value.call == "bpf(BPF_MAP_UPDATE_ELEM)"


def test_batches_and_single_calls_agree() -> None:
    with make(uapi.BPF_MAP_TYPE_HASH, entries=10000, value_size=3) as table:
        table.update_many([(key(i), i.to_bytes(3, "little")) for i in range(9999)])
        batched = table.items()
        table._can_batch = False
        assert sorted(batched) == sorted(table.items())
        assert len(batched) == 9999


def test_per_cpu_values() -> None:
    with make(uapi.BPF_MAP_TYPE_PERCPU_HASH, value_size=5) as table:
        assert table.value_bytes == 8 * cpus.possible_count()
        slots = [bytes([cpu]) * 5 for cpu in range(cpus.possible_count())]
        table.update(key(7), table.join_slots(slots))
        value = table.lookup(key(7))
        assert value is not None
        assert table.slots(value) == slots
        assert table.items() == [(key(7), value)]


def test_array_and_clear() -> None:
    with make(uapi.BPF_MAP_TYPE_ARRAY, entries=3) as table:
        table.update(key(2), b"abcdefgh")
        assert [value for _, value in table.items()] == [bytes(8), bytes(8), b"abcdefgh"]
        table.clear()
        assert [value for _, value in table.items()] == [bytes(8)] * 3
        with pytest.raises(KernelError) as caught:
            table.delete(key(0))
        assert caught.value.errno == errno.EINVAL


def test_queue_has_no_keys() -> None:
    with make(uapi.BPF_MAP_TYPE_QUEUE, key_size=0) as queue:
        for text in (b"1st.....", b"2nd....."):
            queue.update(b"", text)
        assert queue.lookup(b"") == b"1st....."
        assert [queue.lookup_and_delete() for _ in range(3)] == [b"1st.....", b"2nd.....", None]


def test_mapped_data_section() -> None:
    with make(uapi.BPF_MAP_TYPE_ARRAY, entries=1, value_size=20, flags=uapi.BPF_F_MMAPABLE) as table:
        memory = table.map_memory()
        memory[4:8] = b"data"
        memory.close()
        assert table.lookup(key(0)) == bytes(4) + b"data" + bytes(12)
        table.freeze()
        with pytest.raises(KernelError, match="frozen or read-only"):
            table.update(key(0), bytes(20))
        view = table.map_memory(writable=False)
        assert view[4:8] == b"data"
        view.close()


def test_map_of_maps_and_program_array(counter: Map) -> None:
    with make(uapi.BPF_MAP_TYPE_ARRAY, entries=1) as template:
        definition = MapDef("outer", uapi.BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 4)
        with Map.create(definition, inner=template) as outer:
            outer.update(key(1), key(template.fd))
            assert outer.lookup(key(1)) == key(template.info().id)
    with (
        make(uapi.BPF_MAP_TYPE_PROG_ARRAY, value_size=4) as table,
        counting(counter, uapi.BPF_PROG_TYPE_KPROBE) as prog,
    ):
        table.update(key(3), key(prog.fd))
        assert table.lookup(key(3)) == key(prog.info().id)


def test_map_info_by_id_and_ids() -> None:
    with make(uapi.BPF_MAP_TYPE_HASH) as table:
        info = table.info()
        assert info[:6] == (uapi.BPF_MAP_TYPE_HASH, info.id, 4, 8, 16, 0)
        assert info.name == "test_map"
        assert info.id in set(Map.ids())
        with Map.by_id(info.id) as same:
            assert same.info() == info
            same.update(key(1), b"together")
        assert table.lookup(key(1)) == b"together"
    with pytest.raises(KernelError, match="no map has this id") as caught:
        Map.by_id(info.id)
    assert caught.value.errno == errno.ENOENT


def test_sizes_default_to_the_machine() -> None:
    with make(uapi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, value_size=4, entries=0) as table:
        assert table.info().max_entries == cpus.possible_count()
    with make(uapi.BPF_MAP_TYPE_RINGBUF, key_size=0, value_size=0, entries=ringbuf.default_size()) as ring:
        # By the machine's memory, but a power of two within bounds: the kernel takes no other.
        size = ring.info().max_entries
        assert size == ringbuf.default_size()
        assert size & (size - 1) == 0
        assert 256 * 1024 <= size <= 16 << 20


def test_btf_and_typed_map() -> None:
    with Btf.load(INT_BTF) as types:
        info = types.info()
        assert (info.size, info.is_kernel) == (len(INT_BTF), False)
        assert info.id in set(Btf.ids())
        with Btf.by_id(info.id) as same:
            assert same.data() == INT_BTF
        definition = MapDef("typed", uapi.BPF_MAP_TYPE_HASH, 4, 4, 1, key_type_id=1, value_type_id=1)
        with Map.create(definition, btf=types) as table:
            assert table.info().btf_id == info.id
            assert table.info().btf_key_type_id == 1


def test_bad_btf_is_explained() -> None:
    broken = bytearray(INT_BTF)
    broken[36] = 99  # an integer of 99 bits in 4 bytes
    with pytest.raises(VerifierError) as caught:
        Btf.load(bytes(broken))
    assert caught.value.call == "bpf(BPF_BTF_LOAD)"
    assert caught.value.errno == errno.EINVAL
    assert "nr_bits" in caught.value.log


def test_program_details(counter: Map) -> None:
    with counting(counter, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog:
        info = prog.info()
        assert (info.type, info.name, info.gpl_compatible) == (
            uapi.BPF_PROG_TYPE_RAW_TRACEPOINT,
            "count",
            True,
        )
        assert info.id in set(Program.ids())
        assert info.nr_map_ids == 1
        details = prog.details()
        assert details.map_ids == (counter.info().id,)
        assert len(details.xlated) == info.xlated_prog_len
        assert details.xlated[-8:] == RETURN_ZERO[8:]
        assert len(details.jited) == info.jited_prog_len
        assert details.prog_tags == (info.tag,)
        with Program.by_id(info.id) as same:
            assert same.info() == info


def test_program_lines_and_functions() -> None:
    # int f(void) { ... }: BTF of an int, a prototype and a function called "f".
    strings = b"\0int\0f\0x.bt\0return 0\0"
    types = (
        struct.pack("=4I", 1, 1 << 24, 4, 0x01000020)
        + struct.pack("=3I", 0, 13 << 24, 1)
        + struct.pack("=3I", 5, 12 << 24 | 1, 2)
    )
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    with (
        Btf.load(head + types + strings) as btf,
        Program.load(
            RETURN_ZERO,
            uapi.BPF_PROG_TYPE_KPROBE,
            name="f",
            btf=btf,
            func_info=[(0, 3)],
            line_info=[(0, 7, 12, 3 << 10 | 5)],
        ) as prog,
    ):
        assert prog.info().btf_id == btf.info().id
        details = prog.details()
        assert details.func_info == ((0, 3),)
        assert details.line_info == ((0, 7, 12, 3 << 10 | 5),)
        assert len(details.jited_line_info) == 1


def test_refused_program_carries_the_log() -> None:
    code = encode(assemble("r0 = r5\nexit"))
    with pytest.raises(VerifierError) as caught:
        Program.load(code, uapi.BPF_PROG_TYPE_KPROBE, name="reads_r5")
    assert caught.value.errno == errno.EACCES
    assert "R5 !read_ok" in caught.value.message
    assert "r0 = r5" in caught.value.log


def test_log_on_request() -> None:
    with Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_KPROBE, log_level=uapi.BPF_LOG_STATS) as prog:
        assert "processed 2 insns" in prog.log


def test_a_long_log_is_whole() -> None:
    code = encode(assemble("\n".join(["r0 = 0"] * 3000 + ["r0 = r5", "exit"])))
    with pytest.raises(VerifierError) as caught:
        Program.load(code, uapi.BPF_PROG_TYPE_KPROBE, log_level=1, log_size=4096)
    assert "R5 !read_ok" in caught.value.message
    assert len(caught.value.log) > 30000


def test_test_run_with_data() -> None:
    code = encode(assemble("r0 = *(u32 *)(r1 + 0)\nexit"))  # __sk_buff.len
    with Program.load(code, uapi.BPF_PROG_TYPE_SOCKET_FILTER) as prog:
        run = prog.test_run(data=bytes(range(64)), data_out=64, repeat=10)
        assert run.retval == 64 - 14  # the Ethernet header is taken off before a socket filter runs
        assert run.data == bytes(14) + bytes(range(14, 64))
        assert run.duration >= 0


def test_test_run_with_context() -> None:
    code = encode(assemble("r2 = *(u32 *)(r1 + 0)\nr2 += 1\n*(u32 *)(r1 + 0) = r2\nr0 = 5\nexit"))
    with Program.load(code, uapi.BPF_PROG_TYPE_SYSCALL, flags=uapi.BPF_F_SLEEPABLE) as prog:
        run = prog.test_run(ctx=struct.pack("=2I", 41, 0), ctx_out=8)
        assert run.retval == 5
        assert run.ctx == struct.pack("=2I", 42, 0)


def test_types_that_cannot_be_test_run() -> None:
    with Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_KPROBE) as prog, pytest.raises(KernelError) as caught:
        prog.test_run()
    assert "cannot test-run programs of this type (ENOTSUPP)" in str(caught.value)


def test_run_statistics(counter: Map) -> None:
    with program.enable_stats(), counting(counter, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog:
        for _ in range(5):
            prog.test_run()
        with Link.raw_tracepoint(prog, "sys_enter"):
            before = total(counter)
            os.getppid()
            assert total(counter) > before
        info = prog.info()
        assert info.run_cnt > 0
        assert info.run_time_ns > 0
    assert total(counter) >= 6


def test_raw_tracepoint_link_and_task_fd(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog,
        Link.raw_tracepoint(prog, "sched_switch", cookie=77) as link,
    ):
        info = link.info()
        assert (info.type, info.prog_id) == (uapi.BPF_LINK_TYPE_RAW_TRACEPOINT, prog.info().id)
        assert info.fields["tp_name"] == "sched_switch"
        assert info.fields["cookie"] == (77 if tells_cookie() else 0)
        assert info.id in set(Link.ids())
        with Link.by_id(info.id) as same:
            assert same.info() == info
        found = task_fd_query(os.getpid(), link.fd)
        assert found[:3] == (prog.info().id, 0, "sched_switch")
        with pytest.raises(KernelError):
            link.force_detach()


def test_missing_tracepoint(counter: Map) -> None:
    with counting(counter, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog, pytest.raises(KernelError) as caught:
        Link.raw_tracepoint(prog, "no_such_tracepoint")
    assert caught.value.errno == errno.ENOENT
    assert "there is no such tracepoint" in caught.value.message


def test_perf_link_on_a_tracepoint(counter: Map) -> None:
    number = event_id("syscalls", "sys_enter_getppid")
    with (
        counting(counter, uapi.BPF_PROG_TYPE_TRACEPOINT) as prog,
        PerfEvent.tracepoint(number) as event,
        Link.perf_event(prog, event.fd, cookie=5) as link,
    ):
        for _ in range(10):
            os.getppid()
        assert total(counter) >= 10
        info = link.info()
        assert info.type == uapi.BPF_LINK_TYPE_PERF_EVENT
        assert info.fields["perf_type"] == uapi.BPF_PERF_EVENT_TRACEPOINT
        assert info.fields["tp_name"] == "sys_enter_getppid"


def test_btf_tracepoint_with_cookie(counter: Map) -> None:
    target = Types.vmlinux().raw_tracepoint("sys_enter").id
    with (
        counting(counter, uapi.BPF_PROG_TYPE_TRACING, uapi.BPF_TRACE_RAW_TP, attach_btf_id=target) as prog,
        Link.tracing(prog, uapi.BPF_TRACE_RAW_TP, cookie=3) as link,
    ):
        before = total(counter)
        os.getppid()
        assert total(counter) > before
        info = link.info()
        assert info.type == uapi.BPF_LINK_TYPE_RAW_TRACEPOINT
        assert info.fields["tp_name"] == "sys_enter"
        assert info.fields["cookie"] == (3 if tells_cookie() else 0)


def test_iterator_link() -> None:
    # Writes one byte for each task: bpf_seq_write(ctx->meta->seq, "x", 1).
    text = """
        r1 = *(u64 *)(r1 + 0)
        r1 = *(u64 *)(r1 + 0)
        *(u8 *)(r10 - 8) = 120
        r2 = r10
        r2 += -8
        r3 = 1
        call bpf_seq_write
        r0 = 0
        exit
    """
    target = Types.vmlinux().find_all("bpf_iter_task", kinds.BTF_KIND_FUNC)[0]
    with Program.load(
        encode(assemble(text)),
        uapi.BPF_PROG_TYPE_TRACING,
        expected_attach_type=uapi.BPF_TRACE_ITER,
        attach_btf_id=target,
    ) as prog:
        with Link.iterator(prog) as link, link.open_iterator() as walk:
            assert link.info().fields["target_name"] == "task"
            everything = b""
            while part := os.read(walk.fd, 1 << 16):
                everything += part
        assert set(everything) == {ord("x")}
        assert len(everything) > 1
        with Link.iterator(prog, pid=os.getpid()) as link, link.open_iterator() as walk:
            # One x for each thread of this process, and one for the end of the walk.
            assert 2 <= len(os.read(walk.fd, 4096)) < len(everything)


def test_uprobe_multi(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_KPROBE, uapi.BPF_TRACE_UPROBE_MULTI) as prog,
        Link.uprobe_multi(prog, "/bin/true", [0x2000, 0x2010], cookies=[1, 2]) as link,
    ):
        fields = link.info().fields
        assert fields["path"].endswith("/bin/true")
        assert fields["offsets"] == (0x2000, 0x2010)
        assert fields["cookies"] == (1, 2)


@pytest.mark.needs("kprobe_multi")
def test_kprobe_multi(counter: Map) -> None:
    with counting(counter, uapi.BPF_PROG_TYPE_KPROBE, uapi.BPF_TRACE_KPROBE_MULTI) as prog:
        with Link.kprobe_multi(prog, symbols=["vfs_read", "vfs_write"], cookies=[8, 9]) as link:
            before = total(counter)
            Path("/proc/self/comm").read_bytes()
            assert total(counter) > before
            fields = link.info().fields
            assert fields["count"] == 2
            assert sorted(fields["cookies"]) == [8, 9]
        with Link.kprobe_multi(prog, symbols=["vfs_read"], retprobe=True) as link:
            assert link.info().fields["flags"] & 1
        with pytest.raises(KernelError):
            Link.kprobe_multi(prog, symbols=["no_such_function"])


@pytest.mark.needs("fentry")
def test_fentry(counter: Map) -> None:
    target = Types.vmlinux().function("vfs_read").id
    with (
        counting(counter, uapi.BPF_PROG_TYPE_TRACING, uapi.BPF_TRACE_FENTRY, attach_btf_id=target) as prog,
        Link.tracing(prog, uapi.BPF_TRACE_FENTRY, cookie=1),
    ):
        before = total(counter)
        Path("/proc/self/comm").read_bytes()
        assert total(counter) > before


def test_network_namespace_link_updates_and_detaches(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_FLOW_DISSECTOR) as first,
        counting(counter, uapi.BPF_PROG_TYPE_FLOW_DISSECTOR) as second,
        Fd(os.open("/proc/self/ns/net", os.O_RDONLY)) as namespace,
        Link.create(first.fd, namespace.fd, uapi.BPF_FLOW_DISSECTOR) as link,
    ):
        assert program.query(namespace.fd, uapi.BPF_FLOW_DISSECTOR) == [first.info().id]
        link.update(second, old=first)
        assert link.info().prog_id == second.info().id
        link.force_detach()
        assert program.query(namespace.fd, uapi.BPF_FLOW_DISSECTOR) == []


def test_attach_without_a_link(counter: Map) -> None:
    with (
        counting(counter, uapi.BPF_PROG_TYPE_FLOW_DISSECTOR) as prog,
        Fd(os.open("/proc/self/ns/net", os.O_RDONLY)) as namespace,
    ):
        prog.attach(0, uapi.BPF_FLOW_DISSECTOR)
        try:
            assert program.query(namespace.fd, uapi.BPF_FLOW_DISSECTOR) == [prog.info().id]
        finally:
            prog.detach_from(0, uapi.BPF_FLOW_DISSECTOR)
        assert program.query(namespace.fd, uapi.BPF_FLOW_DISSECTOR) == []


def test_pins(counter: Map, bpffs: str) -> None:
    with counting(counter, uapi.BPF_PROG_TYPE_RAW_TRACEPOINT) as prog:
        counter.pin(f"{bpffs}/counter")
        prog.pin(f"{bpffs}/prog")
        with Map.pinned(f"{bpffs}/counter") as same:
            assert same.info().id == counter.info().id
        with Program.pinned(f"{bpffs}/prog") as again:
            assert again.info().id == prog.info().id
        with pytest.raises(KernelError, match="the name exists already"):
            counter.pin(f"{bpffs}/prog")
        with Link.raw_tracepoint(prog, "sys_enter") as link:
            link.pin(f"{bpffs}/link")
        with Link.pinned(f"{bpffs}/link") as kept:  # still attached, though its first owner let go
            before = total(counter)
            os.getppid()
            assert total(counter) > before
            assert kept.info().prog_id == prog.info().id
        os.unlink(f"{bpffs}/link")
        os.unlink(f"{bpffs}/prog")
        with pytest.raises(KernelError, match="nothing is pinned there"):
            Map.pinned(f"{bpffs}/absent")
    with pytest.raises(KernelError, match="not on a BPF file system"):
        counter.pin("/tmp/tracebee-not-bpffs")


def test_bound_map_lives_with_the_program() -> None:
    with Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_KPROBE) as prog:
        with make(uapi.BPF_MAP_TYPE_ARRAY, entries=1) as table:
            prog.bind_map(table)
            number = table.info().id
        assert prog.details().map_ids == (number,)
        Map.by_id(number).close()


def test_token_outside_a_user_namespace(bpffs: str) -> None:
    with Fd(os.open(bpffs, os.O_RDONLY | os.O_DIRECTORY)) as root, pytest.raises(KernelError) as caught:
        create_token(root.fd)
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOENT)


def test_stream_of_a_silent_program() -> None:
    with Program.load(RETURN_ZERO, uapi.BPF_PROG_TYPE_SYSCALL, flags=uapi.BPF_F_SLEEPABLE) as prog:
        if dict(Types.vmlinux().enumerators("bpf_cmd"))["__MAX_BPF_CMD"] > uapi.BPF_PROG_STREAM_READ_BY_FD:
            assert prog.read_stream() == b""
        else:
            with pytest.raises(KernelError):
                prog.read_stream()


def test_unknown_command_is_einval() -> None:
    assert try_bpf(4000, attr.ID.pack()) == -errno.EINVAL
