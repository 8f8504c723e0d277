"""Reading BTF lazily: a name is searched in the bytes of the string section, then in the type
section (``haystack``), and only the types that are asked for are decoded.
"""

from __future__ import annotations

import struct

from tracebee.btf import kinds
from tracebee.btf.decode import decode
from tracebee.btf.haystack import Haystack
from tracebee.btf.index import Index
from tracebee.btf.types import VOID, Enumerator, Field, Layout, Prototype, Type
from tracebee.errors import DecodeError, SymbolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from typing import Literal

# A chain of typedefs and qualifiers longer than this is a loop (the kernel's MAX_RESOLVE_DEPTH is 32).
_MAX_CHAIN = 64
_NAMED_KINDS = frozenset(range(1, len(kinds.KINDS)))

# What a plain C name means, first match first: a type's name, an incomplete type, then the rest.
_RANKS: dict[int, int] = {
    kinds.BTF_KIND_FWD: 1,
    kinds.BTF_KIND_FUNC: 2,
    kinds.BTF_KIND_VAR: 2,
    kinds.BTF_KIND_DATASEC: 2,
    kinds.BTF_KIND_DECL_TAG: 3,
    kinds.BTF_KIND_TYPE_TAG: 3,
}


class Btf:
    """The types of a kernel, a module or an object file.

    Type ids count from 1 (0 is ``void``); split BTF continues the ids and string offsets of its base.
    Records are ``btf.types.Type``; every method that takes an id raises DecodeError for bytes that are
    not valid BTF and SymbolError for a name that does not exist.

    :param data: a whole BTF blob (header, types, strings), as bytes or mapped memory.
    :param base: what split BTF was split from.
    :param name: what error messages call it.
    :param cache_key: keep the index of these types on disk under this name, which says exactly whose
        types they are.
    """

    def __init__(
        self,
        data: bytes | mmap,
        base: Btf | None = None,
        name: str = "BTF",
        cache_key: str | None = None,
    ) -> None:
        self.data, self.base, self.name = data, base, name
        self._types: dict[int, Type] = {0: VOID}
        self._aligns: dict[int, int] = {}
        self._pointer_size = 0
        self._found: dict[tuple[str, int | None], int] = {}
        type_start, type_end = self._read_header()
        self.first_id: int = base.end_id if base else 1
        self.index = Index(data, type_start, type_end, self.order, self.first_id, cache_key)
        strings, types = (self.str_start, self.str_end), (self.index.start, self.index.end)
        self._haystack = Haystack(data, strings, types, self.order)
        self.end_id: int = self.first_id + self.index.count

    def _read_header(self) -> tuple[int, int]:
        """Set the byte order and the string section's place; return the type section's."""
        data, size = self.data, len(self.data)
        if size < 24:
            raise DecodeError(f"{self.name}: {size} bytes are too few for a BTF header")
        magic = struct.unpack("<H", data[:2])[0]
        if magic not in (kinds.BTF_MAGIC, 0x9FEB):
            raise DecodeError(f"{self.name}: no BTF magic number (0xeb9f) but {magic:#06x}")
        self.order: Literal["little", "big"] = "little" if magic == kinds.BTF_MAGIC else "big"
        self._mark = "<" if magic == kinds.BTF_MAGIC else ">"
        _, version, _, header, type_off, type_len, str_off, str_len = struct.unpack(
            f"{self._mark}HBBIIIII", data[:24]
        )
        if version != kinds.BTF_VERSION:
            raise DecodeError(f"{self.name}: BTF version {version} is not known")
        if header < 24 or header + type_off + type_len > size or header + str_off + str_len > size:
            raise DecodeError(f"{self.name}: BTF sections run over the end of the data")
        if type_off % 4:
            raise DecodeError(f"{self.name}: BTF type section is not aligned to 4 bytes")
        self.str_start, self.str_end = header + str_off, header + str_off + str_len
        if self.base is not None and self.base.order != self.order:
            raise DecodeError(f"{self.name}: byte order differs from its base BTF")
        if (str_len and data[self.str_end - 1]) or (not self.base and (not str_len or data[self.str_start])):
            hint = None if self.base else "a module's types continue vmlinux's and need them as base: -B FILE"
            message = f"{self.name}: BTF string section does not start and end with a NUL"
            raise DecodeError(message, hint=hint)
        self.first_string: int = self.base.end_string if self.base else 0
        self.end_string: int = self.first_string + str_len
        return header + type_off, header + type_off + type_len

    # Opening.

    @classmethod
    def from_bytes(cls, data: bytes, base: Btf | None = None, name: str = "BTF") -> Btf:
        """BTF from the bytes of a ``.BTF`` section; raises DecodeError when they are not that."""
        return cls(data, base, name)

    @classmethod
    def from_file(cls, path: str, base: Btf | None = None) -> Btf:
        """BTF from a file: raw BTF, or an ELF file with a ``.BTF`` section.

        :raises DecodeError: it is neither. OSError when it cannot be read.
        """
        from tracebee.btf.opening import open_file

        return open_file(path, base)

    @classmethod
    def vmlinux(cls) -> Btf:
        """The running kernel's types, opened once; raises UnsupportedError when it has none."""
        from tracebee.btf.opening import open_vmlinux

        return open_vmlinux()

    @classmethod
    def module(cls, name: str) -> Btf:
        """The types of a loaded kernel module, split from vmlinux.

        :raises SymbolError: no such module, or it has no BTF.
        """
        from tracebee.btf.opening import open_module

        return open_module(name)

    # Strings and types by id.

    def string(self, offset: int) -> str:
        """The string at an offset of the string section (of the base's, for low offsets)."""
        if offset < self.first_string:
            assert self.base is not None
            return self.base.string(offset)
        start = self.str_start + offset - self.first_string
        if start >= self.str_end:
            if offset == 0:
                return ""
            raise DecodeError(f"{self.name}: string offset {offset} is outside the string section")
        stop = self.data.find(b"\0", start, self.str_end)
        return self.data[start:stop].decode("utf-8", "surrogateescape")

    def type(self, type_id: int) -> Type:
        """The type with this id, decoded on first use."""
        found = self._types.get(type_id)
        if found is None:
            if type_id < self.first_id and self.base is not None:
                return self.base.type(type_id)
            try:
                offset = self.index.offset(type_id)
            except IndexError:
                raise DecodeError(f"{self.name}: there is no type {type_id}") from None
            found = self._types[type_id] = decode(self.data, offset, self.order, self.string)
        return found

    def types(self) -> Iterator[tuple[int, Type]]:
        """Every type of this BTF (not of its base) with its id, in order. Decodes all: slow."""
        for type_id, offset in self.index.walk():
            yield type_id, decode(self.data, offset, self.order, self.string)

    def ids(self, *wanted: int) -> Iterator[int]:
        """Ids of all types of the wanted kinds, base's first, without decoding them."""
        if self.base is not None:
            yield from self.base.ids(*wanted)
        for type_id, _ in self.index.walk(*wanted):
            yield type_id

    def names(self, *wanted: int) -> Iterator[tuple[str, int]]:
        """Name and id of all named types of the wanted kinds, base's first. For listings: about
        30 ms for vmlinux, plus a microsecond for each name.
        """
        if self.base is not None:
            yield from self.base.names(*wanted)
        data = self.data
        for type_id, offset in self.index.walk(*wanted):
            name_off = int.from_bytes(data[offset : offset + 4], self.order)
            if name_off:
                yield self.string(name_off), type_id

    # Names.

    def string_offsets(self, text: str) -> list[int]:
        """Where the string section holds exactly this string; base's first."""
        offsets = self.base.string_offsets(text) if self.base else []
        return offsets + [self.first_string + at for at in self._haystack.strings(text)]

    def flavours(self, name: str) -> set[str]:
        """Strings that are this name with a flavour (``name___x``), not the base's."""
        from tracebee.btf.core_compat import essential_name

        places = self._haystack.strings_that_begin(f"{name}___")
        found = {self.string(self.first_string + at) for at in places}
        return {text for text in found if essential_name(text) == name}

    def _kind_at(self, offset: int) -> int:
        """The kind in the info word at an offset of the type section."""
        return self.data[offset + (3 if self.order == "little" else 0)] & 0x1F

    def find_all(self, name: str, kind: int | frozenset[int] | None = None) -> list[int]:
        """Ids of all types with this name, base's first, whatever they are or of the wanted kind(s)."""
        wanted = frozenset({kind}) if isinstance(kind, int) else kind or _NAMED_KINDS
        result = self.base.find_all(name, kind) if self.base else []
        own: list[int] = []
        for string_offset in self.string_offsets(name):
            for place in self._haystack.words(string_offset):
                # Most other places are members, whose next word is a type id: its kind reads as 0.
                if place + 8 > self.index.end or self._kind_at(place + 4) not in wanted:
                    continue
                type_id, start = self.index.enclosing(place)
                if start == place:
                    own.append(type_id)
        return result + sorted(own)

    def find(self, name: str, kind: int | None = None) -> int:
        """Id of the type with this C name.

        ``struct x``, ``union x`` and ``enum x`` find that kind of type; a plain name any kind: types
        before functions and variables, and a forward declaration only where there is no more.

        :param kind: BTF_KIND_* that it must be.
        :raises SymbolError: no such type; its candidates are similar names.
        """
        known = self._found.get((name, kind))
        if known is not None:
            return known
        keyword, _, plain = name.rpartition(" ")
        wanted = frozenset({kind}) if kind is not None else kinds.KEYWORDS.get(keyword)
        ids = self.find_all(plain if keyword in kinds.KEYWORDS else name, wanted)
        if not ids and keyword in kinds.KEYWORDS and kind is None:
            ids = self.find_all(plain, frozenset({kinds.BTF_KIND_FWD}))
        if not ids:
            from tracebee.btf.missing import missing_type

            raise missing_type(self, name, wanted)
        best = min(ids, key=lambda i: _RANKS.get(self.type(i).kind, 0))
        self._found[name, kind] = best
        return best

    # What a type is.

    def resolve(self, type_id: int) -> int:
        """The id behind typedefs, qualifiers and type tags (0 for ``void``)."""
        for _ in range(_MAX_CHAIN):
            record = self.type(type_id)
            if record.kind not in kinds.MODIFIERS:
                return type_id
            type_id = record.type_id
        raise DecodeError(f"{self.name}: type {type_id} refers to itself")

    def size(self, type_id: int) -> int:
        """Bytes of a type: what ``sizeof`` gives; 0 for void, functions and incomplete types."""
        from tracebee.btf.layout import size_of

        return size_of(self, type_id)

    def align(self, type_id: int) -> int:
        """Natural alignment in bytes of a type (packing inside structs is not looked at)."""
        from tracebee.btf.layout import align_of

        return align_of(self, type_id, self._aligns)

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer on the machine these types are of: what ``unsigned long`` has."""
        if not self._pointer_size:
            from tracebee.btf.layout import pointer_size

            self._pointer_size = self.base.pointer_size if self.base else pointer_size(self)
        return self._pointer_size

    def struct(self, name: str | int) -> Layout:
        """Layout of a struct or union by C name (``task_struct``, ``struct task_struct``, a typedef
        of one) or by id.

        :raises SymbolError: there is none, or it is declared but not defined.
        """
        from tracebee.btf.layout import layout_of

        return layout_of(self, name)

    def fields(self, struct_id: int) -> tuple[Field, ...]:
        """All named members of a struct or union, those of anonymous members among them."""
        from tracebee.btf.layout import fields_of

        return fields_of(self, struct_id)

    def member_path(self, struct_id: int, path: str) -> Field:
        """The member at a path such as ``se.vruntime`` or ``comm[0]``; anonymous members between are
        gone through.

        :raises SymbolError: no such member, with similar names as candidates.
        """
        from tracebee.btf.layout import member_at

        return member_at(self, struct_id, path)

    def name_of(self, type_id: int) -> str:
        """A type as C writes it: ``struct task_struct *``, ``char[16]``, ``int (*)(void *)``."""
        return self.declare(type_id, "")

    def declare(self, type_id: int, name: str) -> str:
        """A declaration of ``name`` with this type: ``char comm[16]``."""
        from tracebee.btf.ctext import declaration

        return declaration(self, type_id, name)

    # Functions, enumerations, tags.

    def prototype(self, func_id: int) -> Prototype:
        """The prototype behind a FUNC, a FUNC_PROTO, or a pointer or typedef of one."""
        record = self.type(self.resolve(func_id))
        type_id = self.resolve(func_id)
        name = self.type(func_id).name
        for _ in range(3):
            if record.kind == kinds.BTF_KIND_FUNC_PROTO:
                break
            type_id = self.resolve(record.type_id)
            record = self.type(type_id)
        else:
            raise DecodeError(f"{self.name}: type {func_id} is not a function")
        params = record.params
        variadic = bool(params) and params[-1].type_id == 0
        return Prototype(
            name, func_id, type_id, params[:-1] if variadic else params, record.type_id, variadic
        )

    def function(self, name: str) -> Prototype:
        """A function's prototype by name; raises SymbolError with similar names."""
        return self.prototype(self.find(name, kinds.BTF_KIND_FUNC))

    def raw_tracepoint(self, name: str) -> Prototype:
        """What a raw tracepoint passes: ``btf_trace_<name>`` without its first, private, parameter.

        Its ``id`` is what a BTF-enabled raw tracepoint program attaches to. Parameter names come from
        the tracepoint's own functions, as the typedef has none.
        """
        from tracebee.btf.tracepoints import raw_tracepoint

        return raw_tracepoint(self, name)

    def iterator(self, name: str) -> Layout:
        """The context of BPF iterator ``name``: ``struct bpf_iter__<name>``."""
        return self.struct(f"struct bpf_iter__{name}")

    def enumerators(self, name: str | int) -> tuple[Enumerator, ...]:
        """Names and values of an enumeration, by its name (or a typedef's) or id."""
        type_id = self.resolve(self.find(name) if isinstance(name, str) else name)
        record = self.type(type_id)
        if record.kind not in kinds.ENUMS:
            raise SymbolError(f"{self.name_of(type_id)} is not an enumeration")
        return record.enumerators

    def enumerator(self, name: str) -> tuple[int, int]:
        """Value of an enumerator by its name, and the id of the enumeration it is in.

        :raises SymbolError: no enumeration has it.
        """
        for string_offset in self.string_offsets(name):
            for place in self._haystack.words(string_offset):
                type_id, _ = self.index.enclosing(place)
                for found, value in self.type(type_id).enumerators:
                    if found == name:
                        return value, type_id
        if self.base is not None:
            return self.base.enumerator(name)
        raise SymbolError(f"no enumeration has '{name}'")

    def decl_tags(self, type_id: int, component: int = -1) -> list[str]:
        """Declaration tags on a type, or on one of its members or parameters."""
        tags = []
        for place in self._haystack.words(type_id):
            if place - 8 < self.index.start or self._kind_at(place - 4) != kinds.BTF_KIND_DECL_TAG:
                continue
            tag_id, start = self.index.enclosing(place)
            if start == place - 8 and self.type(tag_id).component == component:
                tags.append(self.type(tag_id).name)
        return tags

    def type_tags(self, type_id: int) -> list[str]:
        """Type tags (``user``, ``rcu``, ``percpu``...) among the qualifiers in front of a type."""
        tags = []
        for _ in range(_MAX_CHAIN):
            record = self.type(type_id)
            if record.kind == kinds.BTF_KIND_TYPE_TAG:
                tags.append(record.name)
            elif record.kind not in kinds.MODIFIERS:
                return tags
            type_id = record.type_id
        raise DecodeError(f"{self.name}: type {type_id} refers to itself")
