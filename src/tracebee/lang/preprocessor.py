"""Preprocessor lines of the preamble: object macros, and the conditions that switch lines on and off.

``#include`` is for the parser (``headers``). As in bpftrace, a ``#define`` acts on C
definitions and on the names in probes, and conditions act on C definitions and ``#define`` lines.
"""

from __future__ import annotations

import re

from tracebee.errors import Diagnostic

_LINE = re.compile(r"#[ \t]*([A-Za-z_]\w*)?[ \t]*((?:[^\\\n]|\\.|\\\n)*)", re.ASCII | re.DOTALL)
_DEFINE = re.compile(r"([A-Za-z_]\w*)(\(?)[ \t]*(.*)", re.ASCII | re.DOTALL)
_COMMENT = re.compile(r"//.*|/\*.*?\*/", re.DOTALL)
_DEFINED = re.compile(r"defined\s*(?:\(\s*([A-Za-z_]\w*)\s*\)|([A-Za-z_]\w*))", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
DIRECTIVES = frozenset(
    (
        "include",
        "define",
        "undef",
        "if",
        "ifdef",
        "ifndef",
        "elif",
        "else",
        "endif",
        "pragma",
        "error",
        "warning",
        "line",
    )
)


class Preprocessor:
    """The state of a preamble: macros defined so far and open conditions."""

    def __init__(self, defines: dict[str, str]) -> None:
        self.defines = defines
        self._open: list[tuple[bool, bool]] = []  # (lines are on, a branch was taken)

    @property
    def active(self) -> bool:
        """Whether lines are on here."""
        return all(on for on, _ in self._open)

    @property
    def depth(self) -> int:
        """How many conditions are open."""
        return len(self._open)

    def line_end(self, text: str, start: int) -> int:
        """Offset of the end of the (possibly continued) line of the directive at ``start``."""
        match = _LINE.match(text, start)
        assert match is not None
        return match.end()

    def directive(self, line: str) -> str:
        """Act on one directive; returns its word, or ``inactive`` when it stood in a part switched off.

        :raises Diagnostic: unknown, or a condition that does not belong; without a span.
        """
        match = _LINE.match(line)
        assert match is not None
        word = match.group(1) or "line"
        rest = _COMMENT.sub(" ", match.group(2).replace("\\\n", " ")).strip()
        if word not in DIRECTIVES:
            raise Diagnostic(f"unknown preprocessor directive '#{word}'")
        if word in ("if", "ifdef", "ifndef"):
            active = self.active
            self._open.append((False, True))  # for its "#endif", should the condition be wrong
            taken = active and self._condition(word, rest)
            self._open[-1] = (taken, taken or not active)
            return word
        if word in ("elif", "else", "endif"):
            if not self._open:
                raise Diagnostic(f"'#{word}' without an '#if'")
            _, taken = self._open.pop()
            if word == "endif":
                return word
            on = not taken and self.active and (word == "else" or self._condition("if", rest))
            self._open.append((on, taken or on))
            return word
        if not self.active:
            return "inactive"
        if word == "define":
            self._define(rest)
        elif word == "undef":
            self.defines.pop(rest, None)
        elif word == "error":
            raise Diagnostic(f"#error {rest}")
        return word

    def _define(self, rest: str) -> None:
        match = _DEFINE.match(rest)
        if match is None:
            raise Diagnostic("'#define' needs a name")
        name, parenthesis, value = match.groups()
        if not parenthesis:  # macros with parameters act in C definitions alone, and those have none
            self.defines[name] = value.strip()

    def _condition(self, word: str, rest: str) -> bool:
        if word != "if":
            name = _WORD.match(rest)
            if name is None:
                raise Diagnostic(f"'#{word}' needs a name")
            return (name.group() in self.defines) == (word == "ifdef")
        # Imported here: few scripts have conditions.
        from tracebee.lang.c_constants import evaluate

        text = _DEFINED.sub(lambda m: "1" if (m[1] or m[2]) in self.defines else "0", rest)
        try:
            return evaluate(text, lambda _: 0, defines=self.defines) != 0
        except ValueError as error:
            raise Diagnostic(f"cannot evaluate the condition '{rest}': {error}") from None
