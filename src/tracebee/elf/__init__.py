"""The ELF file format: headers, sections, segments, symbols, notes (System V ABI, "Object Files").

Everything tracebee reads from an ELF file, it reads through here: BTF sections, BPF objects, symbols of
traced programs, USDT notes, unwind tables.
"""

from __future__ import annotations

from tracebee.elf.file import ElfFile, Section, Segment
from tracebee.elf.symbols import Symbol, find_symbol, symbols

__all__ = ["ElfFile", "Section", "Segment", "Symbol", "find_symbol", "symbols"]
