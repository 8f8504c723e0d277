"""Parallel moves as a sequence: registers, spill slots and made values to their new places."""

from __future__ import annotations

from tracebee.ir.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# A register's number (0 to 9), a spill slot's offset from r10 (negative), or a value made on the spot.
Place = int | Value


def sequence(moves: Iterable[tuple[Place, int]], aside: int) -> list[tuple[Place, int]]:
    """Order moves so that each reads its source before it is overwritten.

    :param moves: (source, target) pairs that happen at the same time; targets differ.
    :param aside: a place nothing else uses, by which cycles are broken.
    """
    pending = [m for m in moves if m[0] != m[1]]
    result: list[tuple[Place, int]] = []
    while pending:
        sources = {s for s, _ in pending if isinstance(s, int)}
        ready = [m for m in pending if m[1] not in sources]
        if ready:
            result += ready
            pending = [m for m in pending if m[1] in sources]
            continue
        # Only cycles are left. Put one source aside; what overwrites it can go then.
        source = pending[0][0]
        result.append((source, aside))
        pending = [(aside if s == source else s, t) for s, t in pending]
    return result
