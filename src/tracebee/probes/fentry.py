"""fentry and fexit: kernel functions through BPF trampolines, with typed arguments.

Spellings: ``fentry:FUNCTION``, ``:MODULE:FUNCTION``, wildcards in both; older names: kfunc, kretfunc.
The kernel ties such a program to one function when it loads it, so the engine loads it once for each
target; a script that reads ``args`` or ``retval`` is also compiled once for each, as their types differ.
"""

from __future__ import annotations

from tracebee.btf import kinds as btf_kinds
from tracebee.errors import Diagnostic, MissingProbe, SymbolError, UnsupportedError
from tracebee.kernel import kallsyms
from tracebee.kernel.link import Link
from tracebee.probes import kernel_functions
from tracebee.probes.group import Group
from tracebee.probes.kinds import kind_of
from tracebee.probes.machine import is_wild, matching
from tracebee.probes.missing import missing
from tracebee.probes.prototype import Slot, emit_slot, record, slot_named, slots
from tracebee.uapi import BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tracebee.btf.types import Prototype
    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.records import Records
    from tracebee.lang.script import Target
    from tracebee.lang.types import Type
    from tracebee.probes.machine import Machine

LOADS_PER_TARGET = True


class Trampoline(Group):
    """One function, or several whose arguments the script does not read."""

    program_type = BPF_PROG_TYPE_TRACING

    def __init__(
        self,
        kind: str,
        wanted: list[tuple[str, dict[str, Any]]],
        prototype: Prototype | None,
        records: Records,
    ) -> None:
        super().__init__(kind, f"{kind}/{wanted[0][1]['function']}", wanted)
        self.expected_attach_type = BPF_TRACE_FENTRY if kind == "fentry" else BPF_TRACE_FEXIT
        self.attach_target = target_name(wanted[0][1])
        self._prototype = prototype
        self._records = records
        self._slots: list[Slot] | None = None

    def _members(self) -> list[Slot]:
        if self._slots is None:
            assert self._prototype is not None
            self._slots = slots(self._prototype.params, self._records)
        return self._slots

    def args_type(self) -> Type | None:
        """A record of the parameters, by their names in the kernel's source."""
        if self._prototype is None:
            return None
        return record(f"struct {self._prototype.name}_args", self._members())

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """One parameter."""
        slot = slot_named(self._members(), field)
        return emit_slot(b, ctx, slot.offset, slot.type)

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """The context, which is the parameters one after another."""
        return ctx

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """The Nth parameter as a number."""
        members = self._members()
        if number >= len(members):
            raise Diagnostic(f"{self.attach_target} has {len(members)} arguments, counted from arg0")
        return b.load(ctx, members[number].offset, 8)

    def retval_type(self) -> Type | None:
        """The function's own return type."""
        if self.kind != "fexit" or self._prototype is None:
            return None
        return self._records.from_btf(self._prototype.return_id)

    def emit_retval(self, b: Builder, ctx: Value) -> Value:
        """What the function returned: the slot behind its arguments."""
        kind = self.retval_type()
        if kind is None:
            raise self._refuse("retval")
        members = self._members()
        end = max((s.offset + max(8, s.type.size + 7 & ~7) for s in members), default=0)
        value = emit_slot(b, ctx, end, kind)
        if value is None:
            raise Diagnostic(f"{self.attach_target} returns nothing that fits a register")
        return value

    def emit_func(self, b: Builder, ctx: Value) -> Value:
        """The function's address."""
        return b.helper("get_func_ip", ctx)


def target_name(spec: dict[str, Any]) -> str:
    """How an object names the function: with its module in front, unless that is the kernel itself."""
    module = spec.get("module", "")
    return f"{module}:{spec['function']}" if module else str(spec["function"])


def expand(point: AttachPoint, machine: Machine, uses: frozenset[str]) -> list[Trampoline]:
    """One group for each function when the script reads its arguments or result, else one for all."""
    kind = kind_of(point.parts[0]).name
    parts = point.parts[1:]
    if len(parts) not in (1, 2) or not parts[-1]:
        raise Diagnostic(f"{kind} needs a function", hint=f"write {kind}:FUNCTION or {kind}:MODULE:FUNCTION")
    module, name = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    found = _functions(module, name, machine)
    wanted = [(":".join((kind, s.get("module") or "vmlinux", s["function"])), s) for s in found]
    reads = {"args", "retval", "arg", "sarg"} & uses or any(u[:3] == "arg" for u in uses)
    if not reads:
        return [Trampoline(kind, wanted, None, machine.records)]
    return [Trampoline(kind, [w], _prototype(w[1], machine), machine.records) for w in wanted]


def _prototype(spec: dict[str, Any], machine: Machine) -> Prototype:
    if spec.get("module"):
        from tracebee.btf.opening import open_module

        return open_module(spec["module"]).function(spec["function"])
    return machine.btf.function(spec["function"])


def _functions(module: str, name: str, machine: Machine) -> list[dict[str, Any]]:
    if is_wild(name) or is_wild(module):
        return _wild(module, name, machine)
    from tracebee.btf.opening import module_names, open_module

    try:
        modules = [module] if module else ["vmlinux", *module_names()]
        for candidate in modules:
            if open_module(candidate).find_all(name, btf_kinds.BTF_KIND_FUNC):
                return [_spec(candidate, name)]
            if candidate == "vmlinux" and not module and not kallsyms.find(name):
                break
    except SymbolError as error:
        raise Diagnostic(error.message, hint=error.hint) from None
    except UnsupportedError as error:
        raise Diagnostic(error.message, hint=error.hint) from None
    if kallsyms.find(name):
        raise Diagnostic(
            f"'{name}' has no type information, so it cannot be traced by trampoline",
            hint=f"use kprobe:{name}",
        )
    known = [n for n, _ in machine.btf.names(btf_kinds.BTF_KIND_FUNC)]
    raise missing(f"no kernel function is called '{name}'", name, known)


def _spec(module: str, name: str) -> dict[str, Any]:
    return {"function": name} if module == "vmlinux" else {"function": name, "module": module}


def _wild(module: str, name: str, machine: Machine) -> list[dict[str, Any]]:
    from tracebee.btf.opening import module_names, open_module

    allowed = kernel_functions.traceable()
    found = []
    for candidate in matching(module or "vmlinux", ["vmlinux", *module_names()]):
        names = (n for n, _ in open_module(candidate).names(btf_kinds.BTF_KIND_FUNC))
        found += [_spec(candidate, n) for n in dict.fromkeys(matching(name, names)) if n in allowed]
    if not found:
        raise MissingProbe(f"no kernel function with type information matches '{name}'")
    return found


def attach(program: Any, targets: Sequence[Target], session: Any) -> Iterator[Any]:
    """One link: the program was loaded for its only target."""
    for target in session.steps(targets):
        yield Link.tracing(program, session.attach_type, cookie=target.cookie)


def listing(machine: Machine, pattern: str) -> Iterator[str]:
    """Every function with type information that can be traced."""
    kind = "fexit" if pattern.startswith(("fexit", "fr:", "kretfunc")) else "fentry"
    allowed = kernel_functions.traceable()
    for name, _ in machine.btf.names(btf_kinds.BTF_KIND_FUNC):
        if name in allowed:
            yield f"{kind}:vmlinux:{name}"


def describe(machine: Machine, name: str) -> Iterator[str]:
    """The parameters and result of one listed function."""
    kind, _, function = name.split(":")
    prototype = machine.btf.function(function)
    for param in prototype.params:
        yield machine.btf.declare(param.type_id, param.name)
    if kind == "fexit":
        yield machine.btf.declare(prototype.return_id, "retval")
