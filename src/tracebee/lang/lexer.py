"""The token stream: one compiled pattern, read on demand.

The language has three modes (script text, attach points, C definitions), and which one applies is
the parser's knowledge. The stream therefore holds one token of lookahead and can be moved: a mode
scans ``source_text`` from ``start`` by itself and calls ``seek``.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.source import Source

SKIP = re.compile(r"(?:\s+|//[^\n]*|/\*(?s:.*?)\*/)*", re.ASCII)
_TOKEN = re.compile(
    r"(?:\s+|//[^\n]*|/\*(?s:.*?)\*/)*"
    r"(?:([A-Za-z_][A-Za-z_0-9]*)"  # 1 identifier
    r"|([0-9][A-Za-z_0-9]*)"  # 2 number
    r"|(\$(?:[A-Za-z_][A-Za-z_0-9]*|[0-9]+|\#))"  # 3 variable, positional
    r"|(@(?:[A-Za-z_][A-Za-z_0-9]*)?)"  # 4 map
    r"|(\"(?:[^\"\\\n]|\\[^\n])*\")"  # 5 string
    r"|(<<=|>>=|->|\+\+|--|<<|>>|&&|\|\||\.\.|[-+*%&|^<>=!/]=|[-+*/%&|^!~<>=?:;,.(){}\[\]])"  # 6
    r"|(\Z)"  # 7 end
    r"|(.))",  # 8 anything else
    re.DOTALL | re.ASCII,
)
_KINDS = ("", "identifier", "number", "variable", "map", "string", "operator", "end", "bad")

# Deepest nesting of brackets, blocks and operators; the tree is walked recursively later on.
MAX_DEPTH = 90
# Longest chain of operators of one level, of else-ifs or of postfix accesses.
MAX_CHAIN = 200


class TokenStream:
    """The script's tokens, one ahead.

    ``kind`` and ``text`` are the token ahead; texts of different kinds never coincide, so the
    parser mostly compares ``text``. ``start`` and ``end`` are its offsets, ``line`` its line,
    counted from ``first_line``.
    """

    def __init__(self, source: Source, first_line: int = 1) -> None:
        self.source = source
        self.source_text = source.text
        self.diagnostics: list[Diagnostic] = []
        self.depth = 0
        self.tall = False  # whether the tree may have become too high to walk
        self.kind = ""
        self.text = ""
        self.start = self.end = 0
        self.line = first_line
        self.line_start = 0
        self.last_line = first_line
        self.last_column = 1
        self.advance()

    def advance(self) -> None:
        """Take the token ahead; the next one becomes the token ahead."""
        self.last_line = self.line
        self.last_column = self.end - self.line_start + 1
        self._read(self.end)

    def _read(self, position: int) -> None:
        match = _TOKEN.match(self.source_text, position)
        assert match is not None
        group = match.lastindex or 0
        start = match.start(group)
        if start > position:
            newline = self.source_text.rfind("\n", position, start)
            if newline >= 0:
                self.line += self.source_text.count("\n", position, start)
                self.line_start = newline + 1
        self.kind = _KINDS[group]
        self.text = match.group(group)
        self.start = start
        self.end = match.end()

    def seek(self, position: int) -> None:
        """Go on at ``position``, at or after the start of the token ahead; what lies between was read."""
        newline = self.source_text.rfind("\n", self.start, position)
        if newline >= 0:
            self.line += self.source_text.count("\n", self.start, position)
            self.line_start = newline + 1
        self.last_line = self.line
        self.last_column = position - self.line_start + 1
        self._read(position)

    def mark(self) -> tuple[int, int]:
        """Line and column of the token ahead, for ``since``."""
        return self.line, self.start - self.line_start + 1

    def since(self, mark: tuple[int, int]) -> Span:
        """The span from ``mark`` to the end of the token last taken."""
        return Span(mark[0], mark[1], self.last_line, self.last_column)

    def here(self) -> Span:
        """The span of the token ahead."""
        column = self.start - self.line_start + 1
        return Span(self.line, column, self.line, column + max(1, self.end - self.start))

    def accept(self, text: str) -> bool:
        """Take the token ahead when it is ``text``."""
        if self.text != text:
            return False
        self.advance()
        return True

    def expect(self, text: str, purpose: str = "", hint: str | None = None) -> None:
        """Take ``text`` or fail; ``purpose`` completes "expected 'text' ..."."""
        if self.text != text:
            raise self.unexpected(f"'{text}'" + (f" {purpose}" if purpose else ""), hint)
        self.advance()

    def peek_text(self) -> str:
        """What follows the token ahead, as raw text after blanks and comments (one character)."""
        match = SKIP.match(self.source_text, self.end)
        position = match.end() if match else self.end
        return self.source_text[position : position + 1]

    def deeper(self) -> None:
        """Enter a nested construct.

        :raises Diagnostic: it is nested too deep.
        """
        self.depth += 1
        if self.depth > 30:
            self.tall = True
        if self.depth > MAX_DEPTH:
            raise Diagnostic(
                f"nested more than {MAX_DEPTH} levels deep", self.here(), hint="split it with variables"
            )

    # --- errors -----------------------------------------------------------------------------------

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep an error and go on."""
        self.diagnostics.append(diagnostic)

    def unexpected(self, expected: str, hint: str | None = None) -> Diagnostic:
        """The error that something else than ``expected`` stands ahead."""
        if self.kind == "bad" or self.text == "/":
            lexical = self._lexical_error()
            if lexical is not None:
                return lexical
        found = "the end of the script" if self.kind == "end" else f"'{self.text}'"
        if hint is None:
            hint = self._hint()
        return Diagnostic(f"expected {expected}, found {found}", self.here(), hint=hint)

    def _lexical_error(self) -> Diagnostic | None:
        here = self.here()
        if self.text == '"':
            width = self.source_text.find("\n", self.start)
            stop = (len(self.source_text) if width < 0 else width) - self.line_start + 1
            span = here._replace(end_column=max(stop, here.end_column))
            return Diagnostic(
                "this string is not closed", span, hint="strings end with '\"' on their own line"
            )
        if self.source_text.startswith("/*", self.start):
            return Diagnostic("this comment is not closed", here, hint="comments end with '*/'")
        if self.text == "/":
            return None
        if self.text == "'":
            return Diagnostic('unexpected quote "\'"', here, hint="strings are written in double quotes")
        if self.text == "$":
            return Diagnostic("'$' needs a variable's name or a number", here)
        if self.text == "#":
            return Diagnostic(
                "a preprocessor line cannot stand here", here, hint="put it before the first probe"
            )
        return Diagnostic(f"unexpected character {self.text!r}", here)

    def _hint(self) -> str | None:
        if self.text == "=":
            return "'=' assigns and is a statement of its own; '==' compares"
        if self.text in ("and", "or", "not"):
            return "the logical operators are '&&', '||' and '!'"
        return None
