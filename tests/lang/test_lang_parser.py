# ruff: noqa: SIM905 - lists of words read better as words
import glob
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import SourceError
from tracebee.lang import ast
from tracebee.lang.parser import parse
from tracebee.source import Source, Span


def script(text: str, *params: str) -> ast.Program:
    return parse(Source("test.bt", text), params=params)


def expression(text: str) -> ast.Expr:
    probe = script(f"BEGIN {{ $x = {text}; }}").items[0]
    assert isinstance(probe, ast.Probe)
    statement = probe.body.statements[0]
    assert isinstance(statement, ast.Assign)
    return statement.value


def points(text: str, *params: str) -> list[list[str]]:
    return [p.parts for item in script(text, *params).items for p in item.points]  # type: ignore[attr-defined]


def shape(node: ast.Node) -> str:
    """The operators of an expression with all their parentheses."""
    if isinstance(node, ast.Binary):
        return f"({shape(node.left)}{node.op}{shape(node.right)})"
    if isinstance(node, ast.Unary):
        return f"({node.op}{shape(node.operand)})"
    if isinstance(node, ast.Ternary):
        return f"({shape(node.condition)}?{shape(node.then)}:{shape(node.otherwise)})"
    if isinstance(node, ast.Cast):
        return f"(cast {shape(node.operand)})"
    if isinstance(node, ast.IncDec):
        return f"({node.op}{shape(node.target)})" if node.prefix else f"({shape(node.target)}{node.op})"
    return str(getattr(node, "text", None) or getattr(node, "name", None))


# The shapes are those C gives the same operators (C11 6.5).
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", "(1+(2*3))"),
        ("1 - 2 - 3", "((1-2)-3)"),
        ("1 | 2 ^ 3 & 4", "(1|(2^(3&4)))"),
        ("1 & 2 == 3", "(1&(2==3))"),
        ("1 < 2 == 3 > 4", "((1<2)==(3>4))"),
        ("1 << 2 + 3", "(1<<(2+3))"),
        ("1 < 2 << 3", "(1<(2<<3))"),
        ("1 || 2 && 3 | 4", "(1||(2&&(3|4)))"),
        ("1 ? 2 : 3 ? 4 : 5", "(1?2:(3?4:5))"),
        ("1 ? 2 ? 3 : 4 : 5", "(1?(2?3:4):5)"),
        ("1 || 2 ? 3 : 4", "((1||2)?3:4)"),
        ("-1 + 2", "((-1)+2)"),
        ("!1 == 2", "((!1)==2)"),
        ("*$p + 1", "((*p)+1)"),
        ("(uint8)1 + 2", "((cast 1)+2)"),
        ("(uint8)-1", "(cast (-1))"),
        ("-(uint8)1", "(-(cast 1))"),
        ("(FOO) - 1", "(FOO-1)"),
        ("(foo_t)$x", "(cast x)"),
        ("(foo_t *)$x", "(cast x)"),
        ("$a++ + ++$b", "((a++)+(++b))"),
        ("6 / 2 % 4", "((6/2)%4)"),
    ],
)
def test_operators_bind_as_in_c(text: str, expected: str) -> None:
    assert shape(expression(text)) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("0123", 0o123),
        ("0x2A", 42),
        ("1e6", 10**6),
        ("1_000_000", 10**6),
        ("123ULL", 123),
        ("0xffu", 255),
        ("1ns", 1),
        ("2us", 2000),
        ("3ms", 3 * 10**6),
        ("4s", 4 * 10**9),
        ("1m", 60 * 10**9),
        ("1h", 3600 * 10**9),
        ("1d", 86400 * 10**9),
        ("18446744073709551615", (1 << 64) - 1),
    ],
)
def test_integers(text: str, value: int) -> None:
    node = expression(text)
    assert isinstance(node, ast.Integer)
    assert node.value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"a\tb\n"', "a\tb\n"),
        (r'"\033[31m"', "\x1b[31m"),
        (r'"\0"', "\0"),
        (r'"\1234"', "S4"),
        (r'"\x1bZ\x414"', "\x1bZA4"),
        (r'"\"\\"', '"\\'),
        ('"ä"', "\xc3\xa4"),
        ('"a" "b"', "ab"),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert expression(text) == ast.String(value=value)


def test_attach_points() -> None:
    assert points("kprobe:vfs_read+8, k:a { }") == [["kprobe", "vfs_read+8"], ["k", "a"]]
    assert points('uprobe:"/a b/c":cpp:"n::f(int, x)" { }') == [["uprobe", "/a b/c", "cpp", "n::f(int, x)"]]
    assert points(r"uprobe:/a\ b:f { }") == [["uprobe", "/a b", "f"]]
    assert points("uprobe:$1:$2 { }", "/bin/sh", "main") == [["uprobe", "/bin/sh", "main"]]
    assert points("interval:s:1/pid/{ }") == [["interval", "s", "1"]]
    assert points("uprobe:/bin/sh:f/pid/{ }") == [["uprobe", "/bin/sh", "f"]]
    assert points("uprobe:./go:github.com/a/b.F /pid/ { }") == [["uprobe", "./go", "github.com/a/b.F"]]
    assert points("usdt:/x:ns:probe { } iter:task:/sys/fs/bpf/x { }") == [
        ["usdt", "/x", "ns", "probe"],
        ["iter", "task", "/sys/fs/bpf/x"],
    ]


