"""From a script's text to the tree the analyser takes: parsing, imports, macros, C definitions."""

from __future__ import annotations

from tracebee.errors import SourceError
from tracebee.lang import ast
from tracebee.lang.parser import ScriptParser
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.errors import Diagnostic
    from tracebee.lang.cdefs import Definitions
    from tracebee.lang.config import Value
    from tracebee.lang.types import Type
    from tracebee.source import Source


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
) -> Loaded:
    """Read a script with everything it imports, and expand its macros.

    :param params: positional parameters, for ``$1`` in attach points (elsewhere they stay nodes).
    :param defines: object macros besides the script's own ``#define`` lines.
    :param lookup: a kernel type by its C name, for C definitions that embed one.
    :raises SourceError: with every error found.
    """
    program, combined, errors = _read(source, params, defines or {})
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
    source: Source, params: Sequence[str], defines: Mapping[str, str]
) -> tuple[ast.Program, Source, list[Diagnostic]]:
    if "import" in source.text:
        from tracebee.lang.imports import Importer

        importer = Importer(params, defines)
        program = importer.read(source)
        return program, importer.source, importer.diagnostics
    parser = ScriptParser(source, params, defines)
    return parser.parse_all(), source, parser.diagnostics
