"""Maps of kernel structs whose functions are programs: what ``struct_ops show`` and ``dump`` print."""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import kinds
from tracebee.btf.opening import open_vmlinux
from tracebee.errors import KernelError, SymbolError, TracebeeError, UsageError
from tracebee.kernel import choose
from tracebee.kernel.attr import MAP_INFO
from tracebee.kernel.bpf import info_by_fd
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.report.inspect.typed import typed_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PREFIX = "bpf_struct_ops_"
_FIRST = bytes(4)


def struct_ops_maps(how: str = "", value: str = "") -> list[Map]:
    """The struct_ops maps, or those of an ``id`` or ``name``; the caller closes them.

    :raises UsageError: the id is another map's. SymbolError, KernelError: there is none.
    """
    if how == "id":
        table = Map.by_id(int(value))
        if table.type != uapi.BPF_MAP_TYPE_STRUCT_OPS:
            name = table.name
            table.close()
            raise UsageError(f"map {value} ('{name}') is no struct_ops map")
        return [table]
    found = []
    for table in choose.all_maps():
        if table.type == uapi.BPF_MAP_TYPE_STRUCT_OPS and value[:15] in ("", table.name):
            found.append(table)
        else:
            table.close()
    if value and not found:
        hint = "list them: 'tracebee struct_ops'"
        raise SymbolError(f"there is no struct_ops map with the name '{value}'", hint=hint)
    return found


def struct_ops_record(table: Map) -> dict[str, Any]:
    """What a map is, with bpftool's JSON keys."""
    return {"id": table.info().id, "name": table.name, "kernel_struct_ops": kernel_struct(table)}


def struct_ops_text(record: dict[str, Any]) -> str:
    """A record's line."""
    return f"{record['id']}: {record['name']:<15} {record['kernel_struct_ops']}"


def kernel_struct(table: Map) -> str:
    """The name of the kernel's struct that a map holds."""
    return open_vmlinux().type(table.info().btf_vmlinux_value_type_id).name.removeprefix(_PREFIX)


def struct_ops_dump(table: Map) -> list[dict[str, Any]]:
    """A map's description and its value, by the kernel's types; functions with the programs behind them."""
    btf = open_vmlinux()

    def pointer(type_id: int, number: int) -> Any:
        target = btf.type(btf.resolve(type_id)) if type_id else None
        if target is None or target.kind != kinds.BTF_KIND_FUNC_PROTO:
            return number
        return f"{btf.declare(type_id, '')} {_program(number)}"

    info = bytes(info_by_fd(table.fd, MAP_INFO))
    shape = btf.find("struct bpf_map_info")
    value_type = table.info().btf_vmlinux_value_type_id
    value = table.lookup(_FIRST) or bytes(table.value_bytes)
    return [
        {"bpf_map_info": typed_value(btf, shape, info.ljust(btf.size(shape), b"\0"))},
        {btf.type(value_type).name: typed_value(btf, value_type, value, pointer=pointer)},
    ]


def _program(number: int) -> str:
    """A program as a member shows it, by its id; 0 for none."""
    if not number:
        return "0"
    try:
        with Program.by_id(number) as program:
            return f"{choose.name_of(program)}/prog_id:{number}"
    except TracebeeError:
        return f"prog_id:{number}"


def unregister(table: Map) -> None:
    """Take a struct out of the kernel's use.

    :raises UsageError: it is in use by a link, or not at all. KernelError: its subsystem refuses.
    """
    try:
        table.delete(_FIRST)
    except KernelError:
        if table.flags & uapi.BPF_F_LINK:
            raise UsageError(
                f"'{table.name}' is registered by a link",
                hint="'tracebee link' lists it; 'link detach' ends it",
            ) from None
        raise
