"""Records of a ring buffer or a perf buffer as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Ring(Protocol[T]):
    """What ``kernel.ringbuf.RingBuffer`` and ``kernel.perfbuf.PerfBuffer`` have in common."""

    def drain(self) -> list[T]:
        """Take the records that are there."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until records come; False after ``timeout`` seconds without any."""


def follow(ring: Ring[T], timeout: float | None) -> Iterator[T]:
    """The records of a ring, until ``timeout`` seconds pass without one (None: never)."""
    while True:
        batch = ring.drain()
        yield from batch
        if not batch and not ring.wait(timeout):
            return
