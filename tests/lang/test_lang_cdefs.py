# ruff: noqa: SIM905 - lists of words read better as words
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.cdefs import Definitions, collect
from tracebee.lang.parser import parse
from tracebee.lang.types import INT8, Type
from tracebee.source import Source

TEXT = """
#define LENGTH 3
typedef unsigned char byte;
typedef struct { short a; byte b; } pair_t;
enum colour { RED = 1, GREEN, BLUE = 1 << 4, LAST = BLUE + 1 };
enum wide { NEGATIVE = -1, LARGE = 0x100000000 };
struct inner { char c; long l; };
struct packed { char c; long l; short s; } __attribute__((packed));
struct bits { unsigned int a : 3; unsigned int b : 30; char c; unsigned long d : 40; int : 0; int e : 1; };
struct packed_bits { char a : 3; int b : 30; char c; } __attribute__((packed));
struct aligned { char c; int x __attribute__((aligned(16))); };
struct all {
	char name[16];
	int numbers[LENGTH][2], *pointer, **pointers;
	struct inner in, *next;
	union { int u32; long u64; struct { char x, y; }; };
	struct { short p; } named;
	void (*callback)(struct all *, int (*)(void));
	int (*array)[4];
	pair_t pairs[2];
	struct packed p;
	enum colour c;
	const volatile unsigned long long int big;
	struct unknown *opaque;
	_Bool flag;
	struct bits b;
	struct aligned al;
	char flexible[];
};
union u { char c[5]; int i; };
"""


def definitions(text: str) -> Definitions:
    found, errors = collect(parse(Source("test.bt", text + "\nBEGIN { }")))
    assert not errors, [str(e) for e in errors]
    return found


