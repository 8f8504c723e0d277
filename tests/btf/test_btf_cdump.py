"""The C header compiles, and what compilers make of it has the offsets that BTF says."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.cdump import Header, format_c
from tracebee.btf.types import Type

VMLINUX = "/sys/kernel/btf/vmlinux"


def _clang_btf(source: str, folder: Path) -> Btf:
    """BTF that clang writes for a C file."""
    (folder / "source.c").write_text(source)
    subprocess.run(
        ["clang", "-g", "-O1", "-w", "-target", "bpf", "-c", "source.c", "-o", "object.o"],
        cwd=folder,
        check=True,
    )
    return Btf.from_file(str(folder / "object.o"))


KEYWORDS = {kinds.BTF_KIND_STRUCT: "struct", kinds.BTF_KIND_UNION: "union"}


def _unique(btf: Btf) -> list[tuple[str, int]]:
    """C names and ids of the structs and unions whose tags no other type has."""
    seen: dict[str, list[int]] = {}
    for name, type_id in btf.names(*KEYWORDS, *kinds.ENUMS):
        seen.setdefault(name, []).append(type_id)
    alone = [(name, ids[0]) for name, ids in seen.items() if len(ids) == 1]
    return [(f"{KEYWORDS[btf.type(i).kind]} {name}", i) for name, i in alone if btf.type(i).kind in KEYWORDS]


@pytest.mark.needs("gcc", "btf")
def test_sizes_and_offsets_of_every_kernel_struct(tmp_path: Path) -> None:
    btf = Btf.vmlinux()
    header = Header(btf)
    text = header.text(None)
    checks = []
    for kind, keyword in {**KEYWORDS, kinds.BTF_KIND_TYPEDEF: ""}.items():
        for _, type_id in btf.names(kind):
            # typedefs of functions and of incomplete types have no size.
            if kind == kinds.BTF_KIND_TYPEDEF and not btf.size(type_id):
                continue
            if btf.type(type_id).name == "__builtin_va_list":
                continue
            name = f"{keyword} {header.names[type_id]}"
            checks.append(f'_Static_assert(sizeof({name}) == {btf.size(type_id)}, "{name}");')
            if btf.type(btf.resolve(type_id)).kind in KEYWORDS:
                checks += [
                    f'_Static_assert(__builtin_offsetof({name}, {field.name}) == {field.offset}, "{name}");'
                    for field in btf.fields(type_id)
                    if not field.bit_size
                ]
    assert len(checks) > 50000
    (tmp_path / "check.c").write_text(text + "\n".join(checks))
    # Only clang knows the attributes that are type tags.
    command = ["gcc", "-std=gnu11", "-Werror", "-Wno-attributes", "-fsyntax-only", "check.c"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr[:2000] == ""


def _shape(btf: Btf, type_id: int) -> list[tuple[str, int, int, int, int]]:
    """Every member with its place and what it is, down through anonymous ones."""
    shape = []
    for field in btf.fields(type_id):
        target = btf.resolve(field.type_id)
        # clang 14 writes no ENUM64; values are not compared here.
        kind = kinds.BTF_KIND_ENUM if btf.type(target).kind in kinds.ENUMS else btf.type(target).kind
        shape.append((field.name, field.bit_offset, field.bit_size, kind, btf.size(target)))
    return shape


@pytest.mark.needs("clang", "btf")
def test_clang_makes_the_same_bit_fields_of_the_header(tmp_path: Path) -> None:
    kernel = Btf.vmlinux()
    named = [
        (name, type_id)
        for name, type_id in _unique(kernel)
        if any(f.bit_size for f in kernel.fields(type_id))
    ]
    assert len(named) > 200
    header = format_c(kernel, [type_id for _, type_id in named])
    uses = "\n".join(f"{name} variable_{number};" for number, (name, _) in enumerate(named))
    made = _clang_btf(f"{header}\n{uses}", tmp_path)
    wrong = []
    for name, type_id in named:
        again = made.find(name)
        if (made.size(again), _shape(made, again)) != (kernel.size(type_id), _shape(kernel, type_id)):
            wrong.append(name)
    assert wrong == []


AWKWARD = """
struct forward; typedef struct forward *handle;
typedef int (*callback)(struct forward *, const char *const *, ...);
struct __attribute__((packed)) tight { char a; int b; long long c : 33; char d; };
struct gaps { char a; long : 40; int b : 3; int : 7; int c : 5; short d; } __attribute__((aligned(16)));
union either { struct { int x, y; }; long long both; char bytes[12]; } __attribute__((aligned(32)));
enum small { S0, S1 } __attribute__((packed)); enum minus { M = -5, Z = 0 };
struct tree { struct tree *left, *right; callback visit; handle (*maker[3])(void); int rest[]; };
struct holder { struct tight t[3]; struct gaps g; union either e; enum small s; enum minus m;
                const volatile int *restrict p; int (*matrix)[4][5]; struct { struct { int n; } in; } out; };
