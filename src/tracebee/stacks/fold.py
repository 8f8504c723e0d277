"""Folded stacks: one line a stack, its frames from the root with ``;`` between them, a blank and a number.

It is the form that stack collapsing tools write and flame graph tools read.
"""

from __future__ import annotations

from tracebee.errors import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Stack = tuple[str, ...]  # frames from the root to the leaf


def frame_text(name: str) -> str:
    """A frame's name as it may stand in a folded line: without the separator."""
    return name.replace(";", ":").replace("\n", " ")


def render(stacks: Mapping[Stack, int]) -> str:
    """The lines of some stacks, in alphabetical order."""
    return "".join([f"{';'.join(stack)} {number}\n" for stack, number in sorted(stacks.items())])


def parse(lines: Iterable[str]) -> dict[Stack, int]:
    """Stacks and numbers of folded lines; equal stacks are added up, empty lines passed over.

    :raises DecodeError: a line that does not end with a number.
    """
    found: dict[Stack, int] = {}
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, _, number = line.rstrip().rpartition(" ")
        try:
            # Sample counts of some tools have a fraction.
            count = int(number) if number.isdigit() else round(float(number))
        except ValueError:
            raise DecodeError(f"line {at} is no folded stack: it does not end with a number") from None
        stack = tuple(text.split(";"))
        found[stack] = found.get(stack, 0) + count
    return found
