"""Objects in the VM: assembler text, clang's ELF files, packets, the plugin and the command line."""

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.cli import vm as cli
from tracebee.errors import KernelError, ProgramFaultError, SourceError, SymbolError, UsageError
from tracebee.kernel.program import Program as KernelProgram
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import MapDef, Object, ProgramDef
from tracebee.vm import plugin
from tracebee.vm.assembly import read_assembly
from tracebee.vm.context import low_buffer
from tracebee.vm.session import Vm

COUNT_BYTES = """
.map counts array 4 8 1
.program xdp
r2 = *(u32 *)(r1 +4)        ; data_end
r3 = *(u32 *)(r1 +0)        ; data
r4 = r3
r4 += 2
r0 = 1                      ; XDP_DROP
if r4 > r2 goto out
r6 = *(u8 *)(r3 +1)
*(u8 *)(r3 +0) = 255
*(u32 *)(r10 -4) = 0
r1 = map[counts]
r2 = r10
r2 += -4
call map_lookup_elem
if r0 == 0 goto out
lock *(u64 *)(r0 +0) += r6
r0 = 2                      ; XDP_PASS
out:
exit
"""


def test_packets_and_maps() -> None:
    with Vm(read_assembly(COUNT_BYTES)) as vm:
        result = vm.run(packet=b"\x01\x05\x07")
        assert result.value == 2
        assert result.packet == b"\xff\x05\x07"
        assert vm.run(packet=b"\x01\x06").value == 2
        assert vm.run(packet=b"\x01").value == 1
        assert vm.maps["counts"].lookup(bytes(4)) == struct.pack("=Q", 11)


def test_packets_are_bounded() -> None:
    with Vm(read_assembly(".program xdp\nr1 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r1 +4)\nexit")) as vm:
        assert vm.run(packet=b"abcde").value == ord("e")
        with pytest.raises(ProgramFaultError, match="bytes after the end of packet"):
            vm.run(packet=b"abc")


def test_packet_memory_is_given_back() -> None:
    first = low_buffer(4096)
    address = ctypes.addressof(first)
    del first
    assert ctypes.addressof(low_buffer(4096)) == address


def test_contexts() -> None:
    text = ".program tracepoint/a/b\nr0 = *(u64 *)(r1 +8)\n*(u8 *)(r1 +0) = 1\nexit"
    with Vm(read_assembly(text)) as vm:
        result = vm.run(context=bytes(8) + struct.pack("=Q", 77))
        assert result.value == 77
        assert result.context[:1] == b"\1"
        with pytest.raises(ProgramFaultError, match="context"):
            vm.run(context=bytes(8))


def test_static_contents() -> None:
    inner = MapDef("inner", uapi.BPF_MAP_TYPE_ARRAY, 4, 4, 1)
    outer = MapDef("outer", uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 2, inner=inner, values=((1, "inner"),))
    data = MapDef(".rodata", uapi.BPF_MAP_TYPE_ARRAY, 4, 8, 1, contents=b"constant", frozen=True)
    code = read_assembly("r1 = map[.rodata][0]+3\nr0 = *(u8 *)(r1 +0)\nexit")
    obj = Object("o", "GPL", (inner, outer, data), code.programs)
    with Vm(obj) as vm:
        assert vm.run().value == ord("s")
        assert vm.maps["outer"].find(struct.pack("=I", 1)) == vm.maps["inner"].address


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("r1 = map[nothing]\nexit", SymbolError, "no map named 'nothing'"),
        (
            "call kfunc bpf_rcu_read_lock\nexit",
            SymbolError,
            r"'bpf_rcu_read_lock' \(kfunc\) is known to a kernel",
        ),
        (".map x hash 0 0 0\nr0 = 0\nexit", KernelError, "map 'x'"),
        (".map x nonsense 4 4 4\nr0 = 0\nexit", SourceError, "expected .map NAME TYPE KEY VALUE ENTRIES"),
        (".program nonsense\nr0 = 0\nexit", SourceError, "there is no program section 'nonsense'"),
        ("r0 = ?", SourceError, "unexpected character"),
    ],
)
def test_what_cannot_be_loaded(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Vm(read_assembly(text))


def test_programs_are_named() -> None:
    one = read_assembly("r0 = 1\nexit", name="one").programs[0]
    two = read_assembly("r0 = 2\nexit", name="two").programs[0]
    with Vm(Object("o", "GPL", (), (one, two))) as vm:
        assert vm.run("two").value == 2
        with pytest.raises(SymbolError, match="several programs, name one"):
            vm.run()
        with pytest.raises(SymbolError, match="no program 'three'"):
            vm.run("three")


CLANG = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, long); __uint(max_entries, 64); }
    histogram SEC(".maps");
