"""Expressions: precedence climbing over C's operators, without its assignments.

Source: bpftrace's language reference, "Operators and Expressions", and its parser's description.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.lexer import MAX_CHAIN, SKIP
from tracebee.lang.literals import bad_escapes, integer, string
from tracebee.lang.names import KEYWORDS, is_builtin
from tracebee.lang.parse_types import TypeParser
from tracebee.source import Source, Span

PRECEDENCE = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    ">": 7,
    "<=": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}
_UNARY = frozenset("!~-+*&")
_RECORD = re.compile(r"\(\s*[A-Za-z_]\w*\s*=(?!=)", re.ASCII)
_TARGETS = (ast.Variable, ast.Map, ast.MapAccess)


class ExpressionParser(TypeParser):
    """Parses expressions, and puts in the preamble's object macros."""

    def __init__(self, source: Source, first_line: int = 1) -> None:
        self.defines: dict[str, str] = {}
        self.expanding: frozenset[str] = frozenset()
        self.in_predicate = False
        super().__init__(source, first_line)

    def parse_expression(self) -> ast.Expr:
        """The lowest level: ``a ? b : c``, and ``a ?: b`` for ``a ? a : b``."""
        return self.continue_expression(self.mark(), self.parse_unary())

    def continue_expression(self, mark: tuple[int, int], first: ast.Expr) -> ast.Expr:
        """The expression whose first operand was read already, from ``mark``."""
        condition = self.parse_binary(1, mark, first)
        if self.text != "?":
            return condition
        self.deeper()
        self.advance()
        then = condition if self.text == ":" else self.parse_expression()
        self.expect(":", "between the two values of '?'")
        otherwise = self.parse_expression()
        self.depth -= 1
        return ast.Ternary(self.since(mark), condition=condition, then=then, otherwise=otherwise)

    def parse_binary(self, lowest: int, mark: tuple[int, int], left: ast.Expr) -> ast.Expr:
        """Operators of precedence ``lowest`` and above behind ``left``, left-associative."""
        chain = 0
        while True:
            operator = self.text
            precedence = PRECEDENCE.get(operator, 0)
            if precedence < lowest or (operator == "/" and self.in_predicate and self._ends_predicate()):
                return left
            chain += 1
            if chain > 30:
                self.tall = True
                if chain > MAX_CHAIN:
                    raise Diagnostic(f"more than {MAX_CHAIN} operators in a row", self.here())
            self.deeper()
            self.advance()
            right = self.parse_binary(precedence + 1, self.mark(), self.parse_unary())
            self.depth -= 1
            left = ast.Binary(self.since(mark), op=operator, left=left, right=right)

    def _ends_predicate(self) -> bool:
        """Whether the "/" ahead closes the predicate: the probe's block follows."""
        match = SKIP.match(self.source_text, self.end)
        return match is not None and self.source_text[match.end() : match.end() + 1] in ("{", "")

    def parse_unary(self) -> ast.Expr:
        """Prefix operators and casts."""
        operator = self.text
        if operator in _UNARY:
            mark = self.mark()
            self.deeper()
            self.advance()
            operand = self.parse_unary()
            self.depth -= 1
            return ast.Unary(self.since(mark), op=operator, operand=operand)
        if operator in ("++", "--"):
            mark = self.mark()
            self.advance()
            self.deeper()
            target = self.parse_unary()
            self.depth -= 1
            return self._inc_dec(mark, operator, target, prefix=True)
        if operator == "(" and self.at_cast():
            return self._cast()
        return self.parse_postfix()

    def _cast(self) -> ast.Expr:
        mark = self.mark()
        self.deeper()
        self.advance()
        target = self.parse_type()
        self.expect(")", "to close the cast")
        operand = self.parse_unary()
        self.depth -= 1
        return ast.Cast(self.since(mark), target=target, operand=operand)

    def _inc_dec(self, mark: tuple[int, int], operator: str, target: ast.Expr, *, prefix: bool) -> ast.Expr:
        if not isinstance(target, _TARGETS):
            raise Diagnostic(
                f"'{operator}' needs a variable or a map",
                target.span if target.span.line else self.since(mark),
                hint="the operand is a '$variable' or a '@map'",
            )
        return ast.IncDec(self.since(mark), op=operator, target=target, prefix=prefix)

    def parse_postfix(self) -> ast.Expr:
        """A primary with its fields, indices and postfix operators."""
        mark = self.mark()
        node = self.parse_primary()
        chain = 0
        while True:
            text = self.text
            if text == "." or text == "->":
                self.advance()
                if self.kind == "identifier" or (self.kind == "number" and self.text.isdecimal()):
                    name = self.text
                    self.advance()
                else:
                    raise self.unexpected(f"a field's name after '{text}'")
                node = ast.Field(self.since(mark), base=node, name=name, arrow=text == "->")
            elif text == "[":
                self.deeper()
                self.advance()
                index = self.bracketed()
                self.expect("]", "to close the index")
                self.depth -= 1
                node = ast.Index(self.since(mark), base=node, index=index)
            elif text == "++" or text == "--":
                if not isinstance(node, _TARGETS):
                    raise Diagnostic(
                        f"'{text}' needs a variable or a map",
                        self.here(),
                        hint="the operand is a '$variable' or a '@map'",
                    )
                self.advance()
                node = self._inc_dec(mark, text, node, prefix=False)
            else:
                return node
            chain += 1
            if chain > 30:
                self.tall = True
                if chain > MAX_CHAIN:
                    raise Diagnostic(f"more than {MAX_CHAIN} accesses in a row", self.here())

    def bracketed(self) -> ast.Expr:
        """An expression inside brackets, where "/" always divides."""
        outer, self.in_predicate = self.in_predicate, False
        node = self.parse_expression()
        self.in_predicate = outer
        return node

    def parse_primary(self) -> ast.Expr:
        """A literal, name, call, bracketed expression or block."""
        kind = self.kind
        if kind == "identifier":
            return self._word()
        mark = self.mark()
        text = self.text
        if kind == "variable":
            self.advance()
            name = text[1:]
            if name == "#":
                return ast.Positional(self.since(mark), number=0)
            if name[0].isdigit():
                number = int(name) if len(name) < 10 else 0
                if number == 0:
                    hint = "they count from $1; '$#' is how many there are"
                    message = f"there is no positional parameter '{text}'"
                    self.report(Diagnostic(message, self.since(mark), hint=hint))
                return ast.Positional(self.since(mark), number=number)
            return ast.Variable(self.since(mark), name=name)
        if kind == "map":
            return self._map()
        if kind == "number":
            return self._integer()
        if kind == "string":
            return self._string()
        if text == "(":
            return self._parenthesis()
        if text == "{":
            return self.parse_block_expression()
        raise self.unexpected("an expression")

    def _integer(self) -> ast.Expr:
        text = self.text
        value = 0
        try:
            value = integer(text)
        except Diagnostic as error:
            self.report(Diagnostic(error.message, self.here(), hint=error.hint))
        mark = self.mark()
        self.advance()
        return ast.Integer(self.since(mark), value=value, text=text)

    def string_value(self) -> str:
        """Take the string ahead, and those that follow it directly: they are one, as in C."""
        parts = []
        while self.kind == "string":
            try:
                parts.append(string(self.text))
            except Diagnostic:
                column = self.here().column
                for start, end, error in bad_escapes(self.text):
                    span = Span(self.line, column + start, self.line, column + end)
                    self.report(Diagnostic(error.message, span, hint=error.hint))
            self.advance()
        return "".join(parts)

    def _string(self) -> ast.Expr:
        mark = self.mark()
        value = self.string_value()
        return self._concatenated(mark, ast.String(self.since(mark), value=value))

    def _concatenated(self, mark: tuple[int, int], node: ast.Expr) -> ast.Expr:
        """A string with the strings and macros of strings that follow it directly."""
        while isinstance(node, ast.String):
            if self.kind == "string":
                following = self.string_value()
            elif self.kind == "identifier" and self.text in self.defines:
                macro = None if self.text in self.expanding else self._expand_define(self.text)
                if not isinstance(macro, ast.String):
                    break
                self.advance()
                following = macro.value
            else:
                break
            node = ast.String(self.since(mark), value=node.value + following)
        return node

    def _map(self) -> ast.Expr:
        mark = self.mark()
        name = self.text[1:]
        self.advance()
        node = ast.Map(self.since(mark), name=name)
        if self.text != "[":
            return node
        self.deeper()
        bracket = self.mark()
        self.advance()
        if self.text == "]":
            raise self.unexpected("a key", "a map without a key is written without brackets")
        keys = [self.bracketed()]
        while self.accept(","):
            keys.append(self.bracketed())
        self.expect("]", "to close the map's key")
        self.depth -= 1
        key = keys[0] if len(keys) == 1 else ast.Tuple(self.since(bracket), items=keys)
        return ast.MapAccess(self.since(mark), map=node, key=key)

    def _word(self) -> ast.Expr:
        name = self.text
        mark = self.mark()
        if name in KEYWORDS:
            return self._keyword(name, mark)
        self.advance()
        if self.text == "(":
            return self._call(name, mark)
        if is_builtin(name):
            return ast.Builtin(self.since(mark), name=name)
        if name in self.defines and name not in self.expanding:
            expanded = self._expand_define(name)
            if expanded is not None:
                expanded.span = self.since(mark)
                return self._concatenated(mark, expanded)
        return ast.Identifier(self.since(mark), name=name)

    def _expand_define(self, name: str) -> ast.Expr | None:
        """The expression an object macro stands for, or None when it is none (a type, a statement)."""
        inner = ExpressionParser(Source(f"macro {name}", self.defines[name]))
        inner.defines = self.defines
        inner.type_names = self.type_names
        inner.expanding = self.expanding | {name}
        inner.depth = self.depth
        try:
            node = inner.parse_expression()
        except Diagnostic:
            return None
        return node if inner.kind == "end" and not inner.diagnostics else None

    def _keyword(self, name: str, mark: tuple[int, int]) -> ast.Expr:
        if name == "true" or name == "false":
            self.advance()
            return ast.Boolean(self.since(mark), value=name == "true")
        if name == "if":
            return self.parse_if_expression()
        if name == "comptime":
            self.deeper()
            self.advance()
            operand = self.parse_unary()
            self.depth -= 1
            return ast.Comptime(self.since(mark), operand=operand)
        if name in ("sizeof", "typeinfo"):
            self.advance()
            self.expect("(", f"after '{name}'")
            operand_node = self._type_or_bracketed()
            self.expect(")", f"to close '{name}('")
            node = ast.Sizeof if name == "sizeof" else ast.Typeinfo
            return node(self.since(mark), operand=operand_node)
        if name == "offsetof":
            return self._offsetof(mark)
        if name in ("struct", "union", "enum"):
            raise Diagnostic(
                f"a type cannot be a value: '{name}'", self.here(), hint="a cast is written (struct name *)x"
            )
        raise Diagnostic(
            f"expected an expression, found the reserved word '{name}'",
            self.here(),
            hint="variables start with '$', maps with '@'",
        )

    def _type_or_bracketed(self) -> ast.Node:
        outer, self.in_predicate = self.in_predicate, False
        self.deeper()
        node = self.parse_type_or_expression()
        self.depth -= 1
        self.in_predicate = outer
        return node

    def _offsetof(self, mark: tuple[int, int]) -> ast.Expr:
        self.advance()
        self.expect("(", "after 'offsetof'")
        operand = self._type_or_bracketed()
        self.expect(",", "between the type and the field")
        path = []
        while True:
            if self.kind != "identifier":
                raise self.unexpected("a field's name")
            path.append(self.text)
            self.advance()
            if not self.accept("."):
                break
        self.expect(")", "to close 'offsetof('")
        return ast.Offsetof(self.since(mark), operand=operand, path=path)

    def _call(self, name: str, mark: tuple[int, int]) -> ast.Expr:
        self.deeper()
        self.advance()
        arguments: list[ast.Node] = []
        if self.text != ")":
            while True:
                arguments.append(self._argument())
                if self.text == ",":
                    self.advance()
                    continue
                if self.text == ")":
                    break
                raise self.unexpected(
                    f"',' or ')' in the call of '{name}'",
                    "arguments are separated by commas" if self.kind != "end" and self.text != "=" else None,
                )
        self.advance()
        self.depth -= 1
        return ast.Call(self.since(mark), name=name, arguments=arguments)

    def _argument(self) -> ast.Node:
        if self.text in ("struct", "union", "enum"):
            return self.parse_type()
        return self.bracketed()

    def _parenthesis(self) -> ast.Expr:
        mark = self.mark()
        if _RECORD.match(self.source_text, self.start):
            return self._record(mark)
        self.deeper()
        self.advance()
        if self.accept(")"):
            self.depth -= 1
            return ast.Tuple(self.since(mark), items=[])
        node = self.bracketed()
        if self.text != ",":
            self.expect(")", "to close '('")
            self.depth -= 1
            return node
        items = [node]
        while self.accept(","):
            if self.text == ")":
                break
            items.append(self.bracketed())
        self.expect(")", "to close the tuple")
        self.depth -= 1
        return ast.Tuple(self.since(mark), items=items)

    def _record(self, mark: tuple[int, int]) -> ast.Expr:
        self.deeper()
        self.advance()
        names: list[str] = []
        items: list[ast.Expr] = []
        while self.text != ")":
            if self.kind != "identifier" or self.text in KEYWORDS:
                raise self.unexpected("the name of the record's next field")
            if self.text in names:
                self.report(Diagnostic(f"the record has '{self.text}' twice", self.here()))
            names.append(self.text)
            self.advance()
            self.expect("=", "after the field's name")
            items.append(self.bracketed())
            if not self.accept(","):
                break
        self.expect(")", "to close the record")
        self.depth -= 1
        return ast.Record(self.since(mark), names=names, items=items)

    def parse_block_expression(self) -> ast.Expr:
        """``{ ...; value }``: ``parse_statements`` can; a constant or macro holds none."""
        raise self.unexpected("a constant")

    def parse_if_expression(self) -> ast.Expr:
        """``if c { a } else { b }``: ``parse_statements`` can; a constant or macro holds none."""
        raise self.unexpected("a constant")
