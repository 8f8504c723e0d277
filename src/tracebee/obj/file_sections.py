"""The sections of an object's file, kept so that writing it again gives them back."""

from __future__ import annotations

from tracebee.elf.constants import SHF_EXECINSTR, SHT_NOBITS, SHT_PROGBITS, STB_LOCAL, STT_NOTYPE, STT_SECTION
from tracebee.obj.elf_layout import MAPS, METADATA_SECTION, STRUCT_OPS_SECTIONS
from tracebee.obj.model import SectionDef, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.elf.file import Section
    from tracebee.obj.elf_layout import ElfLayout

# Made anew for every file, or only for debuggers.
_OTHERS = (".BTF", ".BTF.ext", METADATA_SECTION, ".eh_frame", ".comment")
_UNNAMED = (STT_NOTYPE, STT_SECTION)


def read_sections(layout: ElfLayout) -> list[SectionDef]:
    """The sections that belong to the object, in file order."""
    others = (MAPS, *STRUCT_OPS_SECTIONS)
    read_otherwise = {s.number for s in layout.elf.sections if s.name in others}
    read_otherwise |= {s.number for s in layout.data_sections}
    found = []
    for section in layout.elf.sections:
        if section.type not in (SHT_PROGBITS, SHT_NOBITS) or not section.size:
            continue
        if section.name in _OTHERS or section.name.startswith(".debug"):
            continue
        definition = SectionDef(
            section.name, section.type, section.flags, max(section.align, 1), section.entry_size
        )
        is_code = section.flags & SHF_EXECINSTR
        if not is_code and section.number not in read_otherwise:
            variables = _variables(layout, section)
            definition = definition._replace(contents=layout.contents(section), variables=variables)
        found.append(definition)
    return found


def _variables(layout: ElfLayout, section: Section) -> tuple[Variable, ...]:
    return tuple(
        Variable(s.name, section.name, s.addr, s.size, 0, s.binding == STB_LOCAL)
        for s in layout.symbols
        if s.section == section.number and s.type not in _UNNAMED and s.name
    )
