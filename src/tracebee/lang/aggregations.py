"""The functions that maps are assigned: per-CPU values that are updated without a lock.

Layouts are those of ``lang.types``. Each row's ``emit`` is unused: ``update`` writes the code, as
the map's entry is needed.
"""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen
from tracebee.lang.lower_maps import access_key, first_key, with_entry
from tracebee.lang.types import Type, display, hist_buckets, lhist_buckets
from tracebee.lang.unify import LITERAL, UNKNOWN, as_integer, is_number
from tracebee.lang.unit import map_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser

# The largest per-CPU value that the kernel allocates.
_MAX_VALUE = 32768


def _count(_: Analyser, __: ast.Call) -> Type:
    return Type("count", 8)


def _number(a: Analyser, node: ast.Call) -> Type:
    """The type of the first argument, which is to be counted up."""
    t = a.value(node.arguments[0])
    if t.kind != "unknown" and not is_number(t):
        return a.error(
            f"{node.name}() only supports integer arguments ({display(t)} provided)", node.arguments[0].span
        )
    return t


def _of_number(kind: str, size: int) -> Callable[[Analyser, ast.Call], Type]:
    def check(a: Analyser, node: ast.Call) -> Type:
        t = _number(a, node)
        if t.kind == "unknown":
            return t
        number = as_integer(t)
        return Type(kind, size, signed=number.name == LITERAL or number.signed)

    return check


def _constant(a: Analyser, node: ast.Call, index: int, what: str) -> int:
    """A constant integer argument; -1 << 63 when it is none, which is reported."""
    argument = node.arguments[index]
    a.integer(argument, what)
    found = a.constant(argument)
    if not isinstance(found, int):
        a.error(f"{node.name}(): {what} must be a literal", argument.span)
        return -(1 << 63)
    return found


def _hist(a: Analyser, node: ast.Call) -> Type:
    t = _number(a, node)
    bits = _constant(a, node, 1, "the number of bits") if len(node.arguments) > 1 else 0
    if not 0 <= bits <= 5:
        return a.error(f"hist(): bits {bits} must be 0..5", node.arguments[1].span)
    return UNKNOWN if t.kind == "unknown" else Type("hist", 8 * hist_buckets(bits), number=bits)


def _lhist(a: Analyser, node: ast.Call) -> Type:
    t = _number(a, node)
    low, high, step = (_constant(a, node, i, what) for i, what in ((1, "min"), (2, "max"), (3, "step")))
    if -(1 << 63) in (low, high, step):
        return UNKNOWN
    if step <= 0:
        return a.error(f"lhist() step must be >= 1 ({step} provided)", node.arguments[3].span)
    if low >= high:
        return a.error(f"lhist() min must be less than max (provided min {low} and max {high})", node.span)
    if (high - low) // step > 1000:
        return a.error(
            f"lhist() too many buckets, must be <= 1000 (would need {(high - low) // step})", node.span
        )
    if t.kind == "unknown":
        return t
    return Type("lhist", 8 * lhist_buckets(low, high, step), args=(low, high, step))


def _tseries(a: Analyser, node: ast.Call) -> Type:
    t = _number(a, node)
    interval = _constant(a, node, 1, "the interval")
    count = _constant(a, node, 2, "the number of intervals")
    name = ""
    if len(node.arguments) > 3:
        given = node.arguments[3]
        name = given.value if isinstance(given, ast.String) else "?"
        if name not in ("avg", "max", "min", "sum"):
            return a.error(
                "tseries() expects one of the following aggregation functions: avg, max, min, sum", given.span
            )
    if t.kind == "unknown" or -(1 << 63) in (interval, count):
        return UNKNOWN
    if interval <= 0:
        return a.error("tseries() interval_ns must be greater than 0", node.arguments[1].span)
    if not 0 < count <= _MAX_VALUE // 24 or count > 1000:
        return a.error("tseries() num_intervals must be between 1 and 1000", node.arguments[2].span)
    return Type("tseries", 24 * count, signed=as_integer(t).signed, name=name, args=(interval, count))


def update(g: Gen, target: ast.Map | ast.MapAccess, call: ast.Call) -> None:
    """``target = call``: bring one value into the aggregation."""
    t = g.map_state(target).value
    value = g.value(call.arguments[0]) if call.arguments else g.b.const(1)
    rule = _UPDATES[t.kind]

    def first(entry: Value) -> None:
        g.b.store(entry, 0, 8, value)
        if t.size == 16:
            # The second word counts values, or says that there is one.
            g.b.store(entry, 8, 8, 1)

    with_entry(g, target, lambda entry: rule(g, entry, value, t), first if t.size <= 16 else None)


