"""Lowering accesses to maps: keys built in place, scalars without a hash, losses counted."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.lower import Gen, Place, type_of
from tracebee.lang.script import RODATA, SCALARS
from tracebee.lang.types import alignment
from tracebee.lang.unify import is_scalar
from tracebee.lang.unit import is_aggregation, map_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir import Block, Value
    from tracebee.lang.analyse import MapState

BPF_ANY, BPF_NOEXIST = 0, 1


def key_of(g: Gen, state: MapState, node: ast.Expr) -> Value:
    """Pointer to the key of an access: where it lies already, or built on the stack."""
    t = state.key
    if not is_scalar(t) and type_of(node) == t and not isinstance(node, (ast.Tuple, ast.Record)):
        place = g.place(node)
        if place.is_own:
            return g.address(place)
    key = g.b.alloca(max(1, t.size), max(8, alignment(t)), "key")
    g.into(node, key, 0, t)
    return key


def lookup(g: Gen, state: MapState, key: Value) -> Value:
    """Pointer to the entry's value, or null."""
    return g.b.helper("map_lookup_elem", g.b.map_ref(map_name(state.name)), key)


def first_key(g: Gen) -> Value:
    """The only key of an array of one."""
    key = g.b.alloca(4, 4, "key")
    g.b.store(key, 0, 4, 0)
    return key


def scalar_place(g: Gen, state: MapState) -> Place:
    """Where the value of a map without a key lies."""
    return Place(g.b.data_ref(SCALARS, g.unit.slot(state)))


def access_key(g: Gen, node: ast.Map | ast.MapAccess) -> Value | None:
    """The key an access has, None for a scalar map."""
    return key_of(g, g.map_state(node), node.key) if isinstance(node, ast.MapAccess) else None


def _read(g: Gen, node: ast.Map | ast.MapAccess) -> Value:
    state = g.map_state(node)
    if isinstance(node, ast.Map):
        return g.load(scalar_place(g, state), state.value)
    b = g.b
    if g.known and (known := g.known.get((state.name, steady_text(node.key)))) is not None:
        return g.load(Place(known), state.value)
    entry = lookup(g, state, key_of(g, state, node.key))
    before = b.current
    have, done = b.block("found"), b.block("read")
    b.branch(entry, have, done)
    b.at(have)
    value = g.load(Place(entry), state.value)
    b.jump(done)
    b.at(done)
    return b.phi([(0, before), (value, have)])


# Builtins that give the same value all through one run of a program.
_STEADY = frozenset(
    {"pid", "tid", "uid", "gid", "cpu", "comm", "cgroup", "retval", "curtask", "func", "probe"}
)


def steady_text(node: ast.Node) -> str:
    """A text that equal keys share when the key cannot change during a run; empty otherwise."""
    if isinstance(node, ast.Builtin):
        return node.name if node.name in _STEADY or node.name.startswith("arg") else ""
    if isinstance(node, (ast.Integer, ast.String)):
        return repr(node.value)
    if isinstance(node, ast.Field) and isinstance(node.base, ast.Builtin) and node.base.name == "args":
        return f"args.{node.name}"
    if isinstance(node, ast.Tuple):
        items = [steady_text(item) for item in node.items]
        return f"({','.join(items)})" if all(items) else ""
    return ""


def branch_on_entry(g: Gen, node: ast.MapAccess, then: Block, otherwise: Block) -> None:
    """A predicate that asks for an entry that is not 0: what it finds need not be looked up again."""
    b = g.b
    state = g.map_state(node)
    entry = lookup(g, state, key_of(g, state, node.key))
    have = b.block("found")
    b.branch(entry, have, otherwise)
    b.at(have)
    b.branch(g.load(Place(entry), state.value), then, otherwise)
    text = steady_text(node.key)
    if text:
        g.known[(state.name, text)] = entry


def forget(g: Gen, name: str) -> None:
    """A map is written: entries of it that were found may have been replaced."""
    for key in [k for k in g.known if k[0] == name]:
        del g.known[key]


