"""Reading what clang makes: maps, data, functions, relocations, externs, as the C sources have them."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.elf.constants import SHT_PROGBITS, SHT_SYMTAB
from tracebee.errors import DecodeError
from tracebee.isa.insn import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC
from tracebee.obj.btf_fixup import kernel_btf
from tracebee.obj.elf_reader import read_object
from tracebee.obj.image import build_image
from tracebee.obj.model import Object, RelocKind

pytestmark = pytest.mark.needs("clang")


def relocs(obj: Object, program: str) -> list[tuple[str, str, int]]:
    (found,) = (p for p in obj.programs if p.name == program)
    return [(r.kind, r.symbol, r.addend) for r in found.function.relocs]


def test_map_definitions(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("maps"))
    maps = {m.name: m for m in obj.maps}
    btf = Btf.from_bytes(obj.btf)
    typed = maps["typed"]
    assert (typed.type, typed.key_size, typed.value_size, typed.max_entries) == (
        uapi.BPF_MAP_TYPE_HASH,
        20,
        8,
        128,
    )
    assert btf.name_of(typed.key_type_id) == "struct key"
    sized = maps["sized"]
    assert (sized.key_size, sized.value_size, sized.numa_node, sized.flags) == (
        4,
        24,
        0,
        uapi.BPF_F_NUMA_NODE,
    )
    assert typed.numa_node is None
    outer = maps["outer"]
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.max_entries, outer.value_size) == (uapi.BPF_MAP_TYPE_ARRAY, 2, 4)
    assert outer.values == ((0, "inner_a"), (2, "inner_b"))
    assert maps["jumps"].values == ((1, "tail"),)
    assert maps["bloom"].extra == 3
    assert maps["ring"].max_entries == 4096
    assert obj.license == "GPL"


def test_legacy_maps(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("legacy"))
    assert [(m.name, m.type, m.key_size, m.value_size, m.max_entries) for m in obj.maps] == [
        ("counts", uapi.BPF_MAP_TYPE_HASH, 4, 8, 16),
        ("other", uapi.BPF_MAP_TYPE_ARRAY, 4, 4, 1),
    ]
    assert relocs(obj, "prog") == [(RelocKind.MAP, "other", 0)]


def test_globals_and_functions(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("globals"))
    data = {m.name: m.contents for m in obj.maps}
    places = {v.name: v for v in obj.variables}

    def value(name: str) -> bytes:
        place = places[name]
        contents = data[place.map]
        assert contents is not None
        return contents[place.offset : place.offset + place.size]

    assert value("limit") == (10).to_bytes(4, "little")
    assert value("greeting") == b"hello\0\0\0"
    assert value("start") == (0x1122334455667788).to_bytes(8, "little")
    assert value("custom") == (99).to_bytes(4, "little")
    assert places["counter"].map == ".bss"
    assert {f.name: f.is_global for f in obj.functions} == {
        "helper": False,
        "exported": True,
        "internal": False,  # hidden: verified as part of its callers
        "step": False,
    }
    assert {p.name: p.autoload for p in obj.programs} == {"first": True, "second": False}
    assert (RelocKind.DATA, ".data.custom", 0) in relocs(obj, "first")
    assert (RelocKind.FUNC, "step", 0) in relocs(obj, "second")


def test_hidden_functions_become_static_in_btf(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("globals"))
    as_compiled = Btf.from_bytes(obj.btf)
    assert as_compiled.type(as_compiled.find("internal")).linkage == 1
    btf = Btf.from_bytes(kernel_btf(obj))
    assert {name: btf.type(btf.find(name)).linkage for name in ("helper", "exported", "internal")} == {
        "helper": 0,
        "exported": 1,
        "internal": 0,
    }


def test_image_resolves_calls_and_callbacks(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("globals"))
    (first, second) = obj.programs
    image = build_image(obj, first)
    assert [f.name for _, f in image.functions] == ["first", "exported", "helper"]
    starts = {f.name: slot for slot, f in image.functions}
    calls = [
        image.slots[n] + 1 + insn.imm
        for n, insn in enumerate(image.insns)
        if insn.opcode == 0x85 and insn.src == BPF_PSEUDO_CALL
    ]
    assert calls == [starts["exported"], starts["helper"]]
    image = build_image(obj, second)
    starts = {f.name: slot for slot, f in image.functions}
    callbacks = [
        image.slots[n] + 1 + insn.imm
        for n, insn in enumerate(image.insns)
        if insn.is_wide and insn.src == BPF_PSEUDO_FUNC
    ]
    assert callbacks == [starts["step"]]
    assert not any(r.kind in (RelocKind.CALL, RelocKind.FUNC) for r in image.relocs)


def test_externs(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("externs"))
    externs = {e.name: e for e in obj.externs}
    assert {n for n, e in externs.items() if e.kind == "kconfig" and not e.weak} == {
        "LINUX_KERNEL_VERSION",
        "CONFIG_HZ",
    }
    assert externs["CONFIG_HZ"].size == 8
    assert externs["bpf_prog_active_no_such"].kind == "ksym"
    assert externs["bpf_prog_active_no_such"].type_id == 0
    spans = sorted((e.offset, e.offset + e.size) for e in externs.values() if e.kind == "kconfig")
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    kfuncs = read_object(compiled("kfuncs"))
    assert {e.name: (e.kind, e.weak) for e in kfuncs.externs} == {
        "bpf_task_acquire": ("kfunc", False),
        "bpf_task_release": ("kfunc", False),
        "bpf_no_such_function": ("kfunc", True),
    }


def test_core_relocations_and_lines(compiled: Callable[[str], str]) -> None:
    obj = read_object(compiled("core"))
    (program,) = obj.programs
    cores = [r.core for r in program.function.relocs if r.core is not None]
    assert {c.type_name for c in cores} >= {
        "struct task_struct",
        "struct no_such_struct",
        "enum bpf_cmd___mine",
    }
    assert all(c.spec and c.type_id for c in cores)
    assert any("BPF_CORE_READ(task, pid)" in line.text for line in program.function.lines)


def test_what_is_no_object_is_refused(tmp_path: object) -> None:
    with pytest.raises(DecodeError, match="not an ELF file"):
        read_object("x", b"no ELF at all, but long enough to have been one")
    with open("/bin/true", "rb") as file, pytest.raises(DecodeError, match="not a relocatable BPF object"):
        read_object("true", file.read())


def test_objects_without_symbols_and_variables_without_a_place(tmp_path: Path) -> None:
    programs = Path(__file__).parent / "programs"
    target = tmp_path / "common.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", "-fcommon", include, "-c", "-o", str(target)]
    subprocess.run([*command, str(programs / "replace.bpf.c")], check=True)
    with pytest.raises(DecodeError, match=r"'calls', which has no section yet\n  hint: .*-fno-common"):
        read_object(str(target))
    # What llvm-strip leaves: the table of symbols is none any more.
    data = bytearray(target.read_bytes())
    (table,) = struct.unpack_from("<Q", data, 40)
    entry, count = struct.unpack_from("<HH", data, 58)
    for at in range(table, table + entry * count, entry):
        if struct.unpack_from("<I", data, at + 4)[0] == SHT_SYMTAB:
            struct.pack_into("<I", data, at + 4, SHT_PROGBITS)
    with pytest.raises(DecodeError, match=r"stripped.o has no symbols, .*\n  hint: it was stripped"):
        read_object("stripped.o", bytes(data))
