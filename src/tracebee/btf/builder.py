"""Writing BTF: types are added one by one, and ``to_bytes`` gives the whole blob.

Imports nothing of the reader: a script's own types, functions and lines are built in a fraction of a
millisecond at every start.
"""

from __future__ import annotations

import struct
import sys

from tracebee.btf import kinds
from tracebee.errors import EncodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_MAX_VLEN = 0xFFFF


class Builder:
    """A growing BTF blob. Methods named after kinds return the id of the type they make; a type equal
    to one already there is not made again, and equal strings are stored once.

    :param order: ``little`` or ``big``: the target's byte order, the host's by default.
    :param base: makes split BTF, whose ids and strings continue those of ``base``.
    """

    def __init__(self, order: str = sys.byteorder, base: Btf | None = None) -> None:
        self._mark = "<" if order == "little" else ">"
        self._base = base
        self.first_id: int = base.end_id if base else 1
        self._first_string = base.end_string if base else 0
        self._types: list[bytes] = []
        self._known: dict[bytes, int] = {}
        self._strings = bytearray() if base else bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}

    @property
    def end_id(self) -> int:
        """The id the next new type gets."""
        return self.first_id + len(self._types)

    def string(self, text: str) -> int:
        """Offset of a string in the string section (line and CO-RE information refer to it)."""
        offset = self._offsets.get(text)
        if offset is None:
            data = text.encode("utf-8", "surrogateescape")
            if b"\0" in data:
                raise EncodeError(f"BTF string {text!r} contains a NUL")
            shared = self._base.string_offsets(text) if self._base else None
            if shared:
                offset = shared[0]
            else:
                offset = self._first_string + len(self._strings)
                self._strings += data + b"\0"
            self._offsets[text] = offset
        return offset

    def keep_strings(self, section: bytes) -> None:
        """Start with another blob's string section: offsets into it stay what they are."""
        self._strings = bytearray(section)
        at = self._first_string
        for text in section[:-1].split(b"\0"):
            self._offsets.setdefault(text.decode("utf-8", "surrogateescape"), at)
            at += len(text) + 1

    # One method for each kind.

    def integer(self, name: str, size: int, *, signed: bool = False, encoding: int = 0, bits: int = 0) -> int:
        """An integer of ``size`` bytes; ``encoding`` adds BTF_INT_CHAR or BTF_INT_BOOL."""
        word = (encoding | (kinds.BTF_INT_SIGNED if signed else 0)) << 24 | (bits or 8 * size)
        return self._add(self._record(kinds.BTF_KIND_INT, name, 0, size, self._pack("I", word)))

    def floating(self, name: str, size: int) -> int:
        """A floating-point type of ``size`` bytes."""
        return self._add(self._record(kinds.BTF_KIND_FLOAT, name, 0, size))

    def ptr(self, type_id: int) -> int:
        """A pointer; to ``void`` for 0."""
        return self._add(self._record(kinds.BTF_KIND_PTR, "", 0, type_id))

    def array(self, element: int, nelems: int, index: int = 0) -> int:
        """An array; ``index`` is the type of its subscripts, a 4-byte unsigned integer by default."""
        index = index or self.integer("__ARRAY_SIZE_TYPE__", 4)
        return self._add(
            self._record(kinds.BTF_KIND_ARRAY, "", 0, 0, self._pack("III", element, index, nelems))
        )

    def struct(self, name: str, size: int, members: Sequence[Sequence[str | int]], at: int = 0) -> int:
        """A struct of ``size`` bytes.

        :param members: (name, type id, offset in bits) or (name, type id, offset, size in bits) each.
        :param at: an id from ``reserve``, when members refer to the struct itself.
        """
        return self._composite(kinds.BTF_KIND_STRUCT, name, size, members, at)

    def union(self, name: str, size: int, members: Sequence[Sequence[str | int]], at: int = 0) -> int:
        """A union of ``size`` bytes; parameters as for ``struct``."""
        return self._composite(kinds.BTF_KIND_UNION, name, size, members, at)

    def enum(self, name: str, values: Sequence[tuple[str, int]], size: int = 4) -> int:
        """An enumeration of ``size`` bytes; values beyond 32 bits make it an ENUM64."""
        signed = any(value < 0 for _, value in values)
        low, high = (-(1 << 31), 1 << 31) if signed else (0, 1 << 32)
        wide = any(not low <= value < high for _, value in values)
        kind = kinds.BTF_KIND_ENUM64 if wide else kinds.BTF_KIND_ENUM
        return self._add(self._enumeration(kind, name, values, 8 if wide else size, signed))

    def fwd(self, name: str, *, union: bool = False) -> int:
        """A struct or union without its definition."""
        return self._add(self._record(kinds.BTF_KIND_FWD, name, 0, 0, flag=union))

    def typedef(self, name: str, type_id: int) -> int:
        """Another name for a type."""
        return self._add(self._record(kinds.BTF_KIND_TYPEDEF, name, 0, type_id))

    def const(self, type_id: int) -> int:
        """``const`` in front of a type."""
        return self._add(self._record(kinds.BTF_KIND_CONST, "", 0, type_id))

    def volatile(self, type_id: int) -> int:
        """``volatile`` in front of a type."""
        return self._add(self._record(kinds.BTF_KIND_VOLATILE, "", 0, type_id))

    def restrict(self, type_id: int) -> int:
        """``restrict`` in front of a type."""
        return self._add(self._record(kinds.BTF_KIND_RESTRICT, "", 0, type_id))

    def type_tag(self, name: str, type_id: int) -> int:
        """A tag such as ``user`` in front of a type."""
        return self._add(self._record(kinds.BTF_KIND_TYPE_TAG, name, 0, type_id))

    def decl_tag(self, name: str, type_id: int, component: int = -1) -> int:
        """A tag on a declaration, or on its member or parameter number ``component``."""
        tail = self._pack("i", component)
        return self._add(self._record(kinds.BTF_KIND_DECL_TAG, name, 0, type_id, tail))

    def func_proto(self, return_id: int, params: Sequence[tuple[str, int]]) -> int:
        """A function's type; a last parameter ``("", 0)`` stands for ``...``."""
        tail = b"".join(self._pack("II", self.string(name), type_id) for name, type_id in params)
        return self._add(self._record(kinds.BTF_KIND_FUNC_PROTO, "", len(params), return_id, tail))

    def func(self, name: str, proto_id: int, linkage: int = kinds.BTF_FUNC_STATIC) -> int:
        """A function."""
        return self._add(self._record(kinds.BTF_KIND_FUNC, name, linkage, proto_id))

    def var(self, name: str, type_id: int, linkage: int = kinds.BTF_VAR_GLOBAL_ALLOCATED) -> int:
        """A variable, to be placed in a data section."""
        tail = self._pack("I", linkage)
        return self._add(self._record(kinds.BTF_KIND_VAR, name, 0, type_id, tail))

    def datasec(self, name: str, size: int, variables: Sequence[tuple[int, int, int]]) -> int:
        """A data section of ``size`` bytes: (variable's id, offset in bytes, size in bytes) each."""
        tail = b"".join(self._pack("III", *row) for row in sorted(variables, key=lambda row: row[1]))
        return self._add(self._record(kinds.BTF_KIND_DATASEC, name, len(variables), size, tail))

    def reserve(self) -> int:
        """An id for a struct or union that is defined later, with ``at``."""
        self._types.append(b"")
        return self.end_id - 1

    def add(self, record: Type) -> int:
        """A type as the reader gives it, its ids being ids here; always a new one."""
        return self._append(self._encode(record))

    def add_all(self, records: Iterable[Type]) -> None:
        """Many types, in order."""
        for record in records:
            self.add(record)

    # Output.

    def to_bytes(self) -> bytes:
        """Header, types and strings.

        :raises EncodeError: a reserved type was never defined.
        """
        if b"" in self._types:
            raise EncodeError(f"BTF type {self.first_id + self._types.index(b'')} was reserved, not defined")
        types = b"".join(self._types)
        header = self._pack(
            "HBBIIIII",
            kinds.BTF_MAGIC,
            kinds.BTF_VERSION,
            0,
            24,
            0,
            len(types),
            len(types),
            len(self._strings),
        )
        return header + types + bytes(self._strings)

    def build(self) -> Btf:
        """The types, readable."""
        from tracebee.btf.reader import Btf

        return Btf.from_bytes(self.to_bytes(), self._base)

    # Encoding.

    def _pack(self, form: str, *values: int) -> bytes:
        try:
            return struct.pack(self._mark + form, *values)
        except struct.error as error:
            raise EncodeError(f"a value does not fit its place in BTF: {error}") from None

    def _record(
        self, kind: int, name: str, vlen: int, size_or_type: int, tail: bytes = b"", *, flag: bool = False
    ) -> bytes:
        if vlen > _MAX_VLEN:
            raise EncodeError(f"BTF type '{name}' has {vlen} members, more than {_MAX_VLEN}")
        info = flag << 31 | kind << 24 | vlen
        return self._pack("III", self.string(name), info, size_or_type) + tail

    def _append(self, data: bytes) -> int:
        self._types.append(data)
        return self.end_id - 1

    def _add(self, data: bytes, at: int = 0) -> int:
        if at:
            if self._types[at - self.first_id]:
                raise EncodeError(f"BTF type {at} is already defined")
            self._types[at - self.first_id] = data
            return at
        known = self._known.get(data)
        if known is None:
            known = self._known[data] = self._append(data)
        return known

    def _composite(
        self, kind: int, name: str, size: int, members: Sequence[Sequence[str | int]], at: int
    ) -> int:
        rows = [(str(m[0]), int(m[1]), int(m[2]), int(m[3]) if len(m) > 3 else 0) for m in members]
        return self._add(self._members(kind, name, size, rows, any(row[3] for row in rows)), at)

    def _members(
        self, kind: int, name: str, size: int, rows: Sequence[tuple[str, int, int, int]], flag: bool
    ) -> bytes:
        tail = b""
        for member, type_id, offset, bits in rows:
            if not 0 <= bits <= (0xFF if flag else 0) or (flag and offset > 0xFFFFFF):
                raise EncodeError(f"bit-field '{member}' does not fit a BTF member")
            tail += self._pack("III", self.string(member), type_id, bits << 24 | offset)
        return self._record(kind, name, len(rows), size, tail, flag=flag)

    def _enumeration(
        self, kind: int, name: str, values: Sequence[tuple[str, int]], size: int, signed: bool
    ) -> bytes:
        if kind == kinds.BTF_KIND_ENUM:
            form = "Ii" if signed else "II"
            tail = b"".join(self._pack(form, self.string(n), v) for n, v in values)
        else:
            form = "IIi" if signed else "III"
            tail = b"".join(self._pack(form, self.string(n), v & 0xFFFFFFFF, v >> 32) for n, v in values)
        return self._record(kind, name, len(values), size, tail, flag=signed)

    def _encode(self, r: Type) -> bytes:
        """Exactly the bytes that the reader would read as ``r``."""
        kind, vlen, size, tail = r.kind, 0, r.type_id, b""
        if kind in kinds.COMPOSITES:
            return self._members(kind, r.name, r.size, r.members, r.flag)
        if kind in kinds.ENUMS:
            return self._enumeration(kind, r.name, r.enumerators, r.size, r.flag)
        if kind == kinds.BTF_KIND_INT:
            size, tail = r.size, self._pack("I", r.encoding << 24 | r.bit_offset << 16 | r.bits)
        elif kind == kinds.BTF_KIND_FLOAT:
            size = r.size
        elif kind == kinds.BTF_KIND_ARRAY:
            size, tail = 0, self._pack("III", r.type_id, r.index_type_id, r.nelems)
        elif kind == kinds.BTF_KIND_FUNC_PROTO:
            vlen = len(r.params)
            tail = b"".join(self._pack("II", self.string(name), type_id) for name, type_id in r.params)
        elif kind == kinds.BTF_KIND_FUNC:
            vlen = r.linkage
        elif kind == kinds.BTF_KIND_VAR:
            tail = self._pack("I", r.linkage)
        elif kind == kinds.BTF_KIND_DATASEC:
            size, vlen = r.size, len(r.variables)
            tail = b"".join(self._pack("III", *row) for row in r.variables)
        elif kind == kinds.BTF_KIND_DECL_TAG:
            tail = self._pack("i", r.component)
        return self._record(kind, r.name, vlen, size, tail, flag=r.flag)
