"""``kstack`` and ``ustack``: keys that stand for whole stacks, never two stacks for one.

The kernel's stack map keeps one stack for a hash value. When its bucket holds another one, the
stack itself becomes the key of STACKS_MORE, which gives it a number of its own.
"""

from __future__ import annotations

from tracebee.ir import CTX, I64, Builder
from tracebee.lang import ast
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import type_of
from tracebee.lang.lower_maps import BPF_NOEXIST
from tracebee.lang.script import MAX_FRAMES, NO_STACK, SCALARS, STACKS_MORE, stacks_name
from tracebee.lang.types import Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee import ir
    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser
    from tracebee.lang.lower import Gen
    from tracebee.lang.unit import Unit

MODES = frozenset(("bpftrace", "perf", "raw", "build_id"))
BPF_F_USER_STACK = 1 << 8
_EEXIST = 17


def stack_type(a: Analyser, kind: str, mode: str = "", frames: int = MAX_FRAMES) -> Type:
    """The type of a stack key."""
    return Type(kind, 16, name=mode or str(a.options.config["stack_mode"]), number=frames)


def _check(a: Analyser, node: ast.Call) -> Type:
    mode, frames = "", MAX_FRAMES
    arguments = list(node.arguments)
    if arguments and isinstance(arguments[0], ast.Identifier):
        word = arguments.pop(0)
        assert isinstance(word, ast.Identifier)
        mode = word.name
        if mode not in MODES:
            return a.error(f"Invalid stack mode: '{mode}'", word.span, "bpftrace, perf or raw")
    if arguments:
        a.integer(arguments[0], f"{node.name}()'s limit")
        given = a.constant(arguments[0])
        if not isinstance(given, int):
            return a.error(f"{node.name}(): limit must be a literal", arguments[0].span)
        if given > MAX_FRAMES:
            return a.error(
                f"{node.name}([int limit]): limit shouldn't exceed {MAX_FRAMES}, {given} given", node.span
            )
        if given < 1:
            return a.error(f"{node.name}([int limit]): limit must be at least 1", node.span)
        frames = given
    return stack_type(a, node.name, mode, frames)


def stack_into(g: Gen, node: ast.Node, ptr: Value, offset: int) -> None:
    """Write a stack key."""
    b = g.b
    t = type_of(node)
    user = t.kind == "ustack"
    flags = BPF_F_USER_STACK if user else 0
    g.unit.frames.add(t.number)
    found = b.helper("get_stackid", g.ctx, b.map_ref(stacks_name(t.number)), flags)
    stack_id = b.local("stack")
    taken, done = b.block("taken"), b.block("stack")
    b.set(stack_id, found)
    b.branch(b.compare("slt", found, 0), taken, done)
    b.at(taken)
    b.set(stack_id, b.call(_more(g.unit), g.ctx, found, 8 * t.number, flags))
    b.jump(done)
    b.at(done)
    b.store(ptr, offset, 8, b.get(stack_id))
    if user:
        # One key for all threads: their address space is the process's.
        b.store(ptr, offset + 8, 8, b.binary("lshr", b.helper("get_current_pid_tgid"), 32))
    else:
        b.store(ptr, offset + 8, 8, 0)


def _more(unit: Unit) -> ir.Function:
    """The subprogram for what get_stackid could not keep: (ctx, its error, bytes of stack, flags) -> id."""
    known = unit.subprograms.get("more_stacks")
    if known is not None:
        return known
    function = unit.module.function("more_stacks", (CTX, I64, I64, I64))
    unit.subprograms["more_stacks"] = function
    b = Builder(function)
    ctx, error, size, flags = (b.param(i) for i in range(4))
    collision, none = b.block("collision"), b.block("none")
    b.branch(b.compare("eq", error, -_EEXIST), collision, none)
    b.at(none)
    b.ret(NO_STACK)
    b.at(collision)
    stack = b.alloca(8 * MAX_FRAMES, 8, "stack")
    b.helper("probe_read_kernel", stack, 8 * MAX_FRAMES, 0)  # fails, and so zeroes it
    got = b.helper("get_stack", ctx, stack, size, flags)
    some = b.block("some")
    b.branch(b.compare("sgt", got, 0), some, none)
    b.at(some)
    tried = b.local("tried")
    look, kept, new, make, full = (b.block(n) for n in ("look", "known", "new", "make", "full"))
    b.set(tried, b.const(0))
    b.jump(look)
    b.at(look)
    entry = b.helper("map_lookup_elem", b.map_ref(STACKS_MORE), stack)
    b.branch(entry, kept, new)
    b.at(kept)
    b.ret(b.load(entry, 0, 8))
    b.at(new)
    b.branch(b.get(tried), full, make)
    b.at(make)
    b.set(tried, b.const(1))
    number = b.atomic("add", b.data_ref(SCALARS, unit.stack_id()), 0, 8, 1, fetch=True)
    data = b.alloca(8, 8, "id")
    b.store(data, 0, 8, b.binary("sub", -1, number))
    # Another CPU may be faster: the one number that is there when looked again is the stack's.
    b.helper("map_update_elem", b.map_ref(STACKS_MORE), stack, data, BPF_NOEXIST)
    b.jump(look)
    b.at(full)
    unit.count_loss(b, "stacks")
    b.ret(NO_STACK)
    return function


def depth(g: Gen, node: ast.Node) -> Value:
    """The number of frames of the stack here."""
    b = g.b
    t = type_of(node)
    stack = b.alloca(8 * t.number, 8, "stack")
    flags = BPF_F_USER_STACK if t.kind == "ustack" else 0
    got = b.helper("get_stack", g.ctx, stack, 8 * t.number, flags)
    return b.select(b.compare("sgt", got, 0), b.binary("lshr", got, 3), 0)


def _into(g: Gen, node: ast.Call, ptr: Value, offset: int, _: Type, __: bool) -> None:
    stack_into(g, node, ptr, offset)


FUNCTIONS = table(
    Function("kstack", 0, 2, _check, into=_into, usage="kstack([mode, ][limit])"),
    Function("ustack", 0, 2, _check, into=_into, usage="ustack([mode, ][limit])"),
)
