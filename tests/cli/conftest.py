"""Command lines of ours, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracebee.cli.main import guarded

Ask = Callable[..., str]


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run a command line of ours that succeeds; what it printed."""

    def run(*words: object) -> str:
        code = guarded([str(word) for word in words])
        out = capfd.readouterr()
        assert (code, out.err) == (0, "")
        return out.out

    return run


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run a command line of ours that fails; what it said."""

    def run(*words: object) -> str:
        assert guarded([str(word) for word in words]) == 1
        out = capfd.readouterr()
        assert out.out == ""
        return out.err

    return run
