"""Lowering, golden: ``golden/NAME.bt`` and the IR it becomes, ``golden/NAME.ir``.

Write new ones with ``TRACEBEE_BLESS=1 pytest tests/lang/test_lang_lower.py`` and read them.
"""

import glob
import os
from typing import Any

import pytest
from lang_fakes import compile_text

from tracebee.ir import Module
from tracebee.ir.compile import Compiled
from tracebee.ir.compile import compile_module as real_compile_module
from tracebee.ir.dump import dump_function

FILES = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "golden", "*.bt")))


def listing(text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Maps, then the IR of each function before any pass."""
    dumps: list[str] = []

    def compile_module(module: Module, **options: Any) -> Compiled:
        dumps.extend(dump_function(f) for f in module.functions)
        return real_compile_module(module, **options)

    monkeypatch.setattr("tracebee.lang.assemble.compile_module", compile_module)
    script = compile_text(text)
    lines = [f"map {m.name} type {m.type} key {m.key_size} value {m.value_size}" for m in script.object.maps]
    return "\n".join([*lines, "", *dumps]) + "\n"


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_ir(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(path) as file:
        found = listing(file.read(), monkeypatch)
    golden = path.removesuffix(".bt") + ".ir"
    if os.environ.get("TRACEBEE_BLESS"):
        with open(golden, "w") as file:
            file.write(found)
    with open(golden) as file:
        assert found == file.read()


def test_compile_time_is_linear() -> None:
    """Ten times the statements make about ten times the instructions, not more."""
    small = compile_text("kprobe:f { " + "@a[pid] = count(); " * 20 + "}")
    large = compile_text("kprobe:f { " + "@a[pid] = count(); " * 200 + "}")
    sizes = [len(s.object.programs[0].function.insns) for s in (small, large)]
    assert sizes[1] <= 11 * sizes[0]
