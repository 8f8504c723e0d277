"""BPF object files from Python: opened, changed, loaded, attached, their maps and variables read by type."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from tracebee.api.object_maps import ObjectMap
from tracebee.api.object_part import loaded_one
from tracebee.api.object_programs import ObjectProgram
from tracebee.api.object_struct_ops import StructOpsVariable
from tracebee.api.object_variables import Variables
from tracebee.errors import SymbolError, UsageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tracebee.api.attachment import Attachment
    from tracebee.btf import Btf
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program
    from tracebee.obj import model

T = TypeVar("T")


class Object:
    """One object file, or several linked into one::

        with tracebee.Object("latency.bpf.o") as obj:
            obj.variables["min_us"] = 100
            obj.maps["start"].max_entries = 4096
            obj.programs["on_exit"].autoload = False
            obj.load()
            with obj.attach():
                time.sleep(1)
            print(obj.variables["seen"], obj.maps["start"].read())

    :param paths: files that clang has built, or ``tracebee build``.
    :raises DecodeError: one is no BPF object, or they do not fit each other. OSError: it cannot be read.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        from tracebee.engine.kernel.struct_ops import optional
        from tracebee.obj.linker import link_files

        if not paths:
            raise UsageError("an Object needs the path of a file")
        self.definition: model.Object = link_files([os.fspath(path) for path in paths])
        self.loaded: LoadedObject | None = None
        self.reused: dict[str, Map] = {}  # in place of the object's own, by name
        self.opened: list[Map] = []  # those of them that are ours to close
        self.targets: dict[str, Program] = {}  # programs that others trace or replace, by the others' names
        self.not_attached: set[str] = set()
        self.not_made = optional(self.definition)
        self._btf: Btf | None = None
        self._attachments: list[Attachment] = []
        self.programs: Mapping[str, ObjectProgram] = _Named(
            "program", {p.name: ObjectProgram(self, p.name) for p in self.definition.programs}
        )
        self.maps: Mapping[str, ObjectMap] = _Named(
            "map", {m.name: ObjectMap(self, m.name) for m in self.definition.maps}
        )
        self.struct_ops: Mapping[str, StructOpsVariable] = _Named(
            "struct_ops variable",
            {s.map: StructOpsVariable(self, s.map) for s in self.definition.struct_ops},
        )
        self.variables: MutableMapping[str, Any] = Variables(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Its name, and what it holds."""
        state = "loaded" if self.loaded is not None else "not loaded"
        programs, maps = ", ".join(self.programs), ", ".join(self.maps)
        return f"<object {self.name}, {state}: programs {programs or 'none'}; maps {maps or 'none'}>"

    @property
    def name(self) -> str:
        """The first file's name up to its first dot."""
        return self.definition.name

    @property
    def btf(self) -> Btf:
        """The object's types."""
        if self._btf is None:
            from tracebee.btf import Btf
            from tracebee.btf.builder import Builder

            self._btf = Btf.from_bytes(self.definition.btf or Builder().to_bytes(), name=self.name)
        return self._btf

    def load(
        self,
        *,
        kernel: Btf | None = None,
        replaces: Program | None = None,
        pin_root: str | os.PathLike[str] = "/sys/fs/bpf",
        log_level: int = 0,
    ) -> None:
        """Load maps and the programs whose ``autoload`` is set.

        :param kernel: types to resolve CO-RE relocations with, in place of the running kernel's.
        :param replaces: the program whose functions ``freplace`` programs replace, unless they have a
            ``target_program`` of their own.
        :param pin_root: directory of bpffs where maps that ask to be pinned by name are found or pinned.
        :param log_level: 1 or 2 for the verifier's log, short or long, in the programs' ``log``.
        :raises VerifierError, KernelError, PrivilegeError: the kernel refuses; nothing stays loaded.
        :raises UnsupportedError, SymbolError: the kernel lacks what the object needs.
        """
        from tracebee.engine.kernel.loader import load_object
        from tracebee.engine.kernel.sections import for_this_kernel
        from tracebee.engine.kernel.struct_ops import without

        self.before_loading("load")
        self.loaded = load_object(
            _without_maps(without(for_this_kernel(self.definition), self.not_made), self.not_made),
            target=kernel,
            reuse=self.reused,
            log_level=log_level,
            pin_root=os.fspath(pin_root),
            attach_fd=0 if replaces is None else replaces.fd,
            targets=self.targets,
        )

    def attach(self, *names: str) -> Attachment:
        """Attach programs where their sections say, and give struct_ops variables to their subsystems.

        :param names: programs and struct_ops variables; by default all that say where they belong.
        :returns: what detaches them again; ``close`` of the object does so too.
        :raises UnsupportedError: the section does not say where. SymbolError: no such name or target.
        """
        from tracebee.engine.kernel.sections import attach_section, is_attachable
        from tracebee.engine.kernel.struct_ops import attach_struct_ops
        from tracebee.probes.session import close_all

        loaded = self.when_loaded("attach")
        if not names:
            sure = [p.name for p in self.definition.programs if is_attachable(p)]
            names = (
                *(n for n in sure if n in loaded.programs and n not in self.not_attached),
                *(ops.map for ops in loaded.object.struct_ops),
            )
        made: list[Any] = []
        try:
            for name in names:
                if name in self.struct_ops:
                    made.append(attach_struct_ops(loaded, name))
                else:
                    loaded_one(loaded.programs, self.programs[name].name)
                    made += attach_section(loaded, name)
        except BaseException:
            close_all(made)
            raise
        return self.keep(names, made)

    def keep(self, names: tuple[str, ...], links: list[Any]) -> Attachment:
        """What was attached, until it is closed or the object is."""
        from tracebee.api.attachment import Attachment

        attachment = Attachment(names, links)
        self._attachments.append(attachment)
        return attachment

    def close(self) -> None:
        """Detach and unload everything; what is pinned stays."""
        for attachment in self._attachments:
            attachment.close()
        self._attachments.clear()
        if self.loaded is not None:
            self.loaded.close()
            self.loaded = None
        for table in self.opened:
            table.close()
        self.opened.clear()

    def before_loading(self, what: str) -> None:
        """Refuse a change that comes too late."""
        if self.loaded is not None:
            raise UsageError(f"{self.name} is loaded: it is too late to {what}")

    def when_loaded(self, what: str) -> LoadedObject:
        """The object in the kernel, which ``what`` needs."""
        if self.loaded is None:
            raise UsageError(f"{self.name} is not loaded, so there is nothing to {what}", hint="call load()")
        return self.loaded


def _without_maps(obj: model.Object, names: set[str]) -> model.Object:
    """The object without some maps, also where others contain them."""
    kept = (m for m in obj.maps if m.name not in names)
    maps = tuple(m._replace(values=tuple(v for v in m.values if v[1] not in names)) for m in kept)
    return obj._replace(maps=maps)


class _Named(Mapping[str, T]):
    """Things by name; a missing one is an error that says which there are."""

    def __init__(self, kind: str, things: dict[str, T]) -> None:
        self._kind, self._things = kind, things

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise SymbolError(f"the object has no {self._kind} '{name}'", list(self._things))
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
