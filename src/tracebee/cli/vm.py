"""``tracebee vm``: run BPF programs in user space."""

from __future__ import annotations

import sys
from functools import partial

from tracebee.errors import ProgramFaultError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.vm.context import Context
    from tracebee.vm.interpreter import Machine
    from tracebee.vm.session import Vm

USAGE = """\
usage: tracebee vm run [OPTIONS] FILE      run a program and print r0
       tracebee vm test FILE [program NAME] [jit] [data_in PATH ...]
                                           a test run, in the words of 'tracebee prog run'
       tracebee vm step [OPTIONS] FILE     run it as in a debugger
       tracebee vm conformance [OPTIONS] FILE|DIRECTORY ...
       tracebee vm filter [-d] DDD [CAPTURE [-w NEW]]
                                           a classic filter (tcpdump -ddd): show it and its
                                           translation (-d), or choose packets of a pcap file
       tracebee vm verify [OPTIONS] FILE|-e 'SCRIPT'
                                           whether the kernel would load it, and why not
       tracebee vm plugin ...              the conformance suite's plugin protocol

FILE is a BPF ELF object, or assembler text (.asm, .bpf-asm; - for standard input).

options of run and step:
  --program NAME    which program, where the file has several
  --ctx HEX         bytes of the context
  --packet HEX      the packet of a packet program
  --trace           print every instruction and what it changed
  --jit             run it as machine code, unchecked: for programs a verifier accepts
  --unchecked       do not refuse reads of what nobody wrote
  --limit N         instructions to run before giving up (1000000)
options of conformance:
  --interpreter | --jit | --kernel
"""


class _Options:
    def __init__(self, arguments: list[str]) -> None:
        self.files: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        while arguments:
            argument = arguments.pop(0)
            if argument in ("--program", "--ctx", "--packet", "--limit", "-w"):
                if not arguments:
                    raise UsageError(f"{argument} needs a value", hint="see tracebee vm --help")
                self.values[argument] = arguments.pop(0)
            elif argument in ("--trace", "--unchecked", "--interpreter", "--jit", "--kernel", "-d"):
                self.flags.add(argument)
            elif argument.startswith("-") and argument != "-":
                raise UsageError(f"unknown option {argument}", hint="see tracebee vm --help")
            else:
                self.files.append(argument)

    def hex(self, name: str) -> bytes | None:
        """An option's bytes, None when it was not given."""
        if name not in self.values:
            return None
        try:
            return bytes.fromhex(self.values[name])
        except ValueError as error:
            raise UsageError(f"{name} takes bytes in hexadecimal: {error}") from error

    def limit(self) -> int:
        """Instructions to run."""
        text = self.values.get("--limit", "1000000")
        if not text.isdigit():
            raise UsageError(f"--limit takes a number, not '{text}'")
        return int(text)


