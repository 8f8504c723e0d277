"""Addresses and identifiers: what user space turns into names, and names into numbers."""

from __future__ import annotations

import os

from tracebee.lang import ast
from tracebee.lang.constants import evaluate
from tracebee.lang.functions import Function, table
from tracebee.lang.lower import Gen, Place, type_of
from tracebee.lang.script import RODATA
from tracebee.lang.types import UINT8, UINT64, Type, display, pointer
from tracebee.lang.unify import UNKNOWN, is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.ir import Value
    from tracebee.lang.analyse import Analyser

AF_INET, AF_INET6 = 2, 10


def _address(a: Analyser, node: ast.Call, result: Type) -> Type:
    t = a.value(node.arguments[0])
    if t.kind == "unknown":
        return t
    if t.kind != "pointer" and not is_number(t):
        return a.error(
            f"{node.name}() expects an integer or pointer argument ({display(t)} provided)",
            node.arguments[0].span,
        )
    return result


def _check_ksym(a: Analyser, node: ast.Call) -> Type:
    return _address(a, node, Type("ksym", 8))


def _emit_first(g: Gen, node: ast.Call) -> Value:
    return g.value(node.arguments[0])


def _check_usym(a: Analyser, node: ast.Call) -> Type:
    return _address(a, node, Type("usym", 16))


def usym_into(g: Gen, address: Value, ptr: Value, offset: int) -> None:
    """Write a user address together with the process it belongs to."""
    b = g.b
    b.store(ptr, offset, 8, address)
    b.store(ptr, offset + 8, 8, b.binary("lshr", b.helper("get_current_pid_tgid"), 32))


def _usym_into(g: Gen, node: ast.Call, ptr: Value, offset: int, _: Type, __: bool) -> None:
    usym_into(g, g.value(node.arguments[0]), ptr, offset)


def _literal(a: Analyser, node: ast.Call, index: int = 0) -> str | None:
    """A string literal argument; None, and an error, when it is none."""
    argument = node.arguments[index]
    found = a.constant(argument)
    if isinstance(found, str):
        return found
    a.error(f"{node.name}() expects a string literal", argument.span)
    return None


def _check_kaddr(a: Analyser, node: ast.Call) -> Type:
    name = _literal(a, node)
    if name is None:
        return UNKNOWN
    if a.options.symbol is None or not a.options.symbol(name):
        return a.error(
            f"Failed to resolve kernel symbol: {name}",
            node.arguments[0].span,
            "/proc/kallsyms has no such name; without CONFIG_KALLSYMS_ALL it lists functions alone",
        )
    return UINT64


def _kaddr(a: Analyser, node: ast.Call) -> int | None:
    if a.options.portable:
        return None  # the runner looks it up
    name = evaluate(a, node.arguments[0])
    return a.options.symbol(name) if a.options.symbol is not None and isinstance(name, str) else None


def _user_symbol(a: Analyser, name: str) -> tuple[int, int] | None:
    """Address and size of a symbol in the traced executable."""
    targets = a.group.targets
    path = targets[0].spec.get("path") if targets else None
    if a.options.user_symbol is None or not isinstance(path, str):
        return None
    found = a.options.user_symbol(path, name)
    return found if found[0] else None


def _check_uaddr(a: Analyser, node: ast.Call) -> Type:
    name = _literal(a, node)
    if name is None:
        return UNKNOWN
    found = _user_symbol(a, name)
    if found is None:
        return a.error(
            f"Could not resolve symbol: {name}",
            node.arguments[0].span,
            "uaddr() works in uprobe and usdt probes",
        )
    return pointer(Type("int", found[1] if found[1] in (1, 2, 4, 8) else 8), "user")


def _emit_kaddr(g: Gen, node: ast.Call) -> Value:
    return g.unit.machine_value(g.b, "kaddr", str(evaluate(g.analyser, node.arguments[0])))


def _uaddr(a: Analyser, node: ast.Call) -> int | None:
    if a.options.portable:
        return None
    name = evaluate(a, node.arguments[0])
    found = _user_symbol(a, name) if isinstance(name, str) else None
    return None if found is None else found[0]


def _emit_uaddr(g: Gen, node: ast.Call) -> Value:
    name = str(evaluate(g.analyser, node.arguments[0]))
    return g.unit.machine_value(g.b, "uaddr", g.group.targets[0].spec["path"], name)


def _check_reg(a: Analyser, node: ast.Call) -> Type:
    return UNKNOWN if _literal(a, node) is None else UINT64


def _emit_reg(g: Gen, node: ast.Call) -> Value:
    name = evaluate(g.analyser, node.arguments[0])
    assert isinstance(name, str)
    return g.group.emit_reg(g.b, g.ctx, name)


def _check_ntop(a: Analyser, node: ast.Call) -> Type:
    address = node.arguments[-1]
    if len(node.arguments) == 2:
        a.integer(node.arguments[0], "ntop()'s address family")
    t = a.value(address)
    if t.kind == "unknown":
        return t
    bytes_ = t.kind in ("array", "string") and t.size in (4, 16)
    if (
        not bytes_
        and not is_number(t)
        and t.kind != "pointer"
        and not (t.kind == "record" and t.size in (4, 16))
    ):
        return a.error(
            f"ntop() expects an integer or array argument, got {display(t)}",
            address.span,
            "an array of 4 or 16 bytes, or an IPv4 address as an integer",
        )
    return Type("inet", 20)