struct empty {}; struct last { int n; struct empty e; };
struct holder v0; struct last v1; struct tree v2; struct forward *v3;
"""


@pytest.mark.needs("clang")
def test_awkward_types_survive_a_round_trip_through_c(tmp_path: Path) -> None:
    first = _clang_btf(AWKWARD, tmp_path)
    uses = "struct holder v0; struct last v1; struct tree v2; struct forward *v3;"
    second = _clang_btf(f"{format_c(first)}\n{uses}", tmp_path)
    names = ["tight", "gaps", "either", "tree", "holder", "empty", "last"]
    for name in names:
        one, two = first.struct(name), second.struct(name)
        assert (name, one.size) == (name, two.size)
        assert _shape(first, one.id) == _shape(second, two.id)
        assert [first.declare(f.type_id, f.name) for f in first.fields(one.id)] == [
            second.declare(f.type_id, f.name) for f in second.fields(two.id)
        ]
    assert second.enumerators("enum minus") == first.enumerators("enum minus")
    assert second.size(second.find("enum small")) == 1


@pytest.mark.needs("clang")
def test_anonymous_enums_are_written_once(tmp_path: Path) -> None:
    source = "struct s { enum { IN, SIDE } e; } v; const enum { A, B } w;"
    header = format_c(_clang_btf(source, tmp_path))
    assert "struct s {\n\tenum {\n\t\tIN = 0,\n\t\tSIDE = 1,\n\t} e;\n};\n" in header
    assert "\nenum {\n\tA = 0,\n\tB = 1,\n};\n" in header
    assert header.count("IN = 0") == 1


@pytest.mark.needs("clang", "btf")
def test_the_whole_header_compiles_for_bpf(tmp_path: Path) -> None:
    (tmp_path / "check.c").write_text(format_c(Btf.vmlinux()))
    command = ["clang", "-target", "bpf", "-Wall", "-Werror", "-Wno-missing-declarations", "-fsyntax-only"]
    run = subprocess.run([*command, "check.c"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr[:2000] == ""


def _definitions(header: str) -> Counter[str]:
    """What a header defines, without what two writers may choose: spaces, unnamed bit-fields (they differ
    in the types they use), attributes of enumerations and empty unions, forward declarations.
    """
    found: Counter[str] = Counter()
    for block in re.split(r"\n\n+", header):
        text = re.sub(r"\n\t*[a-z ]+: \d+;", "", block)
        text = re.sub(r" __attribute__\(\((mode\(\w+\)|aligned\(\d+\))\)\)", "", text)
        text = "".join(text.split())
        if not text.startswith("#") and not re.fullmatch(r"(struct|union|enum)\w+;", text):
            found[text] += 1
    return found


@pytest.mark.needs("bpftool", "btf")
def test_definitions_are_bpftools_to_the_letter() -> None:
    run = subprocess.run(
        ["bpftool", "btf", "dump", "file", VMLINUX, "format", "c"], capture_output=True, text=True, check=True
    )
    # The order decides which of several of one name gets which number.
    header = format_c(Btf.vmlinux(), by_name=False)
    ours, theirs = _definitions(header), _definitions(run.stdout)
    for found in (ours, theirs):
        for text in [t for t in found if "va_list" in t or "__weak__ksym" in t]:
            del found[text]
    assert len(ours) > 10000
    assert list((ours - theirs).elements()) == list((theirs - ours).elements()) == []


TAGS = """
#define T(x) __attribute__((btf_type_tag(x)))
struct s { int T("a") *p; int T("a") T("b") *q; const int T("user") *c; int T("in") * T("out") *pp;
           int *const T("u") *cp; int (T("f") *function)(int); int (T("m") *matrix)[4]; };
