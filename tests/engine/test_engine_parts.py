"""Parts of the engine by themselves: held commands, signals, debug information, CO-RE by name."""

from __future__ import annotations

import os
import select
import signal

import pytest

from tracebee.engine.command import Command, find_program
from tracebee.engine.kernel.debug_info import with_debug_info
from tracebee.engine.select import choose
from tracebee.engine.signals import Signals
from tracebee.errors import UsageError
from tracebee.isa.insn import Insn
from tracebee.obj.model import Function, LineInfo, Object, ProgramDef


def test_command_does_not_run_before_it_is_started(tmp_path: os.PathLike[str]) -> None:
    mark = os.path.join(tmp_path, "mark")
    command = Command(["touch", mark])
    try:
        assert not os.path.exists(mark)
        assert os.path.exists(f"/proc/{command.pid}")
        command.start()
        os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)
        assert command.reap() == 0
        assert os.path.exists(mark)
    finally:
        command.close()


def test_command_that_is_never_started_never_runs(tmp_path: os.PathLike[str]) -> None:
    mark = os.path.join(tmp_path, "mark")
    Command(["touch", mark]).close()
    assert not os.path.exists(mark)


def test_running_command_is_ended() -> None:
    command = Command(["sleep", "1000"])
    command.start()
    command.close()
    assert command.status is not None
    assert os.WTERMSIG(command.status) == signal.SIGTERM


def test_command_that_cannot_be_executed(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "broken")
    with open(path, "w") as file:
        file.write("\x7fELFnonsense")
    os.chmod(path, 0o755)
    command = Command([path])
    try:
        with pytest.raises(UsageError, match="cannot run"):
            command.start()
    finally:
        command.close()


@pytest.mark.parametrize("name", ["/no/such/program", "nosuchprogram", "/etc/passwd"])
def test_no_such_program(name: str) -> None:
    with pytest.raises(UsageError):
        find_program(name)


def test_signals_become_bytes_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert select.select([signals], [], [], 10)[0]
        assert signals.taken() == bytes([signal.SIGTERM])
        assert signals.taken() == b""
    assert signal.getsignal(signal.SIGTERM) is before


def test_engine_names() -> None:
    with pytest.raises(UsageError, match="not an engine"):
        choose("nope")


def _object() -> Object:
    code = (Insn(0xB7), Insn(0x95))
    lines = (LineInfo(0, "a.bt", "BEGIN { 1 }", 1, 1),)
    main = Function("main", code, lines=lines)
    callee = Function("callee", code, lines=lines, args=3)
    return Object("a", "GPL", (), (ProgramDef(main, "raw_tp", 17),), (callee,))


def test_debug_information_reads_back() -> None:
    from tracebee.btf.reader import Btf

    obj = with_debug_info(_object())
    btf = Btf.from_bytes(obj.btf)
    assert btf.type(obj.programs[0].function.type_id).name == "main"
    callee = btf.prototype(obj.functions[0].type_id)
    assert (callee.name, len(callee.params)) == ("callee", 3)
    assert list(btf.string_offsets("BEGIN { 1 }"))
    assert with_debug_info(obj) is obj


@pytest.mark.needs("bpf")
def test_debug_information_is_accepted() -> None:
    from tracebee.kernel.btf import Btf

    with Btf.load(with_debug_info(_object()).btf) as loaded:
        assert loaded.info().size > 0
