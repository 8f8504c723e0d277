"""struct_ops variables of an object file from Python: kernel structs whose functions are programs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from tracebee.errors import SymbolError, UsageError

if TYPE_CHECKING:
    from tracebee.api.objects import Object
    from tracebee.obj import model


class StructOpsVariable(MutableMapping[str, Any]):
    """The members of a struct_ops variable by name: values as in ``Variables``, programs by their names.

    They may be set before loading; a member that is a function takes None for no program.
    """

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

    @property
    def definition(self) -> model.StructOps:
        """The variable as it is now."""
        return next(s for s in self._owner.definition.struct_ops if s.map == self.name)

    @property
    def autoload(self) -> bool:
        """Whether ``load`` makes it, and loads its programs: by default not in ``?.struct_ops`` sections."""
        return self.name not in self._owner.not_made

    @autoload.setter
    def autoload(self, value: bool) -> None:
        self._owner.before_loading(f"change '{self.name}'")
        (self._owner.not_made.discard if value else self._owner.not_made.add)(self.name)

    def __getitem__(self, name: str) -> Any:
        from tracebee.obj.variables import decode_value

        offset, size, type_id = self._place(name)
        if self._is_function(type_id):
            return dict(self.definition.members).get(offset)
        return decode_value(self._owner.btf, type_id, self.definition.data[offset : offset + size])

    def __setitem__(self, name: str, value: Any) -> None:
        from tracebee.obj.variables import encode_value

        owner, definition = self._owner, self.definition
        owner.before_loading(f"change '{self.name}'")
        offset, size, type_id = self._place(name)
        replaced: str | None = None
        if self._is_function(type_id):
            replaced = dict(definition.members).get(offset)
            members = {o: n for o, n in definition.members if o != offset}
            if value is not None:
                members[offset] = owner.programs[str(value)].name
            changed = definition._replace(members=tuple(sorted(members.items())))
        else:
            data = bytearray(definition.data)
            data[offset : offset + size] = encode_value(
                owner.btf, type_id, value, size, f"{self.name}.{name}"
            )
            changed = definition._replace(data=bytes(data))
        owner.definition = owner.definition._replace(
            struct_ops=tuple(changed if s.map == self.name else s for s in owner.definition.struct_ops)
        )
        used = {n for s in owner.definition.struct_ops for _, n in s.members}
        if replaced is not None and replaced not in used:
            owner.programs[replaced].autoload = False  # the kernel takes it only as what it was

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"member '{name}' of '{self.name}' cannot be deleted", hint="a function may be None")

    def __iter__(self) -> Iterator[str]:
        return (member.name for member in self._owner.btf.struct(self.definition.type_id).members)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _place(self, name: str) -> tuple[int, int, int]:
        """(offset, size, type) of a member."""
        btf = self._owner.btf
        for member in btf.struct(self.definition.type_id).members:
            if member.name == name:
                return member.bit_offset // 8, btf.size(member.type_id), member.type_id
        raise SymbolError(f"struct {self.definition.type_name} has no member '{name}'", list(self))

    def _is_function(self, type_id: int) -> bool:
        from tracebee.btf.kinds import BTF_KIND_FUNC_PROTO, BTF_KIND_PTR

        btf = self._owner.btf
        record = btf.type(btf.resolve(type_id))
        return (
            record.kind == BTF_KIND_PTR and btf.type(btf.resolve(record.type_id)).kind == BTF_KIND_FUNC_PROTO
        )
