"""A script as an object that can be written to a file, and back: all that the object itself does not say is
JSON in ``Object.metadata``.
"""

from __future__ import annotations

import json

from tracebee.errors import DecodeError
from tracebee.lang.script import Action, Attachment, MapInfo, Script, Target
from tracebee.lang.types import Type
from tracebee.source import Source, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tracebee.obj.model import Object

_VERSION = 2


def to_object(script: Script) -> Object:
    """The script's object, carrying all of the script."""
    parts: dict[str, Any] = {
        "version": _VERSION,
        "attachments": [
            [a.program, a.kind, [list(t) for t in a.targets], list(a.span)] for a in script.attachments
        ],
        "actions": [[a.kind, a.layout.to_json(), a.format, a.args, a.line, a.column] for a in script.actions],
        "maps": [
            [m.name, m.map, None if m.key is None else m.key.to_json(), m.value.to_json(), m.scalar_index]
            for m in script.maps
        ],
        "probe_names": script.probe_names,
        "strings": script.strings,
        "config": script.config,
        "lost_causes": script.lost_causes,
        "text": script.source.text,
        "data_maps": [m.name for m in script.object.maps if m.contents is not None],
    }
    return script.object._replace(metadata=json.dumps(parts, separators=(",", ":")).encode())


def from_object(obj: Object) -> Script:
    """The script an object was made from.

    :raises DecodeError: it was made from none, or by another version of tracebee.
    """
    if not obj.metadata:
        raise DecodeError(
            f"{obj.name} is a BPF object, but was not built from a script",
            hint="load it with 'tracebee prog loadall', or build one with 'tracebee build SCRIPT'",
        )
    try:
        parts = json.loads(obj.metadata)
        if parts["version"] != _VERSION:
            raise DecodeError(f"{obj.name} was built by another version of tracebee: build it again")
        return Script(
            _with_own_names(obj, set(parts["data_maps"])),
            tuple(
                Attachment(program, kind, tuple(Target(*t) for t in targets), Span(*span))
                for program, kind, targets, span in parts["attachments"]
            ),
            tuple(
                Action(kind, Type.from_json(layout), text, args, line, column)
                for kind, layout, text, args, line, column in parts["actions"]
            ),
            tuple(
                MapInfo(
                    name, where, None if key is None else Type.from_json(key), Type.from_json(value), index
                )
                for name, where, key, value, index in parts["maps"]
            ),
            tuple(parts["probe_names"]),
            tuple(parts["strings"]),
            parts["config"],
            tuple(parts["lost_causes"]),
            Source(str(parts["config"].get("source", obj.name)), parts["text"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DecodeError(f"{obj.name}: what it says of its script cannot be read") from error


def _with_own_names(obj: Object, data_maps: set[str]) -> Object:
    """The object with data maps called as in the script: ELF sections need a prefix."""
    names = {}
    for definition in obj.maps:
        plain = definition.name.removeprefix(".rodata.").removeprefix(".data.")
        if plain in data_maps:
            names[definition.name] = plain
    if not names:
        return obj

    def renamed(function: Any) -> Any:
        relocs = tuple(r._replace(symbol=names.get(r.symbol, r.symbol)) for r in function.relocs)
        return function._replace(relocs=relocs)

    return obj._replace(
        maps=tuple(m._replace(name=names.get(m.name, m.name)) for m in obj.maps),
        functions=tuple(renamed(f) for f in obj.functions),
        programs=tuple(p._replace(function=renamed(p.function)) for p in obj.programs),
    )
