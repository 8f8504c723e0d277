"""Type information that goes with programs: made for an object that has none (its functions' prototypes, its
source lines' text, the keys and values of a script's maps), and the rows that tie it to instructions.

The verifier wants functions' types where callbacks are used, prints source lines in its log, and
``bpftool`` shows lines and maps by them. Source: Documentation/bpf/btf.rst, sections 3.3 and 4.2.
"""

from __future__ import annotations

import struct

from tracebee.btf.builder import Builder
from tracebee.btf.kinds import BTF_FUNC_GLOBAL, BTF_FUNC_STATIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.lang.script import MapInfo
    from tracebee.obj.image import Image
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


def function_rows(image: Image) -> list[tuple[int, int]]:
    """``struct bpf_func_info`` of a program: (instruction slot, BTF id) of each function.

    All or none: the kernel wants one for every function.
    """
    rows = [(slot, f.type_id) for slot, f in image.functions]
    return rows if all(type_id for _, type_id in rows) else []


def line_rows(image: Image, btf: bytes) -> list[tuple[int, int, int, int]]:
    """``struct bpf_line_info`` of a program: (instruction slot, file name, text, line and column).

    The kernel has names and text in the object's BTF: lines whose are not there are left out. It wants a line
    at the start of every function when there are lines at all.
    """
    strings = _strings(btf)
    offsets: dict[str, int] = {}

    def offset(text: str) -> int:
        if text not in offsets:
            word = b"\0" + text.encode("utf-8", "surrogateescape") + b"\0"
            offsets[text] = strings.find(word) + 1 if text else 0
        return offsets[text]

    rows = []
    for line in image.lines:
        file, text = offset(line.file), offset(line.text)
        if file:
            rows.append((image.slots[line.at], file, text, line.line << 10 | min(line.column, 1023)))
    slots = {row[0] for row in rows}
    return rows if all(slot in slots for slot, _ in image.functions) else []


def _strings(btf: bytes) -> bytes:
    """BTF's string section. Opening the types for it would cost a script milliseconds."""
    header_size, _, _, start, size = struct.unpack_from("=5I", btf, 4)  # struct btf_header
    return btf[header_size + start : header_size + start + size]


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
