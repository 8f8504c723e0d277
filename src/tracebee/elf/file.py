"""An ELF file mapped for reading: header, sections, segments, notes."""

from __future__ import annotations

import mmap
import struct

from tracebee.elf.constants import (
    ELFCOMPRESS_ZLIB,
    ELFCOMPRESS_ZSTD,
    NT_GNU_BUILD_ID,
    PF_X,
    PT_LOAD,
    SHF_COMPRESSED,
    SHF_EXECINSTR,
    SHN_XINDEX,
    SHT_NOBITS,
    SHT_NOTE,
)
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Section(NamedTuple):
    """A section header with its name resolved; ``number`` is its index in the section table."""

    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int
    number: int


class Segment(NamedTuple):
    """A program header. ``addr`` is the address the file is linked for."""

    type: int
    flags: int
    offset: int
    addr: int
    file_size: int
    memory_size: int


class Note(NamedTuple):
    """One entry of a note section; ``name`` without its NUL."""

    name: bytes
    type: int
    data: bytes


class ElfFile:
    """A 32- or 64-bit ELF file of either byte order.

    :param path: the name errors use, and, without ``data``, the file to map.
    :param data: the file's bytes, when they are already in memory.
    :raises DecodeError: the file is not ELF, or its headers point outside of it.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: str, data: bytes | None = None) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        if data is None:
            with open(path, "rb") as file:
                try:
                    self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                except ValueError:
                    raise DecodeError(f"{path} is empty") from None
        self.data: bytes | mmap.mmap = self._map if self._map is not None else data or b""
        try:
            self._read_headers()
        except (struct.error, IndexError, OverflowError) as error:
            self.close()
            raise DecodeError(f"{path} has broken ELF headers") from error
        except DecodeError:
            self.close()
            raise

    def close(self) -> None:
        """Unmap the file."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read_headers(self) -> None:
        head = self.data[:20]
        if head[:4] != b"\x7fELF" or len(head) < 20:
            raise DecodeError(f"{self.path} is not an ELF file")
        if head[4] not in (1, 2) or head[5] not in (1, 2):
            raise DecodeError(f"{self.path} is of an unknown ELF class or byte order")
        self.is_64 = head[4] == 2
        self.order = "<" if head[5] == 1 else ">"
        self.type, self.machine = struct.unpack_from(f"{self.order}HH", head, 16)
        word = "Q" if self.is_64 else "I"
        (self.entry, phoff, shoff, self.flags, _, phentsize, phnum, shentsize, shnum, shstrndx) = (
            struct.unpack_from(f"{self.order}{word * 3}IHHHHHH", self.data, 24)
        )
        self.segments = self._segments(phoff, phentsize, phnum)
        self.sections = self._sections(shoff, shentsize, shnum, shstrndx)

    def _segments(self, at: int, entry_size: int, count: int) -> list[Segment]:
        form = struct.Struct(f"{self.order}{'IIQQQQQQ' if self.is_64 else 'IIIIIIII'}")
        found = []
        for i in range(count):
            fields = form.unpack_from(self.data, at + i * entry_size)
            if self.is_64:
                kind, flags, offset, addr, _, file_size, memory_size, _ = fields
            else:
                kind, offset, addr, _, file_size, memory_size, flags, _ = fields
            found.append(Segment(kind, flags, offset, addr, file_size, memory_size))
        return found

    def _sections(self, at: int, entry_size: int, count: int, names: int) -> list[Section]:
        if not at:
            return []
        form = struct.Struct(f"{self.order}{'IIQQQQIIQQ' if self.is_64 else 'IIIIIIIIII'}")
        first = form.unpack_from(self.data, at)
        # More than 0xff00 sections: the real numbers stand in the first header.
        count = count or first[5]
        names = first[6] if names == SHN_XINDEX else names
        if at + (count - 1) * entry_size + form.size > len(self.data):
            raise DecodeError(f"{self.path}: the section table runs over the end of the file")
        raw = [form.unpack_from(self.data, at + i * entry_size) for i in range(count)]
        strings = raw[names][4] if names < count else 0
        return [
            Section._make((self.string(strings + s[0]) if strings else "", *s[1:], number))
            for number, s in enumerate(raw)
        ]

    def string(self, at: int) -> str:
        """The NUL-terminated string at a file offset."""
        end = self.data.find(b"\0", at)
        if end < 0:
            raise DecodeError(f"{self.path}: a string runs over the end of the file")
        return self.data[at:end].decode("utf-8", "surrogateescape")

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def contents(self, section: Section) -> bytes:
        """A section's bytes, decompressed; empty for one that takes no room in the file.

        :raises UnsupportedError: zstd compression without the zstandard package.
        """
        if section.type == SHT_NOBITS:
            return b""
        data = self.data[section.offset : section.offset + section.size]
        if len(data) < section.size:
            raise DecodeError(f"{self.path}: section {section.name} runs over the end of the file")
        return self._decompress(section, data) if section.flags & SHF_COMPRESSED else data

    def _decompress(self, section: Section, data: bytes) -> bytes:
        (kind,) = struct.unpack_from(f"{self.order}I", data)
        body = data[24 if self.is_64 else 12 :]
        if kind == ELFCOMPRESS_ZLIB:
            import zlib  # only debug sections are compressed

            return zlib.decompress(body)
        if kind == ELFCOMPRESS_ZSTD:
            try:
                import zstandard
            except ImportError:
                hint = "pip install zstandard"
                raise UnsupportedError(f"{section.name} is compressed with zstd", hint=hint) from None
            plain: bytes = zstandard.decompress(body)
            return plain
        raise DecodeError(f"{self.path}: section {section.name} is compressed in unknown way {kind}")

    def notes(self, section: Section) -> Iterator[Note]:
        """The entries of a note section, in file order."""
        data, at = self.contents(section), 0
        while at + 12 <= len(data):
            name_size, size, kind = struct.unpack_from(f"{self.order}III", data, at)
            name_at = at + 12
            data_at = name_at + (name_size + 3 & ~3)
            yield Note(
                data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[data_at : data_at + size]
            )
            at = data_at + (size + 3 & ~3)

    @property
    def build_id(self) -> str | None:
        """The GNU build id as lower-case hexadecimal digits."""
        for section in self.sections:
            if section.type == SHT_NOTE:
                for note in self.notes(section):
                    if note.name == b"GNU" and note.type == NT_GNU_BUILD_ID:
                        return note.data.hex()
        return None

    def file_offset(self, addr: int) -> int | None:
        """Where in the file the byte at a linked address lies; None when no segment loads it."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.addr <= addr < segment.addr + segment.file_size:
                return addr - segment.addr + segment.offset
        return None

    def address(self, offset: int) -> int | None:
        """The linked address of a file offset; None when no segment loads it."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.offset <= offset < segment.offset + segment.file_size:
                return offset - segment.offset + segment.addr
        return None

    def is_executable(self, offset: int) -> bool:
        """Whether a file offset is code: in an executable section, or, without sections, segment."""
        if self.sections:
            return any(
                s.flags & SHF_EXECINSTR and s.offset <= offset < s.offset + s.size for s in self.sections
            )
        return any(
            s.flags & PF_X and s.type == PT_LOAD and s.offset <= offset < s.offset + s.file_size
            for s in self.segments
        )

    @property
    def is_go(self) -> bool:
        """Whether Go's linker made it."""
        return self.section(".note.go.buildid") is not None or self.section(".gopclntab") is not None
