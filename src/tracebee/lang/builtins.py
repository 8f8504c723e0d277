"""The builtin variables, one row each: name, type, and what emits it."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang.types import (
    BOOL,
    UINT8,
    UINT32,
    UINT64,
    Type,
    pointer,
    string,
)
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.ir import Value
    from tracebee.lang import ast
    from tracebee.lang.analyse import Analyser
    from tracebee.lang.lower import Gen, Place

    Emit = Callable[[Gen, ast.Builtin | ast.Call, Value | None, int], Value | None]

COMM = string(16)
PROBE = Type("probe", 4)
USERNAME = Type("username", 4)


class Builtin(NamedTuple):
    """A builtin. ``emit`` gives its value, or fills the memory it is handed when it is no number;
    ``place`` gives where it lies when it lies in memory already.
    """

    name: str
    type: Callable[[Analyser, str], Type]
    emit: Emit
    place: Callable[[Gen, ast.Builtin], Place | None] | None = None


def _is(t: Type) -> Callable[[Analyser, str], Type]:
    return lambda _a, _name: t


def _helper(name: str, *, high: bool = False, low: bool = False) -> Emit:
    """A helper without arguments; the upper or lower half of its result where one is meant."""

    def emit(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
        value = g.b.helper(name)
        if high:
            return g.b.binary("lshr", value, 32)
        return g.b.extend(value, 32, False) if low else value

    return emit


def _id(*, high: bool) -> Emit:
    """``pid`` and ``tid``, in the PID namespace of this process."""
    plain = _helper("get_current_pid_tgid", high=high, low=not high)

    def emit(g: Gen, node: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> Value | None:
        options = g.analyser.options
        if options.portable:
            return _portable_id(g, plain(g, node, ptr, offset), high=high)
        namespace = options.pid_namespace
        if namespace is None:
            return plain(g, node, ptr, offset)
        return _id_within(g, *namespace, high=high)

    return emit


def _portable_id(g: Gen, plain: Value | None, *, high: bool) -> Value:
    """The same where the runner says which namespace is its own, 0 being the first."""
    assert plain is not None
    b = g.b
    result = b.local("id")
    b.set(result, plain)
    inode = g.unit.machine_value(b, "pid_namespace", "inode")
    inside, done = b.block("inside"), b.block("id")
    b.branch(inode, inside, done)
    b.at(inside)
    device = g.unit.machine_value(b, "pid_namespace", "device")
    b.set(result, _id_within(g, device, inode, high=high))
    b.jump(done)
    b.at(done)
    return b.get(result)


def _id_within(g: Gen, device: Value | int, inode: Value | int, *, high: bool) -> Value:
    b = g.b
    found = b.alloca(8)
    # struct bpf_pidns_info: u32 pid, u32 tgid, in the kernel's sense of them.
    b.helper("get_ns_current_pid_tgid", device, inode, found, 8)
    return b.load(found, 4 if high else 0, 4)


def _comm(g: Gen, _: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> None:
    assert ptr is not None
    g.b.helper("get_current_comm", g.b.binary("add", ptr, offset) if offset else ptr, COMM.size)


def _cpid(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    if g.analyser.options.portable:
        return g.unit.machine_value(g.b, "cpid")
    return g.b.const(g.analyser.options.cpid or 0)


def _has_cpid(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    if g.analyser.options.portable:
        return g.b.compare("ne", g.unit.machine_value(g.b, "cpid"), 0)
    return g.b.const(int(g.analyser.options.cpid is not None))


def cpus(g: Gen) -> Value:
    """The number of CPUs that there may be."""
    options = g.analyser.options
    if options.portable:
        return g.unit.machine_value(g.b, "ncpus", here=options.ncpus)
    return g.b.const(options.ncpus)


def _ncpus(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    return cpus(g)


def _elapsed(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    start = g.unit.machine_value(g.b, "start", here=g.analyser.options.start)
    return g.b.binary("sub", g.b.helper("ktime_get_boot_ns"), start)


def _probe(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    return g.group.emit_cookie(g.b, g.ctx)


def _func_type(a: Analyser, _: str) -> Type:
    return Type("usym", 16) if a.group.address_space == "user" else Type("ksym", 8)


def _func(g: Gen, _: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> Value:
    address = g.group.emit_func(g.b, g.ctx)
    if ptr is not None and g.group.address_space == "user":
        from tracebee.lang.addresses import usym_into

        usym_into(g, address, ptr, offset)
    return address


def _retval_type(a: Analyser, _: str) -> Type:
    t = a.group.retval_type()
    if t is None:
        raise Diagnostic(
            f"The retval builtin can not be used with '{a.group.kind}' probes",
            hint="it exists in kretprobe, uretprobe and fexit",
        )
    return t


def _args_type(a: Analyser, _: str) -> Type:
    t = a.group.args_type()
    if t is None:
        raise Diagnostic(
            f"The args builtin can not be used with '{a.group.kind}' probes",
            hint="it exists in tracepoint, rawtracepoint, fentry and fexit; elsewhere: arg0, arg1, ...",
        )
    return t


def _args_place(g: Gen, _: ast.Builtin) -> Place:
    from tracebee.lang.lower import Place

    pointer_ = g.group.emit_args_pointer(g.b, g.ctx)
    return Place(pointer_, 0, "" if pointer_.type != "i64" else g.group.address_space)


def _curtask_type(_: Analyser, __: str) -> Type:
    return pointer(Type("record", 0, name="struct task_struct"), "kernel")


def _ctx_type(_: Analyser, __: str) -> Type:
    return pointer(Type("none"), "kernel")


def _ctx(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    from tracebee.lang.lower_expressions import plain

    return plain(g, g.ctx)


def _stack_type(kind: str) -> Callable[[Analyser, str], Type]:
    def of(a: Analyser, _: str) -> Type:
        from tracebee.lang.stack_keys import stack_type

        return stack_type(a, kind)

    return of


def _stack(g: Gen, node: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> None:
    from tracebee.lang.stack_keys import stack_into

    assert ptr is not None
    stack_into(g, node, ptr, offset)


def _usermode(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
    # The lowest two bits of the code segment are the privilege level.
    segment = g.group.emit_reg(g.b, g.ctx, "cs")
    return g.b.compare("ne", g.b.binary("and", segment, 3), 0)


def _arg(g: Gen, node: ast.Builtin | ast.Call, _: Value | None, __: int) -> Value:
    return g.group.emit_arg(g.b, g.ctx, int(node.name[3:]))


def _sarg(g: Gen, node: ast.Builtin | ast.Call, _: Value | None, __: int) -> Value:
    return g.group.emit_sarg(g.b, g.ctx, int(node.name[4:]))


def _cpid_type(a: Analyser, _: str) -> Type:
    if a.options.cpid is None and not a.options.portable:
        raise Diagnostic("cpid has no value: no command was given", hint="run with -c COMMAND")
    return UINT32


def _task_member(path: str, size: int) -> Emit:
    """A number two pointers away from the current task."""

    def emit(g: Gen, _: ast.Builtin | ast.Call, __: Value | None, ___: int) -> Value:
        from tracebee.lang.lower import Place

        first, second = path.split(".")
        task = Place(g.b.helper("get_current_task"), 0, "kernel", ("struct task_struct", first))
        other = g.load(task, UINT64)
        return g.load(Place(other, 0, "kernel", ("struct task_struct", second)), Type("int", size))

    return emit


def _pcomm(g: Gen, _: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> None:
    from tracebee.lang.lower import Place

    assert ptr is not None
    leader = g.load(
        Place(g.b.helper("get_current_task"), 0, "kernel", ("struct task_struct", "group_leader")), UINT64
    )
    g.copy(Place(leader, 0, "kernel", ("struct task_struct", "comm")), COMM, ptr, offset, COMM)


def _probetype_type(a: Analyser, _: str) -> Type:
    return string(len(a.group.kind) + 1)


def _probetype(g: Gen, _: ast.Builtin | ast.Call, ptr: Value | None, offset: int) -> None:
    assert ptr is not None
    g.bytes_into(g.group.kind.encode() + b"\0", ptr, offset)


def _rows(*rows: Builtin) -> dict[str, Builtin]:
    return {row.name: row for row in rows}


BUILTINS = _rows(
    Builtin("args", _args_type, lambda *_: None, _args_place),
    Builtin("cgroup", _is(UINT64), _helper("get_current_cgroup_id")),
    Builtin("comm", _is(COMM), _comm),
    Builtin("cpid", _cpid_type, _cpid),
    Builtin("cpu", _is(UINT32), _helper("get_smp_processor_id")),
    Builtin("ctx", _ctx_type, _ctx),
    Builtin("curtask", _curtask_type, _helper("get_current_task")),
    Builtin("elapsed", _is(UINT64), _elapsed),
    Builtin("func", _func_type, _func),
    Builtin("gid", _is(UINT32), _helper("get_current_uid_gid", high=True)),
    Builtin("has_cpid", _is(BOOL), _has_cpid),
    Builtin("jiffies", _is(UINT64), _helper("jiffies64")),
    Builtin("kstack", _stack_type("kstack"), _stack),
    Builtin("ncpus", _is(UINT32), _ncpus),
    Builtin("nsecs", _is(UINT64), _helper("ktime_get_boot_ns")),
    Builtin("numaid", _is(UINT32), _helper("get_numa_node_id")),
    Builtin("pcomm", _is(COMM), _pcomm),
    Builtin("pid", _is(UINT32), _id(high=True)),
    Builtin("ppid", _is(UINT32), _task_member("real_parent.tgid", 4)),
    Builtin("probe", _is(PROBE), _probe),
    Builtin("probetype", _probetype_type, _probetype),
    Builtin("rand", _is(UINT32), _helper("get_prandom_u32", low=True)),
    Builtin("retval", _retval_type, lambda g, _node, _ptr, _offset: g.group.emit_retval(g.b, g.ctx)),
    Builtin("tid", _is(UINT32), _id(high=False)),
    Builtin("uid", _is(UINT32), _helper("get_current_uid_gid", low=True)),
    Builtin("usermode", _is(UINT8), _usermode),
    Builtin("username", _is(USERNAME), _helper("get_current_uid_gid", low=True)),
    Builtin("ustack", _stack_type("ustack"), _stack),
)
_ARG = Builtin("arg0", _is(UINT64), _arg)
_SARG = Builtin("sarg0", _is(UINT64), _sarg)
_NUMBERED = re.compile(r"(s?)arg[0-9]+\Z")


def find(name: str) -> Builtin | None:
    """The row of a builtin, None when there is no such."""
    row = BUILTINS.get(name)
    if row is None:
        numbered = _NUMBERED.match(name)
        if numbered is not None:
            return _SARG if numbered.group(1) else _ARG
    return row


def names() -> Iterable[str]:
    """All names, for suggestions."""
    return [*BUILTINS, "arg0", "arg1", "sarg0"]
