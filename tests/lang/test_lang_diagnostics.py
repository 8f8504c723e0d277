"""What the analyser says, golden: ``diagnostics/NAME.bt`` and its findings, ``diagnostics/NAME.err``.

Write new ones with ``TRACEBEE_BLESS=1 pytest tests/lang/test_lang_diagnostics.py`` and read them.
"""

import glob
import os
from pathlib import Path

import pytest
from lang_fakes import compile_text

from tracebee.btf.reader import Btf
from tracebee.errors import Diagnostic, SourceError, UnsupportedError
from tracebee.lang import builtins, functions
from tracebee.lang.names import FUNCTIONS
from tracebee.source import Source

FILES = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "diagnostics", "*.bt")))


def no_types() -> Btf:
    raise UnsupportedError("this kernel has no type information")


def findings(path: str) -> str:
    """Warnings, then errors, as they are printed."""
    with open(path) as file:
        text = file.read()
    warnings: list[Diagnostic] = []
    name = os.path.basename(path)
    try:
        compile_text(text, btf=no_types, name=name, warn=warnings.append, unsafe=False)
    except SourceError as error:
        return str(error) + "\n"
    return "\n".join(w.render(Source(name, text)) for w in warnings) + "\n"


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_findings(path: str) -> None:
    found = findings(path)
    golden = path.removesuffix(".bt") + ".err"
    if os.environ.get("TRACEBEE_BLESS"):
        with open(golden, "w") as file:
            file.write(found)
    with open(golden) as file:
        assert found == file.read()


def test_functions_that_are_not_there_are_listed_in_the_readme() -> None:
    missing = FUNCTIONS - set(functions.names()) - set(builtins.names())
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## What it does not do yet")[2].partition("\n## ")[0]
    assert {name for name in missing if f"`{name}`" not in section} == set()
    assert {name for name in FUNCTIONS - missing if f"`{name}`" in section} == set()
