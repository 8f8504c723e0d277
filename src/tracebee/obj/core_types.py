"""Local types for relocations that go by names: what clang would have left in the object's BTF.

A script's relocation says ``struct task_struct`` and ``mm.pgd``; an ELF object says a type of its own BTF and
``0:3:1``. For every root type a struct is made that has just the members the relocations name, at the
places they have in the kernel the script was compiled for; loaders match names, not places.
"""

from __future__ import annotations

import re

from tracebee.btf import core_kinds as ck
from tracebee.btf.kinds import (
    BTF_KIND_ARRAY,
    BTF_KIND_FLOAT,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    BTF_KIND_UNION,
    COMPOSITES,
    ENUMS,
    KEYWORDS,
)
from tracebee.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.builder import Builder
    from tracebee.btf.reader import Btf
    from tracebee.obj.model import CoreReloc

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class _Shape:
    """A struct or union being collected: the members wanted of it, by name."""

    def __init__(self, type_id: int) -> None:
        self.type_id = type_id
        self.members: dict[str, tuple[int, int, int]] = {}  # bit offset, bit size, kernel type id
        self.built = 0

    def order(self) -> list[str]:
        """The members as BTF wants them: by rising offset."""
        return sorted(self.members, key=lambda name: self.members[name][0])


class LocalTypes:
    """Makes local types in a builder, from the kernel's.

    Use in two rounds: ``note`` every relocation, then ``locate`` gives the type id and access of each
    (the numbers of members are known only when all are).

    :param kernel: the types the script was compiled against.
    """

    def __init__(self, builder: Builder, kernel: Btf) -> None:
        self.builder, self.kernel = builder, kernel
        self._shapes: dict[int, _Shape] = {}

    def note(self, reloc: CoreReloc) -> None:
        """Collect what a relocation names.

        :raises SymbolError: the kernel has no such type or member.
        """
        if reloc.kind in ck.TYPE_KINDS or reloc.kind in ck.ENUMVAL_KINDS:
            return
        self._walk(reloc)

    def locate(self, reloc: CoreReloc) -> tuple[int, str]:
        """The local type's id, and the access string, of a relocation that was noted."""
        if reloc.kind in ck.ENUMVAL_KINDS:
            return self._enumerator(reloc)
        root = self._root(reloc)
        if reloc.kind in ck.TYPE_KINDS:
            return self._type(root), "0"
        steps = self._walk(reloc)
        return self._type(root), ":".join(str(n) for n in (0, *steps))

    def _root(self, reloc: CoreReloc) -> int:
        keyword = reloc.type_name.partition(" ")[0]
        found = self.kernel.find(reloc.type_name)
        return found if keyword in KEYWORDS else self.kernel.resolve(found)

    def _walk(self, reloc: CoreReloc) -> list[int]:
        """Member and element numbers of an access in the local types, which grow by what is new."""
        kernel = self.kernel
        here = self._root(reloc)
        steps = []
        for name, element in _STEP.findall(reloc.access):
            here = kernel.resolve(here)
            record = kernel.type(here)
            if element:
                if record.kind != BTF_KIND_ARRAY:
                    raise UnsupportedError(
                        f"CO-RE access {reloc.type_name}.{reloc.access}: no array to index"
                    )
                steps.append(int(element))
                here = record.type_id
                continue
            field = kernel.member_path(here, name)
            shape = self._shapes.setdefault(here, _Shape(here))
            shape.members.setdefault(name, (field.bit_offset, field.bit_size, field.type_id))
            steps.append(shape.order().index(name))
            here = field.type_id
        return steps

    def _enumerator(self, reloc: CoreReloc) -> tuple[int, str]:
        type_id = self.kernel.resolve(self.kernel.find(reloc.type_name))
        values = [(e.name, e.value) for e in self.kernel.enumerators(type_id)]
        names = [name for name, _ in values]
        record = self.kernel.type(type_id)
        return self.builder.enum(record.name, values, record.size), str(names.index(reloc.access))

    def _type(self, kernel_id: int) -> int:
        """The local type for a kernel type: as much of it as matching looks at."""
        kernel, b = self.kernel, self.builder
        kernel_id = kernel.resolve(kernel_id)
        record = kernel.type(kernel_id)
        if record.kind in COMPOSITES:
            return self._composite(kernel_id)
        if record.kind == BTF_KIND_PTR:
            return b.ptr(0)  # any pointer matches any other
        if record.kind == BTF_KIND_ARRAY:
            return b.array(self._type(record.type_id), record.nelems)
        if record.kind == BTF_KIND_INT:
            return b.integer(record.name, record.size, encoding=record.encoding, bits=record.bits)
        if record.kind in ENUMS:
            return b.enum(record.name, [(e.name, e.value) for e in record.enumerators[:1]], record.size)
        if record.kind == BTF_KIND_FLOAT:
            return b.floating(record.name, record.size)
        return b.fwd(record.name)

    def _composite(self, kernel_id: int) -> int:
        shape = self._shapes.setdefault(kernel_id, _Shape(kernel_id))
        if not shape.built:
            shape.built = self.builder.reserve()
            record = self.kernel.type(kernel_id)
            places = ((name, shape.members[name]) for name in shape.order())
            members = [(name, self._type(type_id), offset, bits) for name, (offset, bits, type_id) in places]
            make = self.builder.union if record.kind == BTF_KIND_UNION else self.builder.struct
            make(record.name, record.size, members, at=shape.built)
        return shape.built
