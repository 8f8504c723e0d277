"""Where each type of a BTF type section lies.

Types have variable length, so only a walk finds the Nth. A walk of the kernel's 126,000 types in
Python takes 30 to 100 ms; here one regular expression, which spells out how long each kind with each
usual number of members is, steps over 16 types per call, and Python walks only what it does not match
(large structs and enums). That takes 13 ms, and the 16th offsets kept are 32 KB instead of megabytes.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right

from tracebee.btf import kinds
from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from mmap import mmap

STEP = 16

# Member counts worth an alternative in the pattern, commonest first, for kinds that have members.
_COMMON_COUNTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((kinds.BTF_KIND_FUNC_PROTO,), (2, 3, 1, 4, 5, 6, 7, 0, 8, 9, 10)),
    ((kinds.BTF_KIND_STRUCT, kinds.BTF_KIND_UNION), (2, 3, 4, 5, 0, 1, *range(6, 17))),
    ((kinds.BTF_KIND_ENUM,), (3, 4, 2, 5, 6, 1, 7, 8, 9)),
)


def _kind_class(rows: tuple[int, ...]) -> bytes:
    """A character class for the byte of ``info`` that holds the kind, with the kind flag and without."""
    return b"[" + b"".join(b"\\x%02x\\x%02x" % (kind, kind | 0x80) for kind in rows) + b"]"


def _info(order: str, kind: bytes, count: bytes) -> bytes:
    """A pattern for the word that holds kind and member count."""
    return count + b"." + kind if order == "little" else kind + b"." + count


def _one_type(order: str) -> bytes:
    """Matches one type; fails on a kind or member count that has no alternative."""
    fixed: dict[int, tuple[int, ...]] = {}
    for kind, (_, once, each) in enumerate(kinds.KINDS):
        if kind and not each:
            fixed[once] = (*fixed.get(once, ()), kind)
    simple = [
        _info(order, _kind_class(row), b"..") + b".{%d}" % (4 + once) for once, row in sorted(fixed.items())
    ]
    sized = [
        _info(order, _kind_class(row), b"".join(b"\\x%02x" % byte for byte in n.to_bytes(2, order)))  # type: ignore[arg-type]
        + b".{%d}" % (4 + kinds.KINDS[row[0]][2] * n)
        for row, counts in _COMMON_COUNTS
        for n in counts
    ]
    protos = len(_COMMON_COUNTS[0][1])
    # In vmlinux order of frequency: FUNC, PTR and other headers, prototypes, arrays, the rest.
    choices = [simple[0], *sized[:protos], *simple[1:], *sized[protos:]]
    return b"....(?:" + b"|".join(choices) + b")"


def _block(order: str) -> re.Pattern[bytes]:
    """Matches STEP types in a row."""
    return re.compile(b"(?s:(?:%s){%d}+)" % (_one_type(order), STEP))


def _marked(order: str, wanted: Collection[int]) -> re.Pattern[bytes]:
    """Matches one type, and the empty group 1 in it when it is of a wanted kind."""
    head = b"...." + _info(order, _kind_class(tuple(wanted)), b"..")
    return re.compile(b"(?s:(?:(?=%s)())?%s)" % (head, _one_type(order)))


class Index:
    """Offsets of types in ``data``, whose type section is ``[start, end)``.

    :param first_id: id of the section's first type: 1, or behind the last of the base of split BTF.
    :raises DecodeError: an unknown kind, or a type that runs over the section's end.
    """

    def __init__(
        self,
        data: bytes | mmap,
        start: int,
        end: int,
        order: str,
        first_id: int = 1,
        cache_key: str | None = None,
    ) -> None:
        self.data, self.start, self.end, self.order, self.first_id = data, start, end, order, first_id
        known = None
        if cache_key:
            from tracebee.btf import index_cache

            known = index_cache.load(cache_key, start, end)
        self.anchors, self.count = known or self._scan()
        if cache_key and not known:
            index_cache.store(cache_key, start, end, self.anchors, self.count)

    def _length(self, offset: int) -> int:
        """Bytes of the type at ``offset``."""
        if offset + kinds.HEADER_SIZE > self.end:
            raise DecodeError(f"BTF: type at {offset - self.start} runs over the end of the section")
        info = int.from_bytes(self.data[offset + 4 : offset + 8], self.order)  # type: ignore[arg-type]
        kind = info >> 24 & 0x1F
        if not 0 < kind < len(kinds.KINDS):
            raise DecodeError(f"BTF: unknown kind {kind} at {offset - self.start} of the type section")
        _, once, each = kinds.KINDS[kind]
        length = kinds.HEADER_SIZE + once + each * (info & 0xFFFF)
        if offset + length > self.end:
            raise DecodeError(f"BTF: type at {offset - self.start} runs over the end of the section")
        return length

    def _scan(self) -> tuple[array[int], int]:
        """The offset of every STEPth type, and the number of types."""
        anchors, count, offset, end = array("I"), 0, self.start, self.end
        # Below this a pattern costs more to compile than it saves.
        match = _block(self.order).match if end - offset > 1 << 14 else None
        while offset < end:
            anchors.append(offset)
            block = match(self.data, offset, end) if match else None
            if block:
                offset = block.end()
                count += STEP
                continue
            for _ in range(STEP):
                if offset >= end:
                    break
                offset += self._length(offset)
                count += 1
        return anchors, count

    def offset(self, type_id: int) -> int:
        """Where the type with this id starts in ``data``; IndexError when there is none."""
        position = type_id - self.first_id
        if not 0 <= position < self.count:
            raise IndexError(type_id)
        offset = self.anchors[position // STEP]
        for _ in range(position % STEP):
            offset += self._length(offset)
        return offset

    def enclosing(self, offset: int) -> tuple[int, int]:
        """Id and start of the type that the byte at ``offset`` of the type section belongs to."""
        block = bisect_right(self.anchors, offset) - 1
        start, position = self.anchors[block], block * STEP
        while True:
            following = start + self._length(start)
            if following > offset:
                return self.first_id + position, start
            start, position = following, position + 1

    def walk(self, *wanted: int) -> Iterator[tuple[int, int]]:
        """Id and start of every type of the wanted kinds, in order; of every type when none is given."""
        kinds_wanted = wanted or tuple(range(1, len(kinds.KINDS)))
        offset, type_id = self.start, self.first_id
        large = self.end - offset > 1 << 14
        pattern = _marked(self.order, kinds_wanted) if large else None
        while offset < self.end:
            if pattern is not None:
                for found in pattern.finditer(self.data, offset, self.end):
                    start, end = found.span()
                    if start != offset:
                        break  # it went on looking behind a type that it does not match
                    if found.lastindex:
                        yield type_id, start
                    type_id += 1
                    offset = end
                if offset >= self.end:
                    return
            length = self._length(offset)
            if self.kind(offset) in kinds_wanted:
                yield type_id, offset
            offset += length
            type_id += 1

    def kind(self, offset: int) -> int:
        """The kind of the type that starts at ``offset``."""
        return self.data[offset + (7 if self.order == "little" else 4)] & 0x1F
