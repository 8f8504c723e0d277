"""A probe that lists several attach points runs on those that exist; config can make it stricter or laxer."""

import pytest

from tracebee.api.compiling import compile_text
from tracebee.errors import Diagnostic, SourceError
from tracebee.lang.script import Script
from tracebee.source import Source

TWO_NAMES = "software:nope:1, software:page-faults:1 { @ = count() }"
NONE = "software:nope:1, software:never:1 { @ = count() }"


def compiled(text: str) -> tuple[Script, list[str]]:
    source = Source("s", text)
    said: list[str] = []

    def warn(finding: Diagnostic | str) -> None:
        said.append(finding if isinstance(finding, str) else finding.render(source))

    return compile_text(source, warn=warn, cpu_version=3, environment={}), said


def test_one_of_two_names_is_enough() -> None:
    script, (warning,) = compiled(TWO_NAMES)
    assert [t.probe for a in script.attachments for t in a.targets] == ["software:page-faults:1"]
    assert warning.startswith("s:1:1: warning: ")
    assert "nope" in warning
    assert warning.splitlines()[0].endswith(": skipped")
    assert warning.splitlines()[2].endswith("| " + "^" + "~" * (len("software:nope:1") - 1))


def test_none_of_them_is_an_error_that_names_all() -> None:
    with pytest.raises(SourceError) as caught:
        compiled(NONE)
    assert [d.severity for d in caught.value.diagnostics] == ["error", "error"]


def test_strict() -> None:
    with pytest.raises(SourceError, match="nope"):
        compiled('config = { missing_probes = "error" } ' + TWO_NAMES)


@pytest.mark.parametrize(("setting", "warnings"), [("warn", 1), ("ignore", 0)])
def test_lax(setting: str, warnings: int) -> None:
    _, said = compiled(f'config = {{ missing_probes = "{setting}" }} {TWO_NAMES}')
    assert len(said) == warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the script has no probe"),
        ("// a comment\nstruct s { int a; }", "the script has no probe"),
        (f'config = {{ missing_probes = "ignore" }} {NONE}', "none of the script's probes exists here"),
    ],
)
def test_nothing_to_run(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        compiled(text)
