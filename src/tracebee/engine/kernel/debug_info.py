"""Type information for an object that has none: its functions' prototypes, its source lines' text, and the
keys and values of a script's maps.

The verifier wants functions' types where callbacks are used, prints source lines in its log, and
``bpftool`` shows lines and maps by them. Source: Documentation/bpf/btf.rst, sections 3.3 and 4.2.
"""

from __future__ import annotations

from tracebee.btf.builder import Builder
from tracebee.btf.kinds import BTF_FUNC_GLOBAL, BTF_FUNC_STATIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.lang.script import MapInfo
    from tracebee.obj.model import Function, Object


def with_debug_info(obj: Object, maps: Iterable[MapInfo] = ()) -> Object:
    """The object with BTF for its functions, lines and maps; itself when it has BTF already.

    All parameters and results of functions are 64-bit integers: that is all the verifier has to know.

    :param maps: the variables of a script, which say what its maps hold.
    """
    if obj.btf:
        return obj
    types = Builder()
    functions = tuple(_typed(types, f, is_static=not f.is_global) for f in obj.functions)
    programs = tuple(p._replace(function=_typed(types, p.function, is_static=False)) for p in obj.programs)
    definitions = obj.maps
    if maps:
        from tracebee.lang.value_btf import MapTypes  # most short scripts have no maps

        definitions = MapTypes(types).typed(definitions, maps)
    return obj._replace(btf=types.to_bytes(), functions=functions, programs=programs, maps=definitions)


def _typed(types: Builder, function: Function, *, is_static: bool) -> Function:
    integer = types.integer("long", 8, signed=True)
    prototype = types.func_proto(integer, [(f"a{i}", integer) for i in range(function.args)])
    linkage = BTF_FUNC_STATIC if is_static else BTF_FUNC_GLOBAL
    for line in function.lines:
        types.string(line.file)
        types.string(line.text)
    return function._replace(type_id=types.func(_identifier(function.name), prototype, linkage))


def _identifier(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
