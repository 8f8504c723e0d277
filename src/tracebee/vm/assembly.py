"""Objects from assembler text: ``isa.asm`` with two more directives.

::

    .map counts hash 4 8 100       ; name, type, key size, value size, entries
    .program xdp                   ; section of the first function; tracepoint/... and so on
    r1 = map[counts]
    ...
    .func other
"""

from __future__ import annotations

import re

from tracebee import uapi
from tracebee.errors import Diagnostic, SourceError
from tracebee.isa.asm import Code, assemble_functions
from tracebee.obj.model import Function, LineInfo, MapDef, Object, ProgramDef, Reloc
from tracebee.obj.sections import section_kind
from tracebee.source import Source, Span

_MAP = re.compile(r"\s*\.map\s+(\S+)\s+(\w+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$")
_PROGRAM = re.compile(r"\s*\.program\s+(\S+)\s*$")
_NO_PREALLOC_TYPES = frozenset((uapi.BPF_MAP_TYPE_LPM_TRIE,))


def read_assembly(text: str, source: str = "asm", name: str = "main") -> Object:
    """An object of a text: its first function is the program, the others its functions.

    :raises SourceError: with every line that could not be read.
    """
    maps: list[MapDef] = []
    section, findings, kept = "socket", [], []
    for number, line in enumerate(text.split("\n"), 1):
        code = re.sub(r";.*|//.*", "", line)
        kept.append("" if code.lstrip().startswith((".map", ".program")) else line)
        if kept[-1] or not code.strip():
            continue
        if program := _PROGRAM.match(code):
            section = program[1]
        elif (found := _MAP.match(code)) and (kind := _map_type(found[2])) is not None:
            flags = uapi.BPF_F_NO_PREALLOC if kind in _NO_PREALLOC_TYPES else 0
            maps.append(MapDef(found[1], kind, int(found[3]), int(found[4]), int(found[5]), flags=flags))
        else:
            span = Span(number, 1, number, len(code) + 1)
            findings.append(Diagnostic("expected .map NAME TYPE KEY VALUE ENTRIES or .program SECTION", span))
    known = section_kind(section)
    if known is None:
        findings.append(Diagnostic(f"there is no program section '{section}'"))
    if findings or known is None:
        raise SourceError(Source(source, text), findings)
    codes = assemble_functions("\n".join(kept), name=name, source=source)
    lines = text.split("\n")
    functions = [_function(code, source, lines) for code in codes]
    program_def = ProgramDef(functions[0], section, known.type, known.attach_type)
    return Object(name, "GPL", tuple(maps), (program_def,), tuple(functions[1:]))


def _map_type(name: str) -> int | None:
    value = getattr(uapi, f"BPF_MAP_TYPE_{name.upper()}", None)
    return value if isinstance(value, int) else None


def _function(code: Code, source: str, lines: list[str]) -> Function:
    return Function(
        code.name,
        code.insns,
        tuple(Reloc(*symbol) for symbol in code.symbols),
        tuple(LineInfo(at, source, lines[n - 1].strip(), n, 1) for at, n in enumerate(code.lines)),
    )
