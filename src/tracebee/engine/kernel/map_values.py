"""What maps hold by declaration: maps of maps their maps, arrays of programs their programs.

Source: libbpf (``__array(values, ...)`` of ``bpf_helpers.h``).
"""

from __future__ import annotations

import sys

from tracebee import uapi
from tracebee.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program
    from tracebee.obj.model import MapDef

_OF_MAPS = frozenset((uapi.BPF_MAP_TYPE_ARRAY_OF_MAPS, uapi.BPF_MAP_TYPE_HASH_OF_MAPS))


def put_maps(definitions: Iterable[MapDef], find: Callable[[str], Map]) -> None:
    """Put maps into the maps of maps that declare them.

    :param find: a loaded map by name.
    :raises KernelError: the kernel refuses one.
    """
    for definition in definitions:
        if definition.type in _OF_MAPS:
            outer = find(definition.name)
            for index, name in definition.values:
                outer.update(_bytes(index), _bytes(find(name).fd))


def put_programs(
    definitions: Iterable[MapDef], find: Callable[[str], Map], programs: Mapping[str, Program]
) -> None:
    """Put programs, as far as they are loaded, into the arrays that declare them, for tail calls.

    :param find: a loaded map by name.
    :raises KernelError: the kernel refuses one.
    """
    for definition in definitions:
        if definition.type != uapi.BPF_MAP_TYPE_PROG_ARRAY:
            continue
        array = find(definition.name)
        for index, name in definition.values:
            if name not in programs:
                continue
            try:
                array.update(_bytes(index), _bytes(programs[name].fd))
            except KernelError as error:
                message = f"slot {index} of map '{definition.name}' takes no program '{name}'"
                raise KernelError(
                    error.call,
                    error.errno,
                    f"{message}: {error.message}",
                    hint="slots count to max_entries, and all programs of a map are of one type",
                ) from error


def _bytes(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