def _ntop_into(g: Gen, node: ast.Call, ptr: Value, offset: int, _: Type, pad: bool) -> None:
    b = g.b
    address = node.arguments[-1]
    t = type_of(address)
    in_memory = t.kind in ("array", "string", "record")
    wide = in_memory and t.size == 16
    if len(node.arguments) == 2:
        b.store(ptr, offset, 4, g.value(node.arguments[0]))
    else:
        b.store(ptr, offset, 4, AF_INET6 if wide else AF_INET)
    if not wide and pad:
        b.memset(ptr, offset + 8, 0, 12)
    if in_memory:
        g.read(g.place(address), ptr, offset + 4, t.size)
    elif t.kind == "pointer":
        space = t.name or g.group.address_space
        g.read(Place(g.value(address), 0, space), ptr, offset + 4, 16 if pad else 4)
    else:
        b.store(ptr, offset + 4, 4, g.value(address))


def _packed(a: Analyser, node: ast.Call) -> bytes | None:
    import socket

    text = _literal(a, node)
    if text is None:
        return None
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except OSError:
        a.error(f"pton() expects an IPv4/IPv6 address, got '{text}'", node.arguments[0].span)
        return None


def _check_pton(a: Analyser, node: ast.Call) -> Type:
    data = _packed(a, node)
    return UNKNOWN if data is None else Type("array", len(data), element=UINT8, number=len(data))


def _pton_place(g: Gen, node: ast.Call) -> Place:
    data = _packed(g.analyser, node)
    assert data is not None
    return Place(g.b.data_ref(RODATA, g.unit.constant(data)))


def _check_macaddr(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    if t.kind == "unknown":
        return t
    if t.kind not in ("pointer", "int") and not (t.kind in ("array", "string") and t.size >= 6):
        return a.error(
            f"macaddr() only supports array or pointer arguments ({display(t)} provided)",
            node.arguments[0].span,
        )
    return Type("mac", 6)


def _macaddr_into(g: Gen, node: ast.Call, ptr: Value, offset: int, _: Type, __: bool) -> None:
    first = node.arguments[0]
    t = type_of(first)
    if t.kind in ("array", "string"):
        g.read(g.place(first), ptr, offset, 6)
    else:
        space = (t.name if t.kind == "pointer" else "") or g.group.address_space
        g.read(Place(g.value(first), 0, space), ptr, offset, 6)


def _check_space(a: Analyser, node: ast.Call) -> Type:
    t = a.value(node.arguments[0])
    space = "user" if node.name == "uptr" else "kernel"
    if t.kind == "pointer":
        return t._replace(name=space)
    if t.kind == "int":
        return pointer(Type("none"), space)
    return (
        t
        if t.kind == "unknown"
        else a.error(
            f"{node.name}() only supports pointer arguments ({display(t)} provided)", node.arguments[0].span
        )
    )


def _check_cgroupid(a: Analyser, node: ast.Call) -> Type:
    path = _literal(a, node)
    if path is None:
        return UNKNOWN
    if _cgroup(path) is None:
        return a.error(f"cgroup '{path}' does not exist", node.arguments[0].span)
    return UINT64


def _cgroupid(a: Analyser, node: ast.Call) -> int | None:
    path = evaluate(a, node.arguments[0])
    return _cgroup(path) if isinstance(path, str) and not a.options.portable else None


def _emit_cgroupid(g: Gen, node: ast.Call) -> Value:
    return g.unit.machine_value(g.b, "cgroupid", str(evaluate(g.analyser, node.arguments[0])))


def _cgroup(path: str) -> int | None:
    try:
        # A cgroup's id is its directory's inode number, on 64-bit machines.
        return os.stat(path).st_ino
    except OSError:
        return None


def _check_cgroup_path(a: Analyser, node: ast.Call) -> Type:
    a.integer(node.arguments[0], "cgroup_path()'s id")
    text: str | None = "*"
    if len(node.arguments) > 1:
        text = _literal(a, node, 1)
    return UNKNOWN if text is None else Type("cgroup_path", 8, number=a.text(text))


def _check_strerror(a: Analyser, node: ast.Call) -> Type:
    a.integer(node.arguments[0], "strerror()'s error number")
    return Type("strerror", 4, signed=True)


FUNCTIONS = table(
    Function("ksym", 1, 1, _check_ksym, _emit_first, usage="ksym(address)"),
    Function("usym", 1, 1, _check_usym, into=_usym_into, usage="usym(address)"),
    Function("kaddr", 1, 1, _check_kaddr, _emit_kaddr, constant=_kaddr, usage='kaddr("symbol")'),
    Function("uaddr", 1, 1, _check_uaddr, _emit_uaddr, constant=_uaddr, usage='uaddr("symbol")'),
    Function("reg", 1, 1, _check_reg, _emit_reg, usage='reg("name")'),
    Function("ntop", 1, 2, _check_ntop, into=_ntop_into, usage="ntop([family, ]address)"),
    Function("pton", 1, 1, _check_pton, place=_pton_place, usage='pton("address")'),
    Function("macaddr", 1, 1, _check_macaddr, into=_macaddr_into, usage="macaddr(array)"),
    Function("kptr", 1, 1, _check_space, _emit_first, usage="kptr(pointer)"),
    Function("uptr", 1, 1, _check_space, _emit_first, usage="uptr(pointer)"),
    Function("cgroupid", 1, 1, _check_cgroupid, _emit_cgroupid, constant=_cgroupid, usage='cgroupid("path")'),
    Function("cgroup_path", 1, 2, _check_cgroup_path, _emit_first, usage='cgroup_path(id[, "filter"])'),
    Function("strerror", 1, 1, _check_strerror, _emit_first, usage="strerror(number)"),
)
