"""Imports: ``import "file.bt";`` and ``import "directory";``, relative to the importing script.

Every file is taken once, and what a script imports comes before it, so that cycles are harmless and
``begin`` probes run in the order of dependence. Spans of imported scripts continue the line numbers
of those read before; ``combined.CombinedSource`` takes them apart again.
"""

from __future__ import annotations

import os

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.combined import CombinedSource
from tracebee.lang.parser import ScriptParser
from tracebee.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.lang.headers import Headers

_MAX_FILES = 200


class Importer:
    """Reads a script and everything it imports.

    :param params: positional parameters, :param defines: object macros, as ``parser.parse`` takes them.
    :param source: the main script; collects the texts of what it imports.
    :param headers: reads ``#include``d headers.
    """

    def __init__(
        self,
        params: Sequence[str],
        defines: Mapping[str, str],
        source: CombinedSource,
        headers: Headers,
    ) -> None:
        self.params = params
        self.defines = defines
        self.diagnostics: list[Diagnostic] = []
        self.seen: set[str] = set()
        self.source = source
        self.headers = headers

    def resolve(self, program: ast.Program) -> ast.Program:
        """The main script with the items of all its imports before its own; no Import nodes remain.

        Errors are in ``diagnostics``, and ``source`` renders them.
        """
        main = self.source
        directory = os.path.dirname(main.name) if os.path.exists(main.name) else ""
        if os.path.exists(main.name):
            self.seen.add(os.path.realpath(main.name))
        return ast.Program(program.span, items=self._resolve(program, directory))

    def _resolve(self, program: ast.Program, directory: str) -> list[ast.Node]:
        items: list[ast.Node] = []
        kept = []
        for item in program.items:
            if isinstance(item, ast.Import):
                items.extend(self._import(item, directory))
                continue
            for node in _statement_imports(item):
                items.extend(self._import(node, directory))
            kept.append(item)
        return items + kept

    def _import(self, node: ast.Import, directory: str) -> list[ast.Node]:
        path = os.path.join(directory, node.path)
        if os.path.isdir(path):
            files = sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".bt"))
            if not files:
                self._fail(node, f"no .bt files in '{path}'")
        else:
            files = [path]
        items: list[ast.Node] = []
        for file in files:
            items.extend(self._file(node, file))
        return items

    def _fail(self, node: ast.Import, message: str, hint: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(message, node.span, hint=hint))

    def _file(self, node: ast.Import, path: str) -> list[ast.Node]:
        real = os.path.realpath(path)
        if real in self.seen:
            return []
        self.seen.add(real)
        if len(self.seen) > _MAX_FILES:
            self._fail(node, f"more than {_MAX_FILES} files are imported")
            return []
        if not path.endswith(".bt"):
            self._fail(
                node, f"cannot import '{path}'", "scripts (.bt) and directories of them can be imported"
            )
            return []
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError as error:
            self._fail(node, f"cannot import '{path}': {error.strerror}", "paths are relative to the script")
            return []
        source = Source(path, text)
        parser = ScriptParser(source, self.params, self.defines, self.source.append(source))
        parser.headers = self.headers
        program = parser.parse_all()
        self.diagnostics.extend(parser.diagnostics)
        for config in program.of(ast.Config):
            message = "an imported script cannot have a config block"
            self.diagnostics.append(Diagnostic(message, config.span, hint="put it into the main script"))
        return self._resolve(program, os.path.dirname(path))


def _statement_imports(item: ast.Node) -> list[ast.Import]:
    """Take the imports out of the blocks below ``item``."""
    found: list[ast.Import] = []
    pending = [item]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Block | ast.BlockExpr):
            found.extend(s for s in node.statements if isinstance(s, ast.Import))
            node.statements = [s for s in node.statements if not isinstance(s, ast.Import)]
        pending.extend(reversed(list(node.children())))
    return found