def _update_sum(g: Gen, entry: Value, value: Value, _: Type) -> None:
    b = g.b
    b.store(entry, 0, 8, b.binary("add", b.load(entry, 0, 8), value))


def _update_stats(g: Gen, entry: Value, value: Value, t: Type) -> None:
    _update_sum(g, entry, value, t)
    g.b.store(entry, 8, 8, g.b.binary("add", g.b.load(entry, 8, 8), 1))


def _update_extreme(less: bool) -> Callable[[Gen, Value, Value, Type], None]:
    def rule(g: Gen, entry: Value, value: Value, t: Type) -> None:
        b = g.b
        known, take, done = b.block("known"), b.block("take"), b.block("done")
        b.branch(b.load(entry, 8, 8), known, take)
        b.at(known)
        condition = ("s" if t.signed else "u") + ("lt" if less else "gt")
        b.branch(b.compare(condition, value, b.load(entry, 0, 8)), take, done)
        b.at(take)
        b.store(entry, 0, 8, value)
        b.store(entry, 8, 8, 1)
        b.jump(done)
        b.at(done)

    return rule


def _update_hist(g: Gen, entry: Value, value: Value, t: Type) -> None:
    _bump(g, entry, log2_bucket(g, value, t.number))


def _bump(g: Gen, entry: Value, bucket: Value) -> None:
    b = g.b
    at = b.binary("add", entry, b.binary("shl", bucket, 3))
    b.store(at, 0, 8, b.binary("add", b.load(at, 0, 8), 1))


def log2_bucket(g: Gen, value: Value, bits: int) -> Value:
    """The bucket of ``hist`` (see ``lang.types``): the highest set bit by halving the range.

    Every path leaves a number that the verifier knows exactly, so nothing has to be checked again.
    """
    b = g.b
    bucket, rest, log = b.local("bucket"), b.local("rest"), b.local("log")
    # Most values are in neither of the first rows: one comparison finds that out.
    small, search, done = b.block("small"), b.block("search"), b.block("bucket")
    b.branch(b.compare("slt", value, 1 << bits), small, search)
    b.at(small)
    b.set(bucket, b.select(b.compare("slt", value, 0), 0, b.binary("add", value, 1) if bits else 1))
    b.jump(done)
    b.at(search)
    b.set(rest, value)
    b.set(log, b.const(0))
    for shift in (32, 16, 8, 4, 2, 1):
        more, after = b.block("more"), b.block("half")
        x = b.get(rest)
        if shift == 32:
            # 1 << 32 is no immediate; the shifted value tells the same.
            b.branch(b.binary("lshr", x, 32), more, after)
        else:
            b.branch(b.compare("uge", x, 1 << shift), more, after)
        b.at(more)
        b.set(rest, b.binary("lshr", x, shift))
        b.set(log, b.binary("add", b.get(log), shift))
        b.jump(after)
        b.at(after)
    top = b.get(log)
    if bits:
        next_bits = b.binary("and", b.binary("lshr", value, b.binary("sub", top, bits)), (1 << bits) - 1)
        row = b.binary("shl", b.binary("add", top, 1 - bits), bits)
        b.set(bucket, b.binary("add", b.binary("add", row, next_bits), 1))
    else:
        b.set(bucket, b.binary("add", top, 2))
    b.jump(done)
    b.at(done)
    return b.get(bucket)


def _update_lhist(g: Gen, entry: Value, value: Value, t: Type) -> None:
    b = g.b
    low, high, step = t.args
    last = lhist_buckets(low, high, step) - 1
    bucket = b.local("bucket")
    inside, done = b.block("inside"), b.block("bucket")
    b.set(bucket, b.const(0))
    b.branch(b.compare("slt", value, low), done, inside)
    b.at(inside)
    distance = b.binary("sub", value, low) if low else value
    b.set(bucket, b.const(last))
    within = b.block("within")
    b.branch(b.compare("uge", distance, high - low), done, within)
    b.at(within)
    number = b.binary("udiv", distance, step) if step > 1 else distance
    b.set(bucket, b.binary("add", number, 1))
    b.jump(done)
    b.at(done)
    chosen = b.get(bucket)
    if step & (step - 1):
        # The verifier knows nothing of a quotient.
        chosen = b.select(b.compare("ult", chosen, last), chosen, last)
    _bump(g, entry, chosen)


