"""What clang leaves open in an object's BTF, filled in: what the ELF file says, then what the kernel wants.

Data sections get their sizes and their variables' offsets from the ELF file. For the kernel, externs become
variables of a plain type, since it accepts no extern in BTF; a hidden global function becomes static.
Source: what the kernel's ``btf.c`` demands, seen in the objects that libbpf passes to it.
"""

from __future__ import annotations

import struct

from tracebee.btf.kinds import (
    BTF_FUNC_GLOBAL,
    BTF_FUNC_STATIC,
    BTF_KIND_DATASEC,
    BTF_KIND_FUNC,
    BTF_KIND_INT,
    BTF_KIND_VAR,
    BTF_VAR_GLOBAL_ALLOCATED,
    BTF_VAR_GLOBAL_EXTERN,
    BTF_VAR_STATIC,
    HEADER_SIZE,
)
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG, KSYMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf import Btf
    from tracebee.btf.types import Type
    from tracebee.obj.elf_layout import ElfLayout
    from tracebee.obj.model import Extern, Object


def placed_btf(btf: Btf, layout: ElfLayout) -> bytes:
    """An object's BTF with the sizes of its data sections and the places of what lies in them."""
    edit = _Edit(btf)
    for section_id in list(btf.ids(BTF_KIND_DATASEC)):
        section = layout.by_name.get(btf.type(section_id).name)
        if section is not None:
            edit.put(section_id, 8, section.size)
            edit.place(section_id, layout.places(section))
    return bytes(edit.data)


def kernel_btf(obj: Object) -> bytes:
    """An object's BTF as the kernel takes it. Ids and strings stay what they are.

    :raises DecodeError: its data sections do not fit the object.
    """
    hidden = [e.name for e in obj.exports if e.hidden]
    if not obj.externs and not hidden:
        return obj.btf
    from tracebee.btf import Btf

    btf = Btf.from_bytes(obj.btf, name=obj.name)
    edit = _Edit(btf)
    externs = {e.name: e for e in obj.externs}
    for section_id in list(btf.ids(BTF_KIND_DATASEC)):
        record = btf.type(section_id)
        if record.name == KCONFIG:
            edit.kconfig(section_id, record, externs)
        elif record.name == KSYMS:
            edit.ksyms(section_id, record)
    for name in hidden:
        for function in btf.find_all(name, BTF_KIND_FUNC):
            edit.set_vlen(function, BTF_FUNC_STATIC)
    return edit.finish()


