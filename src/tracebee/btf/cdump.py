"""All types as a C header that compiles to the same layouts (what ``bpftool btf dump format c`` gives).

A definition needs what it holds by value in front of it, and of what it points to a declaration.
Types are therefore written depth first; a struct that is still being written is forward declared.
Offsets that C's own rules would not give are made with unnamed bit-fields, and structs whose members
are not aligned are packed.
"""

from __future__ import annotations

import re
from functools import cached_property

from tracebee.btf import kinds
from tracebee.btf.corder import in_order
from tracebee.btf.ctext import KEYWORD, Declarator, plain_base
from tracebee.btf.layout import is_packed, real_member
from tracebee.btf.references import references
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracebee.btf.reader import Btf
    from tracebee.btf.types import Type

_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif

#ifndef __weak
#define __weak __attribute__((weak))
#endif
"""
_KFUNCS = """\
/* Kernel functions that programs may call. */
#ifndef BPF_NO_KFUNC_PROTOTYPES
%s#endif

"""
_TAIL = """\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""

# Unnamed bit-fields that fill a gap, by bits.
_FILLERS = ((64, "long long"), (32, "int"), (16, "short"), (8, "char"))
# The mode attribute that gives an enum its size in bytes, where it is not that of int.
_ENUM_MODES = {1: "QI", 2: "HI", 8: "DI"}
_C_BASE_TYPE = re.compile(
    r"((un)?signed|char|short|int|long|_Bool|__int128|float|double|_Float\d+|__bf16|_Complex|complex"
    r"|__ibm128|__float\d+| )+"
)
# Names that compilers define themselves, for each machine in its way: what they stand for is written out.
_BUILT_IN = frozenset({"__builtin_va_list"})
_MAX_DEPTH = 200
# Anonymous structs in one definition: a few that hold one another twice would be written for ever.
_MAX_INNER = 1 << 14
# Bytes between members that are still written out as unnamed bit-fields.
_MAX_GAP = 1 << 20
_KFUNC_TAG = "bpf_kfunc"


def format_c(btf: Btf, ids: Iterable[int] | None = None, *, by_name: bool = True) -> str:
    """The C header of the given types and all that they need; of all types and kfuncs when None.

    :param by_name: all types by name, as ``corder`` has them; otherwise by their ids.
    :raises DecodeError: types that C cannot have, such as a struct that holds itself.
    """
    return Header(btf).text(ids, by_name=by_name)


def attribute(tag: Type) -> str:
    """What makes clang put a type tag there again; one with the kind flag is an attribute of any kind."""
    return f"__attribute__(({tag.name}))" if tag.flag else f'__attribute__((btf_type_tag("{tag.name}")))'


