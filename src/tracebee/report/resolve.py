"""Values that name something: symbols, probes, times, control groups."""

from __future__ import annotations

import struct

from tracebee.report import fields, names
from tracebee.stacks.text import hexadecimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.types import Type
    from tracebee.report.scene import Scene


def kernel_name(data: bytes, scene: Scene) -> str:
    """What ``ksym`` prints: the symbol without an offset, or the address."""
    (address,) = struct.unpack_from("=Q", data)
    return scene.names.kernel_frame(address).name or hexadecimal(address)


def user_name(data: bytes, scene: Scene) -> str:
    """What ``usym`` prints: the symbol without an offset, or the address."""
    address, tgid, pid = struct.unpack_from("=QII", data)
    return scene.names.user_frame(address, tgid, pid).name or hexadecimal(address)


def timestamp(t: Type, scene: Scene) -> Callable[[bytes], str]:
    """A function from a timestamp value to its text in the format the script gave."""
    unpack, form, clock = struct.Struct("=Q").unpack_from, scene.strings[t.number], t.name
    return lambda data: names.strftime(form, scene.clock.wall(unpack(data)[0], clock))


def control_group(t: Type, scene: Scene) -> Callable[[bytes], str]:
    """A function from a control group's id to its path, of hierarchies the script's pattern names."""
    unpack = struct.Struct("=Q").unpack_from
    pattern = scene.strings[t.number] if scene.strings else ""
    return lambda data: names.control_group(unpack(data)[0], pattern)


def probe(t: Type, scene: Scene) -> Callable[[bytes], str]:
    """A function from a probe's index to its name."""
    number = fields.integer(t)
    return lambda data: scene.probe(number(data))