def run(argv: list[str]) -> int:
    """Run ``tracebee vm`` with its arguments.

    :raises TracebeeError: whatever went wrong.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 1
    command, rest = argv[0], argv[1:]
    if command == "plugin":
        from tracebee.vm.plugin import main

        return main(rest)
    if command == "test":
        return _test(rest)
    if command == "verify":
        from tracebee.cli.vm_verify import run as verify

        return verify(rest)
    commands: dict[str, Callable[[_Options], int]] = {
        "run": _run,
        "step": _step,
        "conformance": _conformance,
        "filter": _filter,
    }
    if command not in commands:
        raise UsageError(f"unknown command 'vm {command}'", hint="see tracebee vm --help")
    return commands[command](_Options(rest))


def _test(argv: list[str]) -> int:
    from tracebee.cli.test_run import test_run
    from tracebee.cli.words import Words

    words = Words(argv, USAGE)
    path = words.next("an object file")
    name = words.next("a program's name") if words.accept("program") else None
    native = bool(words.accept("jit"))
    with _open_file(path) as vm:
        if not native:
            code = test_run(words, partial(vm.test_run, name), in_kernel=False)
        else:
            from tracebee.vm.native import NativeVm

            with NativeVm(vm) as compiled:
                code = test_run(words, partial(compiled.test_run, name), in_kernel=False)
        _print_output(vm)
    return code


def _open(options: _Options) -> Vm:
    if len(options.files) != 1:
        raise UsageError("name one file", hint="see tracebee vm --help")
    return _open_file(options.files[0])


def _open_file(path: str) -> Vm:
    from tracebee.vm.session import Vm

    if path == "-" or path.endswith(("asm", ".s")):
        from tracebee.vm.assembly import read_assembly

        return Vm(read_assembly(_read_text(path), "stdin" if path == "-" else path))
    from tracebee.obj.elf_reader import read_object

    return Vm(read_object(path))


def _machine(vm: Vm, options: _Options) -> tuple[Machine, Context]:
    return vm.machine(
        options.values.get("--program"),
        context=options.hex("--ctx") or b"",
        packet=options.hex("--packet"),
        checked="--unchecked" not in options.flags,
        limit=options.limit(),
    )


def _run(options: _Options) -> int:
    with _open(options) as vm:
        if "--jit" in options.flags:
            return _run_natively(vm, options)
        machine, _ = _machine(vm, options)
        try:
            if "--trace" in options.flags:
                for step in machine.trace():
                    print(step)
            value = machine.run()
        except ProgramFaultError as fault:
            raise _placed(vm, machine, fault) from fault
        _print_output(vm)
        print(f"r0 = {value:#x} ({machine.count} instructions)")
    return 0


def _run_natively(vm: Vm, options: _Options) -> int:
    from tracebee.vm.native import NativeVm

    if "--trace" in options.flags:
        raise UsageError("machine code cannot be traced", hint="leave --jit out")
    with NativeVm(vm) as native:
        value = native.run(
            options.values.get("--program"),
            context=options.hex("--ctx") or b"",
            packet=options.hex("--packet"),
        ).value
    _print_output(vm)
    print(f"r0 = {value:#x}")
    return 0


def _placed(vm: Vm, machine: Machine, fault: ProgramFaultError) -> ProgramFaultError:
    """The fault with the instruction it happened at in its message."""
    from tracebee.isa.disasm import format_insn

    slots = machine.program.slots
    insn = slots[fault.slot] if fault.slot is not None and fault.slot < len(slots) else None
    where = f"{fault.slot}: {format_insn(insn)}: " if insn is not None else ""
    _print_output(vm)
    return ProgramFaultError(f"{where}{fault.message}", slot=fault.slot, address=fault.address)


def _print_output(vm: Vm) -> None:
    for line in vm.environment.output:
        print(line.rstrip("\n"))
    vm.environment.output.clear()


HELP = "s[tep] [N], c[ontinue], u[ntil] SLOT, r[egisters], x ADDRESS|rN [BYTES], l[ist], q[uit]"


def _step(options: _Options) -> int:
    with _open(options) as vm:
        machine, _ = _machine(vm, options)
        print(HELP)
        _show(machine)
        while True:
            try:
                line = input("(vm) ").split()
            except EOFError:
                return 0
            if line and line[0] in ("q", "quit"):
                return 0
            try:
                _command(machine, line or ["s"])
            except ProgramFaultError as fault:
                print(f"fault: {fault.message}")
            if machine.finished:
                _print_output(vm)
                print(f"r0 = {machine.regs[0]:#x} ({machine.count} instructions)")
                return 0


def _command(machine: Machine, line: list[str]) -> None:
    name, arguments = line[0][0], line[1:]
    numbers = [int(a, 0) for a in arguments if a.removeprefix("0x").isalnum() and a[0].isdigit()]
    if name == "s":
        for _ in range(numbers[0] if numbers else 1):
            if not machine.finished:
                print(machine.step())
    elif name == "c":
        machine.run()
    elif name == "u" and numbers:
        while not machine.finished and machine.slot != numbers[0]:
            machine.advance()
    elif name == "r":
        for number, value in enumerate(machine.regs):
            print(f"r{number:<2} = {'(unwritten)' if value is None else hex(value)}")
    elif name == "x" and arguments:
        is_register = arguments[0][0] == "r" and arguments[0][1:].isdigit()
        address = machine.regs[int(arguments[0][1:])] if is_register else int(arguments[0], 0)
        size = int(arguments[1], 0) if len(arguments) > 1 else 16
        print(machine.memory.read(address, size).hex(" "))
    elif name != "l":
        print(HELP)
        return
    if not machine.finished:
        _show(machine, around=4 if name == "l" else 0)


def _show(machine: Machine, around: int = 0) -> None:
    from tracebee.isa.disasm import format_insn

    for slot in range(
        max(0, machine.slot - around), min(len(machine.program.slots), machine.slot + around + 1)
    ):
        insn = machine.program.slots[slot]
        if insn is not None:
            mark = "->" if slot == machine.slot else "  "
            print(f"{mark}{slot:4}: ({insn.opcode:02x}) {format_insn(insn)}")


def _conformance(options: _Options) -> int:
    import os

    from tracebee.vm.conformance import check, interpret, parse, run_in_kernel, run_native

    engine = interpret
    if "--jit" in options.flags:
        engine = run_native
    elif "--kernel" in options.flags:
        engine = run_in_kernel
    paths = [
        path
        for name in options.files
        for path in (
            sorted(os.path.join(name, f) for f in os.listdir(name) if f.endswith(".data"))
            if os.path.isdir(name)
            else [name]
        )
    ]
    if not paths:
        raise UsageError("name case files or a directory of them", hint="see tracebee vm --help")
    groups: dict[str, list[int]] = {}
    failed = unchecked = 0
    for path in paths:
        with open(path) as file:
            case = parse(file.read(), os.path.basename(path))
        if case.result is None and engine is run_native:
            unchecked += 1  # nothing would stop it
            continue
        verdict = check(case, engine)
        for group in case.groups:
            counts = groups.setdefault(group, [0, 0])
            counts[not verdict.passed] += 1
        if not verdict.passed:
            failed += 1
            got = verdict.error if verdict.value is None else hex(verdict.value)
            wanted = "an error" if case.result is None else hex(case.result)
            print(f"{path}: expected {wanted}, got {got}")
    for group, (good, bad) in sorted(groups.items()):
        print(f"{group:10} {good:5} passed {bad:5} failed")
    count = len(paths) - unchecked
    print(f"{count - failed} of {count} cases passed")
    if unchecked:
        print(f"{unchecked} left out: they must be refused, and machine code checks nothing")
    return 1 if failed else 0


def _filter(options: _Options) -> int:
    from tracebee.isa.disasm import listing
    from tracebee.vm.cbpf.capture import read_capture, write_capture
    from tracebee.vm.cbpf.disasm import disassemble
    from tracebee.vm.cbpf.filter import Filter
    from tracebee.vm.cbpf.program import parse
    from tracebee.vm.cbpf.translate import translate

    if len(options.files) not in (1, 2):
        raise UsageError("name the filter's file (- for standard input), and a capture to choose from")
    program = parse(_read_text(options.files[0]))
    if "-d" in options.flags or len(options.files) == 1:
        print("\n".join(disassemble(program)))
        print(listing(translate(program)))
    if len(options.files) == 1:
        return 0
    with open(options.files[1], "rb") as file:
        packets = list(read_capture(file.read()))
    chosen = list(Filter(program).choose(packets))
    if "-w" in options.values:
        with open(options.values["-w"], "wb") as file:
            file.write(write_capture(chosen))
    print(f"{len(chosen)} of {len(packets)} packets")
    return 0


def _read_text(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    with open(path) as file:
        return file.read()
