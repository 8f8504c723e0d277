import glob
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.lang import ast
from tracebee.lang.format import dump, format_program
from tracebee.lang.parser import parse
from tracebee.source import Source

CORPUS = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "corpus", "*.bt")))


def script(text: str, name: str = "test.bt") -> ast.Program:
    return parse(Source(name, text), params=("vfs_read", "2", "3"))


def round_trip(text: str) -> None:
    first = script(text)
    printed = format_program(first)
    second = script(printed)
    assert second == first, printed
    assert format_program(second) == printed


@pytest.mark.parametrize("path", CORPUS, ids=os.path.basename)
def test_corpus_round_trips(path: str) -> None:
    with open(path) as file:
        round_trip(file.read())


@pytest.mark.needs("bpftrace")
@pytest.mark.parametrize("path", sorted(glob.glob("/usr/sbin/*.bt")), ids=os.path.basename)
def test_debian_tools_round_trip(path: str) -> None:
    with open(path) as file:
        round_trip(file.read())


WORDS = st.sampled_from(["pid", "comm", "arg0", "retval", "nsecs", "x", "FOO", "bar"])
LEAVES = st.one_of(
    st.sampled_from(
        ["0", "42", "0x2a", "1e6", "10ms", "1_000u", "true", "false", "$1", "$#", "$x", "@", "@m"]
    ),
    WORDS,
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=5).map(
        lambda s: f'"{s}"'
    ),
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(
        ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", "<=", ">", ">=", "&&", "||"]
    )
    types = st.sampled_from(
        ["uint8", "struct s *", "int32[4]", "uint8[]", "union u **", "typeof($x)", "enum e", "my_t *"]
    )
    return st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("{} {} {}".format, inner, operators, inner),
        st.builds("{} ? {} : {}".format, inner, inner, inner).map("({})".format),
        st.builds("{}({})".format, st.sampled_from(["!", "~", "-", "*", "&"]), inner),
        st.builds("({})({})".format, types, inner),
        st.builds("({}).f".format, inner),
        st.builds("({})->f".format, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("@m[{}, {}]".format, inner, inner),
        st.builds("({}, {})".format, inner, inner),
        st.builds("({},)".format, inner),
        st.builds("(a = {}, b = {})".format, inner, inner),
        st.builds("f({}, {})".format, inner, inner),
        st.builds("sizeof({})".format, st.one_of(inner, types)),
        st.builds("{{ let $y = {}; {} }}".format, inner, inner),
        st.builds("if ({}) {{ {} }} else {{ {} }}".format, inner, inner, inner),
        st.builds("comptime ({})".format, inner),
    )


EXPRESSIONS = st.recursive(LEAVES, compound, max_leaves=12)


@given(EXPRESSIONS, EXPRESSIONS)
@settings(max_examples=300, deadline=None)
def test_expressions_round_trip(a: str, b: str) -> None:
    round_trip(f"kprobe:f /({a})/ {{ $x = {b}; print({a}); }}")


def test_dump_shows_every_node_with_its_place() -> None:
    text = dump(script("kprobe:f /pid == 1/ { @[comm] = count(); }"))
    assert text.splitlines()[:4] == [
        "Program  [1:1]",
        "  Probe  [1:1]",
        "    AttachPoint text='kprobe:f' parts=['kprobe', 'f']  [1:1]",
        "    Binary op='=='  [1:11]",
    ]
