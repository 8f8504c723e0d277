"""Statements and blocks, with recovery: an error ends its statement, not the script."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.lexer import MAX_CHAIN
from tracebee.lang.names import C_INTEGER_WORDS, FUNCTIONS, TYPES
from tracebee.lang.parse_expressions import PRECEDENCE, ExpressionParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.source import Span

ASSIGNMENTS = frozenset(("=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="))
_TARGETS = (ast.Variable, ast.Map, ast.MapAccess)
_BLOCK_LIKE = (ast.IfExpr, ast.BlockExpr)
_SOLE_NAME = re.compile(r"\(\s*[A-Za-z_]\w*\s*\)\s*\{", re.ASCII)
# Behind a block these go on with its value; the other operators start a statement.
_CONTINUES = frozenset(PRECEDENCE) - {"*", "-", "&"} | {"?"}
# After this many errors the rest is noise.
MAX_ERRORS = 20


class ErrorLimit(Exception):  # noqa: N818 - a limit, not a finding
    """Stops a parse that found MAX_ERRORS errors; they are in ``diagnostics``."""


class StatementParser(ExpressionParser):
    """Parses blocks, as statements and as expressions."""

    def parse_block(self) -> ast.Block:
        """``{ statements }`` of a probe, loop or branch; a last value without ";" is a statement."""
        mark = self.mark()
        statements, value = self._body()
        if value is not None:
            statements.append(as_statement(value))
        return ast.Block(self.since(mark), statements=statements)

    def parse_block_expression(self) -> ast.BlockExpr:
        """``{ statements; value }``."""
        mark = self.mark()
        statements, value = self._body()
        return ast.BlockExpr(self.since(mark), statements=statements, value=value)

    def _body(self) -> tuple[list[ast.Node], ast.Expr | None]:
        open_span = self.here()
        outer, self.in_predicate = self.in_predicate, False
        self.expect("{", "to open the block")
        self.deeper()
        statements: list[ast.Node] = []
        value: ast.Expr | None = None
        depth = self.depth
        while self.text != "}":
            if self.kind == "end":
                raise self._unclosed(open_span)
            if self.accept(";"):
                continue
            try:
                value = self._statement_or_value(statements)
            except Diagnostic as error:
                self.report(error)
                self.depth = depth
                self.in_predicate = False
                if len(self.diagnostics) >= MAX_ERRORS:
                    raise ErrorLimit from None
                self.skip_statement()
        self.advance()
        self.depth -= 1
        self.in_predicate = outer
        return statements, value

    def _unclosed(self, span: Span) -> Diagnostic:
        return Diagnostic(
            "this block is not closed: expected '}', found the end of the script",
            span,
            hint="every '{' needs its '}'",
        )

    def skip_statement(self) -> None:
        """Go on behind the statement in error: after its ";", or at the "}" of the block."""
        level = 0
        first_line = self.line
        while self.kind != "end":
            text = self.text
            if text == "{":
                level += 1
            elif text == "}":
                if level == 0:
                    return
                level -= 1
                if level == 0:
                    self.advance()
                    return
            elif text == ";" and level == 0:
                self.advance()
                return
            elif text == '"' and self.kind == "bad":  # an unclosed string swallows its line
                stop = self.source_text.find("\n", self.start)
                self.seek(len(self.source_text) if stop < 0 else stop)
                if level == 0 and self.line > first_line:
                    return
                continue
            self.advance()

    def _statement_or_value(self, statements: list[ast.Node]) -> ast.Expr | None:
        """Read one statement into ``statements``, or return the value that ends the block."""
        text = self.text
        if self.kind == "identifier":
            parse = _STATEMENTS.get(text)
            if parse is not None:
                statements.append(parse(self))
                return None
            if text == "_" and self.peek_text() == "=":
                statements.append(self._discard())
                return None
            self._reject_c_statement()
        mark = self.mark()
        node: ast.Expr
        if text == "if":
            node = self.parse_if_expression()
        elif text == "{":
            node = self.parse_block_expression()
        else:
            node = self.parse_expression()
            if self.text in ASSIGNMENTS:
                statements.append(self._assign(mark, node))
                return None
        if self.text in _CONTINUES and isinstance(node, _BLOCK_LIKE):
            node = self.continue_expression(mark, node)
        if self.text == "}":
            return node
        statement = as_statement(node)
        statements.append(statement)
        if not isinstance(_innermost(node), _BLOCK_LIKE):
            self.end_statement()
        return None

    def end_statement(self) -> None:
        """The ";" that ends a statement; the last one of a block does without."""
        if self.text == "}":
            return
        if self.text != ";":
            raise self.unexpected("';' to end the statement", self._statement_hint())
        self.advance()

    def _statement_hint(self) -> str | None:
        if self.line > self.last_line:
            return "statements end with ';'"
        if self.text == "(":
            return None
        return self._hint()

    def _reject_c_statement(self) -> None:
        """Say what to write in place of C's declarations and other languages' words."""
        text = self.text
        following = self.peek_text()
        if text in ("elif", "elseif", "elsif"):
            raise Diagnostic(f"unknown word '{text}'", self.here(), hint="write 'else if'")
        if text == "else":
            raise Diagnostic("'else' without an 'if'", self.here())
        if text in C_INTEGER_WORDS or (text in TYPES and (following.isalpha() or following in "$*_")):
            raise Diagnostic(
                f"a declaration cannot start with the type '{text}'",
                self.here(),
                hint="variables are declared by their first '$name = value', or 'let $name : type'",
            )
        if following == "=" and text not in FUNCTIONS and not self._compares():
            raise Diagnostic(
                f"'{text}' cannot be assigned",
                self.here(),
                hint=f"variables start with '$': ${text}; maps with '@': @{text}",
            )

    def _compares(self) -> bool:
        position = self.source_text.find("=", self.end)
        return self.source_text.startswith("==", position)

    def _assign(self, mark: tuple[int, int], target: ast.Expr) -> ast.Node:
        operator = self.text
        if not isinstance(target, _TARGETS):
            span = self.since(mark)
            hint = "the left side is a '$variable', a '@map' or a '@map[key]'"
            if isinstance(target, ast.Field) and target.name.isdecimal():
                hint = "tuples and records never change: make a new one"
            raise Diagnostic("this cannot be assigned", span, hint=hint)
        self.advance()
        value = self.parse_expression()
        node = ast.Assign(self.since(mark), target=target, op=operator, value=value)
        self.end_statement()
        return node

    def _discard(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        self.advance()
        value = self.parse_expression()
        node = ast.Discard(self.since(mark), expr=value)
        self.end_statement()
        return node

    # --- statements with a keyword ----------------------------------------------------------------

    def _let(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        if self.kind == "map":
            raise Diagnostic(
                f"the map '{self.text}' cannot be declared here",
                self.here(),
                hint="map declarations stand before the first probe; maps need none",
            )
        variable = self.variable("after 'let'")
        annotation = self.parse_type() if self.accept(":") else None
        value = self.parse_expression() if self.accept("=") else None
        node = ast.Let(self.since(mark), variable=variable, annotation=annotation, value=value)
        self.end_statement()
        return node

    def variable(self, place: str) -> ast.Variable:
        """Take the ``$name`` ahead."""
        if self.kind != "variable" or self.text[1:2].isdigit() or self.text == "$#":
            hint = f"variables start with '$': ${self.text}" if self.kind == "identifier" else None
            raise self.unexpected(f"a variable {place}", hint)
        mark = self.mark()
        name = self.text[1:]
        self.advance()
        return ast.Variable(self.since(mark), name=name)

    def _while(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        condition = self.condition("while")
        return ast.While(condition=condition, body=self.parse_block(), span=self.since(mark))

    def _unroll(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        count = self.condition("unroll")
        return ast.Unroll(count=count, body=self.parse_block(), span=self.since(mark))

    def condition(self, word: str) -> ast.Expr:
        """The condition of if, while, unroll: parenthesised or not; the block's "{" ends it."""
        if self.text == "{":
            raise self.unexpected(f"a condition after '{word}'")
        if self.text != "(":
            return self.parse_expression()
        # "(NAME) {" must not read as a cast of the block.
        match = _SOLE_NAME.match(self.source_text, self.start)
        if match is None:
            return self.parse_expression()
        self.advance()
        node = self.parse_postfix()
        self.expect(")", "to close the condition")
        return node

    def _for(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        bracket = self.accept("(")
        if self.text in ("int", "let") or (self.kind == "variable" and self.peek_text() == "="):
            failure = Diagnostic(
                "there is no for loop with a condition",
                self.here(),
                hint="loop over a range, for ($i : 0..10) { }, or over a map, for ($kv : @map) { }",
            )
            while self.text not in "{}":  # its semicolons end no statement; "" is the script's end
                self.advance()
            raise failure
        variable = self.variable("after 'for'")
        self.expect(":", "between the loop's variable and what it runs over")
        iterable = self._iterable()
        if bracket:
            self.expect(")", "to close 'for ('")
        body = self.parse_block()
        return ast.For(self.since(mark), variable=variable, iterable=iterable, body=body)

    def _iterable(self) -> ast.Node:
        mark = self.mark()
        start = self.parse_unary()
        if self.accept(".."):
            end = self.parse_unary()
            return ast.Range(self.since(mark), start=start, end=end)
        if not isinstance(start, ast.Map):
            raise Diagnostic(
                "this cannot be looped over",
                start.span,
                hint="for loops run over a range, 0..10, or over a map, @map",
            )
        return start

    def _break(self) -> ast.Node:
        node = ast.Break(self.here())
        self.advance()
        self.end_statement()
        return node

    def _continue(self) -> ast.Node:
        node = ast.Continue(self.here())
        self.advance()
        self.end_statement()
        return node

    def _return(self) -> ast.Node:
        mark = self.mark()
        self.advance()
        value = None if self.text in (";", "}") else self.parse_expression()
        node = ast.Return(self.since(mark), value=value)
        self.end_statement()
        return node

    def import_statement(self) -> ast.Node:
        """``import "path";``."""
        mark = self.mark()
        self.advance()
        if self.kind != "string":
            raise self.unexpected("the path of what to import, in quotes")
        path = self.string_value()
        node = ast.Import(self.since(mark), path=path)
        if self.text != ";":
            raise self.unexpected("';' after the import")
        self.advance()
        return node

    def parse_if_expression(self) -> ast.IfExpr:
        """``if c { } else if c { } else { }``; the chain is read in a loop, nested afterwards."""
        branches: list[tuple[tuple[int, int], ast.Expr, ast.BlockExpr]] = []
        otherwise: ast.Expr | None = None
        while True:
            mark = self.mark()
            self.advance()
            condition = self.condition("if")
            branches.append((mark, condition, self.parse_block_expression()))
            if len(branches) > 30:
                self.tall = True
            if len(branches) > MAX_CHAIN:
                raise Diagnostic(f"more than {MAX_CHAIN} branches", self.here())
            if not self.accept("else"):
                break
            if self.text == "if":
                continue
            otherwise = self.parse_block_expression()
            break
        for mark, condition, then in reversed(branches):
            otherwise = ast.IfExpr(self.since(mark), condition=condition, then=then, otherwise=otherwise)
        assert isinstance(otherwise, ast.IfExpr)
        return otherwise


_STATEMENTS: dict[str, Callable[[StatementParser], ast.Node]] = {
    "let": StatementParser._let,  # noqa: SLF001 - a dispatch table of this class
    "while": StatementParser._while,  # noqa: SLF001
    "unroll": StatementParser._unroll,  # noqa: SLF001
    "for": StatementParser._for,  # noqa: SLF001
    "break": StatementParser._break,  # noqa: SLF001
    "continue": StatementParser._continue,  # noqa: SLF001
    "return": StatementParser._return,  # noqa: SLF001
    "import": StatementParser.import_statement,
}


def _innermost(node: ast.Expr) -> ast.Expr:
    while isinstance(node, ast.Comptime):
        node = node.operand
    return node


def as_statement(node: ast.Expr) -> ast.Node:
    """An expression in statement position: blocks and ifs become statements, their values too."""
    if isinstance(node, ast.BlockExpr):
        return _as_block(node)
    if isinstance(node, ast.IfExpr):
        chain = [node]
        while isinstance(chain[-1].otherwise, ast.IfExpr):
            chain.append(chain[-1].otherwise)
        last = chain[-1].otherwise
        statement: ast.Node | None = None if last is None else as_statement(last)
        for part in reversed(chain):
            then = _as_block(part.then)
            statement = ast.If(part.span, condition=part.condition, then=then, otherwise=statement)
        assert statement is not None
        return statement
    return ast.ExprStatement(node.span, expr=node)


def _as_block(node: ast.BlockExpr) -> ast.Block:
    tail = [] if node.value is None else [as_statement(node.value)]
    return ast.Block(node.span, statements=node.statements + tail)
