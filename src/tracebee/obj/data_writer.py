"""Maps, data sections and struct_ops variables of an object, written to its ELF file."""

from __future__ import annotations

from tracebee.btf.kinds import BTF_KIND_DATASEC
from tracebee.elf.constants import SHT_PROGBITS, STT_OBJECT
from tracebee.errors import UnsupportedError
from tracebee.obj.elf_layout import KCONFIG, LEGACY_MAPS, LICENSE, MAPS, R_BPF_64_ABS64, STRUCT_OPS_SECTIONS
from tracebee.obj.elf_output import DATA, READ_ONLY
from tracebee.obj.map_section import map_definition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.obj.elf_output import Output
    from tracebee.obj.model import MapDef


def write_data(out: Output) -> None:
    """Add all sections that hold no code, with their symbols.

    Functions and externs have to have their symbols already: contents may refer to them.

    :raises UnsupportedError: a map that the object's types do not define.
    """
    obj = out.obj
    for definition in obj.maps:
        if definition.contents is not None and definition.name != KCONFIG:
            flags = READ_ONLY if definition.frozen else DATA
            out.section(definition.name, definition.contents, flags, definition.align)
    for variable in obj.variables:
        if variable.map != KCONFIG:
            place = (variable.map, variable.offset, variable.size)
            number = out.define(variable.name, *place, STT_OBJECT, static=variable.is_static)
            if not variable.is_static:
                out.symbols[variable.name] = number
    _unread_sections(out)
    _map_section(out)
    for section in STRUCT_OPS_SECTIONS:
        _struct_ops(out, section)
    for definition in obj.maps:
        if definition.contents is None and definition.name not in out.symbols:
            raise UnsupportedError(f"{obj.name}: map {definition.name} is not defined by the object's types")


def _unread_sections(out: Output) -> None:
    """What the object keeps as it was in its file: license, version, legacy maps, the rest."""
    for section in out.obj.sections:
        if section.contents is None:
            continue
        out.section(section.name, section.contents, section.flags, section.align)
        for variable in section.variables:
            place = (section.name, variable.offset, variable.size)
            number = out.define(variable.name, *place, STT_OBJECT, static=variable.is_static)
            if not variable.is_static or section.name == LEGACY_MAPS:
                out.symbols[variable.name] = number
    if out.obj.license and not any(s.name == LICENSE for s in out.obj.sections):
        out.file.section(LICENSE, out.obj.license.encode() + b"\0", kind=SHT_PROGBITS, flags=DATA)


def _rows(out: Output, name: str) -> tuple[int, dict[int, tuple[int, int]]]:
    """A data section by the object's types: its size, and (offset, size) of each BTF_KIND_VAR in it."""
    size = 0
    rows = {}
    for section_id in () if out.btf is None else out.btf.find_all(name, BTF_KIND_DATASEC):
        record = out.btf.type(section_id) if out.btf is not None else None
        if record is not None:
            size = max(size, record.size)
            rows.update({v.type_id: (v.offset, v.size) for v in record.variables})
    return size, rows


def _map_section(out: Output) -> None:
    size, rows = _rows(out, MAPS)
    definitions = [m for m in out.obj.maps if m.type_id in rows and m.contents is None]
    if not definitions:
        return
    out.section(MAPS, bytes(size), DATA, 8)
    for definition in definitions:
        _define(out, definition, MAPS, *rows[definition.type_id])
    for definition in definitions:
        _contents(out, definition, rows[definition.type_id][0])


def _define(out: Output, definition: MapDef, section: str, offset: int, size: int) -> None:
    assert out.btf is not None
    name = definition.name
    file_name = out.btf.type(definition.type_id).name
    static = out.is_static(name)
    out.symbols[name] = out.define(name, section, offset, size, STT_OBJECT, static=static, as_name=file_name)


def _contents(out: Output, definition: MapDef, offset: int) -> None:
    """Static contents: relocations of the elements of ``values``."""
    if not definition.values:
        return
    assert out.btf is not None
    _, at = map_definition(out.btf, definition.name, out.btf.type(definition.type_id).type_id)
    for index, name in definition.values:
        out.file.relocate(MAPS, offset + at + 8 * index, R_BPF_64_ABS64, out.address(name))


def _struct_ops(out: Output, section: str) -> None:
    size, rows = _rows(out, section)
    maps = {m.name: m for m in out.obj.maps}
    own = [ops for ops in out.obj.struct_ops if ops.section == section]
    if not own:
        return
    data = bytearray(size)
    for ops in own:
        definition = maps[ops.map]
        if definition.type_id not in rows:
            raise UnsupportedError(f"{out.obj.name}: {ops.map} is not defined by the object's types")
        offset, length = rows[definition.type_id]
        data[offset : offset + len(ops.data)] = ops.data
        _define(out, definition, section, offset, length or len(ops.data))
        for member, program in ops.members:
            out.file.relocate(section, offset + member, R_BPF_64_ABS64, out.address(program))
    out.section(section, bytes(data), DATA, 8)
