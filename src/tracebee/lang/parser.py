"""Scripts: the top level of the language, and the way into the parser.

Source: bpftrace 0.27's language reference and the description of its parser.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic, SourceError
from tracebee.lang import ast
from tracebee.lang.attach_points import scan
from tracebee.lang.literals import integer
from tracebee.lang.names import BARE_PROBES, KEYWORDS, PROVIDERS, is_builtin
from tracebee.lang.parse_statements import MAX_ERRORS, ErrorLimit, StatementParser
from tracebee.source import Span
from tracebee.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.lang.headers import Headers
    from tracebee.lang.preprocessor import Preprocessor
    from tracebee.source import Source

C_KINDS = ("struct", "union", "enum", "typedef")
_WORD = re.compile(r"[^\s{,]+", re.ASCII)
_NAMED_PROBE = re.compile(r"[A-Za-z_]\w*\s*=(?!=)", re.ASCII)
# What bpftrace tells scripts about itself.
_PREDEFINED = {"BPFTRACE_HAVE_BTF": "1"}


class ScriptParser(StatementParser):
    """Parses a whole script."""

    def __init__(
        self, source: Source, params: Sequence[str] = (), defines: Mapping[str, str] = {}, first_line: int = 1
    ) -> None:
        self.params = params
        super().__init__(source, first_line)
        self.defines.update(_PREDEFINED)
        self.defines.update(defines)
        self.preprocessor: Preprocessor | None = None
        self.headers: Headers | None = None  # reads included files; without it they are passed over
        self.included: list[ast.Node] = []  # what the last #include brought

    def parse_all(self) -> ast.Program:
        """The script; never raises: every error is in ``diagnostics``, and then the tree is partial."""
        try:
            program = self.parse_script()
            if not self.diagnostics and self.tall:
                check_height(program)
        except RecursionError:
            hint = "split it with variables"
            self.report(Diagnostic("the script is nested too deep", self.here(), hint=hint))
            program = ast.Program(items=[])
        except Diagnostic as error:
            self.report(error)
            program = ast.Program(items=[])
        return program

    def parse_script(self) -> ast.Program:
        """All items of the script; errors are in ``diagnostics``."""
        mark = self.mark()
        if self.source_text.startswith("#!"):
            end = self.source_text.find("\n")
            self.seek(len(self.source_text) if end < 0 else end)
        items: list[ast.Node] = []
        probes = False
        while self.kind != "end":
            before = self.start
            try:
                item = self._item(probes=probes)
                probes = probes or isinstance(item, ast.Probe)
                items += self.included
                self.included = []
                items.append(item)
            except Diagnostic as error:
                self.report(error)
                if len(self.diagnostics) >= MAX_ERRORS:
                    break
                self._skip_item(before)
            except ErrorLimit:
                break
        if self.preprocessor is not None and self.preprocessor.depth and not self.diagnostics:
            self.report(
                Diagnostic("an '#if' is not closed", self.here(), hint="every '#if' needs its '#endif'")
            )
        return ast.Program(self.since(mark), items=items)

    def _skip_item(self, before: int) -> None:
        """Go on behind the item in error: after its ";", or the "}" that closes it."""
        self.depth = 0
        self.in_predicate = False
        if self.start == before and self.kind != "end":
            self.advance()
        level = 0
        while self.kind != "end":
            text = self.text
            if text == '"':  # an unclosed string swallows its line
                stop = self.source_text.find("\n", self.start)
                self.seek(len(self.source_text) if stop < 0 else stop)
                continue
            if level == 0 and text == "#":
                return
            level += (text == "{") - (text == "}")
            self.advance()
            if level <= 0 and text in ("}", ";"):
                return

    def _item(self, *, probes: bool) -> ast.Node:
        text = self.text
        if text == "#":
            return self._directive()
        if self.kind == "identifier":
            if text in C_KINDS:
                return self._c_definition()
            if text == "config" and self.peek_text() == "=":
                if probes:
                    self.report(Diagnostic("the config block stands before the first probe", self.here()))
                return self._config()
            if text == "import":
                return self.import_statement()
            if text == "macro":
                return self._macro()
            if text == "fn":
                return self._subprogram()
            if text == "let":
                return self._map_declaration()
        if text in ("{", "}", "/", ";", "(", ")") and not self.source_text.startswith("/*", self.start):
            raise self.unexpected("a probe", "a probe is written provider:name { ... }")
        return self._probe()

    # --- the preamble -----------------------------------------------------------------------------

    def _directive(self) -> ast.Node:
        if self.preprocessor is None:
            from tracebee.lang.preprocessor import Preprocessor  # few scripts have such lines

            self.preprocessor = Preprocessor(self.defines)
        mark = self.mark()
        end = self.preprocessor.line_end(self.source_text, self.start)
        text = self.source_text[self.start : end].rstrip()
        failure: Diagnostic | None = None
        kind = "inactive"
        try:
            kind = self.preprocessor.directive(text)
            if kind == "include" and self.headers is not None:
                self.included = self.headers.read(text, self)
        except Diagnostic as error:
            failure = error
        self.seek(end)
        if failure is not None:
            self.report(Diagnostic(failure.message, self.since(mark), hint=failure.hint))
        return ast.CDefinition(self.since(mark), kind=kind, text=text)

    def _c_definition(self) -> ast.Node:
        from tracebee.lang.c_scan import definition_end, type_names  # few scripts define types

        mark = self.mark()
        kind = self.text
        start = self.start
        try:
            end = definition_end(self.source_text, start, kind)
        except ValueError as error:
            raise Diagnostic(str(error), self.here()) from None
        text = self.source_text[start:end].rstrip().rstrip(";").rstrip() + ";"
        self.seek(end)
        span = self.since(mark)
        if self.preprocessor is not None and not self.preprocessor.active:
            return ast.CDefinition(span, kind="inactive", text=text)
        self.type_names.update(type_names(text, kind))
        return ast.CDefinition(span, kind=kind, text=text)

    def _config(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        self.expect("=", "after 'config'")
        self.expect("{", "to open the config block")
        settings: list[tuple[str, int | str | bool, Span]] = []
        while self.text != "}":
            if self.accept(";"):
                continue
            setting = self._setting()
            if setting is not None:
                settings.append(setting)
            if self.text != "}":
                self.expect(";", "between settings")
        self.advance()
        return ast.Config(self.since(mark), settings=settings)

    def _setting(self) -> tuple[str, int | str | bool, Span] | None:
        from tracebee.lang import config  # few scripts have a config block

        if self.kind != "identifier":
            raise self.unexpected("the name of a config variable")
        mark = self.mark()
        name_span = self.here()
        name = self.text
        self.advance()
        self.expect("=", "after the config variable's name")
        value_span = self.here()
        value: int | str | bool
        if self.kind == "string":
            value = self.string_value()
        elif self.kind == "number":
            try:
                value = integer(self.text)
            except Diagnostic as error:
                raise Diagnostic(error.message, value_span, hint=error.hint) from None
            self.advance()
        elif self.kind == "identifier":
            value = {"true": True, "false": False}.get(self.text, self.text)
            self.advance()
        else:
            raise self.unexpected("a value: a word, a number or a string")
        place = name_span
        try:
            plain = config.normalise(name)
            place = value_span
            return plain, config.check(plain, value), self.since(mark)
        except Diagnostic as error:
            self.report(Diagnostic(error.message, place, hint=error.hint))
            return None

    def _map_declaration(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        if self.kind != "map":
            hint = "scratch variables live inside probes" if self.kind == "variable" else None
            raise self.unexpected("a map after 'let'", hint)
        node = ast.Map(self.here(), name=self.text[1:])
        self.advance()
        self.expect("=", "after the map's name")
        if self.kind != "identifier":
            raise self.unexpected("a map type: hash, lruhash, percpuhash, percpulruhash...")
        kind = self.text
        self.advance()
        self.expect("(", "after the map type")
        if self.kind != "number":
            raise self.unexpected("the map's largest number of entries")
        entries_span = self.here()
        try:
            entries = integer(self.text)
        except Diagnostic as error:
            raise Diagnostic(error.message, entries_span, hint=error.hint) from None
        self.advance()
        self.expect(")", "to close the map type")
        self.accept(";")
        return ast.MapDecl(self.since(mark), map=node, kind=kind, entries=entries)

    # --- macros and functions ---------------------------------------------------------------------

    def _name(self, what: str) -> str:
        name = self.text
        if self.kind != "identifier" or name in KEYWORDS:
            hint = f"'{name}' is a reserved word" if name in KEYWORDS else None
            raise self.unexpected(f"the name of the {what}", hint)
        self.advance()
        return name

    def _macro(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        name = self._name("macro")
        self.expect("(", "after the macro's name")
        parameters: list[ast.Expr] = []
        while self.text != ")":
            parameters.append(self._macro_parameter())
            if not self.accept(","):
                break
        self.expect(")", "to close the macro's parameters")
        body = self.parse_block_expression()
        return ast.Macro(self.since(mark), name=name, parameters=parameters, body=body)

    def _macro_parameter(self) -> ast.Expr:
        mark = self.mark()
        name = self.text
        if self.kind == "variable":
            return self.variable("as a parameter")
        if self.kind == "map":
            self.advance()
            return ast.Map(self.since(mark), name=name[1:])
        if self.kind != "identifier" or name in KEYWORDS or is_builtin(name):
            hint = f"'{name}' is a builtin; take another name" if is_builtin(name) else None
            raise self.unexpected("a parameter: $variable, @map, or a name for an expression", hint)
        self.advance()
        return ast.Identifier(self.since(mark), name=name)

    def _subprogram(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        name = self._name("function")
        self.expect("(", "after the function's name")
        parameters: list[ast.Let] = []
        while self.text != ")":
            start = self.mark()
            variable = self.variable("as a parameter")
            self.expect(":", "and the parameter's type")
            annotation = self.parse_type()
            parameters.append(
                ast.Let(self.since(start), variable=variable, annotation=annotation, value=None)
            )
            if not self.accept(","):
                break
        self.expect(")", "to close the function's parameters")
        returns = self.parse_type() if self.accept(":") else None
        body = self.parse_block()
        return ast.Subprogram(self.since(mark), name=name, parameters=parameters, returns=returns, body=body)

    # --- probes -----------------------------------------------------------------------------------

    def _probe(self) -> ast.Node:
        mark = self.mark()
        name: str | None = None
        if self.kind == "identifier" and _NAMED_PROBE.match(self.source_text, self.start):
            name = self.text
            self.advance()
            self.advance()
        points = [self._attach_point()]
        while self.text == ",":
            self.advance()
            if self.text in ("{", "/"):
                break
            points.append(self._attach_point())
        predicate = self._predicate()
        if self.text != "{":
            raise self.unexpected("'{' to open the probe's block", self._probe_hint(points[-1]))
        body = self.parse_block()
        return ast.Probe(self.since(mark), name=name, points=points, predicate=predicate, body=body)

    def _probe_hint(self, point: ast.AttachPoint) -> str | None:
        if self.kind == "end" or self.line > self.last_line:
            return "every probe has a block in braces"
        if len(point.parts) == 1 or point.parts[-1] == "":
            return f"did you mean '{point.text.rstrip(':')}:{self.text}'?"
        return "names with blanks are put in double quotes"

    def _attach_point(self) -> ast.AttachPoint:
        mark = self.mark()
        start = self.start
        origin = start - mark[1] + 1
        if self.kind == "end" or self.text in ("{", "}", ",", "/", ";"):
            raise self.unexpected("a probe", "a probe is written provider:name { ... }")
        try:
            parts, end = scan(self.source_text, start, self.params)
        except Diagnostic as error:
            place = error.span
            span = Span(mark[0], place.column - origin + 1, mark[0], place.end_column - origin + 1)
            raise Diagnostic(error.message, span, hint=error.hint) from None
        text = self.source_text[start:end]
        self.seek(end)
        node = ast.AttachPoint(self.since(mark), parts=parts, text=text)
        if len(parts) == 1 and parts[0] not in BARE_PROBES:
            raise self._no_colon(node)
        return node

    def _no_colon(self, point: ast.AttachPoint) -> Diagnostic:
        provider = point.parts[0]
        if self.kind == "identifier" and self.line == self.last_line and provider in PROVIDERS:
            word = _WORD.match(self.source_text, self.start)
            rest = word.group() if word else self.text
            return Diagnostic(
                f"expected ':' after '{provider}'", point.span, hint=f"did you mean '{provider}:{rest}'?"
            )
        if provider in PROVIDERS:
            return Diagnostic(f"expected ':' and what to probe after '{provider}'", point.span)
        near = did_you_mean(provider, BARE_PROBES) or did_you_mean(provider, PROVIDERS)
        return Diagnostic(
            f"'{provider}' is not a probe",
            point.span,
            hint=near or "a probe is written provider:name { ... }",
        )

    def _predicate(self) -> ast.Expr | None:
        if self.text != "/" or self.source_text.startswith("/*", self.start):
            return None
        span = self.here()
        self.advance()
        if self.text == "/":
            raise Diagnostic("the predicate is empty", span, hint="leave out '//' for no predicate")
        self.in_predicate = True
        node = self.parse_expression()
        self.in_predicate = False
        if self.text != "/":
            if self.kind == "end" or self.text == "{":
                raise Diagnostic("this predicate is not closed", span, hint="it is written /condition/")
            raise self.unexpected("'/' to close the predicate")
        self.advance()
        return node


def parse(
    source: Source, *, params: Sequence[str] = (), defines: Mapping[str, str] | None = None
) -> ast.Program:
    """Parse a script into its tree, as written: imports and macros are not put in (see ``frontend``).

    :param params: positional parameters, for ``$1`` in attach points (elsewhere they stay nodes).
    :param defines: object macros besides the script's own ``#define`` lines.
    :raises SourceError: with every error found, in source order.
    """
    parser = ScriptParser(source, params, defines or {})
    program = parser.parse_all()
    if parser.diagnostics:
        raise SourceError(source, sorted(parser.diagnostics, key=lambda d: d.span[:2]))
    return program


# Greatest height of a tree: later passes walk it recursively.
MAX_HEIGHT = 250


def check_height(program: ast.Program) -> None:
    """Refuse trees that later passes could not walk.

    :raises Diagnostic: at the place that is too deep.
    """
    level: list[ast.Node] = [program]
    for _ in range(MAX_HEIGHT):
        level = [child for node in level for child in node.children()]
        if not level:
            return
    raise Diagnostic("nested too deep", level[0].span, hint="split it with variables")
