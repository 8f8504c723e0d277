"""Finding types, members, prototypes and enumerators; the expected values come from C and the kernel."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.index import STEP, Index
from tracebee.btf.opening import module_names
from tracebee.errors import DecodeError, SymbolError

SOURCE = """
typedef unsigned int u32; typedef const volatile u32 cv32;
struct point { int x, y; };
enum color { RED, GREEN = 7, BLUE };
enum big { HUGE = 0x123456789abcdefULL };
struct shape {
    char name[16];
    union { struct point at; struct { long first, second; }; };
    unsigned low : 3, high : 5;
    cv32 grid[4][5];
    struct shape *next;
    enum color color;
} the_shape;
union either { int i; float f; } the_union;
int walk(const struct shape *from, int (*visit)(void *, u32, ...)) { return from->low; }
static __attribute__((noinline)) long hidden(enum color c, enum big b) { return c + (long)b; }
long user(enum color c, enum big b) { return hidden(c, b) + walk(&the_shape, 0); }
int tagged __attribute__((btf_decl_tag("marked")));
struct holder {
    int __attribute__((btf_type_tag("user"))) *pointer;
    int one __attribute__((btf_decl_tag("first")));
} the_holder;
"""


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    folder = tmp_path_factory.mktemp("btf")
    (folder / "source.c").write_text(SOURCE)
    command = ["clang", "-g", "-O1", "-target", "bpf", "-c", "source.c", "-o", "object.o"]
    subprocess.run(command, cwd=folder, check=True)
    return Btf.from_file(str(folder / "object.o"))


needs_clang = pytest.mark.needs("clang")


@needs_clang
@pytest.mark.parametrize(
    ("path", "bit_offset", "bit_size", "text", "indices"),
    [
        ("name", 0, 0, "char[16]", (0, 0)),
        ("name[3]", 24, 0, "char", (0, 0, 3)),
        ("at.y", 160, 0, "int", (0, 1, 0, 1)),
        ("second", 192, 0, "long", (0, 1, 1, 1)),
        ("low", 256, 3, "unsigned int", (0, 2)),
        ("high", 259, 5, "unsigned int", (0, 3)),
        ("grid[1][2]", 512, 0, "cv32", (0, 4, 1, 2)),
        ("next", 960, 0, "struct shape *", (0, 5)),
        ("color", 1024, 0, "enum color", (0, 6)),
    ],
)
def test_member_paths(
    btf: Btf, path: str, bit_offset: int, bit_size: int, text: str, indices: tuple[int, ...]
) -> None:
    field = btf.member_path(btf.find("struct shape"), path)
    assert (field.bit_offset, field.bit_size) == (bit_offset, bit_size)
    assert btf.name_of(field.type_id) == text
    assert field.indices == indices


@needs_clang
@pytest.mark.parametrize(
    ("path", "message", "candidates"),
    [
        ("nam", "struct shape has no field 'nam'", ("name",)),
        ("at.z", "struct point has no field 'z'", ()),
        ("secund", "struct shape has no field 'secund'", ("second",)),
        ("next.name", "'next' is struct shape *, which has no members (asked for 'name')", ()),
        ("name[16]", "'name' has 16 elements, number 16 is not one of them", ()),
        ("name[x]", "'[x]' is not a constant subscript", ()),
        ("low[1]", "'low' is unsigned int, not an array", ()),
    ],
)
def test_member_paths_that_do_not_exist(
    btf: Btf, path: str, message: str, candidates: tuple[str, ...]
) -> None:
    with pytest.raises(SymbolError) as caught:
        btf.member_path(btf.find("shape"), path)
    assert (caught.value.message, caught.value.candidates) == (message, candidates)


@needs_clang
def test_layout_size_and_alignment(btf: Btf) -> None:
    layout = btf.struct("shape")
    assert (layout.size, btf.align(layout.id)) == (136, 8)
    assert [m.name for m in layout.members] == ["name", "", "low", "high", "grid", "next", "color"]
    names = [f.name for f in btf.fields(layout.id)]
    assert names == ["name", "at", "first", "second", "low", "high", "grid", "next", "color"]
    assert btf.size(btf.find("point")) == 8
    assert btf.align(btf.find("struct point")) == 4
    assert btf.size(btf.find("union either")) == 4


@needs_clang
def test_prototypes(btf: Btf) -> None:
    walk = btf.function("walk")
    assert not walk.variadic
    assert btf.prototype(walk.params[1].type_id).variadic
    assert [(p.name, btf.name_of(p.type_id)) for p in walk.params] == [
        ("from", "const struct shape *"),
        ("visit", "int (*)(void *, u32, ...)"),
    ]
    text = "int walk(const struct shape *from, int (*visit)(void *, u32, ...))"
    assert btf.name_of(walk.id) == text
    assert btf.type(btf.function("hidden").id).linkage == kinds.BTF_FUNC_STATIC
    assert btf.name_of(walk.return_id) == "int"


@needs_clang
def test_enumerations(btf: Btf) -> None:
    assert btf.enumerators("color") == (("RED", 0), ("GREEN", 7), ("BLUE", 8))
    value, enum_id = btf.enumerator("BLUE")
    assert (value, btf.name_of(enum_id)) == (8, "enum color")
    with pytest.raises(SymbolError):
        btf.enumerator("shape")


@needs_clang
def test_tags(btf: Btf) -> None:
    holder = btf.struct("holder")
    assert btf.decl_tags(holder.id, 1) == ["first"]
    assert btf.decl_tags(holder.id) == []
    assert btf.decl_tags(btf.find("tagged", kinds.BTF_KIND_VAR)) == ["marked"]
    pointer = btf.type(holder.members[0].type_id)
    assert btf.type_tags(pointer.type_id) == ["user"]
    assert btf.name_of(holder.members[0].type_id) == "int *"


@needs_clang
def test_a_keyword_asks_for_the_kind(btf: Btf) -> None:
    assert btf.find("struct point") == btf.find("point")
    with pytest.raises(SymbolError) as caught:
        btf.find("union pointt")
    assert caught.value.message.endswith("has no type 'union pointt'")
    with pytest.raises(SymbolError) as caught:
        btf.find("struct poynt")
    assert caught.value.candidates == ("struct point",)
    with pytest.raises(SymbolError) as caught:
        btf.function("wlk")
    assert caught.value.candidates == ("walk",)


@needs_clang
def test_data_sections_and_variables(btf: Btf) -> None:
    section = btf.type(btf.find(".bss", kinds.BTF_KIND_DATASEC))
    names = {btf.type(v.type_id).name: v for v in section.variables}
    assert names["the_shape"].size == 136
    assert btf.name_of(btf.find("the_shape")) == "struct shape"


@pytest.mark.needs("btf")
def test_the_kernels_own_names() -> None:
    kernel = Btf.vmlinux()
    task = kernel.find("task_struct")
    assert kernel.type(task).kind == kinds.BTF_KIND_STRUCT
    assert kernel.name_of(kernel.member_path(task, "comm").type_id) == "char[16]"
    switch = kernel.raw_tracepoint("sched_switch")
    assert [p.name for p in switch.params][:3] == ["preempt", "prev", "next"]
    assert kernel.name_of(switch.params[1].type_id) == "struct task_struct *"
    assert kernel.type(switch.id).name == "btf_trace_sched_switch"
    assert [f.name for f in kernel.fields(kernel.iterator("task").id)] == ["meta", "task"]
    assert kernel.enumerator("BPF_MAP_TYPE_RINGBUF")[0] == 27
    # Kernels built with an old pahole have none.
    for tag_id in list(kernel.ids(kinds.BTF_KIND_DECL_TAG))[:20]:
        tag = kernel.type(tag_id)
        assert tag.name in kernel.decl_tags(tag.type_id, tag.component)
    with pytest.raises(SymbolError) as caught:
        kernel.raw_tracepoint("sched_swich")
    assert "sched_switch" in caught.value.candidates


@pytest.mark.needs("btf")
def test_every_named_type_is_found_where_the_walk_finds_it() -> None:
    kernel = Btf.vmlinux()
    by_name: dict[str, list[int]] = {}
    for name, type_id in kernel.names(*range(1, 20)):
        by_name.setdefault(name, []).append(type_id)
    some = sorted(by_name)[::500]
    assert len(some) > 100
    assert [kernel.find_all(name) for name in some] == [by_name[name] for name in some]


@pytest.mark.needs("btf")
@pytest.mark.parametrize("wanted", [(kinds.BTF_KIND_FUNC,), (4, 5), (6, 19), (15,), ()])
def test_walking_over_some_kinds_finds_all_of_them(wanted: tuple[int, ...]) -> None:
    index = Btf.vmlinux().index
    offset, expected = index.start, []
    for type_id in range(1, index.count + 1):
        if not wanted or index.kind(offset) in wanted:
            expected.append((type_id, offset))
        offset += index._length(offset)
    assert list(index.walk(*wanted)) == expected


@pytest.mark.needs("btf")
def test_offsets_and_ids_are_inverse() -> None:
    index = Btf.vmlinux().index
    pairs = [pair for number, pair in enumerate(index.walk()) if number % 997 == 0]
    assert [index.offset(type_id) for type_id, _ in pairs] == [offset for _, offset in pairs]
    assert [index.enclosing(offset + 4) for _, offset in pairs] == pairs
    plain = [index.start]
    while plain[-1] < index.end:
        plain.append(plain[-1] + index._length(plain[-1]))
    assert list(index.anchors) == plain[:-1:STEP]
    assert index.count == len(plain) - 1


@pytest.mark.needs("btf")
def test_a_damaged_cache_file_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    index = Btf.vmlinux().index

    def reopened() -> Index:
        return Index(index.data, index.start, index.end, index.order, 1, "key")

    assert reopened().anchors == index.anchors
    file = tmp_path / "tracebee" / "btf-key"
    good = file.read_bytes()
    for bad in (good[:-4], good[:40] + b"\xff" + good[41:], b"", b"x" * 100):
        file.write_bytes(bad)
        assert reopened().anchors == index.anchors
        assert file.read_bytes() == good


@given(st.binary(max_size=200))
def test_any_bytes_are_btf_or_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Btf.from_bytes(data)


def _poke(btf: Btf) -> None:
    for type_id in range(btf.end_id + 1):
        for call in (btf.type, btf.size, btf.align, btf.name_of, btf.fields, btf.prototype, btf.enumerators):
            try:
                call(type_id)
            except (DecodeError, SymbolError):
                pass
    for name in ("a", "int", "struct a", "\udc80"):
        try:
            btf.find(name)
        except (DecodeError, SymbolError):
            pass


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 0xFFFF) | st.sampled_from([0x01000000 * k for k in range(0x95)]), max_size=60))
def test_any_types_decode_or_raise_our_errors(words: list[int]) -> None:
    body = b"".join(word.to_bytes(4, "little") for word in words)
    strings = b"\0a\0int\0"
    header = b"\x9f\xeb\x01\0" + b"".join(
        n.to_bytes(4, "little") for n in (24, 0, len(body), len(body), len(strings))
    )
    try:
        btf = Btf.from_bytes(header + body + strings)
    except DecodeError:
        return
    _poke(btf)


def _elf(sections: dict[str, bytes]) -> bytes:
    """A 64-bit little-endian ELF file of these sections."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    body, headers, at = b"", struct.pack("<IIQQQQIIQQ", *[0] * 10), 64
    for name, data in (*sections.items(), (".shstrtab", names)):
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        headers += struct.pack("<IIQQQQIIQQ", place, 1, 0, 0, at, len(data), 0, 0, 1, 0)
        body += data
        at += len(data)
    count = len(sections) + 2
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, at, 0, 64, 0, 0, 64, count, count - 1)
    return ident + head + body + headers


