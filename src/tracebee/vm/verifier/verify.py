"""Verifying a program without a kernel: the way into the verifier, and what it says.

::

    verdict = verify(obj, "main")          # an object's program
    verdict = verify_insns(insns, type)    # raw code
    verdict.accepted, verdict.explain()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import VerifierError
from tracebee.vm.verifier.code import Code
from tracebee.vm.verifier.machine import Verifier
from tracebee.vm.verifier.paths import Path, Settings
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.special_fields import spin_locks
from tracebee.vm.verifier.state import UNINIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tracebee.btf.reader import Btf
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import LineInfo, MapDef, Object, Reloc

_EACCES = 13


class Step(NamedTuple):
    """A branch on the way to a refusal: its slot, text and source line, and whether it was taken."""

    slot: int
    text: str
    line: LineInfo | None
    taken: bool | None


class Verdict(NamedTuple):
    """What the verifier found.

    :param message: what is wrong, empty when accepted; ``hint`` what to change.
    :param slot: of the instruction that is refused, -1 when it is none in particular; ``text`` is it,
        ``line`` its source line.
    :param path: the branches on the way there, first to last.
    :param registers: what each register that was set held there, for people.
    :param processed: instructions looked at, :param states: checkpoints taken.
    """

    accepted: bool
    message: str = ""
    hint: str = ""
    slot: int = -1
    text: str = ""
    line: LineInfo | None = None
    path: tuple[Step, ...] = ()
    registers: tuple[str, ...] = ()
    register: int | None = None
    processed: int = 0
    states: int = 0

    def explain(self) -> str:
        """The verdict for people: the place, what is wrong, what was known, the way there."""
        if self.accepted:
            return f"accepted: {self.processed} instructions looked at, {self.states} states kept"
        out = []
        if self.line is not None:
            out.append(f"{self.line.file}:{self.line.line}:{self.line.column}: error: {self.message}")
            out.append(f"{self.line.line:>5} | {self.line.text}")
            # Tabs stay tabs, so that the caret stands under the text in any terminal.
            before = self.line.text[: max(self.line.column - 1, 0)]
            out.append(" " * 6 + "| " + "".join("\t" if c == "\t" else " " for c in before) + "^")
        else:
            out.append(f"error: {self.message}")
        if self.hint:
            out.append(f"  hint: {self.hint}")
        if self.slot >= 0:
            out.append(f"  at instruction {self.slot}: {self.text}")
        out.extend(f"    {name}" for name in self._relevant())
        steps = self.path[-8:]
        if steps:
            hidden = len(self.path) - len(steps)
            out.append("  the way there:" + (f" ({hidden} branches before)" if hidden else ""))
        for step in steps:
            way = "taken" if step.taken else "not taken"
            where = "" if step.line is None else f"  (line {step.line.line}: {step.line.text.strip()})"
            out.append(f"    {step.slot}: {step.text}: {way}{where}")
        return "\n".join(out)

    def _relevant(self) -> Iterable[str]:
        if self.register is None:
            return self.registers
        prefix = f"r{self.register} "
        return [r for r in self.registers if r.startswith(prefix)] or self.registers

    def error(self) -> VerifierError:
        """The verdict as the error that a kernel's refusal raises."""
        return VerifierError("verify", _EACCES, self.message, self.explain(), hint=self.hint or None)


def verify(
    obj: Object,
    program: str,
    *,
    btf: Btf | None = None,
    core: Callable[[Insn, Reloc], Insn] | None = None,
    privileged: bool = True,
    uninitialised_stack: bool = True,
    limit: int = 1_000_000,
    cpus: int = 8192,
    machine: str = "x86_64",
) -> Verdict:
    """Verify a program of an object.

    :param core: puts CO-RE values into instructions; without it they are taken as they stand.
    :param btf: the kernel's types, for programs that follow kernel pointers.
    :param privileged: with CAP_BPF and CAP_PERFMON; else pointers may not leak, loops not exist, and
        4,096 instructions are the most.
    :param uninitialised_stack: whether the privileged may read stack bytes that were not written, as
        they may in the kernel, which clears none.
    :param limit: instructions looked at before giving up.
    :param cpus: number of possible CPUs of the machine it will run on.
    :raises SymbolError: the object lacks the program or something that it names.
    """
    definition = next((p for p in obj.programs if p.name == program), None)
    code = Code.of_object(obj, program, core)
    assert definition is not None
    settings = Settings(
        program_type=definition.type,
        attach_type=definition.expected_attach_type,
        license=obj.license,
        sleepable=bool(definition.flags & 0x10),
        privileged=privileged,
        uninitialised_stack=uninitialised_stack,
        limit=limit,
        cpus=cpus,
        machine=machine,
    )
    return run(code, settings, btf=btf, target=definition.attach_target, locks=spin_locks(obj))


def verify_insns(
    insns: Iterable[Insn],
    program_type: int,
    *,
    maps: Mapping[int, MapDef] | None = None,
    kfuncs: Mapping[int, str] | None = None,
    btf: Btf | None = None,
    target: str = "",
    attach_type: int = 0,
    license_name: str = "GPL",
    locks: Mapping[str, int] | None = None,
    privileged: bool = True,
    uninitialised_stack: bool = True,
    limit: int = 1_000_000,
    cpus: int = 8192,
) -> Verdict:
    """Verify raw code as BPF_PROG_LOAD takes it.

    :param maps: by the descriptors that wide loads hold; :param kfuncs: kernel functions by slot.
    :param locks: byte offset of the spin lock in the values of maps that have one, by map name.
    """
    code = Code.of_insns(insns, maps)
    code.kfuncs.update(kfuncs or {})
    settings = Settings(
        program_type=program_type,
        attach_type=attach_type,
        license=license_name,
        privileged=privileged,
        uninitialised_stack=uninitialised_stack,
        limit=limit,
        cpus=cpus,
    )
    return run(code, settings, btf=btf, target=target, locks=locks)


def run(
    code: Code,
    settings: Settings,
    *,
    btf: Btf | None = None,
    target: str = "",
    locks: Mapping[str, int] | None = None,
) -> Verdict:
    """Verify code that was put together already."""
    from tracebee.vm.verifier.kernel_types import KernelTypes

    verifier: Verifier | None = None
    try:
        verifier = Verifier(code, settings, lambda: KernelTypes(btf, settings.attach_type, target), locks)
        verifier.run()
    except RefusalError as refusal:
        return _refused(code, verifier, refusal)
    return Verdict(accepted=True, processed=verifier.processed, states=verifier.states)


def _refused(code: Code, verifier: Verifier | None, refusal: RefusalError) -> Verdict:
    if verifier is None or not verifier.state.frames:
        return Verdict(accepted=False, message=refusal.message, hint=refusal.hint)
    slot = verifier.slot
    registers = tuple(
        f"r{number} is {reg.describe()}"
        for number, reg in enumerate(verifier.state.regs[:10])
        if reg.kind != UNINIT
    )
    return Verdict(
        accepted=False,
        message=refusal.message,
        hint=refusal.hint,
        slot=slot,
        text=verifier.text(slot),
        line=code.line_of(slot),
        path=tuple(_step(code, verifier, step) for step in verifier.path),
        registers=registers,
        register=refusal.register,
        processed=verifier.processed,
        states=verifier.states,
    )


def _step(code: Code, verifier: Verifier, step: Path) -> Step:
    return Step(step.slot, verifier.text(step.slot), code.line_of(step.slot), step.taken)