def test_map_keys() -> None:
    assert expression("@m[1, 2]") == expression("@m[(1, 2)]")
    assert expression("@[1]") == ast.MapAccess(map=ast.Map(name=""), key=ast.Integer(value=1, text="1"))


def test_last_value_of_a_block() -> None:
    block = expression("{ let $y = 1; $y }")
    assert isinstance(block, ast.BlockExpr)
    assert block.value == ast.Variable(name="y")
    probe = script("BEGIN { if (1) { 2 } else { 3 } }").items[0]
    assert isinstance(probe.body.statements[0], ast.If)  # type: ignore[attr-defined]


def test_object_macros_and_conditions() -> None:
    text = """
#define A 1 + B
#define B 2
#if defined(A) && B == 2
#define C 3
#else
#define C 4
#endif
#ifdef NOT
#define D 5
#endif
BEGIN { $x = (A, C, D); }
"""
    probe = script(text).items[-1]
    value = probe.body.statements[0].value  # type: ignore[attr-defined]
    assert [shape(item) for item in value.items] == ["(1+2)", "3", "D"]


def test_spans_point_at_the_text() -> None:
    text = "kprobe:f\n/pid == 1/\n{\n\t@x[comm] = count();\n}\n"
    probe = script(text).items[0]
    assert isinstance(probe, ast.Probe)
    assert probe.points[0].span == Span(1, 1, 1, 9)
    assert probe.predicate is not None
    assert probe.predicate.span == Span(2, 2, 2, 10)
    statement = probe.body.statements[0]
    assert statement.span == Span(4, 2, 4, 20)
    assert statement.value.span == Span(4, 13, 4, 20)  # type: ignore[attr-defined]


def test_all_errors_are_reported() -> None:
    with pytest.raises(SourceError) as caught:
        script("BEGIN { $x = ; print(1 }\nkprobe:f { $y = 1 2; }\nEND { @[; }")
    assert [d.span.line for d in caught.value.diagnostics] == [1, 1, 2, 3]


@pytest.mark.needs("bpftrace")
@pytest.mark.parametrize("path", sorted(glob.glob("/usr/sbin/*.bt")), ids=os.path.basename)
def test_debian_tools_parse(path: str) -> None:
    with open(path) as file:
        assert script(file.read()).of(ast.Probe)


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN { $x = " + "(" * 5000 + "1" + ")" * 5000 + "; }",
        "BEGIN { $x = " + "-" * 1 + "!" * 5000 + "1; }",
        "BEGIN " + "{ if (1) " * 2000 + "{ }" + "}" * 2000,
        "BEGIN { $x = " + "1+" * 5000 + "1; }",
        "BEGIN { $x = $a" + ".b" * 5000 + "; }",
        "BEGIN { $x = $a" + "[1]" * 5000 + "; }",
        "BEGIN { $x = " + "1 ? " * 3000 + "1" + ": 2" * 3000 + "; }",
        "BEGIN { $x = " + "(uint8)" * 3000 + "1; }",
        "BEGIN { " + "if (1) { } else " * 3000 + "{ } }",
    ],
    ids=["parentheses", "unary", "blocks", "chain", "fields", "indices", "ternaries", "casts", "else-ifs"],
)
def test_deep_nesting_is_an_error(text: str) -> None:
    with pytest.raises(SourceError):
        script(text)


def refusal(text: str) -> SourceError | None:
    """The error of a script, None when it parses; anything else than a SourceError fails the test."""
    try:
        script(text, "one")
    except SourceError as error:
        return error
    return None


PIECES = st.sampled_from(
    (
        "BEGIN { } kprobe:f /pid==1/ kretprobe: , ; ( ) [ ] $x @m @ $1 $# = == + ++ -- - * / % & && | || ! ~ "
        ' ? : . -> .. 1 0x1 1e6 "s" "un \\q \'; #define A 1 struct s { int a; }; if else while for unroll '
        " let return break import macro fn config = sizeof offsetof (struct s *) uint8 pid comm args count("
        " printf( // /* */ \\ \n typeof comptime true _ = += enum { A } union typedef #if #endif #include"
    ).split(" ")
)


@given(st.lists(PIECES, max_size=40).map(" ".join))
@settings(max_examples=500, deadline=None)
def test_any_sequence_of_words_gives_a_tree_or_an_error(text: str) -> None:
    error = refusal(text)
    assert error is None or (error.diagnostics and str(error))


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_tree_or_an_error(text: str) -> None:
    for source in (text, "BEGIN {" + text + "}", "kprobe:f /" + text + "/ { }", "uprobe:" + text + " {}"):
        error = refusal(source)
        assert error is None or str(error)
