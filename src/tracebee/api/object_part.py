"""What maps and programs of an object have in common: a definition that may be changed until loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from typing import Self

    from tracebee.api.objects import Object

D = TypeVar("D")
T = TypeVar("T")


class Part(Generic[D]):
    """A map or program of an object, by its name; ``definition`` is a ``D``."""

    # What an error calls it, and the field of ``obj.model.Object`` that has its definition.
    kind: ClassVar[str]
    field: ClassVar[str]

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

    @property
    def definition(self) -> D:
        """What is, or will be, loaded."""
        parts: tuple[Any, ...] = getattr(self._owner.definition, self.field)
        found: D = next(part for part in parts if part.name == self.name)
        return found

    def change(self, **fields: Any) -> None:
        """Set fields of the definition.

        :raises UsageError: the object is loaded.
        """
        owner = self._owner
        owner.before_loading(f"change {self.kind} '{self.name}'")
        changed: dict[str, Any] = {
            self.field: tuple(
                part._replace(**fields) if part.name == self.name else part
                for part in getattr(owner.definition, self.field)
            )
        }
        owner.definition = owner.definition._replace(**changed)


class Setting(Generic[T]):
    """An attribute of a Part that is a field of its definition, and may be set before loading."""

    def __init__(self, field: str, doc: str) -> None:
        self._field, self.__doc__ = field, doc

    @overload
    def __get__(self, part: None, kind: type[Part[Any]]) -> Self: ...
    @overload
    def __get__(self, part: Part[Any], kind: type[Part[Any]]) -> T: ...
    def __get__(self, part: Part[Any] | None, kind: type[Part[Any]]) -> Any:
        return self if part is None else getattr(part.definition, self._field)

    def __set__(self, part: Part[Any], value: T) -> None:
        part.change(**{self._field: value})


def loaded_one(things: dict[str, T], name: str) -> T:
    """A program or map that is in the kernel.

    :raises UsageError: it was left out when the object was loaded.
    """
    if name not in things:
        raise UsageError(f"'{name}' was not loaded", hint="set its autoload before load()")
    return things[name]
