"""An object's programs as native code: what ``session.Vm`` is for the interpreter.

::

    with Vm(read_object("prog.bpf.o")) as vm, NativeVm(vm) as native:
        native.run("count", context=bytes(64)).value
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.vm.context import make_context
from tracebee.vm.jit import Environment, NativeProgram, compile_program
from tracebee.vm.maps.nested import ProgArrayMap
from tracebee.vm.memory import Memory
from tracebee.vm.native.bridge import Bridge
from tracebee.vm.native.library import NativeHelpers
from tracebee.vm.session import RunResult
from tracebee.vm.test_run import prepare, timed

if TYPE_CHECKING:
    from tracebee.kernel.program import TestRun
    from tracebee.vm.program import Program
    from tracebee.vm.session import Vm


class NativeVm:
    """The programs of a VM, compiled when they first run; its maps are used as they are.

    They run without checks: let a verifier see them before.
    """

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._helpers = NativeHelpers(vm.space)
        self._bridge = Bridge()
        bridged = {
            number: self._bridge.native(helper)
            for number, helper in vm.helpers.table.items()
            if number not in self._helpers.table
        }
        kfuncs = {number: self._bridge.native(helper) for number, helper in vm.kfuncs.items()}
        self._environment = Environment(bridged | dict(self._helpers.table), kfuncs, vm.space.programs.table)
        self._programs: dict[Program, NativeProgram] = {}

    def program(self, name: str | None = None) -> NativeProgram:
        """A program's native code, and that of all it may go on in by a tail call.

        :raises UnsupportedError: it uses what the JIT or the helpers have no native code for.
        """
        if any(isinstance(map_, ProgArrayMap) for map_ in self._vm.space.maps):
            for callee in self._vm.programs.values():
                self._vm.space.programs.enter(callee, self._native(callee).address)
        return self._native(self._vm.programs[self._vm.definition(name).name])

    def run(
        self, name: str | None = None, *, context: bytes = b"", packet: bytes | None = None, repeat: int = 1
    ) -> RunResult:
        """Run a program; the counterpart of ``Vm.run``. Instructions are not counted.

        :param repeat: runs it so many times on the same context.
        """
        native = self.program(name)
        made = make_context(Memory(), self._vm.definition(name).type, context, packet)
        self._bridge.packet = packet or b""
        place = (made.packet.base, len(packet or b"")) if made.packet else (0, 0)
        value = native.run(made.address, packet=place, repeat=repeat)
        self._bridge.check()
        return RunResult(
            value,
            0,
            bytes(made.region.view) if made.region else b"",
            bytes(made.packet.view)[: len(packet or b"")] if made.packet else b"",
        )

    def test_run(
        self,
        name: str | None = None,
        *,
        data: bytes = b"",
        ctx: bytes = b"",
        data_out: int = 0,
        ctx_out: int = 0,
        repeat: int = 1,
    ) -> TestRun:
        """Run a program on given input; the counterpart of ``Vm.test_run``."""
        native = self.program(name)
        memory = Memory()
        kind = self._vm.definition(name).type
        made = prepare(memory, kind, data, ctx, ctx_out=bool(ctx_out))
        self._bridge.packet = made.packet
        start = made.context.packet
        place = (start.end - len(made.packet), len(made.packet)) if start and made.packet else (0, 0)

        def run() -> int:
            return native.run(made.context.address, packet=place)

        result = timed(run, made, repeat, data_out, ctx_out)
        self._bridge.check()
        return result

    def _native(self, program: Program) -> NativeProgram:
        found = self._programs.get(program)
        if found is None:
            found = NativeProgram(compile_program(program, self._environment))
            self._programs[program] = found
        return found

    def close(self) -> None:
        """Free the code."""
        for program in self._programs.values():
            program.close()
        self._programs.clear()
        self._helpers.close()

    def __enter__(self) -> NativeVm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