def test_a_modules_file_brings_its_own_base(tmp_path: Path) -> None:
    base = Builder()
    outer = base.struct("outer", 16, [])
    split = Builder(base=base.build())
    split.struct("mine", 16, [("held", outer, 0)])
    file = tmp_path / "module.ko"
    file.write_bytes(_elf({".BTF": split.to_bytes(), ".BTF.base": base.to_bytes()}))
    btf = Btf.from_file(str(file))
    assert btf.name_of(btf.member_path(btf.find("mine"), "held").type_id) == "struct outer"
    kernel = Builder()
    kernel.integer("int", 4)
    there = kernel.struct("outer", 16, [])
    moved = Btf.from_file(str(file), kernel.build())
    assert moved.member_path(moved.find("mine"), "held").type_id == there
    (tmp_path / "bare.ko").write_bytes(_elf({".BTF": split.to_bytes()}))
    with pytest.raises(DecodeError) as caught:
        Btf.from_file(str(tmp_path / "bare.ko"))
    assert caught.value.hint == "a module's types continue vmlinux's and need them as base: -B FILE"


@pytest.mark.needs("module_btf")
def test_what_sys_has_of_a_module_has_the_kernel_as_base() -> None:
    name = module_names()[0]
    found = Btf.from_file(f"/sys/kernel/btf/{name}")
    assert found.base is Btf.vmlinux()
    assert list(found.types()) == list(Btf.module(name).types())


def test_files_without_btf(tmp_path: Path) -> None:
    (tmp_path / "none.o").write_bytes(_elf({".text": b""}))
    with pytest.raises(DecodeError, match=r"has no \.BTF section"):
        Btf.from_file(str(tmp_path / "none.o"))
    (tmp_path / "text").write_bytes(b"not BTF at all, but long enough for a header")
    with pytest.raises(DecodeError, match="no BTF magic number"):
        Btf.from_file(str(tmp_path / "text"))
