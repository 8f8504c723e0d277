"""Global variables of an object file from Python."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.api.objects import Object
    from tracebee.obj import model


class Variables(MutableMapping[str, Any]):
    """Global variables by name: initial values before loading, afterwards the memory that programs share.

    A part of one is named as in C: ``rules[1].port``.
    """

    def __init__(self, owner: Object) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        from tracebee.obj.variables import read_value, split_name

        variable, path = split_name(self._owner.definition, name)
        data = self._contents(variable)[variable.offset : variable.offset + variable.size]
        return read_value(self._owner.btf, variable.type_id, bytes(data), path, name)

    def __setitem__(self, name: str, value: Any) -> None:
        from tracebee.obj.variables import split_name, with_variable, write_value

        owner = self._owner
        if owner.loaded is None:
            owner.definition = with_variable(owner.definition, name, value)
            return
        variable, path = split_name(owner.definition, name)
        if owner.maps[variable.map].definition.frozen:
            raise UsageError(
                f"'{variable.name}' is read-only once {owner.name} is loaded", hint="set it before load()"
            )
        whole = self._contents(variable)
        data = bytearray(whole[variable.offset : variable.offset + variable.size])
        part = write_value(owner.btf, variable.type_id, data, path, value, name)
        # What is not meant is not written: a program may be changing it.
        place = slice(variable.offset + part.start, variable.offset + part.stop)
        if variable.map in owner.loaded.memory:
            owner.loaded.memory[variable.map][place] = bytes(data[part])
            return
        contents = bytearray(whole)
        contents[place] = data[part]
        owner.maps[variable.map].map.update(bytes(4), bytes(contents))

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"variable '{name}' cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(v.name for v in self._owner.definition.variables))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _contents(self, variable: model.Variable) -> bytes | memoryview:
        owner = self._owner
        if owner.loaded is None:
            return owner.maps[variable.map].definition.contents or b""
        if variable.map in owner.loaded.memory:
            return memoryview(owner.loaded.memory[variable.map])
        return owner.maps[variable.map].map.lookup(bytes(4)) or b""
