"""What the kernel says of a map: ``struct bpf_map_info``."""

from __future__ import annotations

from tracebee.kernel.attr import MAP_INFO
from tracebee.kernel.bpf import info_by_fd
from tracebee.typed import NamedTuple


class MapInfo(NamedTuple):
    """``struct bpf_map_info``, by the kernel's names."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: str
    ifindex: int
    btf_vmlinux_value_type_id: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int
    map_extra: int


def read(fd: int) -> MapInfo:
    """What the kernel says of a map."""
    info = info_by_fd(fd, MAP_INFO)
    values = {name: MAP_INFO.get(info, name) for name in MapInfo._fields}
    values["name"] = values["name"].partition(b"\0")[0].decode()
    return MapInfo(**values)