unsigned long total; const volatile unsigned int factor = 3;
static __attribute__((noinline)) unsigned int mix(unsigned int x) { return (x ^ (x >> 7)) * factor; }
static int step(unsigned int i, void *ctx) { *(unsigned long *)ctx += mix(i); return i > 30; }
SEC("xdp") int work(struct xdp_md *ctx)
{
    unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    unsigned long sum = 0, one = 1, *count;
    int key;
    for (int i = 0; i < 60 && data + i + 1 <= end; i++) {
        key = mix(data[i]) % 17;
        count = bpf_map_lookup_elem(&histogram, &key);
        if (count) __sync_fetch_and_add(count, 1);
        else bpf_map_update_elem(&histogram, &key, &one, BPF_ANY);
        sum += mix(sum + data[i]);
    }
    bpf_loop(100, step, &sum, 0);
    total = sum;
    return sum & 0x7fffffff;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clang")
    (folder / "p.bpf.c").write_text(CLANG)
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    command = [
        "clang",
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v3",
        f"-I{include}",
        "-c",
        "p.bpf.c",
        "-o",
        "p.bpf.o",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "p.bpf.o"


@pytest.mark.needs("clang", "bpf", "bpftool")
def test_a_clang_object_gives_the_kernels_result(built: Path, tmp_path: Path) -> None:
    packet = bytes(range(40, 140))
    mounted, data = tmp_path / "bpffs", tmp_path / "packet"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mounted], check=True)
    try:
        subprocess.run(["bpftool", "prog", "load", built, mounted / "p"], check=True, capture_output=True)
        with KernelProgram.pinned(str(mounted / "p")) as program:
            theirs = program.test_run(data=packet).retval
    finally:
        subprocess.run(["umount", mounted], check=True)
    data.write_bytes(packet)
    with Vm(read_object(str(built))) as vm:
        assert vm.run("work", packet=packet).value & 0xFFFFFFFF == theirs & 0xFFFFFFFF
        assert sum(struct.unpack("=q", v)[0] for _, v in vm.maps["histogram"].items()) == 60