def _read_place(g: Gen, node: ast.Map | ast.MapAccess) -> Place | None:
    state = g.map_state(node)
    if is_scalar(state.value) or is_aggregation(state):
        return None
    if isinstance(node, ast.Map):
        return scalar_place(g, state)
    b = g.b
    entry = lookup(g, state, key_of(g, state, node.key))
    zeros = b.data_ref(RODATA, g.unit.zeros(state.value.size))
    before = b.current
    have, done = b.block("found"), b.block("read")
    b.branch(entry, have, done)
    b.at(have)
    b.jump(done)
    b.at(done)
    return Place(b.phi([(zeros, before), (entry, have)]))


def mentions(node: ast.Node, name: str) -> bool:
    """Whether a variable or map of this name is used in an expression."""
    if isinstance(node, (ast.Variable, ast.Map)) and node.name == name:
        return True
    return any(mentions(child, name) for child in node.children())


def set_scalar(g: Gen, state: MapState) -> None:
    """Note that a map without a key has a value."""
    g.b.store(g.b.data_ref(SCALARS, g.unit.slot(state) - 8), 0, 8, 1)


def store(g: Gen, target: ast.Map | ast.MapAccess, value: ast.Expr) -> None:
    """``target = value`` for a plain map."""
    state = g.map_state(target)
    t = state.value
    if isinstance(target, ast.Map):
        place = scalar_place(g, state)
        if not is_scalar(t) and mentions(value, state.name):
            # The new value is made from the old one, which must not be overwritten while it is read.
            made = g.b.alloca(t.size, 8)
            g.into(value, made, 0, t)
            g.b.memcpy(place.ptr, 0, made, 0, t.size)
        else:
            g.into(value, place.ptr, 0, t)
        set_scalar(g, state)
        return
    if is_scalar(t):
        store_value(g, target, g.value(value))
        return
    place = g.place(value) if type_of(value) == t else Place(g.b.const(0), 0, "none")
    if not place.is_own:
        data = g.b.alloca(t.size, max(8, alignment(t)), "value")
        g.into(value, data, 0, t)
    else:
        data = g.address(place)
    _update(g, state, key_of(g, state, target.key), data)


def store_value(g: Gen, target: ast.Map | ast.MapAccess, value: Value) -> None:
    """Give a map of numbers a value that has been computed."""
    state = g.map_state(target)
    b = g.b
    if isinstance(target, ast.Map):
        b.store(scalar_place(g, state).ptr, 0, state.value.size, value)
        set_scalar(g, state)
        return
    data = b.alloca(8, 8, "value")
    b.store(data, 0, state.value.size, value)
    key = key_of(g, state, target.key)
    if state.deleted or state.value.size != 8:
        _update(g, state, key, data)
        return
    # Entries that are never deleted are mostly there already: writing in place is cheaper.
    entry = lookup(g, state, key)
    have, miss, done = b.block("found"), b.block("missing"), b.block("stored")
    b.branch(entry, have, miss)
    b.at(have)
    b.store(entry, 0, 8, value)
    b.jump(done)
    b.at(miss)
    _update(g, state, key, data)
    b.jump(done)
    b.at(done)


def _update(g: Gen, state: MapState, key: Value, data: Value) -> None:
    b = g.b
    forget(g, state.name)
    failed = b.helper("map_update_elem", b.map_ref(map_name(state.name)), key, data, BPF_ANY)
    full, done = b.block("full"), b.block("stored")
    b.branch(failed, full, done)
    b.at(full)
    g.lost(f"map @{state.name}")
    b.jump(done)
    b.at(done)


