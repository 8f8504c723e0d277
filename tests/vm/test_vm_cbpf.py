"""Classic filters beside tcpdump (its text, its choice) and the kernel (attached both ways)."""

import os
import random
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import DecodeError, UnsupportedError
from tracebee.vm.cbpf import program as classic
from tracebee.vm.cbpf.capture import Packet, read_capture, write_capture
from tracebee.vm.cbpf.disasm import disassemble
from tracebee.vm.cbpf.filter import Filter, attach_classic, attach_translated
from tracebee.vm.cbpf.program import ClassicInsn, decode, encode, parse
from tracebee.vm.cbpf.translate import translate

FILTERS = [
    "",
    "arp",
    "ip6",
    "tcp",
    "udp port 53",
    "tcp port 80 or tcp port 443",
    "host 10.0.0.1 and not port 22",
    "net 192.168.0.0/16",
    "ip[8] < 64",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "udp[4:2] > 100",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 60",
    "len > 100",
    "less 80",
    "ether[0] & 1 = 1",
    "vlan 7 and udp",
    "icmp or (ip6 and tcp src portrange 1000-2000)",
    "ip[0] & 0xf > 5",
    "(ip[4:2] % 3) = 1",
    "ip[4:2] / 1000 * 2 = 4",
    "ip[1] | ip[8] ^ 3 = 67",
]


def compiled(expression: str, option: str = "-ddd") -> str:
    command = ["tcpdump", "-y", "EN10MB", option, expression]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ethernet(kind: int, payload: bytes, destination: bytes = b"\x02\0\0\0\0\1") -> bytes:
    return destination + b"\x02\0\0\0\0\2" + struct.pack(">H", kind) + payload


def ipv4(rng: random.Random, protocol: int, payload: bytes) -> bytes:
    options = bytes(4 * rng.choice((0, 0, 1, 3)))
    length = 20 + len(options) + len(payload)
    hosts = [bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), bytes((192, 168, 3, 4))]
    return (
        struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, rng.randrange(256), length, rng.randrange(65536),
                    rng.choice((0, 0, 0, 0x2001)), rng.choice((1, 63, 64, 255)), protocol, 0)
        + rng.choice(hosts) + rng.choice(hosts) + options + payload
    )  # fmt: skip


def transport(rng: random.Random, protocol: int) -> bytes:
    ports = struct.pack(">HH", rng.choice((22, 53, 80, 443, 1500)), rng.choice((22, 53, 80, 1024)))
    data = rng.randbytes(rng.choice((0, 3, 40, 120)))
    if protocol == 6:
        return (
            ports
            + struct.pack(">IIBBHHH", 1, 2, 0x50, rng.choice((0x02, 0x10, 0x11, 0x12)), 100, 0, 0)
            + data
        )
    if protocol == 17:
        return ports + struct.pack(">HH", 8 + len(data), 0) + data
    return rng.randbytes(8) + data


def packets(count: int = 150) -> list[Packet]:
    """Frames of many kinds, the same on every run; a few are cut short."""
    rng = random.Random(2)
    out = []
    for number in range(count):
        protocol = rng.choice((1, 6, 6, 17, 17, 47))
        body = ipv4(rng, protocol, transport(rng, protocol))
        kind = rng.choice(("ip", "ip", "ip", "arp", "ip6", "vlan", "multicast"))
        if kind == "arp":
            frame = ethernet(0x0806, rng.randbytes(28))
        elif kind == "ip6":
            inner = transport(rng, protocol)
            head = struct.pack(">IHBB", 0x60000000, len(inner), protocol, 64) + rng.randbytes(32)
            frame = ethernet(0x86DD, head + inner)
        elif kind == "vlan":
            frame = ethernet(0x8100, struct.pack(">HH", rng.choice((7, 8)), 0x0800) + body)
        else:
            frame = ethernet(0x0800, body, b"\x01\0\x5e\0\0\1" if kind == "multicast" else b"\x02\0\0\0\0\1")
        cut = frame[: rng.choice((14, 20, 30, len(frame), len(frame), len(frame), len(frame)))]
        out.append(Packet(1_700_000_000_000_000_000 + number, cut, len(cut)))
    return out


