"""What the language asks of a probe: the seam between ``lang`` (below) and ``probes`` (above).

``lang`` compiles one program per ProbeGroup and never knows a probe kind by name: what differs
between kinds (where an argument lies, what ``args`` is, which helper gives the function's address)
is asked of the group. ``probes`` implements these protocols, one module per kind.
"""

from __future__ import annotations

from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.ir import Builder, Value
    from tracebee.lang.ast import AttachPoint
    from tracebee.lang.script import Target
    from tracebee.lang.types import Type
    from tracebee.source import Span


class ProbeGroup(Protocol):
    """Attach points that share one program: same kind, same context, same argument types.

    Every ``emit_*`` gets a Builder positioned where the value is needed and the context pointer;
    it raises ``errors.Diagnostic`` (without a span; the caller adds it) when the kind has no such
    thing, saying which kinds have.
    """

    kind: str  # the probe kind's full name: "kprobe"
    section: str  # ELF section for the object, as libbpf spells it
    program_type: int
    expected_attach_type: int
    attach_target: str  # for fentry and friends, else ""
    sleepable: bool
    address_space: str  # where a plain pointer argument points: "kernel" or "user"
    targets: Sequence[Target]  # cookies are assigned by the compiler (see ProbeProvider.groups)
    span: Span  # of the attach point: set by the compiler

    def args_type(self) -> Type | None:
        """The record type of ``args``, None where the kind has none."""

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        """The value of ``args.field`` when it is a scalar held in the context; else None, and
        ``emit_args_pointer`` gives the record's address (a readable ctx or kernel pointer).
        """

    def args_member(self, field: str) -> tuple[str, str] | None:
        """The kernel's struct and the path in it by which a loader finds ``args.field``; None where it
        lies at the same place everywhere.
        """

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        """Address of the ``args`` record."""

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        """``argN``."""

    def emit_sarg(self, b: Builder, ctx: Value, number: int) -> Value:
        """``sargN``: the Nth argument on the stack."""

    def retval_type(self) -> Type | None:
        """The type of ``retval``; None when the kind has none; a plain u64 when unknown."""

    def emit_retval(self, b: Builder, ctx: Value) -> Value:
        """``retval``."""

    def emit_func(self, b: Builder, ctx: Value) -> Value:
        """Address of the traced function (``func``)."""

    def emit_reg(self, b: Builder, ctx: Value, name: str) -> Value:
        """``reg(name)``: a saved register."""

    def emit_cookie(self, b: Builder, ctx: Value) -> Value:
        """The target's cookie: a constant for one target, ``bpf_get_attach_cookie`` for more."""

    def emit_guard(self, b: Builder, ctx: Value) -> Value | None:
        """What must not be 0 for the program to run at all, before its predicate; None where nothing must."""


class ProbeProvider(Protocol):
    """Resolves attach points; made by ``probes`` for one machine, process and option set."""

    def groups(self, point: AttachPoint, *, first_cookie: int, uses: frozenset[str]) -> Sequence[ProbeGroup]:
        """Expand one attach point (wildcards included) into groups of targets.

        :param first_cookie: number of the first target; targets are numbered on from it.
        :param uses: names of the builtins the body uses (``args``, ``retval``, ``arg``, ...): a kind
            may need one group per target when ``args`` is among them, and one for all when not.
        :raises Diagnostic: unknown provider, malformed point, or nothing matches; with candidates.
        """
