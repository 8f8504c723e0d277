"""The ELF file an object is being written to: symbols by the object's names, types that take new strings."""

from __future__ import annotations

from tracebee.btf.builder import Builder
from tracebee.btf.reader import Btf
from tracebee.elf.constants import (
    EM_BPF,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_NOTYPE,
    STV_DEFAULT,
    STV_HIDDEN,
)
from tracebee.elf.writer import RelocatableFile
from tracebee.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.obj.model import Object

CODE = SHF_ALLOC | SHF_EXECINSTR
DATA = SHF_ALLOC | SHF_WRITE
READ_ONLY = SHF_ALLOC


class Output:
    """What the parts of the writer share.

    :ivar btf: the object's types; None when it has none.
    :ivar types: the same types, for strings to be added; ids are those of the object.
    :ivar symbols: functions, maps and variables that are not static, by their names in the object.
    :ivar externs: undefined symbols by name.
    """

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.btf = Btf.from_bytes(obj.btf, name=obj.name) if obj.btf else None
        self.types = Builder(obj.order)
        if self.btf is not None:
            self.types.add_all(record for _, record in self.btf.types())
        self.file = RelocatableFile(EM_BPF, obj.order)
        self.symbols: dict[str, int] = {}
        self.externs: dict[str, int] = {}
        self._headers = {s.name: s for s in obj.sections}
        self._exports = {e.name: e for e in obj.exports}

    def section(self, name: str, data: bytes, flags: int, align: int) -> None:
        """Add a section; what the object's own file said of it comes before flags and alignment given."""
        known = self._headers.get(name)
        kind, entry_size = SHT_PROGBITS, 0
        if known is not None:
            kind, flags, align, entry_size = known.type, known.flags, known.align, known.entry_size
            if kind == SHT_NOBITS and any(data):
                kind = SHT_PROGBITS  # initial values that came later
        self.file.section(name, data, kind=kind, flags=flags, align=align, entry_size=entry_size)

    def define(
        self, name: str, section: str, offset: int, size: int, kind: int, *, static: bool, as_name: str = ""
    ) -> int:
        """Add the symbol of something in a section.

        :param name: its name in the object, by which it is exported.
        :param as_name: its name in the file, where the object's had to differ.
        """
        export = self._exports.get(name)
        binding, visibility = STB_GLOBAL, STV_DEFAULT
        if static:
            binding = STB_LOCAL
        elif export is not None:
            binding = STB_WEAK if export.weak else STB_GLOBAL
            visibility = STV_HIDDEN if export.hidden else STV_DEFAULT
        return self.file.symbol(
            as_name or name, section, offset, size, kind=kind, binding=binding, visibility=visibility
        )

    def address(self, name: str) -> int:
        """The symbol of a function or map that data refers to.

        :raises UnsupportedError: the object has none, and expects none of another.
        """
        symbol = self.symbols.get(name, self.externs.get(name))
        if symbol is None:
            raise UnsupportedError(f"{self.obj.name}: '{name}' is referred to, but is not there")
        return symbol

    def is_static(self, name: str) -> bool:
        """Whether a function or map is known to this object alone."""
        return name not in self._exports

    def declare_externs(self) -> None:
        """Add a symbol for everything the object expects of the kernel or of other objects."""
        for extern in self.obj.externs:
            self.externs[extern.name] = self.file.symbol(
                extern.name,
                kind=STT_NOTYPE,
                binding=STB_WEAK if extern.weak else STB_GLOBAL,
                visibility=STV_HIDDEN if extern.hidden else STV_DEFAULT,
            )
