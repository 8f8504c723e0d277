"""Reads C declarations of types: specifiers, declarators, attributes. Source: C11 6.7."""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic
from tracebee.lang.c_constants import evaluate
from tracebee.lang.c_layout import Member, layout
from tracebee.lang.records import INTEGERS
from tracebee.lang.types import INT8, INT32, NONE, UINT32, Type, TypeField, pointer, string
from tracebee.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.lang import ast
    from tracebee.lang.cdefs import Definitions

_TOKEN = re.compile(
    r"(?:\s+|//[^\n]*|/\*(?s:.*?)\*/|\\\n)*"
    r"([A-Za-z_]\w*|[0-9]\w*|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\.\.\.|<<|>>|.|\Z)",
    re.ASCII | re.DOTALL,
)
_INTEGER_WORDS = frozenset(("unsigned", "signed", "char", "short", "int", "long"))
_QUALIFIERS = frozenset(
    ("const", "volatile", "restrict", "__restrict", "static", "extern", "register", "inline")
)
_MAX_NESTING = 32


class Reader:
    """Reads one definition."""

    def __init__(self, definitions: Definitions, node: ast.CDefinition) -> None:
        self.definitions = definitions
        self.node = node
        self.depth = 0
        self.position = 0
        self.start = 0
        self.ahead = ""
        self._advance()

    # --- tokens -----------------------------------------------------------------------------------

    def _advance(self) -> str:
        taken = self.ahead
        match = _TOKEN.match(self.node.text, self.position)
        assert match is not None
        self.ahead = match.group(1)
        self.start = match.start(1)
        self.position = match.end()
        return taken

    def _accept(self, text: str) -> bool:
        if self.ahead == text:
            self._advance()
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._wrong(f"expected '{text}', found {self._found()}")

    def _found(self) -> str:
        return f"'{self.ahead}'" if self.ahead else "the end of the definition"

    def _wrong(self, message: str, hint: str | None = None) -> Diagnostic:
        before = self.node.text[: self.start]
        line = self.node.span.line + before.count("\n")
        column = len(before) - before.rfind("\n")
        if "\n" not in before:
            column += self.node.span.column - 1
        span = (
            Span(line, column, line, column + max(1, len(self.ahead)))
            if self.node.span.line
            else self.node.span
        )
        return Diagnostic(message, span, hint=hint)

    def _word(self, what: str) -> str:
        if not (self.ahead[:1].isalpha() or self.ahead[:1] == "_"):
            raise self._wrong(f"expected {what}, found {self._found()}")
        return self._advance()

    # --- declarations -----------------------------------------------------------------------------

    def read(self) -> None:
        """The whole definition."""
        typedef = self._accept("typedef")
        base, base_align = self._specifier()
        while self.ahead != ";":
            name, t, align = self._declarator(base, base_align)
            if not typedef:
                raise self._wrong("a variable cannot be defined", "define the type alone")
            self._attributes()
            self.definitions.define(name, t, align)
            if not self._accept(","):
                break
        self._expect(";")
        if self.ahead:
            raise self._wrong(f"expected the end of the definition, found {self._found()}")

    def _qualifiers(self) -> None:
        while self.ahead in _QUALIFIERS or self.ahead in ("__attribute__", "__extension__"):
            if self.ahead == "__attribute__":
                self._attributes()
            else:
                self._advance()

    def _attributes(self) -> tuple[bool, int]:
        """Skip attributes; whether one was ``packed``, and the largest ``aligned`` one."""
        packed, aligned = False, 0
        while self.ahead in ("__attribute__", "__packed"):
            if self._advance() == "__packed":
                packed = True
                continue
            self._expect("(")
            level = 1
            while level and self.ahead:
                word = self._advance()
                level += (word == "(") - (word == ")")
                if word in ("packed", "__packed__"):
                    packed = True
                elif word in ("aligned", "__aligned__"):
                    aligned = max(aligned, self._aligned())
        return packed, aligned

    def _aligned(self) -> int:
        if self.ahead != "(":
            return 16
        self._advance()
        return self._constant((")",))

    def _specifier(self) -> tuple[Type, int]:
        """The type before the declarators, and its alignment."""
        self._qualifiers()
        word = self.ahead
        if word in ("struct", "union"):
            return self._record()
        if word == "enum":
            found = self._enum()
            return found, found.size
        if word in _INTEGER_WORDS:
            found = self._integer()
            return found, found.size
        if word in ("float", "double"):
            raise self._wrong(
                "floating point does not exist in BPF", f"declare bytes of its size in place of '{word}'"
            )
        place = self._wrong("")
        name = self._word("a type")
        self._qualifiers()
        known = self.definitions.find(name)
        if known is None:
            raise Diagnostic(f"unknown type '{name}'", place.span, hint=self._near(name))
        return known, self.definitions.alignment(known, name)

    def _near(self, name: str) -> str | None:
        from tracebee.suggest import did_you_mean  # only errors need it

        return did_you_mean(name, [*self.definitions.names(), *INTEGERS])

    def _integer(self) -> Type:
        words = []
        while self.ahead in _INTEGER_WORDS or self.ahead in _QUALIFIERS:
            if self.ahead in _QUALIFIERS:
                self._advance()
            else:
                words.append(self._advance())
        unsigned = "unsigned" in words
        longs = words.count("long")
        size = 1 if "char" in words else 2 if "short" in words else 8 if longs else 4
        if longs > 2 or ("char" in words and len(words) > 2) or (longs and "short" in words):
            raise self._wrong(f"'{' '.join(words)}' is no type")
        return Type("int", size, signed=not unsigned)

    def _record(self) -> tuple[Type, int]:
        keyword = self._advance()
        packed, aligned = self._attributes()
        tag = "" if self.ahead == "{" else self._word(f"a name or '{{' after '{keyword}'")
        name = f"{keyword} {tag}" if tag else ""
        if self.ahead != "{":
            known = self.definitions.type(name) or Type("record", 0, name=name)
            return known, self.definitions.alignment(known, name)
        self.depth += 1
        if self.depth > _MAX_NESTING:
            raise self._wrong("nested too deep")
        self._advance()
        members: list[Member] = []
        while self.ahead != "}":
            if self._accept(";"):
                continue
            self._members(members)
        self._advance()
        self.depth -= 1
        more, larger = self._attributes()
        try:
            fields, size, align = layout(
                members, union=keyword == "union", packed=packed or more, aligned=max(aligned, larger)
            )
        except ValueError as error:
            raise self._wrong(f"the {keyword} {error}") from None
        found = Type("record", size, name=name, fields=fields)
        if name:
            self.definitions.define(name, found, align)
        return found, align

    def _members(self, out: list[Member]) -> None:
        """One member declaration, with all its declarators."""
        base, base_align = self._specifier()
        if self._accept(";"):
            if base.kind == "record" and not base.name:  # an anonymous struct or union
                out.append(Member("", base, base_align))
            return
        while True:
            if self.ahead == ":":
                name, t, align = "", base, base_align
            else:
                name, t, align = self._declarator(base, base_align)
            bits = -1
            if self._accept(":"):
                bits = self._constant((",", ";", "__attribute__"), keep=True)
                if t.kind not in ("int", "bool", "enum"):
                    raise self._wrong("a bit-field must be an integer")
                if not 0 <= bits <= t.size * 8 or (bits == 0 and name):
                    raise self._wrong(f"a bit-field of {bits} bits does not fit its type")
            packed, aligned = self._attributes()
            if t.kind == "none":
                raise self._wrong(f"'{name}' cannot be of type void")
            if t.kind == "record" and not t.size and not t.fields and self.definitions.type(t.name) is None:
                found = self.definitions.find(t.name)
                if found is None:
                    raise self._wrong(f"'{t.name}' is not defined, so '{name}' has no size")
                t, align = found, self.definitions.alignment(found, t.name)
            out.append(Member(name, t, max(1 if packed else align, aligned), bits))
            if not self._accept(","):
                break
        self._expect(";")

    def _enum(self) -> Type:
        self._advance()
        tag = "" if self.ahead in "{:" else self._word("a name or '{' after 'enum'")
        name = f"enum {tag}" if tag else ""
        if self.ahead != "{":
            return self.definitions.find(name) or Type("enum", 4, name=name)
        self._advance()
        values: list[tuple[str, int]] = []
        following = 0
        while self.ahead != "}":
            enumerator = self._word("an enumerator")
            if self._accept("="):
                following = self._constant((",", "}"), keep=True)
            values.append((enumerator, following))
            self.definitions.enumerator(enumerator, following, INT32)  # later ones may refer to it
            following += 1
            if not self._accept(","):
                break
        self._expect("}")
        self._attributes()
        low = min((v for _, v in values), default=0)
        high = max((v for _, v in values), default=0)
        small = (low >= -(1 << 31) and high < 1 << 31) or (low >= 0 and high < 1 << 32)
        size = 4 if small else 8
        fields = tuple(TypeField(n, INT32 if low < 0 else UINT32, v) for n, v in values)
        found = Type("enum", size, signed=low < 0, name=name, fields=fields)
        for enumerator, value in values:
            self.definitions.enumerator(enumerator, value, found)
        if name:
            self.definitions.define(name, found)
        return found

    def _declarator(self, base: Type, align: int) -> tuple[str, Type, int]:
        """``*name[2]``, ``(*name)(int)``: the name, its type and its alignment."""
        t = base
        while self._accept("*"):
            self._qualifiers()
            t, align = pointer(t, ""), 8
        if self.ahead != "(":
            name = self._word("a name")
            if self.ahead == "(":  # a function's type: only pointers to it have values
                self._skip_parameters()
                return name, NONE, 1
            return name, self._array(t, self._sizes()), align
        self._advance()
        if self.ahead != "*":
            raise self._wrong(
                f"expected '*', found {self._found()}", "functions are pointed to: int (*f)(int)"
            )
        stars = 0
        while self._accept("*"):
            self._qualifiers()
            stars += 1
        name = self._word("a name")
        outer = self._sizes()
        self._expect(")")
        if self.ahead == "(":
            self._skip_parameters()
            inner: Type = NONE
        else:
            inner = self._array(t, self._sizes())
        for _ in range(stars):
            inner = pointer(inner, "")
        return name, self._array(inner, outer), 8

    def _skip_parameters(self) -> None:
        self._expect("(")
        level = 1
        while level:
            if not self.ahead:
                raise self._wrong("expected ')', found the end of the definition")
            word = self._advance()
            level += (word == "(") - (word == ")")

    def _sizes(self) -> list[int]:
        out = []
        while self._accept("["):
            out.append(0 if self._accept("]") else self._constant(("]",)))
        return out

    def _array(self, t: Type, sizes: list[int]) -> Type:
        for index, count in enumerate(reversed(sizes)):
            if index == 0 and t == INT8 and count:
                t = string(count)
            else:
                t = Type("array", t.size * count, element=t, number=count)
        return t

    def _constant(self, stops: tuple[str, ...], *, keep: bool = False) -> int:
        """A constant expression up to one of ``stops``, which is taken unless ``keep``."""
        start, first = self.start, self._wrong("")
        level = 0
        while self.ahead and not (level == 0 and self.ahead in stops):
            level += (self.ahead == "(") - (self.ahead == ")")
            self._advance()
        text = self.node.text[start : self.start].strip()
        definitions = self.definitions
        try:
            value = evaluate(text, definitions.number, definitions.size_of, definitions.defines)
        except ValueError as error:
            raise Diagnostic(f"'{text}' is not a constant: {error}", first.span) from None
        if not keep:
            if not self.ahead:
                raise self._wrong(f"expected '{stops[0]}', found the end of the definition")
            self._advance()
        if not -(1 << 63) <= value < 1 << 64:
            raise Diagnostic(f"'{text}' does not fit 64 bits", first.span)
        if stops == ("]",) and not 0 <= value <= 1 << 24:
            raise Diagnostic(f"an array cannot have {value} elements", first.span)
        return value
