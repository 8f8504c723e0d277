"""Headers of one's own: ``#include "types.h"``, beside the script or below ``-I``; and ``--include FILE``.

A script gets a header's C types and macros; functions and variables in it are passed over. The kernel's and
the C library's headers are not read: their types come from BTF, their constants from ``header_constants``.
"""

from __future__ import annotations

import os
import re

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.c_scan import definition_end
from tracebee.lang.combined import CombinedSource
from tracebee.lang.parser import C_KINDS, ScriptParser
from tracebee.lang.preprocessor import Preprocessor
from tracebee.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_INCLUDE = re.compile(r"#\s*include\s*([\"<])([^\">]*)[\">]")
# What BTF stands for, however it is included.
_KERNEL = re.compile(r"(asm|asm-generic|bpf|generated|linux|net|trace|uapi)/|vmlinux\.h\Z")
_ONCE = re.compile(r"^\s*#\s*pragma\s+once\b", re.MULTILINE)
_MAX_DEPTH = 50
_HINT = "it is looked for beside the script and in the directories of -I; kernel types need no header"


class Headers:
    """Finds and reads the headers of a script and of what it imports.

    :param source: collects the texts, so that errors show lines of headers.
    :param directories: where to look besides the including file's own directory.
    """

    def __init__(self, source: CombinedSource, directories: Sequence[str] = ()) -> None:
        self.source = source
        self._directories = list(directories)
        self._once: set[str] = set()
        self._depth = 0

    def read(self, line: str, parser: ScriptParser) -> list[ast.Node]:
        """What the header of an ``#include`` line defines; nothing for the kernel's and the system's.

        :raises Diagnostic: there is no such file; without a span.
        """
        match = _INCLUDE.match(line)
        if match is None:
            raise Diagnostic("'#include' needs a file", hint='write #include "FILE"')
        quoted, name = match[1] == '"', match[2]
        if _KERNEL.match(name):
            return []
        beside = os.path.dirname(parser.source.name) if os.path.exists(parser.source.name) else ""
        path = self._find(name, [beside, *self._directories] if quoted else self._directories)
        if path is None:
            if quoted:
                raise Diagnostic(f"there is no header '{name}'", hint=_HINT)
            return []
        return self.file(path, parser)

    def before(self, name: str, parser: ScriptParser) -> list[ast.Node]:
        """What a header of ``--include`` defines, found from the working directory.

        :raises Diagnostic: there is no such file; without a span.
        """
        if _KERNEL.match(name):
            return []
        path = self._find(name, ["", *self._directories])
        if path is None:
            raise Diagnostic(
                f"there is no header '{name}'", hint="--include takes a path, or a name below -I"
            )
        return self.file(path, parser)

    def _find(self, name: str, directories: Sequence[str]) -> str | None:
        paths = (os.path.join(directory, name) for directory in directories)
        return next((path for path in paths if os.path.isfile(path)), None)

    def file(self, path: str, including: ScriptParser) -> list[ast.Node]:
        """The definitions of one header; its macros are in force for what follows."""
        real = os.path.realpath(path)
        if real in self._once:
            return []
        if self._depth == _MAX_DEPTH:
            raise Diagnostic(f"'{path}' includes itself without end", hint="begin it with #pragma once")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                source = Source(path, file.read())
        except OSError as error:
            raise Diagnostic(f"cannot read '{path}': {error.strerror}") from None
        if _ONCE.search(source.text):
            self._once.add(real)
        self._depth += 1
        parser = _HeaderParser(source, including, self.source.append(source))
        items = parser.parse_all().items
        self._depth -= 1
        for finding in parser.diagnostics:
            including.report(finding)
        return items


class _HeaderParser(ScriptParser):
    """Reads a header: like a script's preamble, with declarations of functions and variables left out."""

    def __init__(self, source: Source, including: ScriptParser, first_line: int) -> None:
        super().__init__(source, first_line=first_line)
        self.headers = including.headers
        self.defines = including.defines
        self.type_names = including.type_names
        self.preprocessor = Preprocessor(self.defines)

    def _item(self, *, probes: bool) -> ast.Node:  # noqa: ARG002 - headers have none
        if self.text == "#":
            return self._directive()
        start = self.start
        head = re.split(r"[{;]", self.source_text[start:], maxsplit=1)[0]
        if self.text in C_KINDS and (self.text == "typedef" or "(" not in head):
            return self._c_definition()
        mark = self.mark()
        try:
            end = definition_end(self.source_text, start, "declaration")
        except ValueError as error:
            raise Diagnostic(str(error), self.here()) from None
        self.seek(end)
        return ast.CDefinition(self.since(mark), kind="inactive", text="")