@pytest.mark.needs("clang")
def test_plugin_runs_objects(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packet = bytes(range(40, 140))
    assert plugin.main([packet.hex(" "), "--elf", "--program", built.read_bytes().hex()]) == 0
    with Vm(read_object(str(built))) as vm:
        assert int(capsys.readouterr().out, 16) == vm.run("work", packet=packet).value & 0xFFFFFFFF


# The plugin protocol

ANSWER = "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00"
SECOND_BYTE = "71 10 01 00 00 00 00 00 95 00 00 00 00 00 00 00"


def run_plugin(arguments: list[str], program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracebee.vm.plugin", *arguments]
    return subprocess.run(command, input=program + "\n", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", [["--interpreter"], []])
def test_plugin(engine: list[str]) -> None:
    done = run_plugin(["aa bb", *engine], SECOND_BYTE)
    assert (done.returncode, done.stdout) == (0, "bb\n")


@pytest.mark.needs("x86_64")
def test_plugin_jit() -> None:
    done = run_plugin(["aa bb", "--jit"], SECOND_BYTE)
    assert (done.returncode, done.stdout) == (0, "bb\n")


@pytest.mark.parametrize(
    ("arguments", "program", "message"),
    [
        ([], "zz", "expected bytes in hexadecimal"),
        ([], "b7 00", "not a multiple of 8"),
        ([], "ff 00 00 00 00 00 00 00", "undefined instruction"),
        ([], SECOND_BYTE, "a null pointer"),
        (["--nonsense"], ANSWER, "usage:"),
        (["xx"], ANSWER, "expected bytes in hexadecimal"),
    ],
)
def test_plugin_errors(
    arguments: list[str], program: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plugin.main([*arguments, "--program", program]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert message in out.err


# The command line


def test_run_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.bpf-asm"
    file.write_text(COUNT_BYTES)
    assert cli.run(["run", str(file), "--packet", "01 05"]) == 0
    assert capsys.readouterr().out == "r0 = 0x2 (17 instructions)\n"
    assert cli.run(["run", "--trace", str(file), "--packet", "01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["0:", "(61)"]
    assert lines[-1] == "r0 = 0x1 (7 instructions)"


def test_run_command_places_faults(tmp_path: Path) -> None:
    file = tmp_path / "p.asm"
    file.write_text("r0 = 0\nr1 = 0\nr0 = *(u8 *)(r1 +0)\nexit")
    with pytest.raises(ProgramFaultError, match=r"^2: r0 = \*\(u8 \*\)\(r1 \+0\): read of 1 bytes"):
        cli.run(["run", str(file)])


def test_step_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.asm"
    file.write_text("r1 = 0x1122\n*(u64 *)(r10 -8) = r1\nr2 = r10\nr2 += -8\nr0 = 7\nexit")
    typed = iter(["s 3", "r", "", "x r2 4", "u 6", "c"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    assert cli.run(["step", str(file)]) == 0
    out = capsys.readouterr().out
    assert "r1  = 0x1122" in out
    assert "r3  = (unwritten)" in out
    assert "22 11 00 00" in out
    assert out.endswith("r0 = 0x7 (6 instructions)\n")


def test_conformance_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.data").write_text("-- asm\nmov %r0, 1\nexit\n-- result\n1\n")
    (tmp_path / "bad.data").write_text("-- asm\nmov %r0, 1\nexit\n-- result\n2\n")
    assert cli.run(["conformance", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "bad.data: expected 0x2, got 0x1" in out
    assert "1 of 2 cases passed" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["run"],
        ["run", "a", "b"],
        ["run", "--limit", "x", "-"],
        ["run", "--nonsense"],
        ["run", "--ctx"],
    ],
)
def test_usage_errors(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("r0 = 0\nexit"))
    with pytest.raises(UsageError):
        cli.run(arguments)


def test_filter_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tracebee.vm.cbpf.capture import Packet, read_capture, write_capture

    arp = bytes(12) + b"\x08\x06" + bytes(28)
    capture, chosen, ddd = tmp_path / "c.pcap", tmp_path / "n.pcap", tmp_path / "arp.ddd"
    capture.write_bytes(write_capture([Packet(1, arp, 42), Packet(2, bytes(60), 60)]))
    ddd.write_text("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n")
    assert cli.run(["filter", str(ddd), str(capture), "-w", str(chosen)]) == 0
    assert capsys.readouterr().out == "1 of 2 packets\n"
    assert [p.time for p in read_capture(chosen.read_bytes())] == [1]
    assert cli.run(["filter", str(ddd)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "(001) jeq      #0x806           jt 2\tjf 3"


def test_programdef_is_kept() -> None:
    definition = read_assembly(COUNT_BYTES).programs[0]
    assert isinstance(definition, ProgramDef)
    assert definition.type == uapi.BPF_PROG_TYPE_XDP
