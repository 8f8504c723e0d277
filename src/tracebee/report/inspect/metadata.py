"""What a program's author says of it: variables named ``bpf_metadata_...`` in its read-only data."""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import kinds
from tracebee.errors import TracebeeError
from tracebee.kernel.map import Map
from tracebee.report.inspect.btf import btf_of
from tracebee.report.inspect.typed import typed_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_PREFIX = "bpf_metadata_"


def metadata(map_ids: Iterable[int]) -> dict[str, Any]:
    """The variables' values by their names behind the prefix; empty where there are none.

    :param map_ids: the program's maps.
    """
    for number in map_ids:
        try:
            with Map.by_id(number) as table:
                if table.type == uapi.BPF_MAP_TYPE_ARRAY and table.name.endswith(".rodata"):
                    return _variables(table)
        except TracebeeError:
            continue  # gone meanwhile, or not ours to read
    return {}


def _variables(table: Map) -> dict[str, Any]:
    info = table.info()
    if not info.btf_id or table.max_entries != 1:
        return {}
    btf = btf_of(info.btf_id)
    section = btf.type(info.btf_value_type_id)
    if section.kind != kinds.BTF_KIND_DATASEC:
        return {}
    wanted = [
        (btf.type(variable.type_id), variable.offset)
        for variable in section.variables
        if btf.type(variable.type_id).name.startswith(_PREFIX)
    ]
    value = (table.lookup(bytes(4)) or b"") if wanted else b""
    return {
        variable.name.removeprefix(_PREFIX): typed_value(btf, variable.type_id, value, 8 * offset)
        for variable, offset in wanted
    }
