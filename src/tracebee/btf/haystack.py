"""The bytes of one BTF blob, searched: strings in its string section, words in its type section."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from typing import Literal

    from tracebee.btf.search import Search

# Bytes of types from which on loading ctypes to search them is worth it.
_LARGE = 1 << 18


class Haystack:
    """A blob's two sections, and the fastest way to search them.

    :param strings, types: where the sections begin and end in the data.
    :param order: byte order of the words.
    """

    def __init__(
        self,
        data: bytes | mmap,
        strings: tuple[int, int],
        types: tuple[int, int],
        order: Literal["little", "big"],
    ) -> None:
        self._data, self._strings, self._types, self._order = data, strings, types, order
        self._search: Search | None = None

    def _searcher(self) -> Search | None:
        """The fast search, where there is enough to search that loading ctypes pays."""
        if self._search is None and self._types[1] - self._types[0] > _LARGE:
            from tracebee.btf.search import Search

            self._search = Search(self._data)
        return self._search

    def strings(self, text: str) -> list[int]:
        """Offsets in the string section at which this string stands and ends.

        One is enough when it is no other string's tail: linkers write each string once.
        """
        needle = text.encode("utf-8", "surrogateescape") + b"\0"
        start = self._strings[0]
        first = next(self._bytes(b"\0" + needle), None)
        if first is not None:
            return [first + 1 - start]
        # A string may be the tail of another, or (in split BTF) the first of the section.
        return [place - start for place in self._bytes(needle)]

    def strings_that_begin(self, text: str) -> Iterator[int]:
        """Offsets in the string section of strings that begin so."""
        for place in self._bytes(b"\0" + text.encode("utf-8", "surrogateescape")):
            yield place + 1 - self._strings[0]

    def words(self, word: int) -> Iterator[int]:
        """Every place in the data where this 32-bit word stands in the type section."""
        start, end = self._types
        search = self._searcher()
        if search is not None and start % 4 == 0:
            yield from search.words(word, start, end, self._order)
            return
        needle = word.to_bytes(4, self._order)
        place = self._data.find(needle, start, end)
        while place >= 0:
            if (place - start) % 4 == 0:
                yield place
            place = self._data.find(needle, place + 1, end)

    def _bytes(self, needle: bytes) -> Iterator[int]:
        """Every place in the data where these bytes stand in the string section."""
        start, end = self._strings
        search = self._searcher()
        find = search.bytes if search else self._data.find
        place = find(needle, start, end)
        while place >= 0:
            yield place
            place = find(needle, place + 1, end)
