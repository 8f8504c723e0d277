"""Maps that count stacks, as folded lines or as a flame graph."""

from __future__ import annotations

import struct

from tracebee.report import entries, fields
from tracebee.report.reporter import Reporter
from tracebee.report.values import Style
from tracebee.stacks.fold import frame_text, render
from tracebee.stacks.text import hexadecimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.engine.api import MapReader
    from tracebee.lang.script import MapInfo, Script
    from tracebee.lang.types import Type
    from tracebee.report.reporter import Output
    from tracebee.report.scene import Names, Scene
    from tracebee.stacks.fold import Stack
    from tracebee.stacks.table import StackReader
    from tracebee.symbols.frame import Frame

KERNEL_MARK = "_[k]"  # behind the name of a kernel frame, as other tools have it


class StackReporter(Reporter):
    """Prints the stacks of a script's maps when tracing ends; what the script prints goes to ``err``.

    :param graph: an SVG flame graph; else folded lines.
    """

    def __init__(
        self,
        script: Script,
        maps: Mapping[str, MapReader],
        stacks: StackReader,
        names: Names,
        *,
        out: Output,
        err: Output,
        graph: bool,
    ) -> None:
        super().__init__(script, maps, stacks, names, out=err, err=err)
        self._result = out
        self._graph = graph

    def finish(self) -> None:
        """Print the stacks of all maps whose keys have one."""
        found: dict[Stack, int] = {}
        for name in sorted(self.infos):
            info = self.infos[name]
            for stack, number in stacks_of(info, self.maps[info.map], self.scene).items():
                found[stack] = found.get(stack, 0) + number
        text = render(found)
        if self._graph:
            from tracebee.stacks import svg

            text = svg.render(found, title=" ".join(self.script.probe_names[:3]) or "Flame Graph")
        self._result.write(text.encode("utf-8", "surrogateescape"))
        self._result.flush()


def stacks_of(info: MapInfo, reader: MapReader, scene: Scene) -> dict[Stack, int]:
    """The stacks in a map's keys with their numbers: nothing when its keys have no stack, or its values
    are no numbers. Other parts of a key are frames below the stack.
    """
    if info.key is None:
        return {}
    parts = [(fields.member(f), f.type) for f in info.key.fields] if info.key.kind == "tuple" else []
    parts = parts or [(bytes, info.key)]
    kinds = {t.kind for _, t in parts}
    if not kinds & {"kstack", "ustack"}:
        return {}
    # From the root: what is no stack, the user's frames, the kernel's, which they called.
    parts.sort(key=lambda part: _ORDER.get(part[1].kind, 0))
    frames = [(cut, _frames(t, scene)) for cut, t in parts]
    found: dict[Stack, int] = {}
    for entry in entries.read(info, reader):
        number = entries.number(info.value, entry.value)
        if number:
            stack = tuple([frame for cut, read in frames for frame in read(cut(entry.key))])
            found[stack] = found.get(stack, 0) + number
    return found


_ORDER = {"ustack": 1, "kstack": 2}


def _frames(t: Type, scene: Scene) -> Callable[[bytes], list[str]]:
    """A function from a part of a key to its frames, from the root."""
    if t.kind == "kstack":
        unpack = struct.Struct("=q").unpack_from
        return lambda data: _named(scene.kernel_stack(unpack(data)[0], t.number), KERNEL_MARK)
    if t.kind == "ustack":
        key = struct.Struct("=qII").unpack_from

        def user(data: bytes) -> list[str]:
            stack_id, tgid, pid = key(data)
            return _named(scene.user_stack(stack_id, t.number, tgid, pid), "")

        return user
    write = Style(scene).writer(t)
    return lambda data: [frame_text(write(data))]


def _named(frames: list[Frame], mark: str) -> list[str]:
    return [frame_text((frame.name or hexadecimal(frame.address)) + mark) for frame in reversed(frames)]
