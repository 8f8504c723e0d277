"""Time, processes and signals, parameters of the command line."""

from __future__ import annotations

from tracebee.lang import ast
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen, type_of
from tracebee.lang.types import BOOL, INT64, NONE, UINT32, UINT64, Type, display, string
from tracebee.lang.unify import UNKNOWN, smallest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser

# nsecs(mode): the clock as types name it, and the helper that reads it.
CLOCKS = {
    "boot": ("boot", "ktime_get_boot_ns"),
    "monotonic": ("monotonic", "ktime_get_ns"),
    "tai": ("tai", "ktime_get_tai_ns"),
    # An approximation for kernels without the helper; where there is one, it is the thing itself.
    "sw_tai": ("tai", "ktime_get_tai_ns"),
}
BPF_KPROBE_KINDS = frozenset(("kprobe", "kretprobe"))


def _word(node: ast.Call) -> str:
    first = node.arguments[0] if node.arguments else None
    return first.name if isinstance(first, (ast.Identifier, ast.Builtin)) else "?" if first else ""


def _check_nsecs(a: Analyser, node: ast.Call) -> Type:
    if node.arguments and _word(node) not in CLOCKS:
        return a.error(
            "Invalid timestamp mode", node.arguments[0].span, "nsecs(boot), nsecs(monotonic), nsecs(tai)"
        )
    return UINT64


def _emit_nsecs(g: Gen, node: ast.Call) -> Value:
    return g.b.helper(CLOCKS[_word(node) or "boot"][1])


def _check_strftime(a: Analyser, node: ast.Call) -> Type:
    text, when = node.arguments
    a.integer(when, "strftime()'s time")
    if not isinstance(text, ast.String):
        return a.error("strftime() expects a format string, a literal", text.span)
    clock = CLOCKS.get(_word(when), ("boot", ""))[0] if isinstance(when, ast.Call) else "boot"
    return Type("timestamp", 8, name=clock, number=a.text(text.value))


def _emit_strftime(g: Gen, node: ast.Call) -> Value:
    return g.value(node.arguments[1])


def _check_id(a: Analyser, node: ast.Call) -> Type:
    if node.arguments and _word(node) not in ("curr_ns", "init"):
        return a.error(
            f"Invalid PID namespace mode of {node.name}()", node.arguments[0].span, "curr_ns or init"
        )
    return UINT32


def _emit_id(g: Gen, node: ast.Call) -> Value:
    b = g.b
    if _word(node) == "init":
        both = b.helper("get_current_pid_tgid")
        return b.binary("lshr", both, 32) if node.name == "pid" else b.extend(both, 32, False)
    from tracebee.lang import builtins

    found = builtins.BUILTINS[node.name].emit(g, node, None, 0)
    assert found is not None
    return found


def _signal_number(a: Analyser, node: ast.Call) -> int | None:
    """The signal's number when it is known while compiling; reported when it is no signal."""
    import signal

    found = a.constant(node.arguments[0])
    if isinstance(found, str):
        name = found.upper() if found.upper().startswith("SIG") else f"SIG{found.upper()}"
        number = getattr(signal, name, None)
        if number is None:
            a.error(f"{found} is not a valid signal", node.arguments[0].span)
        return None if number is None else int(number)
    if isinstance(found, int) and not 0 < found < 65:
        a.error(f"{found} is not a valid signal, allowed range: [1,64]", node.arguments[0].span)
        return None
    return found


