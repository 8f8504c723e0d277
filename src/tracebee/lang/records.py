"""The C types a script can name: the kernel's, from BTF, and its own definitions.

A kernel record's Type carries no fields (``struct task_struct`` has hundreds); ``member`` finds one,
``complete`` fills all in, for what has to be printed. Its ``number`` is its BTF id.
"""

from __future__ import annotations

from tracebee.btf import kinds
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.lang.types import (
    BOOL,
    INT8,
    INT16,
    INT32,
    INT64,
    NONE,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Type,
    TypeField,
    pointer,
    string,
)
from tracebee.lang.unify import smallest
from tracebee.typed import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.btf.reader import Btf


class Definitions(Protocol):
    """The script's own C definitions (``lang.cdefs``). Names are as C writes them: ``struct s``."""

    def type(self, name: str) -> Type | None:
        """A struct, union (with fields), enum or typedef, None when the script defines no such."""

    def constant(self, name: str) -> tuple[int, Type] | None:
        """Value and type of an enumerator or of an integer ``#define``."""


# What C and bpftrace call integers, without looking anything up.
INTEGERS: dict[str, Type] = {
    "bool": BOOL,
    "_Bool": BOOL,
    "void": NONE,
    **dict.fromkeys(("int8", "int8_t", "s8", "__s8", "char", "signed char"), INT8),
    **dict.fromkeys(("int16", "int16_t", "s16", "__s16", "short", "short int", "signed short"), INT16),
    **dict.fromkeys(("int32", "int32_t", "s32", "__s32", "int", "signed int", "signed", "pid_t"), INT32),
    **dict.fromkeys(
        ("int64", "int64_t", "s64", "__s64", "long", "long long", "long int", "long long int", "ssize_t"),
        INT64,
    ),
    **dict.fromkeys(("uint8", "uint8_t", "u8", "__u8", "unsigned char"), UINT8),
    **dict.fromkeys(("uint16", "uint16_t", "u16", "__u16", "unsigned short", "unsigned short int"), UINT16),
    **dict.fromkeys(("uint32", "uint32_t", "u32", "__u32", "unsigned int", "unsigned"), UINT32),
    **dict.fromkeys(
        (
            "uint64", "uint64_t", "u64", "__u64", "unsigned long", "unsigned long long", "unsigned long int",
            "unsigned long long int", "size_t", "uintptr_t",
        ),
        UINT64,
    ),
}  # fmt: skip


