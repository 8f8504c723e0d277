"""``tracebee vm verify``: what the verifier says of an object's or a script's programs."""

from __future__ import annotations

import os

from tracebee.errors import TracebeeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf.reader import Btf
    from tracebee.engine.kernel.core import Core
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Object, Reloc

USAGE = """\
usage: tracebee vm verify [OPTIONS] FILE [PARAMETERS]
       tracebee vm verify [OPTIONS] -e 'SCRIPT' [PARAMETERS]

Says of every program of a BPF ELF object, of assembler text or of a bpftrace script whether the kernel
would load it; of a refused one where and why, with what was known there. Needs no privileges.

  --program NAME    only this program
  --unprivileged    by the rules for processes without CAP_BPF and CAP_PERFMON
  --strict-stack    refuse reads of stack bytes that were not written, which the privileged may do
  --limit N         instructions to look at before giving up (1000000)
"""


def run(argv: list[str]) -> int:
    """Verify and print; 0 when all programs are accepted, else 1.

    :raises TracebeeError: the file or script cannot be read.
    """
    from tracebee.engine.kernel import core as relocations
    from tracebee.engine.kernel.poison import COMPLAINT, find_lack
    from tracebee.obj.image import build_image
    from tracebee.vm.verifier import verify

    options = _Options(argv)
    if options.help:
        print(USAGE, end="")
        return 0
    obj = _object(options)
    names = [p.name for p in obj.programs]
    if options.program and options.program not in names:
        raise UsageError(
            f"there is no program '{options.program}'", hint="the programs are " + ", ".join(names)
        )
    btf = _kernel_types()
    core = None if btf is None else relocations.Core(obj, btf)
    refused = 0
    for definition in obj.programs:
        if options.program and definition.name != options.program:
            continue
        verdict = verify(
            obj,
            definition.name,
            btf=btf,
            core=None if core is None else _patcher(core),
            privileged=not options.unprivileged,
            uninitialised_stack=not options.strict,
            limit=options.limit,
        )
        refused += not verdict.accepted
        if core is not None and COMPLAINT in verdict.message:
            lack = find_lack(definition.name, build_image(obj, definition), verdict.slot, core)
            verdict = verdict._replace(**({} if lack is None else lack._asdict()))
        print(f"{definition.name} ({definition.section}): {verdict.explain()}")
    return 1 if refused else 0


class _Options:
    def __init__(self, argv: list[str]) -> None:
        self.help = not argv
        self.unprivileged = self.strict = False
        self.program = self.script = self.file = ""
        self.limit = 1_000_000
        self.parameters: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if self.file or (self.script and not word.startswith("-")):
                self.parameters.append(word)
            elif word in ("-h", "--help"):
                self.help = True
            elif word == "--unprivileged":
                self.unprivileged = True
            elif word == "--strict-stack":
                self.strict = True
            elif word in ("--program", "--limit", "-e"):
                self._value(word, rest)
            elif word.startswith("-"):
                raise UsageError(f"unknown option {word}", hint="see tracebee vm verify --help")
            else:
                self.file = word
        if not self.help and not self.file and not self.script:
            raise UsageError("name a file, or use -e 'SCRIPT'", hint="see tracebee vm verify --help")

    def _value(self, word: str, rest: list[str]) -> None:
        if not rest:
            raise UsageError(f"{word} needs a value", hint="see tracebee vm verify --help")
        value = rest.pop(0)
        if word == "--program":
            self.program = value
        elif word == "-e":
            self.script = value
        elif value.isdecimal():
            self.limit = int(value)
        else:
            raise UsageError(f"--limit takes a number, not '{value}'")


def _object(options: _Options) -> Object:
    path = options.file
    if options.script or path.endswith(".bt"):
        return _compiled(options)
    if not os.path.isfile(path):
        raise UsageError(f"there is no file '{path}'")
    if path.endswith(("asm", ".s")):
        from tracebee.vm.assembly import read_assembly

        with open(path, encoding="utf-8") as file:
            return read_assembly(file.read(), path)
    from tracebee.obj.elf_reader import read_object

    return read_object(path)


def _compiled(options: _Options) -> Object:
    from tracebee.api.compiling import compile_text
    from tracebee.source import Source

    if options.script:
        source = Source("stdin", options.script)
    else:
        if not os.path.isfile(options.file):
            raise UsageError(f"there is no script '{options.file}'")
        with open(options.file, encoding="utf-8", errors="surrogateescape") as file:
            source = Source(options.file, file.read())
    return compile_text(source, parameters=options.parameters, unsafe=True).object


def _kernel_types() -> Btf | None:
    from tracebee.btf.reader import Btf

    try:
        return Btf.vmlinux()
    except TracebeeError:
        return None


def _patcher(core: Core) -> Callable[[Insn, Reloc], Insn]:
    return lambda insn, reloc: core.patch(insn, reloc)[0]