def _check_signal(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind not in ("int", "string", "enum", "unknown"):
        return a.error(f"{node.name}() expects a signal's name or number ({display(t)} provided)", node.span)
    _signal_number(a, node)
    return NONE


def _emit_signal(g: Gen, node: ast.Call) -> None:
    number = _signal_number(g.analyser, node)
    helper = "send_signal" if node.name == "signal" else "send_signal_thread"
    g.b.helper(helper, g.value(node.arguments[0]) if number is None else number)


def _check_override(a: Analyser, node: ast.Call) -> Type:
    a.integer(node.arguments[0], "override()'s value")
    if a.group.kind not in BPF_KPROBE_KINDS:
        return a.error(
            f"override() can not be used with '{a.group.kind}' probes", node.span, "it needs a kprobe"
        )
    return NONE


def _emit_override(g: Gen, node: ast.Call) -> None:
    g.b.helper("override_return", g.ctx, g.value(node.arguments[0]))


def _check_path(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if a.group.kind not in ("fentry", "fexit", "iter"):
        return a.error("path() can only be used with fentry, fexit and iter probes", node.span)
    size = a.options.max_strlen
    if len(node.arguments) > 1:
        a.integer(node.arguments[1], "path()'s size")
        given = a.constant(node.arguments[1])
        if not isinstance(given, int) or given < 1:
            return a.error("path(): the size must be a positive literal", node.arguments[1].span)
        size = min(size, given)
    return UNKNOWN if t.kind == "unknown" else string(size)


def _path_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, pad: bool) -> None:
    b = g.b
    if pad:
        g.zero(ptr, offset, t.size)
    else:
        b.store(ptr, offset, 1, 0)
    target = b.binary("add", ptr, offset) if offset else ptr
    source = type_of(node.arguments[0])
    path = g.value(node.arguments[0]) if source.kind == "pointer" else g.address(g.place(node.arguments[0]))
    b.helper("d_path", path, target, type_of(node).size)


def _option(a: Analyser, node: ast.Call) -> tuple[str | int | bool, Type] | None:
    """The value of a named parameter and its type; None, and an error, when it is not one."""
    name = node.arguments[0]
    if not isinstance(name, ast.String):
        a.error("getopt() expects a string literal as its first argument", name.span)
        return None
    given = a.options.named.get(name.value)
    default = node.arguments[1] if len(node.arguments) > 1 else None
    if default is None or isinstance(default, ast.Boolean):
        if given is None:
            return default is not None and bool(default.value), BOOL
        if given.lower() not in ("true", "1", "false", "0"):
            a.error(f"--{name.value} is a boolean: true or false, not '{given}'", node.span)
            return None
        return given.lower() in ("true", "1"), BOOL
    if isinstance(default, ast.String):
        text = default.value if given is None else given
        return text, string(len(text.encode("utf-8", "surrogateescape")) + 1)
    number = a.constant(default)
    if not isinstance(number, int):
        a.error("getopt() expects a literal as its default value", default.span)
        return None
    if given is None:
        return number, smallest(number)
    try:
        return int(given, 0), INT64
    except ValueError:
        a.error(f"--{name.value} is an integer, not '{given}'", node.span)
        return None


def _check_getopt(a: Analyser, node: ast.Call) -> Type:
    found = _option(a, node)
    return UNKNOWN if found is None else found[1]


def _getopt(a: Analyser, node: ast.Call) -> int | str | None:
    found = _option(a, node)
    if found is None:
        return None
    return found[0] if isinstance(found[0], str) else int(found[0])


def _getopt_into(g: Gen, node: ast.Call, ptr: Value, offset: int, t: Type, pad: bool) -> None:
    from tracebee.lang.lower_expressions import string_into

    found = _getopt(g.analyser, node)
    string_into(g, str(found).encode("utf-8", "surrogateescape"), ptr, offset, t.size, pad=pad)


def _check_socket_cookie(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind not in ("pointer", "unknown"):
        return a.error(f"socket_cookie() only supports pointer arguments ({display(t)} provided)", node.span)
    return UINT64


def _emit_socket_cookie(g: Gen, node: ast.Call) -> Value:
    return g.b.helper("get_socket_cookie", g.value(node.arguments[0]))


FUNCTIONS = table(
    Function("nsecs", 0, 1, _check_nsecs, _emit_nsecs, usage="nsecs([boot|monotonic|tai|sw_tai])"),
    Function("strftime", 2, 2, _check_strftime, _emit_strftime, usage='strftime("format", nsecs)'),
    Function("pid", 0, 1, _check_id, _emit_id, usage="pid([curr_ns|init])"),
    Function("tid", 0, 1, _check_id, _emit_id, usage="tid([curr_ns|init])"),
    Function("signal", 1, 1, _check_signal, _emit_signal, unsafe=True, usage="signal(number or name)"),
    Function(
        "signal_thread", 1, 1, _check_signal, _emit_signal, unsafe=True, usage="signal_thread(number or name)"
    ),
    Function("override", 1, 1, _check_override, _emit_override, unsafe=True, usage="override(value)"),
    Function("path", 1, 2, _check_path, into=_path_into, usage="path(struct path *[, size])"),
    Function(
        "getopt", 1, 3, _check_getopt, into=_getopt_into, constant=_getopt, usage='getopt("name"[, default])'
    ),
    Function(
        "socket_cookie", 1, 1, _check_socket_cookie, _emit_socket_cookie, usage="socket_cookie(struct sock *)"
    ),
)
