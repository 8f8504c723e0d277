"""Types as scripts write them: ``struct task_struct *``, ``uint8[16]``, ``typeof($x)``."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang import ast
from tracebee.lang.lexer import TokenStream
from tracebee.lang.literals import integer
from tracebee.lang.names import C_INTEGER_WORDS, KEYWORDS, TYPES, is_builtin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.source import Source

_TAGS = ("struct", "union", "enum")
# Compiled where used: most scripts have no casts.
# After "(": a type that takes up the whole parenthesis. 1: tag, 2: first word, 3: stars and brackets.
_PARENTHESISED = (
    r"\(\s*(?:const\s+|volatile\s+)*(?:(struct|union|enum)\s+)?([A-Za-z_]\w*(?:\s+(?:unsigned|signed|char|short|int|long))*)"
    r"\s*((?:const\b|\*|\[\s*\w*\s*\]|\s)*)\)\s*(!=|.?)"
)
_TYPEOF = r"\(\s*typeof\b"
_WORD_STARS = r"[A-Za-z_]\w*(?:\s*\*)+\s*\)"
_OPERAND_START = r"[A-Za-z_0-9$@\"(~]|!\Z"


class TypeParser(TokenStream):
    """Parses types; knows which names the script's own C definitions made into types."""

    def __init__(self, source: Source, first_line: int = 1) -> None:
        self.type_names: set[str] = set()
        super().__init__(source, first_line)

    def is_type_name(self, name: str) -> bool:
        """Whether a bare name is surely a type."""
        return name in TYPES or name in self.type_names or name in C_INTEGER_WORDS

    def at_type(self) -> bool:
        """Whether a type surely stands ahead."""
        if self.kind != "identifier":
            return False
        if self.text in _TAGS or self.text == "typeof":
            return True
        if self.text == "probe":  # the builtin is what scripts mean
            return False
        return self.is_type_name(self.text) and self.peek_text() != "("

    def at_cast(self) -> bool:
        """Whether the "(" ahead opens a cast: a type alone in parentheses, with an operand behind.

        A plain unknown word, ``(x) - 1``, is a cast only where no binary operator can be meant.
        """
        first = self.peek_text()
        if not (first.isalpha() or first == "_"):
            return False
        match = re.compile(_PARENTHESISED, re.ASCII).match(self.source_text, self.start)
        if match is None:
            return re.compile(_TYPEOF, re.ASCII).match(self.source_text, self.start) is not None
        tag, name, suffix, following = match.groups()
        suffix = suffix.strip()
        if tag:
            return True
        word = name.split()[0]
        if word in KEYWORDS:
            return False
        if "*" in suffix:
            return not is_builtin(name) or following not in ("", ")", ",", ";")
        if suffix:
            return self.is_type_name(word) or (
                not is_builtin(name) and re.search(r"\[\s*\]", suffix) is not None
            )
        if " " in name:
            return True
        if name != "probe" and self.is_type_name(word):
            return following not in (")", ",", ";", "")
        return not is_builtin(name) and re.match(_OPERAND_START, following) is not None

    def parse_type(self) -> ast.Node:
        """A type: TypeName, Typeof, or TypePointer for a pointer to an array or to a typeof."""
        mark = self.mark()
        node: ast.Node
        if self.text == "typeof":
            self.advance()
            self.expect("(", "after 'typeof'")
            operand = self.parse_type_or_expression()
            self.expect(")", "to close 'typeof('")
            node = ast.Typeof(self.since(mark), operand=operand)
            stars = self._stars()
            if stars:
                node = ast.TypePointer(self.since(mark), element=node, pointers=stars)
            return node
        name = self._type_words()
        stars = self._stars()
        sizes = self._sizes()
        node = ast.TypeName(self.since(mark), name=name, pointers=stars, array=sizes)
        while self.text == "*":
            stars = self._stars()
            node = ast.TypePointer(self.since(mark), element=node, pointers=stars)
            if self.text == "[":
                raise Diagnostic("an array of pointers to arrays is not supported", self.here())
        return node

    def parse_type_or_expression(self) -> ast.Node:
        """What ``sizeof(``, ``typeof(`` and ``typeinfo(`` hold."""
        if self.at_type():
            return self.parse_type()
        if self.kind == "identifier" and not is_builtin(self.text) and self.text not in KEYWORDS:
            follow = re.compile(_WORD_STARS, re.ASCII).match(self.source_text, self.start)
            if follow:  # name *): nothing but a type ends so
                return self.parse_type()
        return self.parse_expression()

    def parse_expression(self) -> ast.Expr:
        """An expression; see ``parse_expressions``."""
        raise NotImplementedError

    def _type_words(self) -> str:
        while self.text in ("const", "volatile"):
            self.advance()
        if self.kind != "identifier":
            raise self.unexpected("a type")
        first = self.text
        if first in _TAGS:
            self.advance()
            if self.kind != "identifier":
                raise self.unexpected(f"a name after '{first}'")
            name = f"{first} {self.text}"
            self.advance()
        elif first in C_INTEGER_WORDS:
            words = []
            while self.text in C_INTEGER_WORDS:
                words.append(self.text)
                self.advance()
            name = " ".join(w for w in words if w not in ("const", "volatile"))
        elif first in KEYWORDS:
            raise self.unexpected("a type", f"'{first}' is a reserved word")
        else:
            name = first
            self.advance()
        while self.text in ("const", "volatile"):
            self.advance()
        return name

    def _stars(self) -> int:
        stars = 0
        while self.text in ("*", "const"):
            stars += self.text == "*"
            self.advance()
        return stars

    def _sizes(self) -> list[int | None]:
        sizes: list[int | None] = []
        while self.text == "[":
            self.advance()
            if self.text == "]":
                sizes.append(None)
            elif self.kind == "number":
                try:
                    sizes.append(integer(self.text))
                except Diagnostic as error:
                    raise Diagnostic(error.message, self.here(), hint=error.hint) from None
                self.advance()
            else:
                raise self.unexpected("the array's length or ']'")
            self.expect("]", "to close the array's length")
        return sizes
