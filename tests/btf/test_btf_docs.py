"""The examples of docs/types.md run, and print what stands behind them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "types.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


PRINTED = [
    (" u64\n", "ssize_t vfs_read(struct file *file, ", "['preempt', 'prev', 'next', 'prev_state']", "(27, "),
    ("struct event\n",),
    ("\n0\n",),
]


@pytest.mark.needs("btf")
@pytest.mark.parametrize(("example", "printed"), [*zip(EXAMPLES, PRINTED, strict=True)])
def test_examples(example: str, printed: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example, "example", "exec"), {})
    output = capsys.readouterr().out
    assert [text for text in printed if text not in output] == []


def test_methods_that_are_named_exist() -> None:
    from tracebee.btf import Btf

    table = TEXT[TEXT.index("| | |") : TEXT.index("Opening vmlinux")]
    named = set(re.findall(r"`(\w+)\(", table))
    assert len(named) > 15
    assert [name for name in named if not hasattr(Btf, name)] == []
