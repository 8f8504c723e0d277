"""Imports go one way: a package imports only itself and the packages before it in LAYERS. And modules that
documents name are there.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tracebee"
LAYERS = [
    *(
        "typed",
        "source",
        "errors",
        "suggest",
        "uapi",
        "isa",
        "elf",
        "btf",
        "obj",
        "kernel",
        "vm",
        "symbols",
        "stacks",
        "ir",
        "lang",
        "pyfront",
    ),
    *("cfront", "probes", "engine", "report", "api", "tools", "cli"),
]


def _imports(path: Path) -> set[str]:
    """First-level tracebee packages a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("tracebee.")}
    return found


def test_imports_go_down_the_layers() -> None:
    bad = []
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        layer = parts[0]
        if layer in ("__init__", "__main__"):
            continue
        assert layer in LAYERS, f"{path} belongs to no layer"
        above = set(LAYERS[LAYERS.index(layer) + 1 :])
        bad += [f"{'/'.join(parts)} imports tracebee.{name}" for name in _imports(path) & above]
    assert not bad, "\n".join(sorted(bad))


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_modules_that_documents_name_are_there(document: str) -> None:
    root = SOURCE.parents[1]
    named = set(re.findall(r"`([\w/]+\.py)`", (root / document).read_text()))
    there = {f"/{path.relative_to(root)}" for top in ("src", "tests") for path in (root / top).rglob("*.py")}
    assert named
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in there)} == set()