class Records:
    """Looks C types up. ``btf`` is called when the script first needs a kernel type, not before."""

    def __init__(self, btf: Callable[[], Btf], definitions: Definitions | None = None) -> None:
        self._open = btf
        self._btf: Btf | None = None
        self.definitions = definitions
        self._converted: dict[tuple[int, str], Type] = {}

    @property
    def btf(self) -> Btf:
        """The kernel's BTF, opened on first use; raises UnsupportedError when there is none."""
        if self._btf is None:
            self._btf = self._open()
        return self._btf

    def named(self, name: str) -> Type | None:
        """A type by its C name, None when there is none (or no BTF to ask)."""
        if self.definitions is not None:
            found = self.definitions.type(name)
            if found is not None:
                return found
        plain = INTEGERS.get(name)
        if plain is not None:
            return plain
        try:
            return self.from_btf(self.btf.find(name))
        except SymbolError:
            return self._without_keyword(name)
        except UnsupportedError:
            return None

    def _without_keyword(self, name: str) -> Type | None:
        """``struct x`` where x is a typedef of an anonymous record."""
        keyword, _, plain = name.rpartition(" ")
        if keyword not in ("struct", "union", "enum"):
            return None
        try:
            found = self.from_btf(self.btf.find(plain))
        except SymbolError:
            return None
        return found if found.kind in ("record", "enum") else None

    def near(self, name: str) -> Sequence[str]:
        """Names like one that is not there."""
        try:
            self.btf.find(name)
        except SymbolError as error:
            return error.candidates
        except UnsupportedError:
            return ()
        return ()

    def constant(self, name: str) -> tuple[int, Type] | None:
        """An enumerator (or ``#define``) by name: its value and type."""
        if self.definitions is not None:
            found = self.definitions.constant(name)
            if found is not None:
                return found
        try:
            value, enum_id = self.btf.enumerator(name)
        except (SymbolError, UnsupportedError):
            from tracebee.lang.header_constants import header_constant

            known = header_constant(name)
            return None if known is None else (known, smallest(known))
        return value, self.from_btf(enum_id)

    def enumerators(self, enum: Type) -> list[tuple[int, str]]:
        """Values and names of an enumeration's members."""
        if not enum.number:
            return [(f.offset, f.name) for f in enum.fields]
        return [(e.value, e.name) for e in self.btf.enumerators(enum.number)]

    def from_btf(self, type_id: int, space: str = "kernel") -> Type:
        """A BTF type as a script type. Pointers point into ``space`` unless tagged ``__user``."""
        key = (type_id, space)
        found = self._converted.get(key)
        if found is None:
            found = self._converted[key] = self._convert(type_id, space)
        return found

    def _convert(self, type_id: int, space: str) -> Type:
        btf = self.btf
        real = btf.resolve(type_id)
        t = btf.type(real)
        kind = t.kind
        if kind == kinds.BTF_KIND_INT:
            if t.encoding & kinds.BTF_INT_BOOL:
                return BOOL
            return Type(
                "int", min(t.size, 8), signed=bool(t.encoding & kinds.BTF_INT_SIGNED) or t.name == "char"
            )
        if kind == kinds.BTF_KIND_PTR:
            user = "user" in btf.type_tags(t.type_id) or "user" in btf.type_tags(type_id)
            return pointer(self._pointee(t.type_id), "user" if user else space)
        if kind in (kinds.BTF_KIND_STRUCT, kinds.BTF_KIND_UNION):
            keyword = "union" if kind == kinds.BTF_KIND_UNION else "struct"
            return Type("record", t.size, name=f"{keyword} {t.name}" if t.name else "", number=real)
        if kind in (kinds.BTF_KIND_ENUM, kinds.BTF_KIND_ENUM64):
            return Type("enum", t.size, signed=t.flag, name=f"enum {t.name}" if t.name else "", number=real)
        if kind == kinds.BTF_KIND_ARRAY:
            element = btf.type(btf.resolve(t.type_id))
            if element.kind == kinds.BTF_KIND_INT and element.name == "char":
                return string(t.nelems)
            inner = self.from_btf(t.type_id, space)
            return Type("array", inner.size * t.nelems, element=inner, number=t.nelems)
        if kind == kinds.BTF_KIND_FWD:
            return Type("record", 0, name=f"{'union' if t.flag else 'struct'} {t.name}")
        return NONE

    def _pointee(self, type_id: int) -> Type:
        """What a pointer points at; a pointer in it is not followed further than its own kind."""
        btf = self.btf
        t = btf.type(btf.resolve(type_id))
        if t.kind == kinds.BTF_KIND_FUNC_PROTO:
            return NONE
        if t.kind == kinds.BTF_KIND_INT and t.name == "char":
            return INT8
        if t.kind == kinds.BTF_KIND_FWD:
            return self._defined(t.name, union=t.flag)
        return self.from_btf(type_id)

    def _defined(self, name: str, *, union: bool) -> Type:
        """The full record behind a forward declaration, where BTF has it."""
        c_name = f"{'union' if union else 'struct'} {name}"
        try:
            return self.from_btf(self.btf.struct(c_name).id)
        except SymbolError:
            return Type("record", 0, name=c_name)

    def resolve(self, record: Type) -> Type:
        """A record that a type only names (a pointer's target) with its size, where it is known."""
        if record.kind != "record" or record.fields or record.number or not record.name:
            return record
        return self.named(record.name) or record

    def is_kernel(self, record: Type) -> bool:
        """Whether a record's offsets depend on the running kernel."""
        return record.kind == "record" and not record.fields

    def member(self, record: Type, name: str) -> TypeField | None:
        """A member of a record, also of anonymous ones inside; offsets from the record's start."""
        if record.fields or not record.number:
            return next((f for f in record.fields if f.name == name), None)
        try:
            found = self.btf.member_path(record.number, name)
        except SymbolError:
            return None
        t = self.from_btf(found.type_id)
        if found.bit_size:
            return TypeField(name, t, found.bit_offset // 8, found.bit_offset, found.bit_size)
        return TypeField(name, t, found.bit_offset // 8)

    def leads_to_struct(self, record: Type, name: str) -> bool:
        """Whether a member is a plain pointer to a struct, as the verifier follows them."""
        if not record.number or record.fields:
            return False
        btf = self.btf
        try:
            found = btf.member_path(record.number, name)
        except SymbolError:
            return False
        t = btf.type(btf.resolve(found.type_id))
        if t.kind != kinds.BTF_KIND_PTR or btf.type_tags(t.type_id):
            return False
        return btf.type(btf.resolve(t.type_id)).kind == kinds.BTF_KIND_STRUCT

    def member_names(self, record: Type) -> list[str]:
        """The names of a record's members."""
        if record.fields or not record.number:
            return [f.name for f in record.fields]
        return [f.name for f in self.btf.fields(record.number)]

    def complete(self, t: Type, depth: int = 8) -> Type:
        """The type with the fields of every record in it (pointers are not followed)."""
        if t.kind == "record" and not t.fields and t.number and depth:
            fields = []
            for f in self.btf.fields(t.number):
                inner = self.complete(self.from_btf(f.type_id), depth - 1)
                bits = (f.bit_offset, f.bit_size) if f.bit_size else (0, 0)
                fields.append(TypeField(f.name, _without_target(inner), f.bit_offset // 8, *bits))
            return t._replace(fields=tuple(fields))
        if t.kind in ("record", "tuple") and t.fields:
            return t._replace(
                fields=tuple(
                    f._replace(type=_without_target(self.complete(f.type, depth - 1))) for f in t.fields
                )
            )
        if t.kind == "array" and t.element is not None:
            return t._replace(element=self.complete(t.element, depth - 1))
        return t


def _without_target(t: Type) -> Type:
    """A pointer for printing: what it points at does not matter then."""
    return t._replace(element=None) if t.kind == "pointer" else t
