"""Groups of attach points that share one program, and how each family reads its context.

``Group`` refuses everything with a message that names the kinds which have it; families override
what they have. Implements ``lang.probe_api.ProbeGroup``.
"""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.lang.types import UINT64
from tracebee.source import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.ir import Builder, Value
    from tracebee.lang.script import Target
    from tracebee.lang.types import Type
    from tracebee.probes.regs import Registers
    from tracebee.source import Span

# Which kinds have what: for the message when one that has not is asked.
_WHO_HAS = {
    "args": "tracepoint, rawtracepoint, fentry, fexit, kprobe, uprobe with debug information, iter",
    "argN": "kprobe, uprobe, usdt, rawtracepoint, fentry",
    "sargN": "kprobe, uprobe",
    "retval": "kretprobe, uretprobe, fexit",
    "func": "kprobe, kretprobe, fentry, fexit, uprobe, uretprobe",
    "reg": "kprobe, kretprobe, uprobe, uretprobe, usdt, profile, software, hardware, watchpoint",
}


class Group:
    """A group of targets of one kind; the base has nothing but its place in the object."""

    program_type: int = 0
    expected_attach_type: int = 0
    sleepable: bool = False
    address_space: str = "kernel"
    span: Span = NOWHERE  # of the attach point: the compiler sets it

    def __init__(self, kind: str, section: str, wanted: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.kind = kind
        self.section = section
        self.attach_target = ""
        self.wanted = list(wanted)  # (name that `probe` prints, spec), before cookies are given
        self.targets: Sequence[Target] = ()

    def _refuse(self, what: str) -> Diagnostic:
        return Diagnostic(f"{self.kind} probes have no {what}", hint=f"{what} exists in: {_WHO_HAS[what]}")

    def args_type(self) -> Type | None:
        """The record type of ``args``, None where there is none."""
        return None

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """A scalar field of ``args`` that the context holds, or None."""
        raise self._refuse("args")

    def args_member(self, field: str) -> tuple[str, str] | None:
        """The struct and path by which a loader finds a field of ``args``; None where it lies still."""
        return None

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """Address of the ``args`` record."""
        raise self._refuse("args")

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """``argN``."""
        raise self._refuse("argN")

    def emit_sarg(self, b: Builder, ctx: Value, number: int) -> Value:
        """``sargN``."""
        raise self._refuse("sargN")

    def retval_type(self) -> Type | None:
        """The type of ``retval``, None where there is none."""
        return None

    def emit_retval(self, b: Builder, ctx: Value) -> Value:
        """``retval``."""
        raise self._refuse("retval")

    def emit_func(self, b: Builder, ctx: Value) -> Value:
        """Address of the traced function."""
        raise self._refuse("func")

    def emit_reg(self, b: Builder, ctx: Value, name: str) -> Value:
        """A saved register."""
        raise self._refuse("reg")

    def emit_cookie(self, b: Builder, ctx: Value) -> Value:
        """A constant when all targets share one cookie, else what the kernel kept at attaching."""
        cookies = {target.cookie for target in self.targets}
        if len(cookies) == 1:
            return b.const(cookies.pop())
        return b.helper("get_attach_cookie", ctx)

    def emit_guard(self, b: Builder, ctx: Value) -> Value | None:
        """Nothing has to hold for the program to run."""
        return None


class RegsGroup(Group):
    """Kinds whose context begins with the interrupted registers."""

    def __init__(
        self, kind: str, section: str, wanted: Sequence[tuple[str, dict[str, Any]]], regs: Registers
    ) -> None:
        super().__init__(kind, section, wanted)
        self.regs = regs

    def emit_reg(self, b: Builder, ctx: Value, name: str) -> Value:
        """A saved register, by the kernel's name or the assembler's."""
        name = self.regs.aliases.get(name, name)
        offset = self.regs.offsets.get(name)
        if offset is None:
            known = " ".join(self.regs.offsets)
            raise Diagnostic(f"no register '{name}' on {self.regs.machine}", hint=f"registers: {known}")
        return b.load(ctx, offset, 8)


class CallGroup(RegsGroup):
    """Kinds that stop at a function's first instruction, or just after it has returned."""

    def __init__(
        self,
        kind: str,
        section: str,
        wanted: Sequence[tuple[str, dict[str, Any]]],
        regs: Registers,
        *,
        returns: bool,
    ) -> None:
        super().__init__(kind, section, wanted, regs)
        self.returns = returns

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth integer argument, from the register the calling convention puts it in."""
        if self.returns:
            raise self._refuse("argN")
        if number >= len(self.regs.arguments):
            first = len(self.regs.arguments)
            raise Diagnostic(
                f"arg{number} is not in a register: the first {first} arguments are",
                hint=f"use sarg{number - first}, an argument on the stack",
            )
        return b.load(ctx, self.regs.offsets[self.regs.arguments[number]], 8)

    def emit_sarg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth argument on the stack; 0 when that memory cannot be read."""
        if self.returns:
            raise self._refuse("sargN")
        sp = b.load(ctx, self.regs.offsets[self.regs.sp], 8)
        address = b.binary("add", sp, b.const(self.regs.stack_arguments + 8 * number))
        return read_memory(b, address, 8, signed=False, space=self.address_space)

    def retval_type(self) -> Type | None:
        """A register's worth: nothing here knows the function's prototype."""
        return UINT64 if self.returns else None

    def emit_retval(self, b: Builder, ctx: Value) -> Value:
        """The result register."""
        if not self.returns:
            raise self._refuse("retval")
        return b.load(ctx, self.regs.offsets[self.regs.result], 8)

    def emit_func(self, b: Builder, ctx: Value) -> Value:
        """The function's address, which the kernel knows in returns too (bpf_get_func_ip)."""
        return b.helper("get_func_ip", ctx)


def read_memory(b: Builder, address: Value, size: int, *, signed: bool, space: str) -> Value:
    """Emit a read of ``size`` bytes at any address, extended to 64 bits; 0 when it faults.

    :param space: ``kernel`` or ``user``, which memory the address is of.
    """
    slot = b.alloca(8)
    b.store(slot, 0, 8, b.const(0))
    b.helper(f"probe_read_{space}", slot, b.const(size), address)
    return b.load(slot, 0, size, signed=signed)
