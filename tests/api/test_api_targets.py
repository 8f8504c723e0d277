"""Programs attached to control groups, devices, namespaces, maps and events, which then run them."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import SymbolError, UnsupportedError, UsageError
from tracebee.kernel.fd import Fd
from tracebee.kernel.perf import PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS, PerfEvent
from tracebee.kernel.program import enable_stats, query
from tracebee.uapi import BPF_FLOW_DISSECTOR, BPF_PROG_TYPE_TRACEPOINT

pytestmark = [pytest.mark.needs("bpf", "clang")]

NUMBERS = {
    "device": 0,
    "arriving": 1,
    "leaving": 2,
    "connecting": 3,
    "sending": 4,
    "operations": 5,
    "lookup": 6,
    "filter": 7,
    "message": 8,
    "sample": 9,
    "dissect": 10,
    "function": 12,
    "event": 13,
    "raw": 14,
    "session": 15,
}


@pytest.fixture
def load(compiled: Callable[[str], str]) -> Iterator[Callable[[str], tracebee.Object]]:
    """Load one program of the object."""
    opened = []

    def one(name: str) -> tracebee.Object:
        obj = tracebee.Object(compiled("targets"))
        opened.append(obj)
        for program in obj.programs.values():
            program.autoload = program.name == name
        obj.load()
        return obj

    yield one
    for obj in opened:
        obj.close()


def hits(obj: tracebee.Object, name: str) -> int:
    value: int = obj.variables["hits"][NUMBERS[name]]
    return value


def datagram() -> None:
    """One UDP packet over the loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.sendto(b"hello", server.getsockname())
        assert server.recv(16) == b"hello"


Load = Callable[[str], tracebee.Object]


@pytest.mark.parametrize("name", ["device", "arriving", "leaving"])
@pytest.mark.usefixtures("network")
def test_network_devices(load: Load, name: str) -> None:
    obj = load(name)
    with obj.programs[name].attach_device("lo"):
        datagram()
        assert hits(obj, name) == 1
    datagram()
    assert hits(obj, name) == 1


