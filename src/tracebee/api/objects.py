"""BPF object files from Python: opened, changed, loaded, attached, their maps and variables read by type."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from tracebee.api.table import Table
from tracebee.errors import SymbolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from tracebee.api.direct import Attachment
    from tracebee.btf import Btf
    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.program import Program, TestRun
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
            print(obj.variables["seen"], dict(obj.maps["start"]))

    :param paths: files that clang has built, or ``tracebee build``.
    :raises DecodeError: one is no BPF object, or they do not fit each other. OSError: it cannot be read.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        from tracebee.obj.elf_reader import read_object
        from tracebee.obj.linker import link_objects

        if not paths:
            raise UsageError("an Object needs the path of a file")
        self.definition: model.Object = link_objects([read_object(os.fspath(path)) for path in paths])
        self.loaded: LoadedObject | None = None
        self._btf: Btf | None = None
        self._attachments: list[Attachment] = []
        self.programs: Mapping[str, ObjectProgram] = _Named(
            "program", {p.name: ObjectProgram(self, p.name) for p in self.definition.programs}
        )
        self.maps: Mapping[str, ObjectMap] = _Named(
            "map", {m.name: ObjectMap(self, m.name) for m in self.definition.maps}
        )
        self.variables: MutableMapping[str, Any] = Variables(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def load(self, *, kernel: Btf | None = None, replaces: Program | None = None) -> None:
        """Load maps and the programs whose ``autoload`` is set.

        :param kernel: types to resolve CO-RE relocations with, in place of the running kernel's.
        :param replaces: the program whose functions ``freplace`` programs replace.
        :raises VerifierError, KernelError, PrivilegeError: the kernel refuses; nothing stays loaded.
        :raises UnsupportedError, SymbolError: the kernel lacks what the object needs.
        """
        from tracebee.engine.kernel.loader import load_object

        self.before_loading("load")
        self.loaded = load_object(
            self.definition, target=kernel, attach_fd=0 if replaces is None else replaces.fd
        )

    def attach(self, *names: str) -> Attachment:
        """Attach programs where their sections say, and give struct_ops variables to their subsystems.

        :param names: programs and struct_ops variables; by default all that say where they belong.
        :returns: what detaches them again; ``close`` of the object does so too.
        :raises UnsupportedError: the section does not say where. SymbolError: no such name or target.
        """
        from tracebee.api.direct import Attachment
        from tracebee.engine.kernel.sections import attach_section, is_attachable
        from tracebee.engine.kernel.struct_ops import attach_struct_ops
        from tracebee.probes.session import close_all

        loaded = self.when_loaded("attach")
        variables = [ops.map for ops in self.definition.struct_ops]
        definitions = {p.name: p for p in self.definition.programs}
        if not names:
            sure = [
                p.name for p in self.definition.programs if is_attachable(p) and p.name in loaded.programs
            ]
            names = (*sure, *variables)
        made: list[Any] = []
        try:
            for name in names:
                if name in variables:
                    made.append(attach_struct_ops(loaded, name))
                else:
                    made += attach_section(self.programs[name].kernel, definitions[name])
        except BaseException:
            close_all(made)
            raise
        attachment = Attachment(names, made)
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

    def before_loading(self, what: str) -> None:
        """Refuse a change that comes too late."""
        if self.loaded is not None:
            raise UsageError(f"{self.name} is loaded: it is too late to {what}")

    def when_loaded(self, what: str) -> LoadedObject:
        """The object in the kernel, which ``what`` needs."""
        if self.loaded is None:
            raise UsageError(f"{self.name} is not loaded, so there is nothing to {what}", hint="call load()")
        return self.loaded


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


class ObjectProgram:
    """A program of an object."""

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

    @property
    def definition(self) -> model.ProgramDef:
        """How it is typed, and what its section says."""
        return next(p for p in self._owner.definition.programs if p.name == self.name)

    @property
    def kernel(self) -> Program:
        """The loaded program, for all that the kernel does with one."""
        return _loaded_one(self._owner.when_loaded(f"use of '{self.name}'").programs, self.name)

    @property
    def autoload(self) -> bool:
        """Whether ``load`` loads it; may be set until then."""
        return self.definition.autoload

    @autoload.setter
    def autoload(self, value: bool) -> None:
        self._change(autoload=value)

    @property
    def attach_target(self) -> str:
        """The kernel function, type or program function that it is for; may be set before loading."""
        return self.definition.attach_target

    @attach_target.setter
    def attach_target(self, value: str) -> None:
        self._change(attach_target=value)

    def attach(self) -> Attachment:
        """Attach it where its section says: ``Object.attach`` with its name."""
        return self._owner.attach(self.name)

    def test_run(self, data: bytes = b"", ctx: bytes = b"", **more: int) -> TestRun:
        """Run it once, or ``repeat`` times, on given input: ``kernel.program.Program.test_run``."""
        return self.kernel.test_run(data=data, ctx=ctx, **more)

    def _change(self, **fields: Any) -> None:
        owner = self._owner
        owner.before_loading(f"change program '{self.name}'")
        programs = tuple(
            p._replace(**fields) if p.name == self.name else p for p in owner.definition.programs
        )
        owner.definition = owner.definition._replace(programs=programs)


class ObjectMap(Table):
    """A map of an object: a dictionary once it is loaded.

    Keys and values are what the map's types say: integers, strings for ``char`` arrays, lists, dictionaries
    for structs (in keys: tuples of the members, in order). Without types they are as in ``Table``.
    """

    def __init__(self, owner: Object, name: str) -> None:
        self._owner, self.name = owner, name

    @property
    def map(self) -> Any:  # type: ignore[override]
        """The kernel's map."""
        return _loaded_one(self._owner.when_loaded(f"read or write in map '{self.name}'").maps, self.name)

    @property
    def definition(self) -> model.MapDef:
        """What is, or will be, created."""
        return next(m for m in self._owner.definition.maps if m.name == self.name)

    @property
    def max_entries(self) -> int:
        """Its capacity; may be set before loading."""
        return self.definition.max_entries

    @max_entries.setter
    def max_entries(self, value: int) -> None:
        owner = self._owner
        owner.before_loading(f"resize map '{self.name}'")
        maps = tuple(
            m._replace(max_entries=value) if m.name == self.name else m for m in owner.definition.maps
        )
        owner.definition = owner.definition._replace(maps=maps)

    def _key_bytes(self, key: Any) -> bytes:
        return self._encode(self.definition.key_type_id, key, self.map.key_size, "key", super()._key_bytes)

    def _value_bytes(self, value: Any) -> bytes:
        size = self.map.value_size
        return self._encode(self.definition.value_type_id, value, size, "value", super()._value_bytes)

    def _key(self, data: bytes) -> Any:
        return _hashable(self._decode(self.definition.key_type_id, data, super()._key))

    def _value(self, data: bytes) -> Any:
        return self._decode(self.definition.value_type_id, data, super()._value)

    def _encode(self, type_id: int, value: Any, size: int, what: str, plain: Callable[[Any], bytes]) -> bytes:
        from tracebee.obj.variables import encode_value

        if not type_id:
            return plain(value)
        return encode_value(self._owner.btf, type_id, value, size, f"{what} of map '{self.name}'")

    def _decode(self, type_id: int, data: bytes, plain: Callable[[bytes], Any]) -> Any:
        from tracebee.obj.variables import decode_value

        return decode_value(self._owner.btf, type_id, data) if type_id else plain(data)


