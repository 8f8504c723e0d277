"""CO-RE: each program relocated here and by libbpf, against other types and against this kernel's."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tracebee.btf import Btf
from tracebee.btf import core_kinds as ck
from tracebee.btf.builder import Builder
from tracebee.btf.core import CoreValue, Resolver, resolve
from tracebee.btf.core_compat import essential_name
from tracebee.btf.core_patch import POISON, patch
from tracebee.elf.file import ElfFile
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.isa.codec import encode
from tracebee.isa.insn import Insn
from tracebee.obj.elf_reader import read_object
from tracebee.obj.model import CoreReloc, Object

HERE = Path(__file__).parent / "core"
FIELDS = [
    *("first", "second", "name", "name[3]", "in", "in.a", "in.b", "many", "many[2]", "many[3].b", "one"),
    *("two", "three", "low", "mid", "sign", "wide", "pointer", "grows", "signed_grows", "shrinks"),
    *("color", "gone", "handler", "matrix", "matrix[1]", "matrix[1][2]", "flexible", "flexible[5]"),
]
PLAIN = [f for f in FIELDS if f not in ("low", "mid", "sign", "wide")]
BIT_FIELDS = ["low", "mid", "sign", "wide"]

# Program name: what it returns. Every relocation kind, over fields that moved, grew, went away...
PROGRAMS = {
    **{f"off_{i}": f"bpf_core_field_offset(struct moved, {f})" for i, f in enumerate(PLAIN)},
    **{f"size_{i}": f"bpf_core_field_size(struct moved, {f})" for i, f in enumerate(PLAIN)},
    **{f"exists_{i}": f"bpf_core_field_exists(struct moved, {f})" for i, f in enumerate(PLAIN)},
    **{f"bits_exist_{f}": f"bpf_core_field_exists(m->{f})" for f in BIT_FIELDS},
    **{f"bits_{f}": f"BPF_CORE_READ_BITFIELD(m, {f})" for f in BIT_FIELDS},
    **{f"probed_{f}": f"BPF_CORE_READ_BITFIELD_PROBED(m, {f})" for f in (*BIT_FIELDS, "first", "gone")},
    **{f"read_{i}": f"(long)m->{f}" for i, f in enumerate(["first", "second", "in.b", "many[3].b", "one"])},
    **{f"load_{f}": f"(long)m->{f}" for f in ("two", "three", "pointer", "grows", "signed_grows", "shrinks")},
    **{f"more_{f}": f"(long)m->{f}" for f in ("color", "gone", "handler")},
    "store": "(m->second = 7)",
    "store_gone": "(m->gone = 7)",
    "element": "m->flexible[5]",
    "matrix": "m->matrix[1][2]",
    "array_of_roots": "m[3].in.a",
    "flavoured": "((struct moved___v2 *)m)->renamed",
    "flavoured_in": "((struct moved___v2 *)m)->in.b",
    "flavoured_exists": "bpf_core_field_exists(struct moved___v2, renamed)",
    "missing_type": "((struct missing *)m)->x",
    "missing_exists": "bpf_core_field_exists(struct missing, x)",
    "pointer_now": "(long)((struct retyped *)m)->becomes_pointer",
    "int_now": "(long)((struct retyped *)m)->becomes_int.a",
    "same_now": "(long)((struct retyped *)m)->same",
    "type_moved": "bpf_core_type_exists(struct moved)",
    "type_missing": "bpf_core_type_exists(struct missing)",
    "type_alias": "bpf_core_type_exists(alias_t)",
    "type_handler": "bpf_core_type_exists(handler_t)",
    "type_enum": "bpf_core_type_exists(enum color)",
    "type_union": "bpf_core_type_exists(union choice)",
    "size_moved": "bpf_core_type_size(struct moved)",
    "size_missing": "bpf_core_type_size(struct missing)",
    "size_union": "bpf_core_type_size(union choice)",
    "id_target": "bpf_core_type_id_kernel(struct moved)",
    "id_missing": "bpf_core_type_id_kernel(struct missing)",
    "id_local": "bpf_core_type_id_local(struct moved)",
    "enum_red": "bpf_core_enum_value(enum color, RED)",
    "enum_blue": "bpf_core_enum_value(enum color, BLUE)",
    "enum_minus": "bpf_core_enum_value(enum signs, MINUS)",
    "enum_flavour": "bpf_core_enum_value(enum color___next, GREEN___next)",
    "enum_violet": "bpf_core_enum_value(enum color___next, VIOLET)",
    "has_red": "bpf_core_enum_value_exists(enum color, RED)",
    "has_violet": "bpf_core_enum_value_exists(enum color___next, VIOLET)",
}
SOURCE = """
struct moved;
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#include "local.h"
#pragma clang attribute pop
typedef unsigned char __u8; typedef unsigned short __u16, __be16; typedef unsigned int __u32, __be32, __wsum;
typedef unsigned long long __u64; typedef long long __s64; typedef int __s32;
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
"""


def _compile(source: str, folder: Path, name: str) -> str:
    (folder / f"{name}.c").write_text(source)
    command = [
        "clang",
        "-g",
        "-O2",
        "-w",
        "-target",
        "bpf",
        f"-I{HERE}",
        "-c",
        f"{name}.c",
        "-o",
        f"{name}.o",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return str(folder / f"{name}.o")


def _program(name: str, expression: str) -> str:
    return (
        f'__attribute__((section("raw_tp/{name}"), used)) long {name}(struct moved *m) '
        f"{{ return {expression}; }}\n"
    )


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The programs, and an object with the target's types."""
    folder = tmp_path_factory.mktemp("core")
    programs = "".join(_program(name, expression) for name, expression in PROGRAMS.items())
    license_ = 'char _license[] __attribute__((section("license"), used)) = "GPL";\n'
    uses = ["struct moved", "struct retyped", "union choice", "enum color", "enum signs", "alias_t"]
    variables = "\n".join(f"{use} variable_{i};" for i, use in enumerate(uses))
    return (
        _compile(SOURCE + programs + license_, folder, "programs"),
        _compile(f'#include "target.h"\n{variables}', folder, "target"),
    )