@pytest.mark.usefixtures("network")
def test_the_order_at_a_device(compiled: Callable[[str], str]) -> None:
    with tracebee.Object(compiled("targets")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name in ("arriving", "undirected", "device")
        last, first = obj.programs["arriving"], obj.programs["undirected"]
        first.expected_attach_type = last.expected_attach_type
        obj.load()
        with last.attach_device("lo"):
            with first.attach_device("lo", before=last):
                datagram()  # the first lets it pass at once: the last does not see it
                assert obj.variables["hits"][11] == 1
                assert hits(obj, "arriving") == 0
            with first.attach_device("lo", after=last.kernel):
                datagram()
                assert obj.variables["hits"][11] == 2
                assert hits(obj, "arriving") == 1
        with pytest.raises(UsageError, match="a device has one xdp program"):
            obj.programs["device"].attach_device("lo", before=last)


@pytest.mark.usefixtures("network")
def test_network_namespaces(load: Load) -> None:
    obj = load("lookup")
    with obj.programs["lookup"].attach_netns("/proc/thread-self/ns/net"):
        datagram()
        assert hits(obj, "lookup") == 1
    datagram()
    assert hits(obj, "lookup") == 1


@pytest.mark.usefixtures("network")
def test_flow_dissectors(load: Load) -> None:
    obj = load("dissect")
    with Fd(os.open("/proc/thread-self/ns/net", os.O_RDONLY)) as here:
        with obj.programs["dissect"].attach_netns("/proc/thread-self/ns/net"):
            assert query(here.fd, BPF_FLOW_DISSECTOR) == [obj.programs["dissect"].kernel.info().id]
        assert query(here.fd, BPF_FLOW_DISSECTOR) == []


@pytest.mark.usefixtures("network")
def test_netfilter_hooks(load: Load) -> None:
    obj = load("filter")
    program = obj.programs["filter"]
    with program.attach_netfilter("ipv4", "local_in", priority=-10):
        datagram()
        assert hits(obj, "filter") == 1
    datagram()
    assert hits(obj, "filter") == 1
    with pytest.raises(UsageError, match="netfilter has no 'input'"):
        program.attach_netfilter("ipv4", "input")


CONNECT = """
import socket, sys
with socket.socket() as server, socket.socket() as client:
    server.bind(("127.0.0.1", 0))
    server.listen()
    client.connect(server.getsockname())
"""


@pytest.mark.parametrize("name", ["connecting", "sending", "operations"])
def test_control_groups(load: Load, group: Path, name: str) -> None:
    def connect() -> None:
        command = f"echo $$ > {group}/cgroup.procs && exec python3 -c '{CONNECT}'"
        subprocess.run(["sh", "-c", command], check=True)

    obj = load(name)
    with obj.programs[name].attach_cgroup(group):
        connect()
        seen = hits(obj, name)
        assert seen >= 1
    connect()
    assert hits(obj, name) == seen


def test_socket_maps(load: Load) -> None:
    obj = load("message")
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer, obj.programs["message"].attach_map(obj.maps["sockets"]):
            obj.maps["sockets"][0] = client.fileno()
            client.send(b"hello")
            assert peer.recv(16) == b"hello"
            assert hits(obj, "message") == 1
            del obj.maps["sockets"][0]


def test_perf_events(load: Load) -> None:
    obj = load("sample")
    event = PerfEvent.sampled(PERF_TYPE_SOFTWARE, SOFTWARE_EVENTS["page-faults"], period=1, pid=0)
    with event, obj.programs["sample"].attach_perf_event(event, cookie=5):
        with mmap.mmap(-1, 1 << 22) as memory:
            for page in range(0, len(memory), mmap.PAGESIZE):
                memory[page] = 1
        assert hits(obj, "sample") > 0
        assert obj.variables["cookie"] == 5


def test_samples(load: Load) -> None:
    obj = load("sample")
    program = obj.programs["sample"]
    with program.attach_perf_event("page-faults", period=1, pid=os.getpid(), cookie=6):
        with mmap.mmap(-1, 1 << 20) as memory:
            for page in range(0, len(memory), mmap.PAGESIZE):
                memory[page] = 1
        assert hits(obj, "sample") > 0
        assert obj.variables["cookie"] == 6
    before = hits(obj, "sample")
    with program.attach_perf_event("cpu-clock", frequency=500) as attachment:
        assert attachment.probes == ("sample",)
        while hits(obj, "sample") == before:
            pass
    with pytest.raises(SymbolError, match="no perf event 'cpu-clok'") as caught:
        program.attach_perf_event("cpu-clok", frequency=1)
    assert "cpu-clock" in caught.value.candidates
    with pytest.raises(UsageError, match="need a frequency or a period"):
        program.attach_perf_event("cpu-clock")


def test_sections_without_a_place_are_given_one(load: Load) -> None:
    for name, where in (
        ("function", "libc.so.6:getpgid"),
        ("event", "syscalls/sys_enter_getpgid"),
        ("raw", "sys_enter"),
    ):
        obj = load(name)
        with pytest.raises(UnsupportedError, match=f"does not say where '{name}'"):
            obj.programs[name].attach()
        with obj.programs[name].attach(where, cookie=77):
            os.getpgid(0)
        assert hits(obj, name) >= 1
        assert obj.variables["cookie"] == 77


# An event that is a raw tracepoint too, and one that is none.
@pytest.mark.parametrize("where", ["sched/sched_process_exec", "syscalls/sys_enter_execve"])
def test_tracepoints_have_their_records(load: Load, compiled: Callable[[str], str], where: str) -> None:
    obj = load("event")
    with obj.programs["event"].attach(where):
        subprocess.run(["true"], check=True)
    assert hits(obj, "event") >= 1
    with tracebee.BPF(src_file=compiled("targets")) as bpf, enable_stats():
        with bpf.attach_tracepoint(tp=where.replace("/", ":"), fn_name="event"):
            subprocess.run(["true"], check=True)
        assert bpf.load_func("event", BPF_PROG_TYPE_TRACEPOINT).info().run_cnt >= 1


def test_one_process_only(load: Load) -> None:
    obj = load("function")
    child = subprocess.Popen(["sleep", "60"])
    try:
        with obj.programs["function"].attach("libc.so.6:getpgid", pid=child.pid):
            os.getpgid(0)
        assert hits(obj, "function") == 0
        with obj.programs["function"].attach("libc.so.6:getpgid", pid=os.getpid()):
            os.getpgid(0)
        assert hits(obj, "function") == 1
    finally:
        child.kill()
        child.wait()


@pytest.mark.needs("gcc")
def test_one_version_of_a_function(load: Load, tmp_path: Path) -> None:
    (tmp_path / "greet.map").write_text("BEE_1 { global: greet; }; BEE_2 { global: greet; } BEE_1;")
    (tmp_path / "greet.c").write_text(
        '__asm__(".symver first, greet@BEE_1"); __asm__(".symver second, greet@@BEE_2");'
        "int first(void) { return 1; } int second(void) { return 2; }"
    )
    library = tmp_path / "libgreet.so"
    link = f"-Wl,--version-script={tmp_path}/greet.map"
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", link, "-o", library, tmp_path / "greet.c"], check=True)
    greet = ctypes.CDLL(str(library)).greet
    obj = load("function")
    for place, expected in (("greet@BEE_1", 0), ("greet", 1), ("greet@BEE_2", 2)):
        with obj.programs["function"].attach(f"{library}:{place}"):
            assert greet() == 2
        assert hits(obj, "function") == expected


@pytest.mark.needs("uprobe_session")
def test_sessions_of_calls_and_returns(load: Load) -> None:
    obj = load("session")
    with obj.programs["session"].attach("libc.so.6:getpgi[d]", pid=os.getpid()):
        os.getpgid(0)
    assert hits(obj, "session") == 2


def test_iterators_over_tasks(load: Load) -> None:
    program = load("tasks").programs["tasks"]
    everyone = {int(line) for line in program.read().split()}
    assert len(everyone) > 1
    assert os.getpid() in everyone
    assert {int(line) for line in program.read(pid=os.getpid()).split()} == {os.getpid()}


def test_iterators_over_a_map(load: Load) -> None:
    obj = load("print")
    obj.maps["table"].update({1: 10, 2: 20})
    assert sorted(obj.programs["print"].read(table=obj.maps["table"]).split()) == [b"1=10", b"2=20"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("libc.so.6", "'uretprobe/libc.so.6' has no function"),
        ("libc.so.6:getpgid+4", "a return probe fires when the function returns, it takes no offset"),
    ],
)
def test_places_that_libbpf_refuses_too(compiled: Callable[[str], str], where: str, words: str) -> None:
    with tracebee.Object(compiled("sections")) as obj:
        for name, program in obj.programs.items():
            program.autoload = name == "user_return"
        obj.load()
        with pytest.raises(UnsupportedError, match=re.escape(words)):
            obj.programs["user_return"].attach(where)


def test_what_does_not_fit(load: Load, tmp_path: Path) -> None:
    obj = load("undirected")
    with pytest.raises(UnsupportedError, match=r"section 'classifier' does not say which way"):
        obj.programs["undirected"].attach_device("lo")
    obj = load("event")
    with pytest.raises(UsageError, match=r"'event' \(tp\) runs in every process"):
        obj.programs["event"].attach("syscalls/sys_enter_getpgid", pid=os.getpid())
    obj = load("tasks")
    with pytest.raises(UsageError, match="cannot be given a cookie"):
        obj.programs["tasks"].attach(cookie=1)
    obj = load("device")
    with pytest.raises(SymbolError, match="no network device 'ol'"):
        obj.programs["device"].attach_device("ol")
    with pytest.raises(SymbolError, match="cannot open control group"):
        obj.programs["device"].attach_cgroup(tmp_path / "gone")
    obj = load("connecting")
    with pytest.raises(UsageError, match=r"'connecting' \(cgroup/connect4\) is not for network devices"):
        obj.programs["connecting"].attach_device("lo")