class Header:
    """A header being written. ``names`` has the C name that each named type got, by id, without
    ``struct`` and the like: types of one name are numbered (``name___2``).
    """

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._out: list[str] = []
        self._defined: set[int] = set()
        self._declared: set[int] = set()
        self._open: set[int] = set()
        self._written_enums: set[int] = set()
        self.names: dict[int, str] = {}
        self._taken: dict[tuple[str, str], int] = {}
        self._owners: dict[str, str] = {}  # by tag: what stands before its plain form
        self._declared_tags: dict[tuple[str, str], str] = {}
        self._indent = 0
        self._inner = 0
        self._mentioned: set[int] = set()
        self._declarator = Declarator(btf, self._base, "0", attribute)

    def text(self, ids: Iterable[int] | None, *, by_name: bool = True) -> str:
        """The whole header, for these types and all that they need; for everything when None."""
        try:
            if ids is None:
                every = in_order(self.btf) if by_name else range(1, self.btf.end_id)
                body = "".join([*self._write(every), *self._kfuncs()])
            else:
                body = "".join(self._write(ids))
        except RecursionError:
            raise DecodeError(f"{self.btf.name}: types are nested too deeply") from None
        return f"{_HEAD}\n{body}{_TAIL}"

    def _write(self, ids: Iterable[int]) -> Iterator[str]:
        inner_enums = []
        for type_id in ids:
            record = self.btf.type(type_id)
            if record.kind in KEYWORD and record.name:
                self._complete(type_id, 0)
            elif record.kind in (kinds.BTF_KIND_TYPEDEF, kinds.BTF_KIND_FWD):
                self._mention(type_id, 0)
            elif record.kind in kinds.ENUMS:
                if type_id in self._referred:
                    inner_enums.append(type_id)
                else:
                    self._out.append(f"{self._enum(type_id)};\n\n")
            yield from self._out
            self._out.clear()
        # What refers to them may be a variable, and those are not written.
        yield from (f"{self._enum(i)};\n\n" for i in inner_enums if i not in self._written_enums)

    @cached_property
    def _referred(self) -> set[int]:
        """What other types are made of. An anonymous enum among them is written where it is used."""
        every = (self.btf.type(i) for i in range(1, self.btf.end_id))
        return {other for record in every for other in references(record)}

    def _kfuncs(self) -> Iterator[str]:
        """Declarations of the functions that a tag says programs may call."""
        btf, lines = self.btf, []
        for tag_id in btf.ids(kinds.BTF_KIND_DECL_TAG):
            tag = btf.type(tag_id)
            function = btf.type(tag.type_id)
            if tag.name == _KFUNC_TAG and tag.component < 0 and function.kind == kinds.BTF_KIND_FUNC:
                self._mention(function.type_id, 0)
                text = self._declarator.declare(function.type_id, function.name)
                lines.append(f"extern {text} __weak __ksym;\n")
        yield from self._out
        if lines:
            yield _KFUNCS % "".join(lines)

    # Order.

    def _complete(self, type_id: int, depth: int) -> None:
        """Write what must stand in front of a use of this type by value."""
        if depth > _MAX_DEPTH:
            raise DecodeError(f"{self.btf.name}: type {type_id} is nested too deeply")
        record = self.btf.type(type_id)
        # A typedef may have been written where a declaration of its struct was enough.
        if type_id in self._defined and record.kind != kinds.BTF_KIND_TYPEDEF:
            return
        if record.kind in kinds.COMPOSITES:
            if type_id in self._open:
                raise DecodeError(f"{self.btf.name}: {self.btf.name_of(type_id)} contains itself")
            self._open.add(type_id)
            for member in record.members:
                self._complete(member.type_id, depth + 1)
            self._open.discard(type_id)
            self._defined.add(type_id)
            if record.name:
                self._inner = 0
                self._out.append(f"{self._composite(type_id)};\n\n")
        elif record.kind in kinds.ENUMS:
            if record.name:
                self._defined.add(type_id)
                self._out.append(f"{self._enum(type_id)};\n\n")
        elif record.kind == kinds.BTF_KIND_TYPEDEF:
            self._complete(record.type_id, depth + 1)
            self._typedef(type_id)
        elif record.kind in (kinds.BTF_KIND_PTR, kinds.BTF_KIND_FUNC_PROTO):
            self._mention(type_id, depth)
        elif record.kind == kinds.BTF_KIND_ARRAY or record.kind in kinds.MODIFIERS:
            self._complete(record.type_id, depth + 1)
        else:
            self._foreign_base(type_id, record)

    def _mention(self, type_id: int, depth: int) -> None:
        """Write what must stand in front of a use of this type behind a pointer."""
        if depth > _MAX_DEPTH:
            raise DecodeError(f"{self.btf.name}: type {type_id} is nested too deeply")
        if type_id in self._defined or type_id in self._mentioned:
            return
        record = self.btf.type(type_id)
        if record.kind in kinds.COMPOSITES or record.kind == kinds.BTF_KIND_FWD:
            if record.name:
                self._forward(type_id)
            else:
                self._complete(type_id, depth + 1)
        elif record.kind == kinds.BTF_KIND_TYPEDEF:
            target = self.btf.type(record.type_id)
            if target.kind in kinds.COMPOSITES and target.name:
                self._forward(record.type_id)
            else:
                self._mention(record.type_id, depth + 1)
            self._typedef(type_id)
        elif record.kind == kinds.BTF_KIND_ARRAY:
            self._complete(type_id, depth + 1)
        elif record.kind == kinds.BTF_KIND_FUNC_PROTO:
            for param in record.params:
                self._mention(param.type_id, depth + 1)
            self._mention(record.type_id, depth + 1)
            self._mentioned.add(type_id)
        elif record.kind == kinds.BTF_KIND_PTR or record.kind in kinds.MODIFIERS:
            self._mention(record.type_id, depth + 1)
        else:
            self._complete(type_id, depth)

    def _forward(self, type_id: int) -> None:
        if type_id not in self._declared:
            self._declared.add(type_id)
            text = self._base(type_id) or ""
            if ("fwd", text) not in self._taken:
                self._taken["fwd", text] = 1
                self._out.append(f"{text};\n\n")

    def _typedef(self, type_id: int) -> None:
        if type_id in self._defined:
            return
        self._defined.add(type_id)
        record = self.btf.type(type_id)
        if record.name in _BUILT_IN:
            return
        self._inner = 0
        text = self._declarator.declare(record.type_id, self._name(type_id))
        self._out.append(f"typedef {text};\n\n")

    def _foreign_base(self, type_id: int, record: Type) -> None:
        """An integer whose name C does not know (another language's) gets a typedef."""
        self._defined.add(type_id)
        if record.kind == kinds.BTF_KIND_INT and not _C_BASE_TYPE.fullmatch(record.name):
            sign = "" if record.encoding & kinds.BTF_INT_SIGNED else "unsigned "
            if record.encoding & kinds.BTF_INT_BOOL:
                text = "_Bool"
            elif record.size == 16:
                text = f"{sign}__int128"
            else:
                text = sign + {1: "char", 2: "short", 4: "int", 8: "long long"}.get(record.size, "int")
            self._out.append(f"typedef {text} {self._name(type_id)};\n\n")

    # Names.

    def _name(self, type_id: int) -> str:
        """The type's name, made unique: C has one name space for tags, another for the rest."""
        known = self.names.get(type_id)
        if known is None:
            record = self.btf.type(type_id)
            keyword = KEYWORD.get(record.kind)
            name = self._tag(keyword, record.name) if keyword else self._unique("identifier", record.name)
            known = self.names[type_id] = name
        return known

    def _tag(self, keyword: str, name: str) -> str:
        """A name for a definition; the plain one is taken where a declaration of another kind has it."""
        if self._owners.setdefault(name, keyword) != keyword:
            self._taken.setdefault(("tag", name), 1)
        return self._unique("tag", name)

    def _declared_tag(self, keyword: str, name: str) -> str:
        """A name for a declaration: that of a definition, if there is one of the same kind."""
        if self._owners.setdefault(name, keyword) == keyword:
            return name
        known = self._declared_tags.get((keyword, name))
        if known is None:
            self._taken.setdefault(("tag", name), 1)
            known = self._declared_tags[keyword, name] = self._unique("tag", name)
        return known

    def _unique(self, space: str, name: str) -> str:
        count = self._taken[space, name] = self._taken.get((space, name), 0) + 1
        return name if count == 1 else f"{name}___{count}"

    def _base(self, type_id: int) -> str | None:
        """Text of a base type: unique name, or the whole body when it is anonymous."""
        record = self.btf.type(type_id)
        if record.kind == kinds.BTF_KIND_FWD:
            keyword = "union" if record.flag else "struct"
            return f"{keyword} {self._declared_tag(keyword, record.name)}"
        keyword = KEYWORD.get(record.kind, "")
        if not keyword:
            if record.kind == kinds.BTF_KIND_TYPEDEF:
                return None if record.name in _BUILT_IN else self._name(type_id)
            if record.kind == kinds.BTF_KIND_INT and not _C_BASE_TYPE.fullmatch(record.name):
                return self._name(type_id)
            return plain_base(self.btf, type_id)
        if record.name:
            return f"{keyword} {self._name(type_id)}"
        return self._enum(type_id) if record.kind in kinds.ENUMS else self._composite(type_id)

    # Bodies.

    def _enum(self, type_id: int) -> str:
        record = self.btf.type(type_id)
        self._written_enums.add(type_id)
        head = f"enum {self._name(type_id)}" if record.name else "enum"
        mode = _ENUM_MODES.get(record.size)
        wide = any(not -(1 << 31) <= e.value < 1 << 32 for e in record.enumerators)
        attribute = f" __attribute__((mode({mode})))" if mode and not (record.size == 8 and wide) else ""
        if not record.enumerators:
            return f"{head}{attribute}"
        pad = "\t" * (self._indent + 1)
        suffix = "ULL" if record.kind == kinds.BTF_KIND_ENUM64 and not record.flag else ""
        suffix = "LL" if record.kind == kinds.BTF_KIND_ENUM64 and record.flag else suffix
        lines = []
        for name, value in record.enumerators:
            # C has no literal for the least number: its minus sign is an operator.
            text = f"(-{-value - 1}{suffix} - 1)" if value == -1 << 63 else f"{value}{suffix}"
            lines.append(f"{pad}{self._unique('identifier', name)} = {text},\n")
        return f"{head} {{\n{''.join(lines)}{pad[1:]}}}{attribute}"

    def _composite(self, type_id: int) -> str:
        record = self.btf.type(type_id)
        keyword = KEYWORD[record.kind]
        head = f"{keyword} {self._name(type_id)}" if record.name else keyword
        packed = is_packed(self.btf, type_id)
        self._inner += 1
        if self._inner > _MAX_INNER:
            raise DecodeError(f"{self.btf.name}: type {type_id} is part of a struct of too many structs")
        pad = "\t" * (self._indent + 1)
        self._indent += 1
        align = self.btf.align(type_id)
        lines: list[str] = []
        cursor = 0
        for raw in record.members:
            member = real_member(self.btf, raw)
            if record.kind == kinds.BTF_KIND_STRUCT:
                natural = self._natural(member.type_id, member.bit_size, cursor, packed)
                if member.bit_offset != natural:
                    lines += self._fill(cursor, member.bit_offset, align)
            text = self._declarator.declare(member.type_id, member.name)
            lines.append(f"{text}: {member.bit_size};" if member.bit_size else f"{text};")
            width = member.bit_size or 8 * self.btf.size(member.type_id)
            cursor = max(cursor, member.bit_offset + width)
        attribute = " __attribute__((packed))" if packed else ""
        if -(-cursor // (8 * align)) * align != record.size:
            if record.kind == kinds.BTF_KIND_STRUCT:
                lines += self._fill(cursor, 8 * record.size, align)
            else:
                # Nothing but its alignment can make a union larger than its largest member; pahole may
                # have left a union no member at all.
                lines = lines or ["char: 8;"]
                attribute = f" __attribute__((aligned({record.size & -record.size})))"
        self._indent -= 1
        if not lines:
            return f"{head} {{}}{attribute}"
        body = "".join(f"{pad}{text}\n" for text in lines)
        return f"{head} {{\n{body}{pad[1:]}}}{attribute}"

    def _natural(self, type_id: int, bit_size: int, cursor: int, packed: bool) -> int:
        """Where a compiler puts the next member when nothing stands between."""
        unit = 8 * (self.btf.size(type_id) or 1 if bit_size else self.btf.align(type_id))
        if bit_size:
            crosses = cursor // unit != (cursor + bit_size - 1) // unit
            return cursor if packed or not crosses else -(-cursor // unit) * unit
        if packed:
            unit = 8
        return -(-cursor // unit) * unit

    def _fill(self, cursor: int, end: int, align: int) -> list[str]:
        """Unnamed bit-fields from bit ``cursor`` to ``end``, no wider than the struct is aligned."""
        lines = []
        if end - cursor > 8 * _MAX_GAP:
            raise DecodeError(f"{self.btf.name}: a struct has {(end - cursor) // 8} bytes without members")
        while cursor < end:
            fitting = [
                f for f in _FILLERS if f[0] <= 8 * align and cursor % f[0] == 0 and cursor + f[0] <= end
            ]
            bits, name = fitting[0] if fitting else (min(8 - cursor % 8, end - cursor), "char")
            lines.append(f"{name}: {bits};")
            cursor += bits
        return lines
