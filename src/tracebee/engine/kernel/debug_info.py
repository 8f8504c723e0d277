"""Type information for an object that has none: its functions' prototypes, and its source lines' text.

The verifier wants functions' types where callbacks are used, prints source lines in its log, and
``bpftool prog dump`` shows them. Source: Documentation/bpf/btf.rst, sections 3.3 and 4.2.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.btf.kinds import BTF_INT_SIGNED, BTF_KIND_FUNC, BTF_KIND_FUNC_PROTO, BTF_KIND_INT, BTF_MAGIC

if TYPE_CHECKING:
    from tracebee.obj.model import Function, Object

_LONG = 1  # type id of the only integer type
_STATIC, _GLOBAL = 0, 1


def with_debug_info(obj: Object) -> Object:
    """The object with BTF for its functions and lines; itself when it has BTF already.

    All parameters and results are 64-bit integers: that is all the verifier has to know of them.
    """
    if obj.btf:
        return obj
    types = _Types()
    functions = tuple(types.function(f, is_static=not f.is_global) for f in obj.functions)
    programs = tuple(p._replace(function=types.function(p.function, is_static=False)) for p in obj.programs)
    return obj._replace(btf=types.data(), functions=functions, programs=programs)


class _Types:
    def __init__(self) -> None:
        self._offsets: dict[str, int] = {"": 0}
        self._texts = [b"\0"]
        self._text_size = 1
        self._types = [struct.pack("=IIII", self._string("long"), _head(BTF_KIND_INT, 0), 8, _signed(64))]
        self._prototypes: dict[int, int] = {}

    def function(self, function: Function, *, is_static: bool) -> Function:
        linkage = _STATIC if is_static else _GLOBAL
        name = self._string(_identifier(function.name))
        prototype = self._prototype(function.args)
        self._types.append(struct.pack("=III", name, _head(BTF_KIND_FUNC, linkage), prototype))
        for line in function.lines:
            self._string(line.file)
            self._string(line.text)
        return function._replace(type_id=len(self._types))

    def _prototype(self, args: int) -> int:
        found = self._prototypes.get(args)
        if found is None:
            params = b"".join(struct.pack("=II", self._string(f"a{i}"), _LONG) for i in range(args))
            self._types.append(struct.pack("=III", 0, _head(BTF_KIND_FUNC_PROTO, args), _LONG) + params)
            found = self._prototypes[args] = len(self._types)
        return found

    def _string(self, text: str) -> int:
        found = self._offsets.get(text)
        if found is None:
            data = text.encode("utf-8", "surrogateescape") + b"\0"
            found = self._offsets[text] = self._text_size
            self._texts.append(data)
            self._text_size += len(data)
        return found

    def data(self) -> bytes:
        body, text = b"".join(self._types), b"".join(self._texts)
        return struct.pack("=HBBIIIII", BTF_MAGIC, 1, 0, 24, 0, len(body), len(body), len(text)) + body + text


def _head(kind: int, vlen: int) -> int:
    return kind << 24 | vlen


def _signed(bits: int) -> int:
    return BTF_INT_SIGNED << 24 | bits


def _identifier(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
