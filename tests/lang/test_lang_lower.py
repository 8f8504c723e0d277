"""Lowering, golden: ``golden/NAME.bt`` and the instructions it becomes, ``golden/NAME.asm``.

Write new ones with ``TRACEBEE_BLESS=1 pytest tests/lang/test_lang_lower.py`` and read them.
"""

import glob
import os

import pytest
from lang_fakes import compile_text

from tracebee.isa.disasm import disassemble

FILES = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "golden", "*.bt")))


def listing(text: str) -> str:
    """Maps, then each function's instructions."""
    script = compile_text(text)
    lines = [f"map {m.name} type {m.type} key {m.key_size} value {m.value_size}" for m in script.object.maps]
    for function in [p.function for p in script.object.programs] + list(script.object.functions):
        lines += ["", f"{function.name}:"]
        relocs = {
            r.at: f"  ; {r.kind} {r.symbol}" + (f"+{r.addend}" if r.addend else "") for r in function.relocs
        }
        lines += [f"    {t}{relocs.get(i, '')}" for i, t in enumerate(disassemble(function.insns))]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_instructions(path: str) -> None:
    with open(path) as file:
        found = listing(file.read())
    golden = path.removesuffix(".bt") + ".asm"
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
