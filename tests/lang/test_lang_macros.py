import pytest

from tracebee.errors import SourceError
from tracebee.lang.format import format_program
from tracebee.lang.frontend import load
from tracebee.source import Source


def expanded(text: str) -> str:
    return " ".join(format_program(load(Source("test.bt", text)).program).split())


def errors(text: str) -> list[str]:
    with pytest.raises(SourceError) as caught:
        load(Source("test.bt", text))
    return [d.message for d in caught.value.diagnostics]


def test_expressions_are_put_in() -> None:
    assert (
        expanded("macro add(x) { x + 1 } macro two(x) { add(x) + 1 } BEGIN { print(two(3)); }")
        == "BEGIN { print({ ({ 3 + 1 } + 1) }); }"
    )


def test_a_macro_without_parameters_needs_no_call() -> None:
    assert (
        expanded("macro one() { 1 } BEGIN { print(one); print(one()) }")
        == "BEGIN { print({ 1 }); print({ 1 }); }"
    )


def test_variables_and_maps_are_the_callers() -> None:
    assert (
        expanded("macro f($a, @b) { $a += 1; @b[1] += $a; } BEGIN { f($x, @y); }")
        == "BEGIN { { $x += 1; @y[1] += $x; } }"
    )


def test_own_variables_are_renamed_at_every_use() -> None:
    assert expanded("macro f(x) { let $v = x; $v + 1 } BEGIN { $v = f($v) + f(2); }") == (
        "BEGIN { $v = { let $f__v__1 = $v; $f__v__1 + 1 } + { let $f__v__2 = 2; $f__v__2 + 1 }; }"
    )


def test_a_map_goes_where_an_expression_is_wanted() -> None:
    assert expanded("macro f(x) { x + 1 } BEGIN { print(f(@m)); }") == "BEGIN { print({ @m + 1 }); }"


def test_overloads_by_number_and_kind() -> None:
    text = "macro f() { 0 } macro f(x) { 1 } macro f($x) { 2 } macro f(@x) { 3 }"
    assert expanded(text + " BEGIN { print((f(), f(1), f($a), f(@a))); }") == (
        "BEGIN { print(({ 0 }, { 1 }, { 2 }, { 3 })); }"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("macro f() { @x++ } BEGIN { f(); }", "the macro 'f' cannot reach the map '@x'"),
        ("macro f($x) { $x++ } BEGIN { f(@y); }", "the macro 'f' expects a scratch variable here, not a map"),
        (
            "macro f($x) { $x++ } BEGIN { f(1 + 1); }",
            "the macro 'f' expects a scratch variable here, not an expression",
        ),
        (
            "macro f(@x) { @x++ } BEGIN { f(@y[1]); }",
            "the macro 'f' expects a map here, not an element of a map",
        ),
        ("macro f(x) { x } BEGIN { f(); }", "the macro 'f' takes 1 argument, not 0"),
        ("macro f(x) { g(x) } macro g(x) { f(x) } BEGIN { f(1); }", "the macro 'f' uses itself"),
        ("macro f() { 1 } macro f() { 2 } BEGIN { }", "the macro 'f' is defined twice"),
        ("macro f(x, x) { 1 } BEGIN { }", "the macro 'f' has the parameter 'x' twice"),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert errors(text) == [message]


def test_explosive_growth_is_stopped() -> None:
    macros = "macro f0(x) { x + x } " + " ".join(
        f"macro f{i}(x) {{ f{i - 1}(x) + f{i - 1}(x) }}" for i in range(1, 40)
    )
    assert any("too much code" in m for m in errors(macros + " BEGIN { print(f39(1)); }"))
