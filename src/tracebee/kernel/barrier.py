"""A memory barrier for rings shared with the kernel.

The kernel publishes a position after the data it covers (``smp_store_release``), so a reader must
not read the data before the position. x86-64 keeps loads in order by itself. On arm64 nothing in
Python orders two loads, except that the C library's lock is taken with acquire and given with
release semantics, and a release followed by an acquire orders everything before against everything
after (Arm Architecture Reference Manual, B2.3: release and acquire are RCsc).
"""

from __future__ import annotations

from tracebee.kernel.syscall import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _make() -> Callable[[], None]:
    if MACHINE == "x86_64":
        return lambda: None
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()

    def fence() -> None:
        lock.release()
        lock.acquire()

    return fence


fence = _make()
