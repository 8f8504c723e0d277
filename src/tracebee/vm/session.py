"""A VM with an object in it: its maps created, its programs linked and ready to run.

::

    vm = Vm(read_object("prog.bpf.o"))
    result = vm.run("count", context=bytes(64))
    result.value, vm.maps["counts"].items()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SymbolError
from tracebee.vm.context import Context, make_context
from tracebee.vm.environment import Environment
from tracebee.vm.helpers import Helpers
from tracebee.vm.interpreter import DEFAULT_LIMIT, Helper, Machine
from tracebee.vm.maps.create import MapSpace
from tracebee.vm.maps.nested import ArrayOfMaps, HashOfMaps, ProgArrayMap, number_of
from tracebee.vm.memory import Memory
from tracebee.vm.program import Program, link
from tracebee.vm.test_run import prepare, timed

if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.kernel.program import TestRun
    from tracebee.obj.model import MapDef, Object, ProgramDef, Reloc
    from tracebee.vm.maps.base import UserMap


class RunResult(NamedTuple):
    """What a run gave: r0, instructions run, and the context and packet afterwards."""

    value: int
    executed: int
    context: bytes
    packet: bytes


class Vm:
    """An object's maps and programs in this process.

    :param kfuncs: stand-ins for kernel functions, by name.
    :param core: resolves CO-RE relocations, where there are kernel types.
    :raises KernelError, UnsupportedError: a map cannot be created.
    :raises SymbolError, ProgramFaultError: a program cannot be linked.
    """

    def __init__(
        self,
        obj: Object,
        environment: Environment | None = None,
        *,
        kfuncs: Mapping[str, Helper] | None = None,
        core: Callable[[Insn, Reloc], Insn] | None = None,
    ) -> None:
        self.obj = obj
        self.environment = environment or Environment()
        self.space = MapSpace()
        self.helpers = Helpers(self.space, self.environment)
        names = list(kfuncs or {})
        self.kfuncs = dict(enumerate((kfuncs or {}).values(), 1))
        self.maps: dict[str, UserMap] = {d.name: self.space.create(d) for d in obj.maps}
        self.addresses = {name: map_.address for name, map_ in self.maps.items()}
        self.addresses |= {f"{name}[0]": m.address + m.elements for name, m in self.maps.items()}
        numbers = {name: number for number, name in enumerate(names, 1)}
        self.programs: dict[str, Program] = {
            p.name: link(obj, p, self.addresses, kfuncs=numbers, core=core) for p in obj.programs
        }
        for definition in obj.maps:
            self._fill(definition)

    def _fill(self, definition: MapDef) -> None:
        """Put the maps and programs in that a map's definition names."""
        outer = self.maps[definition.name]
        for index, name in definition.values:
            if isinstance(outer, ProgArrayMap) and name in self.programs:
                outer.put(index, self.programs[name])
            elif isinstance(outer, ArrayOfMaps | HashOfMaps) and name in self.maps:
                outer.update(index.to_bytes(outer.key_size, "little"), number_of(self.maps[name]))
            else:
                raise SymbolError(f"map '{outer.name}' names '{name}', which is not in the object")

    def definition(self, name: str | None = None) -> ProgramDef:
        """A program's definition; the only one's without a name.

        :raises SymbolError: there is none, or more than one to choose from.
        """
        names = [p.name for p in self.obj.programs]
        if name is None and len(names) == 1:
            name = names[0]
        found = next((p for p in self.obj.programs if p.name == name), None)
        if found is None:
            what = "several programs, name one" if name is None else f"no program '{name}'"
            raise SymbolError(f"{self.obj.name} has {what}", names)
        return found

    def memory(self) -> Memory:
        """A new memory with the values of all maps in it."""
        memory = Memory()
        for map_ in self.space.maps:
            for region in map_.regions():
                memory.add(region)
        return memory

    def machine(
        self,
        name: str | None = None,
        *,
        context: bytes = b"",
        packet: bytes | None = None,
        checked: bool = True,
        limit: int = DEFAULT_LIMIT,
    ) -> tuple[Machine, Context]:
        """A machine started on a program, and the context it was given.

        :param packet: for packet programs, of which the packet's addresses go into the context.
        """
        definition = self.definition(name)
        memory = self.memory()
        made = make_context(memory, definition.type, context, packet)
        machine = self._machine(definition.name, memory, checked=checked, limit=limit)
        machine.start(made.address, packet=packet or b"")
        return machine, made

    def _machine(self, name: str, memory: Memory, *, checked: bool = True, limit: int) -> Machine:
        return Machine(
            self.programs[name],
            helpers=self.helpers.table,
            kfuncs=self.kfuncs,
            memory=memory,
            checked=checked,
            limit=limit,
        )

    def run(
        self,
        name: str | None = None,
        *,
        context: bytes = b"",
        packet: bytes | None = None,
        checked: bool = True,
        limit: int = DEFAULT_LIMIT,
    ) -> RunResult:
        """Run a program in the interpreter.

        :raises ProgramFaultError: it did something wrong.
        """
        machine, made = self.machine(name, context=context, packet=packet, checked=checked, limit=limit)
        value = machine.run()
        region, data = made.region, made.packet
        return RunResult(
            value,
            machine.count,
            bytes(region.view) if region else b"",
            bytes(data.view)[: len(packet or b"")] if data else b"",
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
        limit: int = DEFAULT_LIMIT,
    ) -> TestRun:
        """Run a program on given input in the interpreter, as ``kernel.program.Program.test_run`` does in the
        kernel: the same packet, context and results.

        :param limit: instructions of one run.
        :raises ProgramFaultError: it did something wrong.
        :raises KernelError, UnsupportedError: the input does not suit the program's type.
        """
        definition = self.definition(name)
        memory = self.memory()
        made = prepare(memory, definition.type, data, ctx, ctx_out=bool(ctx_out))
        machine = self._machine(definition.name, memory, limit=limit)

        def run() -> int:
            machine.start(made.context.address, packet=made.packet)
            return machine.run()

        return timed(run, made, repeat, data_out, ctx_out)

    def close(self) -> None:
        """Give the maps' descriptors back."""
        self.space.close()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
