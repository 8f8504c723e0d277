"""Flame graphs: which frames are drawn where.

The horizontal axis is the population of stacks, sorted by name so that equal frames of neighbours
merge; it is not time. A box's width is the share of the stacks that its frame is in. What of a box's top
edge no other box covers is the share in which its function itself was running.
"""

from __future__ import annotations

from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracebee.stacks.fold import Stack


class Box(NamedTuple):
    """A frame of the graph. ``depth`` counts from the root, 0; ``start`` and ``width`` are in stacks."""

    name: str
    depth: int
    start: int
    width: int


def layout(stacks: Mapping[Stack, int]) -> list[Box]:
    """The boxes of all stacks, merged and sorted by name; a box comes after those above it."""
    return chart(sorted(stacks.items()))


def chart(stacks: Iterable[tuple[Stack, int]]) -> list[Box]:
    """The boxes of stacks in the order given: in order of time it makes a flame chart."""
    boxes: list[Box] = []
    open_: list[tuple[str, int]] = []  # (name, start) of the frames of the stack before
    at = 0
    for stack, number in stacks:
        if number <= 0:
            continue
        same = 0
        for (name, _), frame in zip(open_, stack, strict=False):
            if name != frame:
                break
            same += 1
        _close(boxes, open_, same, at)
        open_.extend([(frame, at) for frame in stack[same:]])
        at += number
    _close(boxes, open_, 0, at)
    return boxes


def _close(boxes: list[Box], open_: list[tuple[str, int]], keep: int, at: int) -> None:
    while len(open_) > keep:
        name, start = open_.pop()
        boxes.append(Box(name, len(open_), start, at - start))


def reverse(stacks: Mapping[Stack, int]) -> dict[Stack, int]:
    """The stacks with their leaves as roots: a graph of them merges equal leaves."""
    found: dict[Stack, int] = {}
    for stack, number in stacks.items():
        turned = stack[::-1]
        found[turned] = found.get(turned, 0) + number
    return found


def top_edges(stacks: Mapping[Stack, int]) -> dict[str, int]:
    """How many stacks each function is the leaf of: what it ran itself."""
    found: dict[str, int] = {}
    for stack, number in stacks.items():
        if stack:
            found[stack[-1]] = found.get(stack[-1], 0) + number
    return found