struct s v;
"""


@pytest.mark.needs("clang")
def test_type_tags_stand_where_clang_reads_them(tmp_path: Path) -> None:
    """Clang 14 confuses tags of one base type within a file, so each declaration is compiled alone."""
    header = format_c(_clang_btf(TAGS, tmp_path))
    # As libbpf's btf_dump writes them.
    assert '\tint __attribute__((btf_type_tag("a"))) __attribute__((btf_type_tag("b"))) *q;\n' in header
    assert '\tconst int __attribute__((btf_type_tag("user"))) *c;\n' in header
    assert '\tint *const __attribute__((btf_type_tag("u"))) *cp;\n' in header
    members = re.findall(r"\t(.*attribute.*;)", header)
    assert len(members) == 7
    for member in members:
        again = format_c(_clang_btf(f"struct s {{ {member} }} v;", tmp_path))
        assert f"\t{member}\n" in again


def test_a_tag_with_the_kind_flag_is_an_attribute() -> None:
    b = Builder()
    target = b.ptr(b.add(Type(kinds.BTF_KIND_TYPE_TAG, "address_space(1)", flag=True, type_id=0)))
    b.typedef("arena_ptr", target)
    assert "typedef void __attribute__((address_space(1))) *arena_ptr;" in format_c(b.build())


def test_kfuncs_are_declared() -> None:
    b = Builder()
    task = b.ptr(b.fwd("task_struct"))
    number = b.integer("int", 4, signed=True)
    taken = b.func("bpf_task_from_pid", b.func_proto(task, [("pid", number)]))
    given = b.func("bpf_task_release", b.func_proto(0, [("p", task)]))
    other = b.func("schedule", b.func_proto(0, []))
    b.decl_tag("bpf_kfunc", taken)
    b.decl_tag("bpf_fastcall", other)
    b.decl_tag("bpf_kfunc", given)
    header = format_c(b.build())
    lines = [line for line in header.splitlines() if line.startswith("extern")]
    assert lines == [
        "extern struct task_struct *bpf_task_from_pid(int pid) __weak __ksym;",
        "extern void bpf_task_release(struct task_struct *p) __weak __ksym;",
    ]
    assert header.index("struct task_struct;") < header.index("#ifndef BPF_NO_KFUNC_PROTOTYPES")
    assert "__ksym;" not in format_c(b.build(), [task])


@pytest.mark.needs("gcc")
def test_a_typedef_that_was_only_pointed_to_is_complete_where_it_is_held(tmp_path: Path) -> None:
    b = Builder()
    lock = b.reserve()
    alias = b.typedef("lock_t", lock)
    b.struct("a_pointer", 8, [("p", b.ptr(alias), 0)])
    b.struct("b_value", 4, [("v", alias, 0)])
    b.struct("lock", 4, [("n", b.integer("int", 4, signed=True), 0)], at=lock)
    for by_name in (True, False):
        (tmp_path / "check.c").write_text(format_c(b.build(), by_name=by_name))
        subprocess.run(["gcc", "-fsyntax-only", "check.c"], cwd=tmp_path, check=True)


def test_definitions_are_ordered_by_kind_and_name() -> None:
    """As bpftool has it since 7.5, and so the same in two builds of a kernel."""
    b = Builder()
    word = b.integer("int", 4, signed=True)
    z = b.struct("z", 4, [("x", word, 0)])
    b.typedef("callback", b.ptr(b.func_proto(0, [])))
    b.typedef("a_number", word)
    b.typedef("y_of_z", z)
    b.struct("same", 4, [("second", word, 0)])
    b.struct("a", 8, [("z", z, 0), ("p", b.ptr(z), 32)])
    b.struct("same", 4, [("first", word, 0)])
    b.enum("colour", [("RED", 1)])
    b.enum("", [("ZERO", 0)])
    b.enum("", [("ANY", 0)])
    header = format_c(b.build())
    found = re.findall(r"ANY|ZERO|enum colour|a_number|struct \w+ {|z y_of_z|first|second|\*callback", header)
    # What is held by value comes before it all the same.
    structs = [
        "struct z {",
        "struct a {",
        "struct same {",
        "first",
        "struct same___2 {",
        "second",
        "z y_of_z",
    ]
    assert found == ["ANY", "ZERO", "enum colour", "a_number", *structs, "*callback"]
    unsorted = format_c(b.build(), by_name=False)
    assert unsorted.index("*callback") < unsorted.index("struct a {") < unsorted.index("enum colour")


def test_numbers_are_literals_of_c() -> None:
    b = Builder()
    b.enum("small", [("LEAST", -(1 << 31)), ("MINUS", -5), ("ZERO", 0)])
    b.enum("large", [("LEAST_OF_ALL", -(1 << 63)), ("BELOW", -1 << 40)])
    b.enum("unsigned", [("ALL", (1 << 64) - 1)])
    header = format_c(b.build())
    assert "LEAST = -2147483648,\n\tMINUS = -5,\n\tZERO = 0,\n" in header
    # The literal alone would be too large for any signed type.
    assert "LEAST_OF_ALL = (-9223372036854775807LL - 1),\n\tBELOW = -1099511627776LL,\n" in header
    assert "ALL = 18446744073709551615ULL,\n" in header


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("first", [True, False])
def test_a_declaration_of_another_kind_has_a_name_of_its_own(first: bool, tmp_path: Path) -> None:
    b = Builder()

    def declare() -> None:
        b.typedef("handle", b.ptr(b.fwd("thing", union=True)))

    if first:
        declare()
    number = b.integer("int", 4, signed=True)
    b.struct("thing", 4, [("n", number, 0)])
    b.typedef("same", b.ptr(b.fwd("thing")))
    if not first:
        declare()
    (tmp_path / "check.c").write_text(format_c(b.build(), by_name=False))
    subprocess.run(["gcc", "-fsyntax-only", "check.c"], cwd=tmp_path, check=True)
