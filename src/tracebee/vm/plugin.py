"""The plugin protocol of the BPF conformance suite: run one program in a process of its own.

::

    echo "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00" | tracebee vm plugin "aa bb" --interpreter
    2a

The program is bytes in hexadecimal on standard input (or after ``--program``), the memory is bytes in
hexadecimal as an argument, or nothing. The program gets the memory's address in r1 and its length in
r2; r0 is printed in hexadecimal. With ``--elf`` the input is an ELF object, whose first program runs. What
cannot be run gives a message on standard error and exit code 1.

Programs here were seen by no verifier: registers start as zero, and a function may write a little
beyond its frame. The interpreter keeps memory that is not the program's out of reach; machine code does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tracebee.errors import TracebeeError, UsageError
from tracebee.isa.codec import decode
from tracebee.vm.conformance import Engine, run_native
from tracebee.vm.interpreter import Machine
from tracebee.vm.memory import Memory, Region
from tracebee.vm.program import Program

USAGE = "usage: tracebee vm plugin [MEMORY] [--program HEX] [--elf] [--interpreter | --jit] [--debug]"

_LIMIT = 100_000_000
_SLACK = 64


def interpreter(code: bytes, memory: bytes) -> int:
    """Run bytecode that no verifier saw in the interpreter."""
    from tracebee.vm.helpers import Helpers
    from tracebee.vm.maps.create import MapSpace

    space, buffer = Memory(), bytearray(memory or 1)
    region = space.add(Region("memory", buffer)) if memory else None
    machine = Machine(
        Program(decode(code)),
        helpers=Helpers(MapSpace()).table,
        memory=space,
        checked=False,
        limit=_LIMIT,
        slack=_SLACK,
    )
    machine.start(region.base if region else 0, len(memory), packet=memory)
    return machine.run()


ENGINES: dict[str, Engine] = {"--interpreter": interpreter, "--interpret": interpreter, "--jit": run_native}


def main(argv: Sequence[str]) -> int:
    """Run the plugin with its arguments; gives the exit code."""
    try:
        value = _run(argv, sys.stdin.readline)
    except TracebeeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{value:x}\n")
    return 0


def _run(argv: Sequence[str], read_line: Callable[[], str]) -> int:
    arguments, program, engine, is_elf = list(argv), None, ENGINES["--interpreter"], False
    memory = b""
    while arguments:
        argument = arguments.pop(0)
        if argument == "--program" and arguments:
            program = arguments.pop(0)
        elif argument in ENGINES:
            engine = ENGINES[argument]
        elif argument == "--elf":
            is_elf = True
        elif argument in ("--help", "-h") or (argument.startswith("--") and argument != "--debug"):
            raise UsageError(USAGE)
        elif argument != "--debug":
            memory = _bytes(argument)
    code = _bytes(read_line() if program is None else program)
    return _run_object(code, memory) if is_elf else engine(code, memory)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise UsageError(f"expected bytes in hexadecimal: {error}", hint=USAGE) from error


def _run_object(data: bytes, memory: bytes) -> int:
    from tracebee.obj.elf_reader import read_object
    from tracebee.vm.session import Vm

    obj = read_object("standard input", data)
    if not obj.programs:
        raise UsageError("the object has no program")
    with Vm(obj) as vm:
        return vm.run(obj.programs[0].name, packet=memory, checked=False, limit=_LIMIT).value & 0xFFFFFFFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
