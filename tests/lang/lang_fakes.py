"""A probe provider that attaches nowhere: what the analyser and lowering need of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracebee.btf.reader import Btf
from tracebee.errors import Diagnostic
from tracebee.ir import Builder, Value
from tracebee.lang.ast import AttachPoint
from tracebee.lang.compile import compile_script
from tracebee.lang.frontend import load
from tracebee.lang.options import Options
from tracebee.lang.script import Script, Target
from tracebee.lang.types import INT32, INT64, UINT64, Type, pointer, tuple_of
from tracebee.source import Source

ARGS = tuple_of([INT32, pointer(Type("int", 1, signed=True), "user"), INT64], ["fd", "name", "ret"])._replace(
    kind="record", name="struct fake_args"
)


class FakeGroup:
    """One attach point: arguments are the words of the context; ``fake:args`` has ``args``."""

    kind: str
    targets: Sequence[Target]
    program_type = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
    expected_attach_type = 0
    attach_target = ""
    sleepable = False
    section = "raw_tp"
    address_space = "kernel"

    def __init__(self, point: AttachPoint, cookie: int) -> None:
        self.kind = point.parts[0].lower()
        self.targets = (Target(point.text, cookie, {}),)

    def args_type(self) -> Type | None:
        return ARGS if self.kind == "tracepoint" else None

    def emit_args(self, b: Builder, ctx: Value, field: str) -> Value | None:
        found = next(f for f in ARGS.fields if f.name == field)
        return b.load(ctx, found.offset, found.type.size, found.type.signed and found.type.size < 8)

    def emit_args_pointer(self, b: Builder, ctx: Value) -> Value:
        return ctx

    def emit_arg(self, b: Builder, ctx: Value, number: int) -> Value:
        return b.load(ctx, 8 * number, 8)

    def emit_sarg(self, b: Builder, ctx: Value, number: int) -> Value:
        raise Diagnostic(f"{self.kind} probes have no sargN")

    def retval_type(self) -> Type | None:
        return UINT64 if self.kind == "kretprobe" else None

    def emit_retval(self, b: Builder, ctx: Value) -> Value:
        return b.load(ctx, 0, 8)

    def emit_func(self, b: Builder, ctx: Value) -> Value:
        return b.load(ctx, 0, 8)

    def emit_reg(self, b: Builder, ctx: Value, name: str) -> Value:
        raise Diagnostic(f"{self.kind} probes have no reg")

    def emit_guard(self, b: Builder, ctx: Value) -> Value | None:
        return None

    def emit_cookie(self, b: Builder, ctx: Value) -> Value:
        return b.const(self.targets[0].cookie)


class FakeProvider:
    """Takes every attach point for what it says."""

    def groups(self, point: AttachPoint, *, first_cookie: int, uses: frozenset[str]) -> Sequence[FakeGroup]:
        return [FakeGroup(point, first_cookie)]


def no_btf() -> Btf:
    raise AssertionError("this script needs no kernel types")


def compile_text(text: str, *, btf: Any = no_btf, name: str = "test.bt", **options: Any) -> Script:
    """Compile a script against the fake provider; kernel types only where ``btf`` gives them."""
    loaded = load(Source(name, text))
    return compile_script(
        loaded.source,
        loaded.program,
        FakeProvider(),
        btf,
        options=Options(ncpus=4, **{"unsafe": True, **options}),
        definitions=loaded.definitions,
    )
