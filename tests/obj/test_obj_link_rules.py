"""What may be linked with what: the rules of ``bpftool gen object``, asked of both linkers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tracebee.errors import DecodeError
from tracebee.obj.elf_reader import read_object
from tracebee.obj.linker import link_objects

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#define NOINLINE __attribute__((noinline))\n"
MAP = (
    "{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, int); __type(value, long); } m "
    'SEC(".maps");'
)
USE_MAP = 'SEC("socket") int use(void *ctx) { int k = 0; return bpf_map_lookup_elem(&m, &k) != 0; }'

# Two files that fit, and what the error says when they do not.
FITTING = {
    "weak gives way": ("__weak int x = 1;", "int x = 2;"),
    "two weak ones": ("__weak int x = 1;", "__weak int x = 2;"),
    "static ones stay apart": (
        "static int x = 1; int *one(void) { return &x; }",
        "static int x = 2; int *two(void) { return &x; }",
    ),
    "signs do not matter": ("extern int x; int get(void) { return x; }", "unsigned int x = 1;"),
    "nor do lengths": ("extern int x[]; int get(void) { return x[1]; }", "int x[4] = { 1, 2, 3, 4 };"),
    "nor what is behind a pointer": (
        "struct s; extern struct s *x; void *get(void) { return x; }",
        "struct s { int a; }; struct s *x;",
    ),
    "nor names of parameters": (
        "int f(int); int get(void) { return f(1); }",
        "NOINLINE int f(int a) { return a * 7; }",
    ),
    "a map declared as it is defined": (f"extern struct {MAP} {USE_MAP}", f"struct {MAP}"),
    "what nobody defines": ("extern int x; int get(void) { return x; }", "int y = 1;"),
    "kernel settings": (
        "extern int CONFIG_HZ __kconfig __weak; int one(void) { return CONFIG_HZ; }",
        "extern int CONFIG_HZ __kconfig; int two(void) { return CONFIG_HZ; }",
    ),
    "hidden and not": (
        "__hidden int f(int); int get(void) { return f(1); }",
        "NOINLINE int f(int a) { return a; }",
    ),
}
REFUSED = {
    "two definitions": ("int x = 1;", "int x = 2;", "'x' is defined in one.o and in two.o"),
    "two functions": (
        "NOINLINE int f(int a) { return a; }",
        "NOINLINE int f(int a) { return a + 1; }",
        "'f' is defined in one.o and in two.o",
    ),
    "two maps": (f"struct {MAP} {USE_MAP}", f"struct {MAP}", "'m' is defined in one.o and in two.o"),
    "another size": (
        "extern long x; long get(void) { return x; }",
        "int x = 1;",
        "'x' is declared in one.o otherwise than it is defined in two.o: int and long",
    ),
    "another kind of type": (
        "extern int *x; void *get(void) { return x; }",
        "int x = 1;",
        "'x' is declared in one.o otherwise than it is defined in two.o: int and int \\*",
    ),
    "another struct": (
        "struct s { int a; }; extern struct s x; int get(void) { return x.a; }",
        "struct t { int a; }; struct t x;",
        "'x' is declared in one.o otherwise .*: struct t and struct s",
    ),
    "other members": (
        "struct s { int a; }; extern struct s x; int get(void) { return x.a; }",
        "struct s { int b; }; struct s x;",
        "'x' is declared in one.o otherwise .*: members of struct s differ",
    ),
    "more parameters": (
        "int f(int); int get(void) { return f(1); }",
        "NOINLINE int f(int a, int b) { return a + b; }",
        "'f' is declared in one.o otherwise than it is defined in two.o: 2 parameters, and 1",
    ),
    "another result": (
        "long f(int); long get(void) { return f(1); }",
        "NOINLINE int f(int a) { return a; }",
        "'f' is declared in one.o otherwise than it is defined in two.o: int and long",
    ),
    "two declarations": (
        "extern int x; int one(void) { return x; }",
        "extern long x; long two(void) { return x; }",
        "'x' is declared in two.o otherwise than it is declared in one.o: int and long",
    ),
    "two weak definitions": (
        "__weak int x = 1;",
        "__weak long x = 2;",
        "'x' is defined in two.o otherwise than in one.o: int and long",
    ),
    "a function and a variable": (
        "int x(void); int get(void) { return x(); }",
        "int x = 1;",
        "'x' is a variable in two.o and a function in one.o",
    ),
    "a setting that is a variable": (
        "extern int x __kconfig; int get(void) { return x; }",
        "int x = 1;",
        "'x' is a variable in two.o and a setting of the kernel in one.o",
    ),
    "settings of two types": (
        "extern int CONFIG_HZ __kconfig; int one(void) { return CONFIG_HZ; }",
        "extern long CONFIG_HZ __kconfig; int two(void) { return CONFIG_HZ; }",
        "'CONFIG_HZ' is declared in two.o otherwise than it is declared in one.o: int and long",
    ),
    "a map of another capacity": (
        f"extern struct {MAP.replace('8', '9')} {USE_MAP}",
        f"struct {MAP}",
        "map 'm': max_entries is 8 in two.o, 9 in one.o",
    ),
    "a map of another type": (
        f"extern struct {MAP.replace('HASH', 'LRU_HASH')} {USE_MAP}",
        f"struct {MAP}",
        "map 'm': type is 1 in two.o, 9 in one.o",
    ),
    "a map of other values": (
        f"extern struct {MAP.replace('value, long', 'value, void *')} {USE_MAP}",
        f"struct {MAP}",
        "map 'm': the value's type is long in two.o, void \\* in one.o",
    ),
    "a map without types": (
        f"extern struct {MAP.replace('__type(key, int)', '__uint(key_size, 4)')} {USE_MAP}",
        f"struct {MAP}",
        "map 'm': the key's type is int in two.o, not typed in one.o",
    ),
    "a section of another kind": (
        'const int x SEC(".rodata.mine") = 1;',
        'int y SEC(".rodata.mine") = 1;',
        "section .rodata.mine of two.o is not of the kind it has in one.o",
    ),
    "another license": (
        'int x; char LICENSE[] SEC("license") = "GPL";',
        'int y; char LICENSE[] SEC("license") = "MIT";',
        "license of one.o is 'GPL', of two.o 'MIT'",
    ),
}


def built(folder: Path, *sources: str) -> list[str]:
    paths = []
    for name, source in zip(("one", "two", "three"), sources, strict=False):
        text, target = folder / f"{name}.bpf.c", folder / f"{name}.o"
        text.write_text(HEAD + source)
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        command = ["clang", "-O2", "-g", "-target", "bpf", include, "-c", text, "-o", target]
        subprocess.run(command, check=True, capture_output=True)
        paths.append(str(target))
    return paths


def bpftool_links(paths: list[str], target: Path) -> bool:
    done = subprocess.run(["bpftool", "gen", "object", target, *paths], capture_output=True, check=False)
    return done.returncode == 0


def names(paths: list[str]) -> list[str]:
    return [os.path.basename(path) for path in paths]


@pytest.mark.needs("clang", "bpftool")
@pytest.mark.parametrize("case", FITTING)
def test_both_link(case: str, tmp_path: Path) -> None:
    paths = built(tmp_path, *FITTING[case])
    assert bpftool_links(paths, tmp_path / "theirs.o")
    theirs, ours = read_object(str(tmp_path / "theirs.o")), link_objects([read_object(p) for p in paths])
    assert sorted(v[:4] for v in ours.variables) == sorted(v[:4] for v in theirs.variables)
    assert {m.name: (m.type, m.contents) for m in ours.maps} == {
        m.name: (m.type, m.contents) for m in theirs.maps
    }
    assert {f.name for f in ours.functions} == {f.name for f in theirs.functions}
    assert {(e.name, e.kind, e.weak) for e in ours.externs} == {
        (e.name, e.kind, e.weak) for e in theirs.externs
    }
    assert {(e.name, e.hidden) for e in ours.exports} == {(e.name, e.hidden) for e in theirs.exports}


@pytest.mark.needs("clang", "bpftool")
@pytest.mark.parametrize("case", REFUSED)
def test_neither_links(case: str, tmp_path: Path) -> None:
    *sources, message = REFUSED[case]
    paths = built(tmp_path, *sources)
    assert not bpftool_links(paths, tmp_path / "theirs.o")
    with pytest.raises(DecodeError, match=message) as caught:
        link_objects([read_object(p) for p in paths], names(paths))
    assert re.search(r"one\.o.*two\.o|two\.o.*one\.o", str(caught.value))
