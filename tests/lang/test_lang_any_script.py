"""Any script that parses compiles or is refused with findings: nothing else comes out."""

# ruff: noqa: E501 SIM905 (lists of words are read more easily as text)

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lang_fakes import compile_text

from tracebee.btf.reader import Btf
from tracebee.errors import SourceError, UnsupportedError

ATOMS = st.sampled_from(
    [
        a.replace("~", " ")
        for a in """1 -1 0xffffffffffffffff 300 "a" "" "longer~text~than~eight" pid comm nsecs arg0 retval args.fd args.name
    args.ret args kstack ustack ctx curtask probe func cpu rand $x $y @m @s @n[1] @t @k[1,"a"] @c @h true
    (1,2) (1,"ab",(2,3)) str(arg0) str(arg0,8) buf(arg0,4) ksym(arg0) usym(arg0) ntop(1) username elapsed
    (uint8)arg0 (int64)-1 (uint64*)arg0 *(uint32*)arg0 ((struct~s*)arg0)->b ((struct~s*)arg0)->c ((struct~s*)arg0)->d
    ((struct~s*)arg0)->e[1] ((struct~s*)arg0)->n->a *(struct~s*)arg0 sizeof(struct~s) offsetof(struct~s,c)
    (uint8[4])1 pton("1.2.3.4") strftime("%H",nsecs) macaddr(arg0) strerror(2) kstack(3) len(@n) has_key(@n,1)
    count() hist(1) sum(1) E1 $1 str($1) len(kstack) strncmp(comm,"ab",2) strlen(comm) strcontains(comm,"x")
    (a=1,b="x") typeinfo(1)""".split()
    ]
)
OPERATORS = st.sampled_from("+ - * / % & | ^ << >> == != < <= > >= && ||".split())


def expressions(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return ATOMS
    inner = expressions(depth - 1)
    return st.one_of(
        ATOMS,
        st.tuples(inner, OPERATORS, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        st.tuples(st.sampled_from(["!", "-", "~", "*"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]}, {t[1]})"),
        inner.map(lambda e: f"{{ let $b = {e}; $b }}"),
        st.tuples(inner, st.sampled_from([".0", ".1", ".a", "->a", "[0]", "[arg0]"])).map("".join),
        st.tuples(st.sampled_from(["uint8", "int32", "uint64", "struct s *", "uint8[8]", "bool"]), inner).map(
            lambda t: f"(({t[0]}){t[1]})"
        ),
    )


EXPRESSIONS = expressions(2)
STATEMENTS = st.one_of(
    st.tuples(st.sampled_from(["$x", "$y", "@m", "@s", "@n[1]", "@t", "@z[comm]"]), EXPRESSIONS).map(
        " = ".join
    ),
    st.tuples(
        st.sampled_from(["$x", "@m", "@n[1]"]), st.sampled_from(["+=", "-=", "*=", "|="]), EXPRESSIONS
    ).map(" ".join),
    EXPRESSIONS.map(lambda e: f"@w[{e}] = 1"),
    EXPRESSIONS.map(lambda e: f"@w2[{e}] = count()"),
    EXPRESSIONS.map(lambda e: f"print({e})"),
    EXPRESSIONS.map(lambda e: f'printf("%d", {e})'),
    EXPRESSIONS.map(lambda e: f'printf("%s", {e})'),
    EXPRESSIONS.map(lambda e: f"if ({e}) {{ $x++; return; }} else {{ @m++; }}"),
    EXPRESSIONS.map(lambda e: f"for $i : 0..({e}) {{ print($i); @c = count(); }}"),
    EXPRESSIONS.map(lambda e: f"for $kv : @n {{ print($kv); $x = {e}; }}"),
    EXPRESSIONS.map(lambda e: f"for $kv : @w {{ print($kv.0); if ($kv.1 == {e}) {{ break }} }}"),
    EXPRESSIONS.map(lambda e: f"@h = hist({e})"),
    EXPRESSIONS.map(lambda e: f"@a = avg({e})"),
    EXPRESSIONS.map(lambda e: f"delete(@w, {e})"),
    EXPRESSIONS.map(lambda e: f"join({e})"),
    EXPRESSIONS,
)
HEAD = """struct s { int a; char b[8]; unsigned c:3; uint64_t d; int e[4]; struct s *n; }
enum kinds { E1 = 1, E2 };
"""


def no_types() -> Btf:
    raise UnsupportedError("this kernel has no type information")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(STATEMENTS, min_size=1, max_size=5), st.sampled_from(["kprobe:f", "kretprobe:f", "tracepoint:a"])
)
@example(["print(typeinfo(1))"], "kprobe:f")
def test_compiles_or_says_why(statements: list[str], probe: str) -> None:
    setup = '$x = 1; $y = "s"; @m = 1; @s = "t"; @n[1] = 2; @t = (1, "x"); @k[1, "a"] = 1; @c = count(); @w[0] = 1;'
    text = HEAD + f"{probe} {{ {setup if len(statements) % 2 else ''} {'; '.join(statements)}; }}"
    try:
        script = compile_text(text, btf=no_types, parameters=("5",))
    except SourceError:
        return
    assert script.object.programs


@pytest.mark.parametrize(
    "text", ["BEGIN { }", "kprobe:f /0/ { }", "kprobe:f,kprobe:g { @[probe] = count(); }"]
)
def test_small_scripts(text: str) -> None:
    assert len(compile_text(text).attachments) == text.count(":") + text.count("BEGIN")
