"""What clang leaves open in an object's BTF, filled in as the kernel wants it.

Data sections get their sizes and their variables' offsets from the ELF file; externs become variables
of a plain type, since the kernel accepts no extern in BTF; a hidden global function becomes static.
Source: what the kernel's ``btf.c`` demands, seen in the objects that libbpf passes to it.
"""

from __future__ import annotations

import struct

from tracebee.btf import Btf
from tracebee.btf.kinds import (
    BTF_FUNC_GLOBAL,
    BTF_FUNC_STATIC,
    BTF_KIND_DATASEC,
    BTF_KIND_FUNC,
    BTF_KIND_INT,
    BTF_KIND_VAR,
    BTF_VAR_GLOBAL_ALLOCATED,
    HEADER_SIZE,
)
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG, KSYMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.btf.types import Type
    from tracebee.obj.elf_layout import ElfLayout
    from tracebee.obj.model import Extern


class BtfFixup:
    """Edits an object's BTF in place: types keep their ids and their lengths."""

    def __init__(self, btf: Btf, layout: ElfLayout) -> None:
        self.btf, self.layout = btf, layout
        self.data = bytearray(btf.data)
        self.mark = layout.elf.order
        self._extra_types = b""
        self._extra_count = 0

    def apply(self, externs: Iterable[Extern], hidden_functions: Iterable[str]) -> bytes:
        """The whole BTF, fixed."""
        offsets = {e.name: e for e in externs}
        for section_id in list(self.btf.ids(BTF_KIND_DATASEC)):
            record = self.btf.type(section_id)
            if record.name == KCONFIG:
                self._kconfig(section_id, record, offsets)
            elif record.name == KSYMS:
                self._ksyms(section_id, record)
            else:
                self._data_section(section_id, record)
        for name in hidden_functions:
            for function in self.btf.find_all(name, BTF_KIND_FUNC):
                self._set_vlen(function, BTF_FUNC_STATIC)
        return self._finish()

    def _data_section(self, section_id: int, record: Type) -> None:
        section = self.layout.by_name.get(record.name)
        if section is None:
            return
        places = self.layout.places(section)
        self._put(section_id, 8, section.size)
        rows = []
        for variable in record.variables:
            name = self.btf.type(variable.type_id).name
            offset, size = places.get(name, (variable.offset, variable.size))
            rows.append((variable.type_id, offset, variable.size or size))
        # The kernel wants them by rising offset.
        for i, row in enumerate(sorted(rows, key=lambda r: r[1])):
            self._set_row(section_id, i, row)

    def _set_row(self, section_id: int, number: int, row: tuple[int, int, int]) -> None:
        if max(row) > 0xFFFFFFFF:
            raise DecodeError(f"{self.btf.type(section_id).name}: a variable does not lie in its section")
        place = self._place(section_id) + HEADER_SIZE + 12 * number
        struct.pack_into(f"{self.mark}III", self.data, place, *row)

    def _kconfig(self, section_id: int, record: Type, externs: dict[str, Extern]) -> None:
        end = 0
        rows = []
        for variable in record.variables:
            name = self.btf.type(variable.type_id).name
            if name not in externs:
                raise DecodeError(f"{KCONFIG} has a variable '{name}' that is no symbol")
            extern = externs[name]
            rows.append((variable.type_id, extern.offset, extern.size))
            end = max(end, extern.offset + extern.size)
            self._put(variable.type_id, HEADER_SIZE, BTF_VAR_GLOBAL_ALLOCATED)
        self._put(section_id, 8, end)
        for i, row in enumerate(sorted(rows, key=lambda r: r[1])):
            self._set_row(section_id, i, row)

    def _ksyms(self, section_id: int, record: Type) -> None:
        """Externs of ``.ksyms`` become 4-byte variables of type int; kfuncs become global functions."""
        number = self._int_type()
        for i, variable in enumerate(record.variables):
            extern = self.btf.type(variable.type_id)
            stand_in = variable.type_id
            if extern.kind == BTF_KIND_FUNC:
                self._set_vlen(variable.type_id, BTF_FUNC_GLOBAL)
                self._name_parameters(variable.type_id, extern.type_id)
                stand_in = self._new_variable(extern.name, number)
            else:
                self._put(variable.type_id, 8, number)
                self._put(variable.type_id, HEADER_SIZE, BTF_VAR_GLOBAL_ALLOCATED)
            place = self._place(section_id) + HEADER_SIZE + 12 * i
            struct.pack_into(f"{self.mark}III", self.data, place, stand_in, 4 * i, 4)
        self._put(section_id, 8, 4 * len(record.variables))

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

    def _finish(self) -> bytes:
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

    def _put(self, type_id: int, at: int, value: int) -> None:
        struct.pack_into(f"{self.mark}I", self.data, self._place(type_id) + at, value)

    def _set_vlen(self, type_id: int, vlen: int) -> None:
        place = self._place(type_id) + 4
        (info,) = struct.unpack_from(f"{self.mark}I", self.data, place)
        struct.pack_into(f"{self.mark}I", self.data, place, info & ~0xFFFF | vlen)
