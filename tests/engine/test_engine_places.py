"""An error of attaching or loading says which attach point of the script it is about."""

from __future__ import annotations

from typing import NoReturn

import pytest

import tracebee
from tracebee.api.compiling import compile_text
from tracebee.engine.kernel.engine import KernelEngine
from tracebee.errors import KernelError, PrivilegeError, TracebeeError, UnsupportedError
from tracebee.lang.portable import from_object, to_object
from tracebee.source import Source

SCRIPT = "BEGIN { }\ninterval:s:7, profile:hz:3 { @ = count(); }"


def _refuse(*_: object) -> NoReturn:
    raise KernelError("perf_event_open", 22, "perf_event_open failed: no")


@pytest.mark.needs("bpf")
def test_the_attach_point_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracebee.probes.timer.attach", _refuse)
    with pytest.raises(KernelError) as caught, tracebee.Script(SCRIPT, name="x.bt", engine="kernel"):
        pass
    assert caught.value.message.splitlines() == [
        "x.bt:2:1: error: perf_event_open failed: no",
        "    2 | interval:s:7, profile:hz:3 { @ = count(); }",
        "      | ^~~~~~~~~~~~",
    ]
    assert caught.value.errno == 22


@pytest.mark.needs("bpf")
def test_a_built_script_has_its_text_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracebee.probes.timer.attach", _refuse)
    built = from_object(to_object(compile_text(Source("x.bt", SCRIPT))))
    engine = KernelEngine()
    try:
        engine.load(built)
        with pytest.raises(KernelError) as caught:
            engine.attach(lambda _: None)
    finally:
        engine.close()
    place, line, caret = caught.value.message.splitlines()
    assert place == "x.bt:2:1: error: perf_event_open failed: no"
    assert line == f"    2 | {SCRIPT.splitlines()[1]}"
    assert caret.startswith("      | ^~")


@pytest.mark.needs("no_kprobe")
def test_a_kernel_without_kprobes() -> None:
    with (
        pytest.raises(UnsupportedError) as caught,
        tracebee.Script("BEGIN { }\n  kprobe:vfs_read { }", name="x.bt"),
    ):
        pass
    head, line, caret = caught.value.message.splitlines()
    assert head.startswith("x.bt:2:3: error: this kernel has no kprobes")
    assert line[caret.index("^") :].startswith("kprobe:vfs_read")
    assert caught.value.hint


@pytest.mark.needs("bpf")
def test_a_program_that_may_not_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, name: str = "", **__: object) -> NoReturn:
        error = PrivilegeError("not permitted")
        error.program = name
        raise error

    monkeypatch.setattr("tracebee.kernel.program.Program.load", forbid)
    with pytest.raises(TracebeeError) as caught, tracebee.Script(SCRIPT, name="x.bt", engine="kernel"):
        pass
    assert caught.value.message.startswith("x.bt:1:1: error: not permitted")
