"""Where a piece of a script stands: spans, and the excerpt with a caret that an error prints."""

from __future__ import annotations

from tracebee.typed import NamedTuple


class Span(NamedTuple):
    """A range of source text. Lines and columns count from 1; the end column is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of ``other``."""
        return Span(self.line, self.column, other.end_line, other.end_column)


NOWHERE = Span(0, 0, 0, 0)


class Source(NamedTuple):
    """A script's text and the name errors give it (``stdin`` for ``-e``, as bpftrace says)."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """The text of one line (from 1), without its newline; empty beyond the end."""
        lines = self.text.split("\n")
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def place(self, span: Span) -> str:
        """Where a span starts, ``name:line:column``."""
        return f"{self.name}:{span.line}:{span.column}"

    def excerpt(self, span: Span) -> str:
        """The span's first line with ``^~~~`` under the span, each indented as an error shows it."""
        text = self.line(span.line)
        width = max(1, (span.end_column if span.end_line == span.line else len(text) + 1) - span.column)
        # Tabs stay tabs in the marker line, so that the caret stands under the text in any terminal.
        pad = "".join("\t" if c == "\t" else " " for c in text[: span.column - 1])
        prefix = f"{span.line:>5} | "
        return f"{prefix}{text}\n{' ' * (len(prefix) - 2)}| {pad}^{'~' * (width - 1)}"


NO_SOURCE = Source("", "")
