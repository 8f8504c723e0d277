"""Named tuples and protocols without the module ``typing``.

Importing ``typing`` and what it needs is a tenth of the command's start; ``typing.NamedTuple`` also compiles
the text of every annotation, which quadruples the time that a class takes. A type checker sees the originals.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:
    # Of what a class statement leaves in its namespace, these are the tuple's own.
    _GIVEN = frozenset({"__module__", "__qualname__", "__annotations__"})

    class _Fields(type):
        """Turns ``class X(NamedTuple)`` with annotated fields into a named tuple with X's methods."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            types = namespace.get("__annotations__", {})
            defaults = [namespace[field] for field in types if field in namespace]
            made = namedtuple(name, types, defaults=defaults, module=namespace["__module__"])
            made.__qualname__ = namespace["__qualname__"]
            made.__annotations__ = types
            for key, value in namespace.items():
                if key not in _GIVEN and key not in types:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """As ``typing.NamedTuple``; the annotations stay text."""

    class Protocol:
        """As ``typing.Protocol``, for the type checker alone."""