PACKETS = packets()


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize("expression", FILTERS)
def test_text_is_tcpdumps(expression: str) -> None:
    program = parse(compiled(expression))
    assert disassemble(program) == compiled(expression, "-d").splitlines()


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize("expression", FILTERS)
def test_chosen_packets_are_tcpdumps(expression: str, tmp_path: Path) -> None:
    capture, chosen = tmp_path / "in.pcap", tmp_path / "out.pcap"
    capture.write_bytes(write_capture(PACKETS))
    # tcpdump runs the filter itself on a file; the kernel has no part in it.
    command = ["tcpdump", "-Z", "root", "-r", str(capture), "-w", str(chosen), expression]
    subprocess.run(
        command if os.geteuid() == 0 else command[:1] + command[3:], check=True, capture_output=True
    )
    wanted = [p.time for p in read_capture(chosen.read_bytes())]
    ours = [p.time for p in Filter(parse(compiled(expression))).choose(read_capture(capture.read_bytes()))]
    # tcpdump writes microseconds unless told otherwise.
    assert [time // 1000 for time in ours] == [time // 1000 for time in wanted]


def received(receiver: socket.socket) -> int:
    """Length of what arrived: delivery is done when send returns, also of what the filter dropped."""
    try:
        return len(receiver.recv(65536, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


def kernel_lengths(receiver: socket.socket, sender: socket.socket) -> list[int]:
    """Bytes of each packet that arrive; a datagram socket's filter sees the bytes sent, from the first on."""
    arrived = []
    for packet in PACKETS:
        sender.send(packet.data)
        arrived.append(received(receiver))
    return arrived


@pytest.mark.needs("tcpdump", "bpf")
@pytest.mark.parametrize("expression", FILTERS)
def test_kernel_chooses_the_same(expression: str) -> None:
    program = parse(compiled(expression))
    filter_ = Filter(program)
    ours = [min(filter_.run(p.data), len(p.data)) for p in PACKETS]
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with receiver, sender:
        attach_classic(receiver, program)
        assert kernel_lengths(receiver, sender) == ours
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with receiver, sender, attach_translated(receiver, program):
        assert kernel_lengths(receiver, sender) == ours


# Programs no compiler writes


def random_program(draw: st.DrawFn) -> list[ClassicInsn]:
    length = draw(st.integers(2, 12))
    program: list[ClassicInsn] = [ClassicInsn(classic.ST, k=3), ClassicInsn(classic.STX, k=4)]
    rows = [row for row in classic.OPCODES if row.code & 7 != classic.RET]
    for at in range(length):
        row = draw(st.sampled_from(rows))
        after = length - at
        code = row.code
        k = draw(st.integers(0, 40))
        if code & 7 in (classic.ST, classic.STX) or (code & 0xE0 == classic.MEM and code & 7 < 2):
            k = draw(st.sampled_from((3, 4)))
        elif code & 7 == classic.ALU and code & 0xF0 in (classic.DIV, classic.MOD):
            k = max(k, 1)
        elif code & 7 == classic.ALU and code & 0xF0 in (classic.LSH, classic.RSH):
            k %= 32
        elif code & 7 == classic.ALU or (code & 0xE0 == classic.IMM and code & 7 < 2):
            k = draw(st.integers(0, 0xFFFFFFFF))
        if code == classic.JMP | classic.JA:
            k = draw(st.integers(0, after - 1))
        jumps = st.integers(0, after - 1) if code & 7 == classic.JMP else st.just(0)
        program.append(ClassicInsn(code, draw(jumps), draw(jumps), k))
    return [*program, ClassicInsn(classic.RET | classic.A)]


@pytest.mark.needs("bpf")
@given(st.composite(random_program)())
@settings(max_examples=150, deadline=None)
def test_random_programs_as_the_kernel(program: list[ClassicInsn]) -> None:
    classic.check(program)
    filter_ = Filter(program)
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with receiver, sender:
        attach_classic(receiver, program)
        for packet in PACKETS[:4]:
            kept = min(filter_.run(packet.data), len(packet.data))
            sender.send(packet.data)
            assert received(receiver) == kept


@given(st.composite(random_program)())
def test_encoding_round_trip(program: list[ClassicInsn]) -> None:
    assert decode(encode(program)) == program


BAD = [
    ("", "expected the number of instructions"),
    ("2\n6 0 0 0\n", "expected the number of instructions"),
    ("1\n6 0 0\n", "instruction 0: expected code jt jf k"),
    ("1\n6 0 0 x\n", "not a classic BPF program"),
    ("1\n6 0 0 4294967296\n", "instruction 0: expected code jt jf k"),
    ("1\n40 0 0 12\n", "the last instruction must return"),
    ("2\n21 1 0 5\n6 0 0 0\n", "instruction 0: jump over 1 instructions, where 1 follow"),
    ("2\n52 0 0 0\n6 0 0 0\n", "instruction 0: division by zero"),
    ("2\n100 0 0 32\n6 0 0 0\n", "instruction 0: shift by 32"),
    ("2\n2 0 0 16\n6 0 0 0\n", r"instruction 0: M\[16\]"),
    ("2\n96 0 0 3\n6 0 0 0\n", r"instruction 0: M\[3\] is read, but not written"),
    ("2\n255 0 0 0\n6 0 0 0\n", "instruction 0: there is no classic opcode 0xff"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_broken_programs(text: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse(text)


def test_commas_stand_for_newlines() -> None:
    """As iptables and tc write programs."""
    assert parse("1,6 0 0 65535,") == [ClassicInsn(6, 0, 0, 65535)]


def test_ancillary_data() -> None:
    protocol = [ClassicInsn(0x28, k=0xFFFFF000), ClassicInsn(classic.RET | classic.A)]
    assert Filter(protocol).run(ethernet(0x0806, b"")) == 0x0806
    xor = [
        ClassicInsn(0, k=12),
        ClassicInsn(1, k=10),
        ClassicInsn(0x20, k=0xFFFFF000 + 40),
        ClassicInsn(0x16),
    ]
    assert Filter(xor).run(b"") == 6
    with pytest.raises(UnsupportedError, match="loads the hardware type"):
        translate([ClassicInsn(0x20, k=0xFFFFF000 + 28), ClassicInsn(0x16)])


def test_capture_files() -> None:
    data = write_capture(PACKETS)
    assert list(read_capture(data)) == PACKETS
    with pytest.raises(DecodeError, match="cut short"):
        list(read_capture(data[:-1]))
    with pytest.raises(DecodeError, match="no pcap file"):
        list(read_capture(b"\x0a\x0d\x0d\x0a" + bytes(40)))
    big = struct.pack(">4sHHiIII", b"\xa1\xb2\xc3\xd4", 2, 4, 0, 0, 65535, 1)
    big += struct.pack(">4I", 5, 7, 3, 60) + b"abc"
    assert list(read_capture(big)) == [Packet(5_000_007_000, b"abc", 60)]
