"""Declarations as C writes them: each compiles, and means the type it was written from."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tracebee.btf import Btf, kinds
from tracebee.btf.builder import Builder
from tracebee.btf.ctext import Declarator, declaration, plain_base
from tracebee.errors import DecodeError


def word(b: Builder) -> int:
    return b.integer("int", 4, signed=True)


def proto(b: Builder, *params: int) -> int:
    return b.func_proto(word(b), [("", p) for p in params])


# A type, `name` declared with it, and the type's own text.
DECLARATIONS: list[tuple[Callable[[Builder], int], str, str]] = [
    (word, "int x", "int"),
    (lambda b: 0, "void x", "void"),
    (lambda b: b.ptr(0), "void *x", "void *"),
    (lambda b: b.ptr(b.ptr(word(b))), "int **x", "int **"),
    (lambda b: b.ptr(b.const(word(b))), "const int *x", "const int *"),
    (lambda b: b.const(b.ptr(word(b))), "int *const x", "int *const"),
    (lambda b: b.const(b.ptr(b.const(word(b)))), "const int *const x", "const int *const"),
    (lambda b: b.volatile(b.restrict(b.ptr(word(b)))), "int *restrict volatile x", "int *restrict volatile"),
    (lambda b: b.const(b.const(word(b))), "const int x", "const int"),
    (lambda b: b.const(b.volatile(word(b))), "const volatile int x", "const volatile int"),
    (lambda b: b.array(word(b), 3), "int x[3]", "int[3]"),
    (lambda b: b.array(b.array(word(b), 3), 2), "int x[2][3]", "int[2][3]"),
    (lambda b: b.array(b.ptr(word(b)), 3), "int *x[3]", "int *[3]"),
    (lambda b: b.ptr(b.array(word(b), 3)), "int (*x)[3]", "int (*)[3]"),
    (lambda b: b.array(b.const(word(b)), 3), "const int x[3]", "const int[3]"),
    (lambda b: b.ptr(b.const(b.array(word(b), 3))), "const int (*x)[3]", "const int (*)[3]"),
    (
        # As gcc says it: of the array and of its elements.
        lambda b: b.ptr(b.const(b.array(b.const(b.ptr(b.const(word(b)))), 3))),
        "const int *const (*x)[3]",
        "const int *const (*)[3]",
    ),
    (lambda b: b.ptr(proto(b)), "int (*x)(void)", "int (*)(void)"),
    (lambda b: b.ptr(proto(b, word(b), 0)), "int (*x)(int, ...)", "int (*)(int, ...)"),
    (lambda b: b.const(b.ptr(proto(b, word(b)))), "int (*const x)(int)", "int (*const)(int)"),
    (lambda b: b.array(b.ptr(proto(b)), 4), "int (*x[4])(void)", "int (*[4])(void)"),
    (
        lambda b: b.ptr(b.func_proto(b.ptr(b.array(b.ptr(proto(b, word(b))), 2)), [])),
        "int (*(*(*x)(void))[2])(int)",
        "int (*(*(*)(void))[2])(int)",
    ),
    (
        lambda b: b.ptr(b.func_proto(0, [("cb", b.ptr(proto(b))), ("n", b.const(word(b)))])),
        "void (*x)(int (*cb)(void), const int n)",
        "void (*)(int (*cb)(void), const int n)",
    ),
    (lambda b: b.ptr(b.fwd("s")), "struct s *x", "struct s *"),
    (lambda b: b.ptr(b.fwd("u", union=True)), "union u *x", "union u *"),
    (lambda b: b.ptr(b.enum("e", [("E", 1)])), "enum e *x", "enum e *"),
    (lambda b: b.ptr(b.type_tag("user", b.const(word(b)))), "const int *x", "const int *"),
    (lambda b: b.typedef("t", b.ptr(word(b))), "t x", "t"),
]


@pytest.mark.parametrize(("make", "declared", "alone"), DECLARATIONS, ids=[d[1] for d in DECLARATIONS])
def test_declarations(make: Callable[[Builder], int], declared: str, alone: str) -> None:
    b = Builder()
    type_id = make(b)
    btf = b.build() if b.end_id > 1 else _with_int(b)
    assert declaration(btf, type_id, "x") == declared
    assert declaration(btf, type_id, "") == btf.name_of(type_id) == alone


def _with_int(b: Builder) -> Btf:
    word(b)
    return b.build()


@pytest.mark.needs("clang")
def test_clang_reads_them_so(tmp_path: Path) -> None:
    """Each declaration is compiled, and the type of what it declares written again."""
    head = "struct s; union u; enum e { E = 1 }; typedef int *t;\n"
    texts = [declared for _, declared, _ in DECLARATIONS if declared != "void x"]
    # Clang keeps a declaration's type where it is a parameter's; arrays and functions are pointed to.
    lines = [text.replace("x", f"x{n}", 1) for n, text in enumerate(texts)]
    (tmp_path / "all.c").write_text(
        head + "".join(f"struct h{n} {{ {line}; }} v{n};\n" for n, line in enumerate(lines))
    )
    command = ["clang", "-g", "-w", "-target", "bpf", "-c", "all.c", "-o", "all.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    btf = Btf.from_file(str(tmp_path / "all.o"))
    again = []
    for number in range(len(lines)):
        (member,) = btf.struct(f"h{number}").members
        again.append(btf.declare(member.type_id, member.name))
    # Names of parameters are not kept.
    assert again == [
        line.replace(" cb", "").replace("(*cb)", "(*)").replace("int n", "int") for line in lines
    ]


def test_bases_that_have_no_name() -> None:
    b = Builder()
    ids = [b.struct("", 4, [("a", word(b), 0)]), b.union("", 4, []), b.enum("", [("A", 0)])]
    btf = b.build()
    assert [plain_base(btf, i) for i in ids] == ["struct {...}", "union {...}", "enum {...}"]
    assert btf.declare(ids[0], "p") == "struct {...} p"


def test_who_writes_may_say_what_bases_and_tags_are() -> None:
    b = Builder()
    user = b.type_tag("user", b.type_tag("rcu", word(b)))
    types = [b.ptr(user), b.ptr(b.type_tag("out", b.ptr(user))), b.ptr(b.type_tag("f", proto(b)))]
    alias = b.typedef("seen_through", b.array(word(b), 0))
    btf = b.build()
    writer = Declarator(btf, lambda i: None if i == alias else "BASE", "0", lambda tag: f"<{tag.name}>")
    assert [writer.declare(i, "x") for i in types] == [
        "BASE <rcu> <user> *x",
        "BASE <rcu> <user> *<out> *x",
        "BASE (<f> *x)(void)",
    ]
    assert writer.declare(alias, "x") == "BASE x[0]"


@pytest.mark.parametrize("kind", [kinds.BTF_KIND_PTR, kinds.BTF_KIND_CONST, kinds.BTF_KIND_TYPE_TAG])
def test_what_refers_to_itself(kind: int) -> None:
    b = Builder()
    make = {kinds.BTF_KIND_PTR: b.ptr, kinds.BTF_KIND_CONST: b.const}.get(kind, lambda i: b.type_tag("t", i))
    make(2)
    make(1)
    with pytest.raises(DecodeError, match="refers to itself"):
        b.build().name_of(1)
