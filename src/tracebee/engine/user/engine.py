"""The user engine: see ``engine.api.Engine``. Maps and ring buffer live in shared memory; see ``worker``."""

from __future__ import annotations

import os
import signal
import sys

from tracebee import uapi
from tracebee.engine.maps import StackMaps, lost_events
from tracebee.engine.user import seccomp
from tracebee.engine.user.current import Current
from tracebee.engine.user.maps import UserMapReader
from tracebee.engine.user.plan import Plan, check_target, make_plan
from tracebee.engine.user.programs import Programs
from tracebee.engine.user.worker import Journal, Worker
from tracebee.errors import TracebeeError
from tracebee.lang.script import EVENTS, LOST
from tracebee.vm.maps.ringbuf import RingBufferMap
from tracebee.vm.session import Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.lang.script import Script
    from tracebee.obj.model import MapDef

_RING_BUFFER = 1 << 22
_MMAP = {"x86_64": 9, "aarch64": 222}
_PRCTL = {"x86_64": 157, "aarch64": 167}


class UserEngine:
    """One script on one process and its children, without privilege.

    :param pid: the process of ``-p``, or the held one of ``-c``.
    :param held: it is a command that waits before exec, and will install ``command_filter``.
    """

    def __init__(self, *, pid: int | None = None, held: bool = False) -> None:
        self._pid, self._held = pid, held
        self._vm: Vm | None = None
        self._programs: Programs | None = None
        self._script: Script | None = None
        self._plan = Plan([], [], {}, {}, {}, [])
        self._ring: RingBufferMap | None = None
        self._journal: Journal | None = None
        self._worker = 0
        self._messages = -1
        self.probes = 0
        self.maps: dict[str, UserMapReader] = {}
        self.stacks = StackMaps({})

    @property
    def command_filter(self) -> bytes:
        """The seccomp filter for the held command; empty when nothing asks for one."""
        plan = self._plan
        if not (plan.sites or plan.enter or plan.exit):
            return b""
        machine = os.uname().machine
        data_too = any(site.semaphore for site in plan.sites)
        return seccomp.build_filter(
            seccomp.AUDIT_ARCH[machine], plan.calls, _MMAP[machine], _PRCTL[machine], every_mmap=data_too
        )

    def load(self, script: Script) -> None:
        """Create the maps and compile the programs."""
        self._script = script
        self.probes = sum(len(a.targets) for a in script.attachments)
        self._plan = make_plan(script)
        check_target(self._pid, self._plan)
        obj = script.object._replace(maps=tuple(_sized(m) for m in script.object.maps))
        current = Current()
        vm = self._vm = Vm(obj, current)
        self._programs = Programs(vm, current)
        self.maps = {name: UserMapReader(m) for name, m in vm.maps.items()}
        self.stacks = StackMaps(vm.maps)
        ring = vm.maps.get(EVENTS)
        self._ring = ring if isinstance(ring, RingBufferMap) else None

    def begin(self) -> None:
        """Run the BEGIN programs here."""
        self._run("begin")

    def end(self) -> None:
        """Run the END programs here."""
        self._run("end")

    def _run(self, kind: str) -> None:
        if self._script is None or self._programs is None:
            return
        for attachment in self._script.attachments:
            if attachment.kind == kind:
                for target in attachment.targets:
                    self._programs.current.enter(None, target.cookie)
                    self._programs.run(attachment.program, self._programs.context_address)

    def attach(self, step: Callable[[int], None]) -> None:
        """Start the tracing process and wait until it has attached.

        :raises PrivilegeError: the process may not be traced; says why.
        """
        assert self._programs is not None
        step(0)
        self._journal = Journal()
        self._messages, pipe = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        self._worker = os.fork()
        if self._worker == 0:
            try:
                os.close(self._messages)
                Worker(
                    self._plan, self._programs, self._journal, self._pid, held=self._held, pipe=pipe
                ).main()
            finally:
                os._exit(0)
        os.close(pipe)
        first = _line(self._messages)
        if first != "ready":
            raise TracebeeError(first.removeprefix("error ") or "the tracing process ended at once")
        step(self.probes)

    def fileno(self) -> int:
        """The ring buffer's descriptor."""
        return self._ring.fileno() if self._ring is not None else -1

    def drain(self) -> list[bytes]:
        """The records that are there."""
        if self._ring is None:
            return []
        try:
            os.eventfd_read(self._ring.fileno())
        except BlockingIOError:
            pass
        return self._ring.records()

    def lost(self) -> int:
        """The sum of the loss counters over causes."""
        counters = self.maps.get(LOST)
        if counters is None:
            return 0
        value = counters.map.lookup(bytes(4)) or b""
        return lost_events(value)

    def detach(self) -> None:
        """Have the tracing process leave everything as it was, and end."""
        if not self._worker:
            return
        try:
            os.kill(self._worker, signal.SIGUSR1)
        except ProcessLookupError:
            pass
        _, status = os.waitpid(self._worker, 0)
        self._worker = 0
        if status and self._journal is not None:
            # It was killed: its breakpoints are ours to take out.
            self._journal.restore()
        while line := _line(self._messages):
            sys.stderr.write(f"WARNING: {line.partition(' ')[2]}\n")
        os.close(self._messages)
        self._messages = -1

    def close(self) -> None:
        """Detach, free code and maps."""
        self.detach()
        if self._messages >= 0:
            os.close(self._messages)
            self._messages = -1
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._programs is not None:
            self._programs.close()
            self._programs = None
        if self._vm is not None:
            self._vm.close()
            self._vm = None


def _sized(definition: MapDef) -> MapDef:
    if definition.type == uapi.BPF_MAP_TYPE_RINGBUF and not definition.max_entries:
        return definition._replace(max_entries=_RING_BUFFER)
    return definition


def _line(fd: int) -> str:
    """The next line of a pipe without its newline; empty at its end."""
    data = b""
    while True:
        byte = os.read(fd, 1)
        if byte in (b"", b"\n"):
            return data.decode().replace("\x1f", "\n")
        data += byte