@pytest.fixture(scope="module")
def libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that relocates with libbpf."""
    binary = tmp_path_factory.mktemp("libbpf") / "relocate"
    subprocess.run(["gcc", "-w", str(HERE / "relocate.c"), "-o", str(binary), "-lbpf"], check=True)
    return binary


def _by_libbpf(binary: Path, path: str, target: str) -> dict[str, str]:
    run = subprocess.run([str(binary), path, target], check=True, capture_output=True, text=True)
    return dict(line.split() for line in run.stdout.splitlines())


def _relocated(obj: Object, target: Btf) -> dict[str, str]:
    resolver = Resolver(Btf.from_bytes(obj.btf), target)
    found = {}
    for program in obj.programs:
        function = program.function
        code = {i: (insn,) for i, insn in enumerate(function.insns)}
        for reloc in function.relocs:
            assert reloc.core is not None
            code[reloc.at] = patch(function.insns[reloc.at], resolver.resolve(reloc.core))
        found[program.name] = encode([i for insns in code.values() for i in insns]).hex()
    return found


@pytest.mark.needs("clang", "libbpf", "bpf")
def test_every_program_is_relocated_as_libbpf_does(objects: tuple[str, str], libbpf: Path) -> None:
    path, target = objects
    expected = _by_libbpf(libbpf, path, target)
    found = _relocated(read_object(path), Btf.from_file(target))
    assert set(expected) == set(PROGRAMS)
    assert {name: code for name, code in found.items() if code != expected[name]} == {}
    # The comparison is of something: some were poisoned, and most were not.
    poisoned = [name for name, code in found.items() if POISON.imm.to_bytes(4, "little").hex() in code]
    assert "more_gone" in poisoned
    assert 5 < len(poisoned) < len(PROGRAMS) // 3


# Types on both sides, match_local.h and match_target.h; which of them match is libbpf's to say.
MATCHED = [
    *("alike", "more", "fewer", "wider", "sign", "named", "points", "points_off", "holds", "arrays"),
    *("arrays_off", "calls", "calls_off", "returns", "flavour___x", "enums", "absent", "declares", "floats"),
    "inside",
]
MATCH_TYPES = [
    *(f"struct {name}" for name in MATCHED),
    *("enum less", "enum most", "enum renamed", "union choice", "alike_t", "number_t"),
]


def _ask_for_matches(path: str) -> None:
    """Turn existence checks of types into checks that they match, which clang 14 cannot write."""
    with ElfFile(path) as elf:
        section = elf.section(".BTF.ext")
        assert section is not None
        start = section.offset
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        header, offset, length = (struct.unpack_from("<I", data, start + at)[0] for at in (4, 24, 28))
        place = start + header + offset
        end = place + length
        place += 4
        while place < end:
            (count,) = struct.unpack_from("<I", data, place + 4)
            place += 8
            for at in range(place + 12, place + 16 * count, 16):
                assert struct.unpack_from("<I", data, at) == (ck.BPF_CORE_TYPE_EXISTS,)
                struct.pack_into("<I", data, at, ck.BPF_CORE_TYPE_MATCHES)
            place += 16 * count
        file.seek(0)
        file.write(data)


@pytest.mark.needs("clang", "libbpf", "bpf")
def test_types_match_as_libbpf_says(tmp_path: Path, libbpf: Path) -> None:
    names = {f"t{i}": name for i, name in enumerate(MATCH_TYPES)}
    programs = "".join(_program(name, f"bpf_core_type_exists({of})") for name, of in names.items())
    source = SOURCE.replace("local.h", "match_local.h")
    path = _compile(source + programs, tmp_path, "programs")
    _ask_for_matches(path)
    there = [name for name in MATCH_TYPES if "absent" not in name and "___" not in name]
    uses = "\n".join(f"{name} variable_{i};" for i, name in enumerate(there))
    target = _compile(f'#include "match_target.h"\nstruct flavour v;\n{uses}', tmp_path, "target")
    expected = _by_libbpf(libbpf, path, target)
    found = _relocated(read_object(path), Btf.from_file(target))
    assert {names[n]: code for n, code in found.items() if code != expected[n]} == {}
    yes = {names[n] for n, code in found.items() if code.startswith("b700000001")}
    assert {"struct alike", "struct flavour___x", "enum less", "struct more"} <= yes
    assert len(yes) < len(names) - 8


KERNEL_PROGRAMS = {
    "pid": "((struct task_struct *)m)->pid",
    "comm": "((struct task_struct *)m)->comm[3]",
    "mm": "(long)((struct task_struct *)m)->mm",
    "next": "(long)((struct task_struct *)m)->tasks.next",
    "bit": "BPF_CORE_READ_BITFIELD((struct task_struct *)m, in_execve)",
    "none": "((struct task_struct *)m)->no_such_field",
    "pos": "((struct file *)m)->f_pos",
    "size": "bpf_core_type_size(struct task_struct)",
    "id": "bpf_core_type_id_kernel(struct task_struct)",
    "ring": "bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF)",
    "has": "bpf_core_enum_value_exists(enum bpf_map_type, BPF_MAP_TYPE_NONE_SUCH)",
    "exists": "bpf_core_field_exists(struct task_struct, real_parent)",
    "typedef_": "bpf_core_type_exists(atomic_t)",
}


@pytest.mark.needs("clang", "libbpf", "bpf", "btf")
def test_against_the_running_kernel(tmp_path: Path, libbpf: Path) -> None:
    programs = "".join(_program(name, expression) for name, expression in KERNEL_PROGRAMS.items())
    source = SOURCE.replace("local.h", "kernel.h")
    path = _compile(source + programs, tmp_path, "programs")
    expected = _by_libbpf(libbpf, path, "/sys/kernel/btf/vmlinux")
    assert _relocated(read_object(path), Btf.vmlinux()) == expected


def _target_with_two(one: str, other: str) -> Btf:
    b = Builder()
    word = b.integer("int", 4, signed=True)
    for members in (one, other):
        b.struct("twice", 4 * len(members), [(m, word, 32 * i) for i, m in enumerate(members)])
    return b.build()


def _twice(access: str, kind: int = ck.BPF_CORE_FIELD_BYTE_OFFSET) -> CoreReloc:
    return CoreReloc(kind, "struct twice", access)


def test_candidates_that_disagree_are_an_error() -> None:
    target = _target_with_two("xy", "yx")
    with pytest.raises(UnsupportedError, match="ambiguous: 4 in BTF type 3, 0 in BTF type 2"):
        resolve(_twice("x"), None, target)


def test_candidates_that_agree_are_one() -> None:
    assert resolve(_twice("x"), None, _target_with_two("xy", "xz")).value == 0


def test_a_candidate_once_ruled_out_stays_out() -> None:
    target = _target_with_two("xy", "yz")
    with pytest.raises(UnsupportedError):
        resolve(_twice("y"), None, target)
    resolver = Resolver(None, target)
    assert resolver.resolve(_twice("x")).value == 0
    assert resolver.resolve(_twice("y")).value == 4


@pytest.mark.parametrize(
    ("kind", "name", "access", "value", "poison"),
    [
        (ck.BPF_CORE_FIELD_BYTE_OFFSET, "struct node", "next", 0, False),
        (ck.BPF_CORE_FIELD_BYTE_OFFSET, "struct node___old", "name[3]", 11, False),
        (ck.BPF_CORE_FIELD_BYTE_SIZE, "struct node", "name", 16, False),
        (ck.BPF_CORE_FIELD_EXISTS, "struct node", "gone", 0, False),
        (ck.BPF_CORE_FIELD_BYTE_OFFSET, "struct node", "gone", 0, True),
        (ck.BPF_CORE_FIELD_LSHIFT_U64, "struct node", "high", 56, False),
        (ck.BPF_CORE_FIELD_RSHIFT_U64, "struct node", "high", 59, False),
        (ck.BPF_CORE_FIELD_SIGNED, "struct node", "high", 0, False),
        (ck.BPF_CORE_TYPE_EXISTS, "union node", "", 0, False),
        (ck.BPF_CORE_TYPE_SIZE, "struct node", "", 40, False),
        (ck.BPF_CORE_ENUMVAL_VALUE, "enum plain", "B", 5, False),
        (ck.BPF_CORE_ENUMVAL_VALUE, "enum plain", "C", 0, True),
        (ck.BPF_CORE_ENUMVAL_EXISTS, "enum plain", "B", 1, False),
    ],
)
def test_by_names_alone(kind: int, name: str, access: str, value: int, poison: bool) -> None:
    b = Builder("little")
    u32, char = b.integer("unsigned int", 4), b.integer("char", 1)
    members = [("next", b.ptr(0), 0), ("name", b.array(char, 16), 64), ("low", u32, 192, 3)]
    b.struct("node", 40, [*members, ("high", u32, 195, 5)])
    b.enum("plain", [("A", 0), ("B", 5)])
    found = resolve(CoreReloc(kind, name, access), None, b.build())
    assert (found.value, found.poison) == (value, poison)


def test_modules_are_asked_when_the_kernel_has_no_candidate() -> None:
    kernel = _target_with_two("xy", "xy")
    b = Builder(base=kernel)
    b.struct("only_there", 8, [("x", 1, 32)])
    module = b.build()
    asked = []

    def modules() -> list[Btf]:
        asked.append(1)
        return [module]

    resolver = Resolver(None, kernel, modules)
    assert resolver.resolve(_twice("y")).value == 4
    assert asked == []
    assert resolver.resolve(CoreReloc(0, "struct only_there", "x")).value == 4
    assert asked == [1]


@pytest.mark.parametrize(
    ("name", "essential"),
    [
        ("task_struct", "task_struct"),
        ("task_struct___old", "task_struct"),
        ("a___b___c", "a___b"),
        ("___x", "___x"),
        ("x___", "x___"),
        ("x____y", "x____y"),
        ("x__y", "x__y"),
    ],
)
def test_flavours(name: str, essential: str) -> None:
    assert essential_name(name) == essential


LOAD, MOVE, WIDE = 0x61, 0xB7, 0x18  # ldxw, mov64 immediate, lddw


def test_patching() -> None:
    value = CoreValue(24, original=8, size=8, original_size=4)
    assert patch(Insn(LOAD, 1, 2, 8), value) == (Insn(0x79, 1, 2, 24),)
    assert patch(Insn(MOVE, 1, 0, 0, 8), value) == (Insn(MOVE, 1, 0, 0, 24),)
    assert patch(Insn(WIDE, 1, 0, 0, 8), value) == (Insn(WIDE, 1, 0, 0, 24),)
    assert patch(Insn(WIDE, 1, 0, 0, 8), CoreValue(0, poison=True)) == (POISON, POISON)
    assert patch(Insn(LOAD, 1, 2, 8), CoreValue(0, poison=True)) == (POISON,)
    assert patch(Insn(LOAD, 1, 2, 8), value._replace(resizable=False)) == (POISON,)
    assert patch(Insn(LOAD, 1, 2, 4), CoreValue(24, relative=True)) == (Insn(LOAD, 1, 2, 28),)
    assert patch(Insn(MOVE), CoreValue(-1)) == (Insn(MOVE, imm=-1),)
    assert patch(Insn(MOVE), CoreValue(0xFFFFFFFF)) == (Insn(MOVE, imm=-1),)
    assert patch(Insn(WIDE), CoreValue(-1)) == (Insn(WIDE, imm=(1 << 64) - 1),)


@pytest.mark.parametrize(
    ("insn", "value", "error"),
    [
        (Insn(MOVE, imm=9), CoreValue(24, original=8), DecodeError),
        (Insn(LOAD, off=9), CoreValue(24, original=8), DecodeError),
        (Insn(LOAD, off=40000 - (1 << 16)), CoreValue(24, original=40000), DecodeError),
        (Insn(0xBF), CoreValue(24), DecodeError),
        (Insn(0x95), CoreValue(24), DecodeError),
        (Insn(WIDE, src=1), CoreValue(24), DecodeError),
        (Insn(LOAD), CoreValue(1 << 15), UnsupportedError),
        (Insn(LOAD), CoreValue(24, size=3, original_size=4), DecodeError),
        (Insn(LOAD), CoreValue(24, size=8, original_size=2), DecodeError),
    ],
)
def test_what_cannot_be_patched(insn: Insn, value: CoreValue, error: type[Exception]) -> None:
    with pytest.raises(error):
        patch(insn, value)
