"""Built scripts on a kernel of other types: bit-fields (place, width, word and sign), whole records, sizes,
enumerators are the running kernel's.
"""

from __future__ import annotations

import shlex
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.btf.builder import Builder

TRACEBEE = str(Path(sys.executable).parent / "tracebee")
SCRIPT = """
tracepoint:syscalls:sys_enter_write /args.fd == 77/ {
    $r = (struct bits_of_some_kernel *)args.buf;
    printf("%d %d %d %d\\n", $r->low, $r->high, $r->sign, $r->wide);
}
"""
# (name, bits, what it holds); ``sign`` is signed, ``wide`` lies in a word of eight bytes.
VALUES = (("low", 3, 5), ("high", 4, 9), ("sign", 5, -7), ("wide", 40, 0xABCDEF0123))


def struct_of(size: int, places: dict[str, tuple[int, str]]) -> tuple[bytes, bytes]:
    """BTF with a ``struct bits_of_some_kernel``, and one such in memory.

    :param places: bit offset and integer type of each field.
    """
    b = Builder("little")
    types = {
        "u8": b.integer("unsigned char", 1),
        "u32": b.integer("unsigned int", 4),
        "u64": b.integer("unsigned long", 8),
        "s16": b.integer("short", 2, signed=True),
        "s32": b.integer("int", 4, signed=True),
    }
    bits = {name: (width, value) for name, width, value in VALUES}
    members = [(name, types[t], at, bits[name][0]) for name, (at, t) in places.items()]
    b.struct("bits_of_some_kernel", size, members)
    memory = (1 << 8 * size) - 1  # what lies around the fields is not to be seen
    for name, (at, _) in places.items():
        width, value = bits[name]
        mask = (1 << width) - 1
        memory = memory & ~(mask << at) | (value & mask) << at
    return b.to_bytes(), memory.to_bytes(size, "little")


ONE = struct_of(16, {"low": (0, "u32"), "high": (3, "u32"), "sign": (20, "s32"), "wide": (64, "u64")})
OTHER = struct_of(24, {"wide": (20, "u64"), "high": (68, "u8"), "sign": (116, "s16"), "low": (157, "u32")})


