"""The dominator tree: Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.ir.value import Block, Function


class Dominators:
    """Immediate dominators of a linked function's blocks (``Function.link``)."""

    __slots__ = ("_spans", "number", "parent")

    def __init__(self, function: Function) -> None:
        self.number = {b: n for n, b in enumerate(function.blocks)}
        self.parent: dict[Block, Block] = {function.entry: function.entry}
        self._spans: dict[Block, tuple[int, int]] | None = None
        changed = True
        while changed:
            changed = False
            for block in function.blocks[1:]:
                known = [p for p in block.preds if p in self.parent]
                parent = self.common(known)
                if self.parent.get(block) is not parent:
                    self.parent[block] = parent
                    changed = True

    def common(self, blocks: Iterable[Block]) -> Block:
        """The nearest block that dominates all of ``blocks``, of which there is at least one."""
        number, parent = self.number, self.parent
        iterator = iter(blocks)
        a = next(iterator)
        for b in iterator:
            while a is not b:
                while number[a] > number[b]:
                    a = parent[a]
                while number[b] > number[a]:
                    b = parent[b]
        return a

    def children(self) -> dict[Block, list[Block]]:
        """The tree: for each block the blocks it immediately dominates, in order."""
        result: dict[Block, list[Block]] = {b: [] for b in self.number}
        for block, parent in self.parent.items():
            if block is not parent:
                result[parent].append(block)
        return result

    def dominates(self, a: Block, b: Block) -> bool:
        """Whether every path to ``b`` goes through ``a``."""
        first, last = self.span(a)
        return first <= self.span(b)[0] <= last

    def span(self, block: Block) -> tuple[int, int]:
        """The block's place in a walk down the tree, and the last place of what it dominates."""
        if self._spans is None:
            self._spans = self._number_subtrees()
        return self._spans[block]

    def _number_subtrees(self) -> dict[Block, tuple[int, int]]:
        """For each block its place in a walk of the tree, and the last place below it."""
        last = dict.fromkeys(self.number, 1)  # sizes of subtrees: parents come before children
        for block in reversed(self.number):
            parent = self.parent.get(block, block)
            if parent is not block:
                last[parent] += last[block]
        spans: dict[Block, tuple[int, int]] = {}
        following: dict[Block, int] = {}
        for block in self.number:
            parent = self.parent.get(block, block)
            place = following[parent] if parent is not block else 0
            if parent is not block:
                following[parent] = place + last[block]
            spans[block] = (place, place + last[block] - 1)
            following[block] = place + 1
        return spans