class Variables(MutableMapping[str, Any]):
    """Global variables by name: initial values before loading, afterwards the memory that programs share."""

    def __init__(self, owner: Object) -> None:
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        from tracebee.obj.variables import decode_value

        variable = self._find(name)
        data = self._contents(variable)[variable.offset : variable.offset + variable.size]
        return (
            decode_value(self._owner.btf, variable.type_id, bytes(data)) if variable.type_id else bytes(data)
        )

    def __setitem__(self, name: str, value: Any) -> None:
        from tracebee.obj.variables import encode_value, with_variable

        owner = self._owner
        if owner.loaded is None:
            owner.definition = with_variable(owner.definition, name, value)
            return
        variable = self._find(name)
        if owner.maps[variable.map].definition.frozen:
            raise UsageError(
                f"'{name}' is read-only once {owner.name} is loaded", hint="set it before load()"
            )
        data = encode_value(owner.btf, variable.type_id, value, variable.size, name)
        place = slice(variable.offset, variable.offset + variable.size)
        if variable.map in owner.loaded.memory:
            owner.loaded.memory[variable.map][place] = data
            return
        contents = bytearray(self._contents(variable))
        contents[place] = data
        owner.loaded.maps[variable.map].update(bytes(4), bytes(contents))

    def __delitem__(self, name: str) -> None:
        raise UsageError(f"variable '{name}' cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(v.name for v in self._owner.definition.variables))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _find(self, name: str) -> model.Variable:
        from tracebee.obj.variables import find_variable

        return find_variable(self._owner.definition, name)

    def _contents(self, variable: model.Variable) -> bytes | memoryview:
        owner = self._owner
        if owner.loaded is None:
            return owner.maps[variable.map].definition.contents or b""
        if variable.map in owner.loaded.memory:
            return memoryview(owner.loaded.memory[variable.map])
        return owner.loaded.maps[variable.map].lookup(bytes(4)) or b""


def _loaded_one(things: dict[str, T], name: str) -> T:
    if name not in things:
        raise UsageError(f"'{name}' was not loaded", hint="set its autoload before load()")
    return things[name]


def _hashable(key: Any) -> Any:
    """A key as a dictionary can have it: structs and arrays as tuples."""
    if isinstance(key, (list, dict)):
        items: Iterable[Any] = key.values() if isinstance(key, dict) else key
        return tuple(_hashable(item) for item in items)
    return key