def _update_tseries(g: Gen, entry: Value, value: Value, t: Type) -> None:
    b = g.b
    interval, count = t.args
    now = b.helper("ktime_get_boot_ns")
    epoch = b.binary("udiv", now, interval)
    index = b.binary("umod", epoch, count)
    index = b.select(b.compare("ult", index, count), index, 0)
    at = b.binary("add", entry, b.binary("mul", index, 24))
    mark = b.binary("add", epoch, 1)
    fresh, old, done = b.block("fresh"), b.block("same"), b.block("done")
    b.branch(b.compare("eq", b.load(at, 0, 8), mark), old, fresh)
    b.at(fresh)
    b.store(at, 0, 8, mark)
    b.store(at, 8, 8, value)
    b.store(at, 16, 8, 1 if t.name else now)
    b.jump(done)
    b.at(old)
    kept = b.load(at, 8, 8)
    if t.name in ("min", "max"):
        condition = ("s" if t.signed else "u") + ("lt" if t.name == "min" else "gt")
        b.store(at, 8, 8, b.select(b.compare(condition, value, kept), value, kept))
    else:
        b.store(at, 8, 8, b.binary("add", kept, value) if t.name else value)
    b.store(at, 16, 8, b.binary("add", b.load(at, 16, 8), 1) if t.name else now)
    b.jump(done)
    b.at(done)


_UPDATES: dict[str, Callable[[Gen, Value, Value, Type], None]] = {
    "count": _update_sum,
    "sum": _update_sum,
    "avg": _update_stats,
    "stats": _update_stats,
    "min": _update_extreme(True),
    "max": _update_extreme(False),
    "hist": _update_hist,
    "lhist": _update_lhist,
    "tseries": _update_tseries,
}


def reduce_node(g: Gen, node: ast.Map | ast.MapAccess) -> Value:
    """The number that an aggregation stands for in an expression: over all CPUs."""
    key = access_key(g, node)
    return reduce_entry(g, node, first_key(g) if key is None else key)


def reduce_entry(g: Gen, node: ast.Map | ast.MapAccess, key: Value) -> Value:
    """The number of the entry with this key, 0 when there is none."""
    from tracebee.lang.builtins import cpus

    b = g.b
    state = g.map_state(node)
    t = state.value
    total, extra, cpu = b.local("total"), b.local("extra"), b.local("cpu")
    for local in (total, extra, cpu):
        b.set(local, b.const(0))
    head, body, after, done = b.block("cpus"), b.block("cpu"), b.block("next"), b.block("total")
    b.jump(head)
    b.at(head)
    looking = b.block("look")
    b.branch(b.compare("ult", b.get(cpu), cpus(g)), looking, done)
    b.at(looking)
    entry = b.helper("map_lookup_percpu_elem", b.map_ref(map_name(state.name)), key, b.get(cpu))
    b.branch(entry, body, done)
    b.at(body)
    value = b.load(entry, 0, 8)
    if t.kind in ("min", "max"):
        take = b.block("take")
        compare = b.block("compare")
        b.branch(b.load(entry, 8, 8), compare, after)
        b.at(compare)
        condition = ("s" if t.signed else "u") + ("lt" if t.kind == "min" else "gt")
        better = b.block("better")
        b.branch(b.get(extra), better, take)
        b.at(better)
        b.branch(b.compare(condition, value, b.get(total)), take, after)
        b.at(take)
        b.set(total, value)
        b.set(extra, b.const(1))
    else:
        b.set(total, b.binary("add", b.get(total), value))
        if t.kind == "avg":
            b.set(extra, b.binary("add", b.get(extra), b.load(entry, 8, 8)))
    b.jump(after)
    b.at(after)
    b.set(cpu, b.binary("add", b.get(cpu), 1))
    b.jump(head)
    b.at(done)
    if t.kind == "avg":
        return b.binary("sdiv" if t.signed else "udiv", b.get(total), b.get(extra))
    return b.get(total)


FUNCTIONS = table(
    Function("count", 0, 0, _count, usage="@x = count()"),
    Function("sum", 1, 1, _of_number("sum", 8), usage="@x = sum(n)"),
    Function("avg", 1, 1, _of_number("avg", 16), usage="@x = avg(n)"),
    Function("min", 1, 1, _of_number("min", 16), usage="@x = min(n)"),
    Function("max", 1, 1, _of_number("max", 16), usage="@x = max(n)"),
    Function("stats", 1, 1, _of_number("stats", 16), usage="@x = stats(n)"),
    Function("hist", 1, 2, _hist, usage="@x = hist(n[, bits])"),
    Function("lhist", 4, 4, _lhist, usage="@x = lhist(n, min, max, step)"),
    Function("tseries", 3, 4, _tseries, usage="@x = tseries(n, interval_ns, num_intervals[, agg])"),
)
