"""From a script's text to the tree the analyser takes: parsing, imports, macros, C definitions."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic, SourceError
from tracebee.lang import ast
from tracebee.lang.parser import ScriptParser
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.lang.cdefs import Definitions
    from tracebee.lang.config import Value
    from tracebee.lang.types import Type
    from tracebee.source import Source


_BRINGS_TEXTS = re.compile(r"\bimport\b|^\s*#\s*include\b", re.MULTILINE)


class Loaded(NamedTuple):
    """A script ready for analysis.

    ``program`` holds no Macro and Import nodes; ``source`` renders its spans, those of imported
    scripts included; ``settings`` are the config block's; ``definitions`` the script's own C types,
    None when it has none.
    """

    program: ast.Program
    source: Source
    settings: dict[str, Value]
    definitions: Definitions | None


def load(
    source: Source,
    *,
    params: Sequence[str] = (),
    defines: Mapping[str, str] | None = None,
    lookup: Callable[[str], Type | None] | None = None,
    headers: Sequence[str] = (),
    header_directories: Sequence[str] = (),
) -> Loaded:
    """Read a script with everything it imports and includes, and expand its macros.

    :param params: positional parameters, for ``$1`` in attach points (elsewhere they stay nodes).
    :param defines: object macros besides the script's own ``#define`` lines.
    :param lookup: a kernel type by its C name, for C definitions that embed one.
    :param headers: files to read before it (``--include``); ``header_directories``: where to look for
        them, and for those that the script includes (``-I``).
    :raises SourceError: with every error found.
    """
    if headers or _BRINGS_TEXTS.search(source.text):
        program, combined, errors = _read(source, params, defines or {}, headers, header_directories)
    else:
        parser = ScriptParser(source, params, defines or {})
        program, combined, errors = parser.parse_all(), source, parser.diagnostics
    if not errors and any(isinstance(item, ast.Macro) for item in program.items):
        from tracebee.lang.macros import expand

        program, errors = expand(program)
    definitions = None
    if not errors and any(isinstance(item, ast.CDefinition) for item in program.items):
        from tracebee.lang.cdefs import collect

        definitions, errors = collect(program, defines, lookup)
    if errors:
        raise SourceError(combined, sorted(errors, key=lambda e: e.span[:2]))
    settings = {name: value for config in program.of(ast.Config) for name, value, _ in config.settings}
    return Loaded(program, combined, settings, definitions)


def _read(
    source: Source,
    params: Sequence[str],
    defines: Mapping[str, str],
    headers: Sequence[str],
    directories: Sequence[str],
) -> tuple[ast.Program, Source, list[Diagnostic]]:
    """A script that needs other files."""
    from tracebee.lang.combined import CombinedSource
    from tracebee.lang.headers import Headers

    combined = CombinedSource.of(source)
    reader = Headers(combined, directories)
    parser = ScriptParser(source, params, defines)
    parser.headers = reader
    first: list[ast.Node] = []
    for name in headers:
        try:
            first += reader.before(name, parser)
        except Diagnostic as error:
            parser.report(error)
    program = parser.parse_all()
    program = ast.Program(program.span, items=[*first, *program.items])
    errors = parser.diagnostics
    if not errors and "import" in source.text:
        from tracebee.lang.imports import Importer

        importer = Importer(params, defines, combined, reader)
        program = importer.resolve(program)
        errors = importer.diagnostics
    return program, combined, errors
