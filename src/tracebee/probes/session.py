"""What the kernel engine gives a probe kind to attach with: a program, a process, ways to make links.

Everything made is owned by file descriptors, so that a killed tracebee leaves nothing behind.
"""

from __future__ import annotations

from tracebee.kernel import cpus
from tracebee.kernel.link import Link
from tracebee.kernel.perf import PerfEvent
from tracebee.uapi import BPF_TRACE_KPROBE_MULTI, BPF_TRACE_UPROBE_MULTI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from tracebee.kernel.fd import Fd
    from tracebee.kernel.program import Program

    _Item = TypeVar("_Item")

_MULTI = frozenset((BPF_TRACE_KPROBE_MULTI, BPF_TRACE_UPROBE_MULTI))


class Interrupted(Exception):  # noqa: N818 - no error: the user has asked to stop
    """Ctrl-C came while probes were being attached."""


class Session:
    """One attaching of one script.

    :param pid: the process of ``-p`` or ``-c``, or None.
    :param step: called before each attachment with the number made so far; raises Interrupted to stop.
    """

    def __init__(self, *, pid: int | None = None, step: Callable[[int], None] | None = None) -> None:
        self.pid = pid
        self.kind = ""
        self.attach_type = 0
        self.attach_target = ""
        self.made = 0
        self._step = step

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that are running."""
        return cpus.online()

    def steps(self, items: Sequence[_Item]) -> Iterator[_Item]:
        """The items one by one, with a chance to be interrupted before each."""
        for item in items:
            if self._step is not None:
                self._step(self.made)
            self.made += 1
            yield item

    @property
    def is_multi(self) -> bool:
        """Whether the program was loaded for a link that attaches to many functions at once."""
        return self.attach_type in _MULTI

    def perf_link(self, program: Program, event: PerfEvent, cookie: int) -> Attached:
        """Run a program on an open perf event: by a link with a cookie, else (Linux < 5.15) by ioctl."""
        try:
            if _perf_links():
                return Attached(event, Link.perf_event(program, event.fd, cookie=cookie))
            event.set_program(program.fd)
            event.enable()
        except BaseException:
            event.close()
            raise
        return Attached(event)

    def sampled(
        self,
        program: Program,
        *,
        type: int,  # noqa: A002 - the field's name in perf_event_attr
        config: int,
        frequency: int = 0,
        period: int = 0,
        cpus: Sequence[int],
        pid: int | None,
        cookie: int,
        what: str = "",
    ) -> Iterator[Attached]:
        """A counter on each CPU, or with a process on each of its threads, children included."""
        places = [(-1, cpu) for cpu in cpus] if pid is None else [(tid, -1) for tid in threads(pid)]
        for tid, cpu in self.steps(places):
            event = PerfEvent.sampled(
                type,
                config,
                period=period,
                frequency=frequency,
                pid=tid,
                cpu=cpu,
                inherit=tid > 0,
                what=what,
            )
            yield self.perf_link(program, event, cookie)

    def uprobe(
        self, program: Program, path: str, offset: int, *, returns: bool, ref: int, cookie: int, what: str
    ) -> Iterator[Attached]:
        """One place of a file by the perf PMU; with a process, once for each of its threads."""
        tids = [-1] if self.pid is None else threads(self.pid)
        for tid in self.steps(tids):
            event = PerfEvent.uprobe(path, offset, pid=tid, retprobe=returns, ref_ctr_offset=ref, what=what)
            yield self.perf_link(program, event, cookie)

    def uprobe_multi(
        self,
        program: Program,
        path: str,
        offsets: Sequence[int],
        *,
        refs: Sequence[int],
        cookies: Sequence[int],
        returns: bool,
    ) -> Link:
        """Many places of one file by one link."""
        for _ in self.steps([path]):
            pass
        return Link.uprobe_multi(
            program,
            path,
            offsets,
            ref_ctr_offsets=refs if any(refs) else (),
            cookies=cookies,
            pid=self.pid or 0,
            retprobe=returns,
        )


class Attached:
    """A perf event and the link that runs a program on it, closed together, the link first."""

    __slots__ = ("_parts",)

    def __init__(self, event: Fd, *links: Fd) -> None:
        self._parts = (*links, event)

    def close(self) -> None:
        """Detach."""
        for part in self._parts:
            part.close()

    def pin(self, path: str) -> None:
        """Keep it attached under a name in bpffs, without a process.

        :raises UnsupportedError: this kernel attaches to perf events without links.
        """
        for part in self._parts:
            if isinstance(part, Link):
                part.pin(path)
                return
        from tracebee.errors import UnsupportedError

        raise UnsupportedError(
            "this kernel cannot pin what is attached to a perf event", hint="Linux 5.15 can"
        )


def threads(pid: int) -> list[int]:
    """Thread ids of a process.

    :raises SymbolError: it is gone.
    """
    import os

    from tracebee.errors import SymbolError

    try:
        return sorted(int(t) for t in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError:
        raise SymbolError(f"there is no process {pid}") from None


_links: bool | None = None


def _perf_links() -> bool:
    global _links
    if _links is None:
        from tracebee.probes.machine import kernel_has

        _links = kernel_has("perf_link")
    return _links


def close_all(links: Sequence[Any]) -> None:
    """Close many links at once: each close waits for a grace period, so threads share the waiting."""
    if len(links) < 8:
        for link in links:
            link.close()
        return
    import threading  # only when there are many

    queue = list(links)

    def work() -> None:
        while True:
            try:
                link = queue.pop()
            except IndexError:
                return
            link.close()

    workers = [threading.Thread(target=work) for _ in range(min(64, len(links)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


_MANY = 16  # perf events whose closing one can wait for: some 40 ms each


def leave_all(links: Sequence[Any]) -> None:
    """Close many links without waiting for it, where waiting is what it takes.

    The kernel closes a perf event that runs a program in tens of milliseconds, one after the other
    whatever the number of threads: hundreds of tracepoints would hold up a Ctrl-C for a quarter of a
    minute. So a process that does nothing else takes the descriptors over and ends, and it is its end
    that takes the time. The programs may run a little longer; what they do then, nobody looks at.
    """
    slow = [link for link in links if isinstance(link, Attached)]
    if len(slow) < _MANY or not _hand_over():
        close_all(links)
        return
    for link in links:
        link.close()


def _hand_over() -> bool:
    """Make a process that holds all our descriptors, and ends at once; False where that is unsafe."""
    import os
    import sys

    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return False
    # Twice, so that it is nobody's child to wait for.
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return True
    try:
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 3)  # whoever reads our output waits for its end
    finally:
        os._exit(0)