def with_entry(
    g: Gen,
    target: ast.Map | ast.MapAccess,
    body: Callable[[Value], None],
    first: Callable[[Value], None] | None = None,
) -> None:
    """Run ``body`` with a pointer to the target's value; a missing entry is made.

    :param first: writes a new entry's value, of the whole size, where it is small. Without it the
        entry is made of zeros, and ``body`` runs on it. When there is no room the loss is counted.
    """
    b = g.b
    state = g.map_state(target)
    done = b.block("updated")
    have = b.block("entry")
    if isinstance(target, ast.Map):
        entry = lookup(g, state, first_key(g))
        b.branch(entry, have, done)
        b.at(have)
        body(entry)
        b.jump(done)
        b.at(done)
        return
    key = key_of(g, state, target.key)
    name = map_name(state.name)
    miss, full = b.block("missing"), b.block("full")
    if first is not None:
        entry = lookup(g, state, key)
        b.branch(entry, have, miss)
        b.at(miss)
        data = b.alloca(state.value.size, 8, "first")
        first(data)
        # Per CPU there is no race: this CPU's value was not there, whoever makes the entry.
        b.branch(b.helper("map_update_elem", b.map_ref(name), key, data, BPF_ANY), full, done)
    else:
        # Another CPU may make it first: what counts is whether it is there when looked for again.
        tried = b.local("tried")
        look, make = b.block("look"), b.block("make")
        b.set(tried, b.const(0))
        b.jump(look)
        b.at(look)
        entry = lookup(g, state, key)
        b.branch(entry, have, miss)
        b.at(miss)
        b.branch(b.get(tried), full, make)
        b.at(make)
        b.set(tried, b.const(1))
        zeros = b.data_ref(RODATA, g.unit.zeros(state.value.size))
        b.helper("map_update_elem", b.map_ref(name), key, zeros, BPF_NOEXIST)
        b.jump(look)
    b.at(full)
    g.lost(f"map @{state.name}")
    b.jump(done)
    b.at(have)
    body(entry)
    b.jump(done)
    b.at(done)


def add(g: Gen, target: ast.Map | ast.MapAccess, amount: Value, *, fetch: bool) -> Value:
    """Atomically add to a plain map's number; with ``fetch`` the result is what it was before."""
    b = g.b
    state = g.map_state(target)
    if isinstance(target, ast.Map):
        old = b.atomic("add", scalar_place(g, state).ptr, 0, 8, amount, fetch)
        set_scalar(g, state)
        return old
    result = b.local("old")
    b.set(result, b.const(0))

    def body(entry: Value) -> None:
        old = b.atomic("add", entry, 0, 8, amount, fetch)
        if fetch:
            b.set(result, old)

    with_entry(g, target, body)
    return b.get(result)


def _incdec(g: Gen, node: ast.IncDec) -> Value:
    return step(g, node, used=True)


def step(g: Gen, node: ast.IncDec, *, used: bool) -> Value:
    """``++`` and ``--``; ``used``: whether the expression's value is wanted."""
    b = g.b
    t = type_of(node)
    by: int | Value = 1
    if t.kind == "pointer":
        from tracebee.lang.lower_expressions import element_size

        by = element_size(g, t)
    amount = b.const(by) if isinstance(by, int) else by
    if node.op == "--":
        amount = b.const(-by) if isinstance(by, int) else b.unary("neg", by)
    target = node.target
    if isinstance(target, ast.Variable):
        old = g.value(target)
        new = b.binary("add", old, amount)
        assign_variable(g, target, new)
        return new if node.prefix else old
    assert isinstance(target, (ast.Map, ast.MapAccess))
    old = add(g, target, amount, fetch=used)
    return b.binary("add", old, amount) if node.prefix and used else old


def assign_variable(g: Gen, node: ast.Variable, value: Value) -> None:
    """Give a scratch variable that is a number a value, cut to the variable's type."""
    state = g.variable(node)
    t = state.type
    if t.kind == "int" and t.size < 8:
        value = g.b.extend(value, 8 * t.size, t.signed)
    if id(state) in g.frame_slots:
        place = g.variable_place(state)
        g.b.store(place.ptr, place.offset, 8, value)
    else:
        g.b.set(g.local(state), value)


Gen.VALUES.update({ast.Map: _read, ast.MapAccess: _read, ast.IncDec: _incdec})
Gen.PLACES.update({ast.Map: _read_place, ast.MapAccess: _read_place})