def c_layout(text: str, records: list[str], tmp_path: Path) -> dict[str, int]:
    """sizeof and offsetof of the members, as the C compiler has them."""
    names = definitions(text)
    lines = []
    for record in records:
        lines.append(f'printf("{record} %zu\\n", sizeof({record}));')
        found = names.type(record)
        assert found is not None
        lines.extend(
            f'printf("{record}.{f.name} %zu\\n", offsetof({record}, {f.name}));'
            for f in found.fields
            if not f.bit_size
        )
    program = "#include <stdio.h>\n#include <stddef.h>\n" + text + "int main(void){" + "".join(lines) + "}"
    (tmp_path / "t.c").write_text(program)
    subprocess.run(["gcc", "-w", "-o", tmp_path / "t", tmp_path / "t.c"], check=True)
    out = subprocess.run([tmp_path / "t"], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(.+) (\d+)\n", out)}


def our_layout(text: str, records: list[str]) -> dict[str, int]:
    names = definitions(text)
    out = {}
    for record in records:
        found = names.type(record)
        assert found is not None
        out[record] = found.size
        out.update({f"{record}.{f.name}": f.offset for f in found.fields if not f.bit_size})
    return out


@pytest.mark.needs("gcc")
def test_layout_is_the_compilers(tmp_path: Path) -> None:
    records = ["struct " + n for n in ["inner", "packed", "bits", "packed_bits", "aligned", "all"]] + [
        "union u",
        "pair_t",
    ]
    assert our_layout(TEXT, records) == c_layout(TEXT, records, tmp_path)


MEMBERS = st.lists(
    st.sampled_from(
        "char short int long|unsigned:3 int:17 long:33 char:5 short:9 char:0|char*|int[3] char[5]".replace(
            "|", " "
        ).split()
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.needs("gcc")
def test_random_records_are_laid_out_as_the_compiler_does(tmp_path: Path) -> None:
    texts: list[str] = []

    @given(MEMBERS, st.booleans(), st.booleans())
    @settings(max_examples=60, deadline=None, database=None)
    def build(members: list[str], union: bool, packed: bool) -> None:
        body = ""
        for index, member in enumerate(members):
            kind, _, bits = member.partition(":")
            base = re.match(r"\w+", kind)
            assert base is not None
            name = "" if bits == "0" else f"m{index}"
            suffix = kind[base.end() :]
            body += f"{base[0]} {'*' if suffix == '*' else ''}{name}{'' if suffix == '*' else suffix}"
            body += f" : {bits};" if bits else ";"
        attribute = " __attribute__((packed))" if packed else ""
        keyword = "union" if union else "struct"
        if any(not m.endswith(":0") for m in members):
            texts.append(f"{keyword} r{len(texts)} {{ {body} }}{attribute};")

    build()
    records = [" ".join(t.split()[:2]) for t in texts]
    text = "\n".join(texts) + "\n"
    assert our_layout(text, records) == c_layout(text, records, tmp_path)


def test_bit_fields() -> None:
    found = definitions(TEXT).type("struct bits")
    assert found is not None
    # What gcc 12 does on x86-64 and arm64: b does not fit into the rest of a's unit.
    assert [(f.name, f.bit_offset, f.bit_size) for f in found.fields if f.bit_size] == [
        ("a", 0, 3),
        ("b", 32, 30),
        ("d", 72, 40),
        ("e", 128, 1),
    ]


def test_constants() -> None:
    found = definitions(TEXT)
    names = ("RED", "GREEN", "BLUE", "LAST", "NEGATIVE", "LARGE", "LENGTH")
    values = {n: c[0] for n in names if (c := found.constant(n))}
    assert values == {
        "RED": 1,
        "GREEN": 2,
        "BLUE": 16,
        "LAST": 17,
        "NEGATIVE": -1,
        "LARGE": 1 << 32,
        "LENGTH": 3,
    }
    assert found.type("enum colour").size == 4  # type: ignore[union-attr]
    assert found.type("enum wide") == Type(
        "enum",
        8,
        signed=True,
        name="enum wide",
        fields=found.type("enum wide").fields,  # type: ignore[union-attr]
    )


def test_types_of_members() -> None:
    fields = {f.name: f.type for f in definitions(TEXT).type("struct all").fields}  # type: ignore[union-attr]
    assert fields["name"] == Type("string", 16)
    assert fields["numbers"].size == 24
    assert fields["pointer"].element == Type("int", 4, signed=True)
    assert fields["next"].element.name == "struct inner"  # type: ignore[union-attr]
    assert fields["opaque"].element == Type("record", 0, name="struct unknown")
    assert {"u32", "u64", "x", "y"} <= set(fields)
    assert fields["flexible"] == Type("array", 0, element=INT8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("struct s { foo_t x; };", "unknown type 'foo_t'"),
        ("struct s { struct t x; };", "'struct t' is not defined, so 'x' has no size"),
        ("struct s { int x[N]; };", "'N' is not a constant: 'N' is not known"),
        ("struct s { int x; int x; };", "the struct has 'x' twice"),
        ("struct s { float x; };", "floating point does not exist in BPF"),
        ("struct s { int x : 33; };", "a bit-field of 33 bits does not fit its type"),
        ("struct s { void x; };", "'x' cannot be of type void"),
        ("struct s { int 3; };", "expected a name"),
        ("struct s { int x };", "expected ';', found '}'"),
        ("struct s { int a; } x;", "a variable cannot be defined"),
        ("enum e { A = B };", "'B' is not a constant: 'B' is not known"),
    ],
)
def test_errors(text: str, message: str) -> None:
    node = ast.CDefinition(kind=text.split()[0], text=text)
    with pytest.raises(Diagnostic) as caught:
        Definitions().add(node)
    assert caught.value.message.startswith(message)


@given(
    st.lists(
        st.sampled_from("struct union enum s { } ; int char * [ ] 3 : , ( ) = x void typedef".split(" ")),
        max_size=20,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_type_or_an_error(words: list[str]) -> None:
    try:
        Definitions().add(ast.CDefinition(kind="struct", text=" ".join(words)))
    except Diagnostic:
        pass