def lines_of(*command: str) -> list[str]:
    """What a command prints, but for empty lines and the one that says what is attached."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line and not line.startswith("Attaching")]


def build(script: str, btf: bytes, folder: Path) -> str:
    """An object made where the kernel has these types."""
    types, target = folder / "built.btf", folder / "bits.bpf.o"
    types.write_bytes(btf)
    lines_of(TRACEBEE, "build", "--btf", str(types), "-e", script, "-o", str(target))
    return str(target)


def writer(record: bytes) -> str:
    """A command that writes these bytes to its descriptor 77."""
    program = f"import os; os.dup2(os.open('/dev/null', 1), 77); os.write(77, bytes({list(record)}))"
    return shlex.join([sys.executable, "-c", program])


@pytest.mark.needs("bpf")
@pytest.mark.parametrize(("built", "run"), [(ONE, ONE), (ONE, OTHER), (OTHER, ONE)])
def test_an_object_finds_them_on_another_kernel(
    tmp_path: Path, built: tuple[bytes, bytes], run: tuple[bytes, bytes]
) -> None:
    target = build(SCRIPT, built[0], tmp_path)
    types = tmp_path / "run.btf"
    types.write_bytes(run[0])
    expected = " ".join(str(value) for _, _, value in VALUES)
    assert lines_of(TRACEBEE, "run", "--btf", str(types), target, "-c", writer(run[1])) == [expected]


WHOLE = """
tracepoint:syscalls:sys_enter_write /args.fd == 77/ {
    $r = (struct record *)args.buf;
    print(*$r);
    @kept = *$r;
    print((@kept.list[1].n, @kept.flags, @kept.text));
    $i = 1;
    print(($r[1].text, $r[$i].list[1].n, ($r + 1)->one.n, $r->list[$i].n, $r->list[1].n));
    print((sizeof(struct record), offsetof(struct record, text), sizeof(*$r), GREEN));
    print($r->hue);
    clear(@kept);
}
"""


def whole(*, moved: bool) -> bytes:
    """Types of a kernel: ``struct record``, which has another layout where it has moved."""
    b = Builder("little")
    char, number = b.integer("char", 1, encoding=2), b.integer("unsigned int", 4)
    inner = b.struct(
        "inner", 12, [("n", number, 0), ("c", char, 64)] if moved else [("c", char, 0), ("n", number, 64)]
    )
    hue = b.enum("hue", [("RED", 0), ("GREEN", 7 if moved else 2)])
    text, list_ = b.array(char, 6), b.array(inner, 2)
    if moved:
        rows = [
            ("text", text, 16, 0),
            ("list", list_, 64, 0),
            ("hue", hue, 256, 0),
            ("one", inner, 288, 0),
            ("flags", number, 390, 12),
        ]
        b.struct("record", 56, rows)
    else:
        rows = [
            ("one", inner, 0, 0),
            ("list", list_, 96, 0),
            ("flags", number, 293, 12),
            ("hue", hue, 320, 0),
            ("text", text, 352, 0),
        ]
        b.struct("record", 52, rows)
    return b.to_bytes()


def moved_record(first: int, text: bytes) -> bytes:
    """One in memory, where it has moved: numbers from ``first`` on."""
    inner = [struct.pack("<IIBxxx", first + i, 0, 65 + i) for i in range(3)]
    return (
        struct.pack("<xx6s", text)
        + inner[1]
        + inner[2]
        + struct.pack("<I", 7)
        + inner[0]
        + struct.pack("<Q", 0xABC << 6)
    )


@pytest.mark.needs("bpf")
def test_whole_records_sizes_and_enumerators(tmp_path: Path) -> None:
    target = build(WHOLE, whole(moved=False), tmp_path)
    types = tmp_path / "run.btf"
    types.write_bytes(whole(moved=True))
    memory = moved_record(10, b"one") + moved_record(20, b"two")
    inner = [f"{{ .c = {65 + i}, .n = {10 + i} }}" for i in range(3)]
    one = f"{{ .one = {inner[0]}, .list = [{inner[1]},{inner[2]}], .flags = 2748, .hue = 7, .text = one }}"
    assert lines_of(TRACEBEE, "run", "--btf", str(types), target, "-c", writer(memory)) == [
        one,
        "(12, 2748, one)",
        "(two, 22, 20, 12, 12)",
        "(56, 2, 56, GREEN)",
        "GREEN",
    ]


@pytest.mark.needs("bpf")
def test_a_load_that_would_be_too_wide_is_not_made(tmp_path: Path) -> None:
    """Built where the word that holds the field has 8 bytes, run where it has 4."""
    b = Builder("little")
    b.struct("task_struct", 64, [("sched_reset_on_fork", b.integer("unsigned long", 8), 69, 1)])
    script = """
    tracepoint:syscalls:sys_enter_sched_get_priority_max /args.policy == 3/ {
        printf("%d\\n", curtask->sched_reset_on_fork);
    }"""
    target = build(script, b.to_bytes(), tmp_path)
    policy = "os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0)"
    program = f"import os; os.sched_get_priority_max(3); os.sched_setscheduler(0, {policy})"
    caller = shlex.join([sys.executable, "-c", f"{program}; os.sched_get_priority_max(3)"])
    assert lines_of(TRACEBEE, "run", target, "-c", caller) == ["0", "1"]


@pytest.mark.needs("bpf")
@pytest.mark.parametrize("grown", [True, False])
def test_numbers_of_another_width(tmp_path: Path, grown: bool) -> None:
    """What stands behind a member that has shrunk is not read, and signs are kept."""

    def types(*widths: str) -> bytes:
        b = Builder("little")
        rows = []
        for number, width in enumerate(widths):
            kind = b.integer(width, int(width[1:]) // 8, signed=width[0] == "s")
            rows.append((f"m{number}", kind, 64 * number))
        b.struct("numbers", 8 * len(rows), rows)
        return b.to_bytes()

    narrow, wide = types("u32", "s16", "u8"), types("u64", "s64", "u32")
    script = """
    tracepoint:syscalls:sys_enter_write /args.fd == 77/ {
        $n = (struct numbers *)args.buf;
        printf("%d %d %d\\n", $n->m0, $n->m1, $n->m2);
    }"""
    target = build(script, narrow if grown else wide, tmp_path)
    here = tmp_path / "run.btf"
    here.write_bytes(wide if grown else narrow)
    memory = (
        struct.pack("<QqI", 70, -5, 200) if grown else struct.pack("<I4sh6sB", 70, b"~~~~", -5, b"~" * 6, 200)
    )
    memory = memory.ljust(24, b"~")
    assert lines_of(TRACEBEE, "run", "--btf", str(here), target, "-c", writer(memory)) == ["70 -5 200"]


@pytest.mark.needs("btf")
def test_a_record_of_too_many_members_is_refused(tmp_path: Path) -> None:
    command = [TRACEBEE, "build", "-e", "BEGIN { @x = 1; print(*curtask); }", "-o", str(tmp_path / "x.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error, _, caret, hint = done.stderr.splitlines()
    assert error.startswith("stdin:1:23: error: 'struct task_struct' has ")
    assert caret.strip(" |") == "^~~~~~~~"  # all of *curtask
    assert "name the members that are wanted" in hint