class _Edit:
    """BTF edited in place: types keep their ids and their lengths."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.data = bytearray(btf.data)
        self.mark = "<" if btf.order == "little" else ">"
        self._extra_types = b""
        self._extra_count = 0

    def place(self, section_id: int, places: dict[tuple[str, bool], tuple[int, int]]) -> None:
        """Give what lies in a section its (offset, size), by ``ElfLayout.places``; what is only declared has
        none.
        """
        rows = []
        for variable in self.btf.type(section_id).variables:
            record = self.btf.type(variable.type_id)
            known = (variable.offset, variable.size)
            extern = record.linkage == BTF_VAR_GLOBAL_EXTERN
            static = record.linkage == BTF_VAR_STATIC
            offset, size = known if extern else places.get((record.name, static), known)
            rows.append((variable.type_id, offset, variable.size or size))
        # The kernel wants them by rising offset.
        for i, row in enumerate(sorted(rows, key=lambda r: r[1])):
            self._set_row(section_id, i, row)

    def kconfig(self, section_id: int, record: Type, externs: dict[str, Extern]) -> None:
        end = 0
        rows = []
        for variable in record.variables:
            name = self.btf.type(variable.type_id).name
            if name not in externs:
                raise DecodeError(f"{KCONFIG} has a variable '{name}' that is no symbol")
            extern = externs[name]
            rows.append((variable.type_id, extern.offset, extern.size))
            end = max(end, extern.offset + extern.size)
            self.put(variable.type_id, HEADER_SIZE, BTF_VAR_GLOBAL_ALLOCATED)
        self.put(section_id, 8, end)
        for i, row in enumerate(sorted(rows, key=lambda r: r[1])):
            self._set_row(section_id, i, row)

    def _set_row(self, section_id: int, number: int, row: tuple[int, int, int]) -> None:
        if max(row) > 0xFFFFFFFF:
            raise DecodeError(f"{self.btf.type(section_id).name}: a variable does not lie in its section")
        place = self._place(section_id) + HEADER_SIZE + 12 * number
        struct.pack_into(f"{self.mark}III", self.data, place, *row)

    def ksyms(self, section_id: int, record: Type) -> None:
        """Externs of ``.ksyms`` become 4-byte variables of type int; kfuncs become global functions."""
        number = self._int_type()
        for i, variable in enumerate(record.variables):
            extern = self.btf.type(variable.type_id)
            stand_in = variable.type_id
            if extern.kind == BTF_KIND_FUNC:
                self.set_vlen(variable.type_id, BTF_FUNC_GLOBAL)
                self._name_parameters(variable.type_id, extern.type_id)
                stand_in = self._new_variable(extern.name, number)
            else:
                self.put(variable.type_id, 8, number)
                self.put(variable.type_id, HEADER_SIZE, BTF_VAR_GLOBAL_ALLOCATED)
            place = self._place(section_id) + HEADER_SIZE + 12 * i
            struct.pack_into(f"{self.mark}III", self.data, place, stand_in, 4 * i, 4)
        self.put(section_id, 8, 4 * len(record.variables))

    def _name_parameters(self, function_id: int, proto_id: int) -> None:
        """The kernel wants a prototype's parameters named; any identifier in the strings will do."""
        place = self._place(proto_id) + HEADER_SIZE
        (spare,) = struct.unpack_from(f"{self.mark}I", self.data, self._place(function_id))
        for i, param in enumerate(self.btf.type(proto_id).params):
            if param.type_id and not param.name:
                struct.pack_into(f"{self.mark}I", self.data, place + 8 * i, spare)

    def _int_type(self) -> int:
        """A 4-byte integer, which every C object with BTF has."""
        for type_id in self.btf.ids(BTF_KIND_INT):
            if self.btf.type(type_id).size == 4:
                return type_id
        return next(iter(self.btf.ids(BTF_KIND_INT)))

    def _new_variable(self, name: str, type_id: int) -> int:
        (name_offset,) = self.btf.string_offsets(name)[:1]
        info = BTF_KIND_VAR << 24
        self._extra_types += struct.pack(
            f"{self.mark}IIII", name_offset, info, type_id, BTF_VAR_GLOBAL_ALLOCATED
        )
        self._extra_count += 1
        return self.btf.end_id + self._extra_count - 1

    def finish(self) -> bytes:
        """The bytes with the new types between the old ones and the strings."""
        header, type_at, type_size, string_at, string_size = struct.unpack_from(
            f"{self.mark}IIIII", self.data, 4
        )
        types = self.data[header + type_at : header + type_at + type_size] + self._extra_types
        strings = self.data[header + string_at : header + string_at + string_size]
        head = self.data[:8] + struct.pack(f"{self.mark}IIII", 0, len(types), len(types), string_size)
        return bytes(head + types + strings)

    def _place(self, type_id: int) -> int:
        try:
            return self.btf.index.offset(type_id)
        except IndexError:
            raise DecodeError(f"{self.btf.name}: there is no type {type_id}") from None

    def put(self, type_id: int, at: int, value: int) -> None:
        struct.pack_into(f"{self.mark}I", self.data, self._place(type_id) + at, value)

    def set_vlen(self, type_id: int, vlen: int) -> None:
        place = self._place(type_id) + 4
        (info,) = struct.unpack_from(f"{self.mark}I", self.data, place)
        struct.pack_into(f"{self.mark}I", self.data, place, info & ~0xFFFF | vlen)
