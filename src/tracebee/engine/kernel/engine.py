"""The kernel engine: see ``engine.api.Engine``."""

from __future__ import annotations

import errno

from tracebee.engine.kernel.debug_info import with_debug_info
from tracebee.engine.kernel.loader import LoadedObject, load_object
from tracebee.engine.maps import StackMaps, TableReader, lost_events
from tracebee.errors import KernelError, TracebeeError, VerifierError
from tracebee.kernel.map import Map
from tracebee.kernel.ringbuf import RingBuffer, default_size
from tracebee.lang.script import EVENTS, LOST, STACKS_MORE
from tracebee.probes.kinds import module_of
from tracebee.probes.session import Session, close_all, leave_all
from tracebee.source import NO_SOURCE, NOWHERE
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tracebee.kernel.program import Program
    from tracebee.lang.script import Attachment, Script, Target
    from tracebee.obj.model import MapDef, Object
    from tracebee.source import Span

_RUN_HERE = frozenset(("begin", "end"))
_LONGEST_OLD_KEY = 512  # bytes of a hash map's key


class _Unit(NamedTuple):
    """A loaded program and what it is to be attached to."""

    program: Program
    kind: str
    attach_type: int
    targets: Sequence[Target]
    span: Span


class KernelMap(TableReader):
    """One map; see ``engine.api.MapReader``."""

    __slots__ = ("map",)

    def __init__(self, kernel_map: Map) -> None:
        super().__init__(kernel_map)
        self.map = kernel_map

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data-section map's value."""
        # An update of the whole value would undo what programs write meanwhile.
        memory = self.map.map_memory()
        try:
            memory[offset : offset + len(data)] = data
        finally:
            memory.close()


class KernelEngine:
    """One script in the kernel.

    :param pid: the process that probes of processes are limited to (``-p``, ``-c``).
    :param log_level: ask for the verifier's log even of what it accepts (1 or 2).
    """

    def __init__(self, *, pid: int | None = None, log_level: int = 0) -> None:
        self._pid = pid
        self._log_level = log_level
        self._loaded: LoadedObject | None = None
        self._units: list[_Unit] = []
        self._links: list[Any] = []
        self._ring: RingBuffer | None = None
        self._source = NO_SOURCE
        self.probes = 0
        self.maps: dict[str, KernelMap] = {}
        self.stacks = StackMaps({})

    @property
    def command_filter(self) -> bytes:
        """None: the kernel needs nobody's help to see system calls."""
        return b""

    @property
    def loaded(self) -> LoadedObject:
        """What owns the programs and maps.

        :raises ValueError: nothing is loaded.
        """
        if self._loaded is None:
            raise ValueError("no script is loaded")
        return self._loaded

    def load(self, script: Script) -> None:
        """Create the maps, load the programs."""
        self.probes = sum(len(a.targets) for a in script.attachments)
        self._source = script.source
        script = one_program_per_target(script)
        obj = with_debug_info(sized(script.object), script.maps)
        try:
            loaded = self._loaded = load_object(obj, log_level=self._log_level)
        except VerifierError as error:
            from tracebee.engine.kernel.refusal import explain_program  # only on the way to an error

            raise explain_program(error, obj) from error
        except TracebeeError as error:
            spans = {a.program: a.span for a in script.attachments}
            error.place(script.source, spans.get(error.program, NOWHERE))
            raise
        self.maps = {name: KernelMap(m) for name, m in loaded.maps.items()}
        self.stacks = StackMaps(loaded.maps)
        if EVENTS in loaded.maps:
            self._ring = RingBuffer(loaded.maps[EVENTS])
        types = {p.name: p.expected_attach_type for p in obj.programs}
        self._units = [
            _Unit(loaded.programs[a.program], a.kind, types[a.program], a.targets, a.span)
            for a in script.attachments
        ]

    def begin(self) -> None:
        """Run the BEGIN programs here, by test runs."""
        self._run("begin")

    def end(self) -> None:
        """Run the END programs here."""
        self._run("end")

    def _run(self, kind: str) -> None:
        for unit in self._units:
            if unit.kind == kind:
                unit.program.test_run()

    def attach(self, step: Callable[[int], None]) -> None:
        """Attach everything else."""
        session = Session(pid=self._pid, step=step)
        for unit in self._units:
            if unit.kind in _RUN_HERE:
                continue
            session.kind = unit.kind
            session.attach_type = unit.attach_type
            try:
                # One by one, so that what was attached is known when something stops in between.
                for link in module_of(unit.kind).attach(unit.program, unit.targets, session):
                    self._links.append(link)
            except TracebeeError as error:
                error.place(self._source, unit.span)
                raise

    def fileno(self) -> int:
        """The ring buffer's descriptor."""
        return self.loaded.maps[EVENTS].fd if self._ring is not None else -1

    def drain(self) -> list[bytes]:
        """The records that are there."""
        return [] if self._ring is None else self._ring.drain()

    def lost(self) -> int:
        """The sum of the loss counters over causes."""
        counters = self.loaded.maps.get(LOST)
        if counters is None:
            return 0
        value = counters.lookup(bytes(4)) or b""
        return lost_events(value)

    def detach(self) -> None:
        """Close all links."""
        links, self._links = self._links, []
        # END must find every other probe silent, and may take its time for it.
        ends = any(unit.kind == "end" for unit in self._units)
        (close_all if ends else leave_all)(links)

    def close(self) -> None:
        """Detach, unload, unmap."""
        self.detach()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        self._units.clear()


def sized(obj: Object) -> Object:
    """A script's object with sizes that this kernel takes: its ring buffer, the stacks it keeps."""
    return obj._replace(maps=tuple(_fitting(m) for m in obj.maps))


def _fitting(definition: MapDef) -> MapDef:
    if definition.name == EVENTS and not definition.max_entries:
        return definition._replace(max_entries=default_size())
    if definition.name == STACKS_MORE:
        try:
            Map.create(definition._replace(max_entries=1)).close()
        except KernelError as error:
            # Older kernels take no key that would not fit a program's stack. Two stacks whose hashes
            # collide are told apart by their first 64 frames then.
            if error.errno == errno.E2BIG:
                return definition._replace(key_size=_LONGEST_OLD_KEY)
            raise
    return definition


def one_program_per_target(script: Script) -> Script:
    """The script with a program for each target where the kernel ties a program to one when loading it."""
    if not any(len(a.targets) > 1 and _is_tied(a.kind) for a in script.attachments):
        return script
    definitions = {p.name: p for p in script.object.programs}
    attachments: list[Attachment] = []
    for attachment in script.attachments:
        if len(attachment.targets) < 2 or not _is_tied(attachment.kind):
            attachments.append(attachment)
            continue
        original = definitions.pop(attachment.program)
        for number, target in enumerate(attachment.targets):
            function = original.function._replace(name=f"{original.name}_{number}")
            name = module_of(attachment.kind).target_name(target.spec)
            definitions[function.name] = original._replace(function=function, attach_target=name)
            attachments.append(attachment._replace(program=function.name, targets=(target,)))
    obj = script.object._replace(programs=tuple(definitions.values()))
    return script._replace(object=obj, attachments=tuple(attachments))


def _is_tied(kind: str) -> bool:
    return getattr(module_of(kind), "LOADS_PER_TARGET", False)
