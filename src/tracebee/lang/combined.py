"""Several texts as one source: spans of the later ones continue the line numbers of those before."""

from __future__ import annotations

from tracebee.source import Source, Span


class CombinedSource(Source):
    """A script and what it imports and includes, as one: line numbers run on from file to file."""

    parts: list[tuple[int, Source]]

    @classmethod
    def of(cls, main: Source) -> CombinedSource:
        """Starts with the main script, whose spans keep their lines."""
        made = cls(main.name, main.text)
        made.parts = [(1, main)]
        return made

    def append(self, source: Source) -> int:
        """Add a script; returns the number its first line gets."""
        first, last = self.parts[-1]
        line = first + last.text.count("\n") + 1
        self.parts.append((line, source))
        return line

    def _local(self, span: Span) -> tuple[Source, Span]:
        for first, source in reversed(self.parts):
            if span.line >= first:
                return source, span._replace(line=span.line - first + 1, end_line=span.end_line - first + 1)
        return self.parts[0][1], span

    def place(self, span: Span) -> str:
        """``name:line:column`` in the script the span belongs to."""
        source, local = self._local(span)
        return Source.place(source, local)

    def excerpt(self, span: Span) -> str:
        """The span's line in the script it belongs to."""
        source, local = self._local(span)
        return Source.excerpt(source, local)
