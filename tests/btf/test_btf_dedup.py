"""Deduplication: the types left, and their order, are libbpf's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tracebee.btf import Btf
from tracebee.btf.builder import Builder
from tracebee.btf.concat import concatenate
from tracebee.btf.dedup import deduplicate
from tracebee.btf.references import with_references

HERE = Path(__file__).parent / "core"

HEADER = """
typedef unsigned int u32; typedef const u32 cu32;
struct opaque; struct later; enum state { ON, OFF };
struct list { struct list *next, **prev; struct opaque *what; };
struct graph { struct list head; struct { u32 a; union { long b; char c[8]; }; } i; struct graph *(*f)(); };
struct with_bits { u32 a : 3, b : 5; enum state s : 2; };
typedef struct { int x; } nameless;
"""
UNITS = [
    """struct later { int real; }; struct graph g; nameless n; struct with_bits w; struct later *l;
    int shared(struct graph *p, cu32 v) { return v; }""",
    """struct opaque { struct list inner; char name[4]; }; struct graph g2; struct opaque o; struct later *l2;
    int shared2(struct graph *p, cu32 v) { return v; } enum state s2;""",
    """struct different { long v; }; struct other { struct different d; struct later *l; }; struct other o3;
    nameless *n3; volatile struct with_bits *w3; static int same(struct list *p) { return p->next != 0; }
    int shared3(struct list *p) { return same(p); } struct twice { struct opaque *o; } t3;""",
    """struct different { int v; }; struct other { struct different d; struct later *l; }; struct other o4;
    struct twice { struct opaque *o; } t4; typedef struct twice twice_t; twice_t *t5; struct list l4;
    int shared(struct graph *p, cu32 v) { return v + 1; }""",
]


@pytest.fixture(scope="module")
def by_libbpf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("libbpf") / "dedup"
    subprocess.run(["gcc", "-w", str(HERE / "dedup.c"), "-o", str(binary), "-lbpf"], check=True)
    return binary


def _compile(folder: Path, units: list[str]) -> list[str]:
    paths = []
    for number, unit in enumerate(units):
        (folder / f"unit{number}.c").write_text(HEADER + unit)
        command = ["clang", "-g", "-O1", "-w", "-target", "bpf", "-c", f"unit{number}.c", "-o"]
        subprocess.run([*command, f"unit{number}.o"], cwd=folder, check=True)
        paths.append(str(folder / f"unit{number}.o"))
    return paths


def _split(base: Btf, second: Btf) -> Btf:
    """The second's types, split from the base."""
    builder = Builder(base=base)
    shift = base.end_id - 1
    builder.add_all(with_references(record, lambda i: i + shift) for _, record in second.types())
    return Btf.from_bytes(deduplicate(builder.build()).data, base)


@pytest.mark.needs("clang", "libbpf")
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 2), (1, 1), (0,)])
def test_the_types_left_are_libbpfs(order: tuple[int, ...], tmp_path: Path, by_libbpf: Path) -> None:
    paths = _compile(tmp_path, [UNITS[i] for i in order])
    subprocess.run([str(by_libbpf), str(tmp_path / "expected"), "-", *paths], check=True)
    expected = Btf.from_file(str(tmp_path / "expected"))
    data, _ = concatenate(Btf.from_file(path) for path in paths)
    whole = Btf.from_bytes(data)
    found = deduplicate(whole)
    left = Btf.from_bytes(found.data)
    assert [record for _, record in left.types()] == [record for _, record in expected.types()]
    assert left.end_id < whole.end_id or len(order) == 1
    # The ids given for the tables that refer to types lead to the same types in C.
    for old, record in whole.types():
        assert left.type(found.ids[old]).name == record.name


@pytest.mark.needs("clang", "libbpf")
@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 3), (0, 0)])
def test_types_that_the_base_has_are_left_out(
    first: int, second: int, tmp_path: Path, by_libbpf: Path
) -> None:
    paths = _compile(tmp_path, [UNITS[first], UNITS[second]])
    base = Btf.from_file(paths[0])
    subprocess.run([str(by_libbpf), str(tmp_path / "expected"), *paths], check=True)
    expected = Btf.from_file(str(tmp_path / "expected"), base)
    left = _split(base, Btf.from_file(paths[1]))
    assert [record for _, record in left.types()] == [record for _, record in expected.types()]
    assert left.end_id - left.first_id < Btf.from_file(paths[1]).end_id - 1


@pytest.mark.needs("clang")
def test_a_base_keeps_its_declarations(tmp_path: Path) -> None:
    paths = _compile(tmp_path, UNITS[:2])
    base = Btf.from_file(paths[0])
    left = _split(base, Btf.from_file(paths[1]))
    # The base only declares struct opaque, so what holds a pointer to it cannot be the base's.
    own = max(left.find_all("list"))
    assert own >= left.first_id
    pointer = left.type(left.member_path(own, "what").type_id)
    assert pointer.type_id == left.find_all("opaque")[-1]
    assert max(left.find_all("with_bits")) < left.first_id


def test_declarations_stand_for_the_one_definition() -> None:
    b = Builder()
    b.ptr(b.fwd("thing"))
    b.ptr(b.fwd("thing", union=True))
    b.ptr(b.fwd("unknown"))
    b.struct("thing", 4, [("x", b.integer("int", 4, signed=True), 0)])
    left = Btf.from_bytes(deduplicate(b.build()).data)
    assert left.name_of(left.find_all("thing")[0]) in ("union thing", "struct thing")
    kinds = sorted(record.kind for _, record in left.types())
    # The integer, three pointers, the struct, and two declarations.
    assert kinds == [1, 2, 2, 2, 4, 7, 7]


def test_ambiguous_declarations_stay() -> None:
    b = Builder()
    word = b.integer("int", 4, signed=True)
    b.ptr(b.fwd("thing"))
    b.struct("thing", 4, [("x", word, 0)])
    b.struct("thing", 4, [("y", word, 0)])
    left = Btf.from_bytes(deduplicate(b.build()).data)
    assert left.end_id == b.end_id
