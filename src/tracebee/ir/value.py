"""The parts of a program in IR form: module, functions, blocks, values.

A :class:`Value` is an instruction and its result in one. Constants, parameters and references to
maps, data and functions have no place in a block: they are made where they are used, at no cost.
``docs/architecture.md`` ("The IR") lists what each operation means.
"""

from __future__ import annotations

from tracebee.ir.types import CTX, I64
from tracebee.source import NOWHERE, Source, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

ARITHMETIC = ("add", "sub", "mul", "udiv", "sdiv", "umod", "smod")
BITWISE = ("and", "or", "xor", "shl", "lshr", "ashr")
BINARY = frozenset(ARITHMETIC + BITWISE)
COMMUTATIVE = frozenset(("add", "mul", "and", "or", "xor"))
SWAPS = ("bswap16", "bswap32", "bswap64", "le16", "le32", "le64", "be16", "be32", "be64")
UNARY = frozenset(("neg", "not", *SWAPS))
CONDITIONS = frozenset(("eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge", "set"))
ATOMICS = frozenset(("add", "or", "and", "xor", "xchg", "cmpxchg"))
TERMINATORS = frozenset(("br", "jump", "ret"))
# Values that need no place in a block.
FLOATING = frozenset(("const", "param", "map_ref", "data_ref", "func_ref", "core"))
CALLS = frozenset(("helper", "kfunc", "call"))

MASK64 = (1 << 64) - 1


class Value:
    """One IR instruction and the value it makes.

    ``aux`` holds what is not a value, by operation:

    ============ ======================================================================
    const        the integer, 0 to 2**64-1
    param        the parameter's index
    map_ref      map name; data_ref: (map name, offset); func_ref: Function; core: CoreReloc
    extend       (bits, signed)
    compare      condition
    alloca       (size, align, name)
    get, set     Local
    load         (offset, size, signed, CoreReloc or None)
    store        (offset, size, CoreReloc or None); args: pointer, value
    memset       (offset, byte, size)
    memcpy       (destination offset, source offset, size)
    atomic       (operation, offset, size, fetch); args: pointer, value[, expected]
    helper       helper's name; kfunc: function's name; call: Function
    phi          tuple of predecessor blocks, in the order of args
    br           (then Block, else Block); jump: Block
    ============ ======================================================================
    """

    __slots__ = ("args", "aux", "block", "op", "span", "type")

    def __init__(
        self,
        op: str,
        args: Sequence[Value] = (),
        aux: Any = None,
        type: str = I64,  # noqa: A002 - the field's own name
        span: Span = NOWHERE,
    ) -> None:
        self.op = op
        self.args = list(args)
        self.aux = aux
        self.type = type
        self.span = span
        self.block: Block | None = None

    def __repr__(self) -> str:
        return f"<{self.op} {self.aux!r}>" if self.aux is not None else f"<{self.op}>"


class Local:
    """A mutable 64-bit variable; mem2reg turns its gets and sets into SSA values."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: str = I64) -> None:  # noqa: A002
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"<local {self.name}>"


class Block:
    """A basic block: phis first, one terminator last."""

    __slots__ = ("insns", "name", "preds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.insns: list[Value] = []
        self.preds: list[Block] = []  # as of the last Function.link()

    def __repr__(self) -> str:
        return f"<block {self.name}>"

    @property
    def terminator(self) -> Value | None:
        """The branch, jump or return that ends the block; None while it is being written."""
        return self.insns[-1] if self.insns and self.insns[-1].op in TERMINATORS else None

    @property
    def succs(self) -> tuple[Block, ...]:
        """The blocks control can go to next; for a branch: then, else."""
        last = self.insns[-1] if self.insns else None
        if last is None:
            return ()
        if last.op == "jump":
            return (last.aux,)
        return tuple(last.aux[:2]) if last.op == "br" else ()

    def phis(self) -> Iterator[Value]:
        """The phis at the block's start."""
        for insn in self.insns:
            if insn.op != "phi":
                return
            yield insn


class Function:
    """A function: ``blocks[0]`` is its entry. A program's only parameter is its context."""

    __slots__ = ("blocks", "consts", "is_global", "name", "params", "result")

    def __init__(
        self, name: str, params: Sequence[str] = (CTX,), *, result: str = I64, is_global: bool = False
    ) -> None:
        self.name = name
        self.params = [Value("param", (), i, t) for i, t in enumerate(params)]
        self.result = result
        self.is_global = is_global
        self.blocks: list[Block] = []
        self.consts: dict[int, Value] = {}

    def __repr__(self) -> str:
        return f"<function {self.name}>"

    @property
    def entry(self) -> Block:
        """The block a call starts in; nothing jumps to it."""
        return self.blocks[0]

    def const(self, number: int) -> Value:
        """The constant of this number modulo 2**64; one Value per number and function."""
        number &= MASK64
        value = self.consts.get(number)
        if value is None:
            value = self.consts[number] = Value("const", (), number)
        return value

    def link(self) -> None:
        """Drop unreachable blocks, put the rest in reverse post-order, set ``preds``; prune phis."""
        order = _reverse_post_order(self.entry)
        for block in order:
            block.preds = []
        for block in order:
            for succ in block.succs:
                if not succ.preds or succ.preds[-1] is not block:
                    succ.preds.append(block)
        for block in order:
            if block.insns and block.insns[0].op == "phi":
                _prune_phis(block)
        self.blocks = order


class Module:
    """The functions that are compiled together, and the source their spans point into."""

    __slots__ = ("functions", "source")

    def __init__(self, source: Source | None = None) -> None:
        self.source = source if source is not None else Source("", "")
        self.functions: list[Function] = []

    def function(
        self, name: str, params: Sequence[str] = (CTX,), *, result: str = I64, is_global: bool = False
    ) -> Function:
        """A new function of the module. ``params`` are the types of its 0 to 5 parameters."""
        function = Function(name, params, result=result, is_global=is_global)
        self.functions.append(function)
        return function


def _reverse_post_order(entry: Block) -> list[Block]:
    """Blocks reachable from the entry; a branch's then side comes before its else side."""
    seen = {entry}
    post: list[Block] = []
    stack: list[tuple[Block, list[Block]]] = [(entry, list(entry.succs))]
    while stack:
        block, todo = stack[-1]
        # The last successor is visited first, so it ends up last in the reversed order.
        while todo and todo[-1] in seen:
            todo.pop()
        if todo:
            succ = todo.pop()
            seen.add(succ)
            stack.append((succ, list(succ.succs)))
        else:
            post.append(block)
            stack.pop()
    post.reverse()
    return post


def _prune_phis(block: Block) -> None:
    """Forget phi inputs of blocks that are no longer predecessors."""
    for phi in block.phis():
        if len(phi.aux) != len(block.preds):
            kept = [(a, p) for a, p in zip(phi.args, phi.aux, strict=True) if p in block.preds]
            phi.args = [a for a, _ in kept]
            phi.aux = tuple(p for _, p in kept)
