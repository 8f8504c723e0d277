"""The Builder: how front ends write IR. Each method appends one instruction and returns its value."""

from __future__ import annotations

from tracebee.ir.types import FUNC, I64, KERNEL, MAP, MAP_VALUE, MEM, POINTERS, STACK, VOID
from tracebee.ir.value import (
    ATOMICS,
    BINARY,
    CONDITIONS,
    TERMINATORS,
    UNARY,
    Block,
    Function,
    Local,
    Value,
)
from tracebee.source import NOWHERE, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tracebee.obj.model import CoreReloc

    Operand = Value | int

# What helpers and kernel functions return, where it is not an integer.
RESULT_TYPES = {
    "map_lookup_elem": MAP_VALUE,
    "map_lookup_percpu_elem": MAP_VALUE,
    "ringbuf_reserve": MEM,
    "dynptr_data": MEM,
    "bpf_dynptr_slice": MEM,
    "bpf_dynptr_slice_rdwr": MEM,
    "get_current_task_btf": KERNEL,
    "task_pt_regs": KERNEL,
    "this_cpu_ptr": KERNEL,
    "per_cpu_ptr": KERNEL,
    "bpf_iter_num_next": MEM,
}


class Builder:
    """Writes one function, a block at a time, starting in its entry block.

    Operands may be given as Python integers. Code after a terminator goes to a block that nothing
    reaches and is dropped.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self._span: Span = NOWHERE
        self._names: dict[str, int] = {}
        self.current = self.block("entry")

    # Places.

    def block(self, name: str = "block") -> Block:
        """A new, empty block; its name is made unique."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        block = Block(f"{name}{count}" if count else name)
        self.function.blocks.append(block)
        return block

    def at(self, block: Block) -> None:
        """Go on writing at the end of ``block``."""
        self.current = block

    @property
    def here(self) -> Span:
        """The source place of what is made now."""
        return self._span

    def span(self, span: Span) -> _SpanScope:
        """``with b.span(span):`` what is made inside comes from this place of the source."""
        return _SpanScope(self, span)

    def param(self, index: int) -> Value:
        """A parameter of the function; number 0 of a program is its context."""
        return self.function.params[index]

    # Values without a place.

    def const(self, number: int) -> Value:
        """A 64-bit integer; the number is taken modulo 2**64."""
        return self.function.const(number)

    def map_ref(self, name: str) -> Value:
        """A map by its name in the object, for a helper's argument."""
        return Value("map_ref", (), name, MAP)

    def data_ref(self, name: str, offset: int = 0) -> Value:
        """Pointer to a byte of a data-section map's only value."""
        return Value("data_ref", (), (name, offset), MAP_VALUE)

    def func_ref(self, function: Function) -> Value:
        """The address of a subprogram, for ``bpf_loop`` and its like."""
        return Value("func_ref", (), function, FUNC)

    def core(self, reloc: CoreReloc) -> Value:
        """An integer the loader fills in: a field's offset, whether it exists, an enumerator."""
        return Value("core", (), reloc)

    # Arithmetic.

    def binary(self, op: str, x: Operand, y: Operand) -> Value:
        """64 bits wide, wrapping; x/0 is 0, x%0 is x, shift counts are taken modulo 64."""
        assert op in BINARY, op
        a, b = self._value(x), self._value(y)
        result = I64
        if op in ("add", "sub") and (a.type in POINTERS) != (b.type in POINTERS):
            result = a.type if a.type in POINTERS else b.type
        return self._emit(op, (a, b), None, result)

    def unary(self, op: str, x: Operand) -> Value:
        """``neg``, ``not``, ``bswap16/32/64``, ``le16...`` and ``be16...`` (host to that order)."""
        assert op in UNARY, op
        return self._emit(op, (self._value(x),))

    def extend(self, x: Operand, bits: int, signed: bool) -> Value:
        """The low 8, 16 or 32 bits of x, extended to 64."""
        value = self._value(x)
        return value if bits == 64 else self._emit("extend", (value,), (bits, signed))

    def compare(self, condition: str, x: Operand, y: Operand) -> Value:
        """1 when ``x condition y``, else 0; ``set`` asks whether x and y share a bit."""
        assert condition in CONDITIONS, condition
        return self._emit("compare", (self._value(x), self._value(y)), condition)

    def select(self, c: Operand, x: Operand, y: Operand) -> Value:
        """X when c is not 0, else y."""
        a, b = self._value(x), self._value(y)
        return self._emit("select", (self._value(c), a, b), None, a.type if a.type in POINTERS else b.type)

    # Memory.

    def alloca(self, size: int, align: int = 8, name: str = "") -> Value:
        """Pointer to a local object of ``size`` bytes.

        The object lives from here to the last use of a pointer to it (in a loop, each round's is a
        new one), its bytes are undefined at first, and objects that do not live at the same time
        share memory.
        """
        return self._emit("alloca", (), (size, align, name), STACK)

    def local(self, name: str, type: str = "") -> Local:  # noqa: A002
        """A mutable 64-bit variable, of the type first set unless given; 0 before that."""
        return Local(name, type)

    def get(self, local: Local) -> Value:
        """The variable's value now."""
        return self._emit("get", (), local, local.type or I64)

    def set(self, local: Local, x: Operand) -> None:
        """Give the variable a value."""
        value = self._value(x)
        if not local.type:
            local.type = value.type
        self._emit("set", (value,), local, VOID)

    def load(
        self,
        ptr: Value,
        offset: int,
        size: int,
        signed: bool = False,
        core: CoreReloc | None = None,
        type: str = I64,  # noqa: A002
    ) -> Value:
        """Read 1, 2, 4 or 8 bytes, extended to 64 bits; ``core`` has the loader set the offset.

        ``type`` says what a loaded pointer points into.
        """
        return self._emit("load", (ptr,), (offset, size, signed, core), type)

    def store(self, ptr: Value, offset: int, size: int, x: Operand, core: CoreReloc | None = None) -> None:
        """Write the low 1, 2, 4 or 8 bytes of x."""
        self._emit("store", (ptr, self._value(x)), (offset, size, core), VOID)

    def memset(self, ptr: Value, offset: int, byte: int, size: int) -> None:
        """Fill ``size`` bytes (a constant)."""
        if size:
            self._emit("memset", (ptr,), (offset, byte & 0xFF, size), VOID)

    def memcpy(self, dst: Value, dst_offset: int, src: Value, src_offset: int, size: int) -> None:
        """Copy ``size`` bytes (a constant) between places that do not overlap."""
        if size:
            self._emit("memcpy", (dst, src), (dst_offset, src_offset, size), VOID)

    def atomic(
        self,
        op: str,
        ptr: Value,
        offset: int,
        size: int,
        x: Operand,
        fetch: bool = False,
        expected: Operand | None = None,
    ) -> Value:
        """Atomic update of 4 or 8 bytes.

        The old value comes back when ``fetch`` is asked for, and always for ``xchg`` and
        ``cmpxchg``, which writes x if the old value was ``expected``.
        """
        assert op in ATOMICS, op
        assert (op == "cmpxchg") == (expected is not None)
        fetch = fetch or op in ("xchg", "cmpxchg")
        args = [ptr, self._value(x)]
        if expected is not None:
            args.append(self._value(expected))
        return self._emit("atomic", args, (op, offset, size, fetch), I64 if fetch else VOID)

    # Calls.

    def helper(self, name: str, *args: Operand, type: str = "") -> Value:  # noqa: A002
        """Call a helper by its name without ``bpf_``; ``type`` when the result is a special pointer."""
        return self._call("helper", name, args, type or RESULT_TYPES.get(name, I64))

    def kfunc(self, name: str, *args: Operand, type: str = "") -> Value:  # noqa: A002
        """Call a kernel function by its full name."""
        return self._call("kfunc", name, args, type or RESULT_TYPES.get(name, I64))

    def call(self, function: Function, *args: Operand) -> Value:
        """Call a subprogram of the module."""
        return self._call("call", function, args, function.result)

    # Control.

    def branch(self, c: Operand, then: Block, else_: Block) -> None:
        """Go to ``then`` when c is not 0, else to ``else_``."""
        self._emit("br", (self._value(c),), (then, else_), VOID)

    def jump(self, block: Block) -> None:
        """Go to ``block``."""
        self._emit("jump", (), block, VOID)

    def ret(self, x: Operand = 0) -> None:
        """Leave the function with result x."""
        self._emit("ret", (self._value(x),), None, VOID)

    def phi(self, pairs: Sequence[tuple[Operand, Block]]) -> Value:
        """The value that belongs to the predecessor control came from; first things in a block."""
        args = [self._value(x) for x, _ in pairs]
        kind = next((a.type for a in args if a.type in POINTERS), I64)
        value = Value("phi", args, tuple(p for _, p in pairs), kind, self._span)
        value.block = self.current
        insns = self.current.insns
        at = 0
        while at < len(insns) and insns[at].op == "phi":
            at += 1
        insns.insert(at, value)
        return value

    # Inside.

    def _call(self, op: str, callee: Any, args: Sequence[Operand], kind: str) -> Value:
        assert len(args) <= 5, f"{callee}: a call takes at most five arguments"
        return self._emit(op, [self._value(a) for a in args], callee, kind)

    def _value(self, x: Operand) -> Value:
        return self.function.const(x) if isinstance(x, int) else x

    def _emit(self, op: str, args: Sequence[Value], aux: Any = None, kind: str = I64) -> Value:
        block = self.current
        insns = block.insns
        if insns and insns[-1].op in TERMINATORS:
            block = self.current = self.block("dead")
            insns = block.insns
        value = Value(op, args, aux, kind, self._span)
        value.block = block
        insns.append(value)
        return value


class _SpanScope:
    """Sets a builder's span, and sets it back."""

    __slots__ = ("before", "builder", "span")

    def __init__(self, builder: Builder, span: Span) -> None:
        self.builder = builder
        self.span = span
        self.before = builder._span  # noqa: SLF001 - part of the builder

    def __enter__(self) -> None:
        self.builder._span = self.span  # noqa: SLF001

    def __exit__(self, *exc: object) -> None:
        self.builder._span = self.before  # noqa: SLF001
