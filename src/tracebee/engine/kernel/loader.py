"""Loads a BPF object into the running kernel: maps first, then programs with everything filled in.

What only this kernel knows (descriptors, addresses, BTF ids, configuration values) is put into the
instructions here, from the object's symbolic relocations.
"""

from __future__ import annotations

import os
import sys

from tracebee import uapi
from tracebee.engine.kernel.debug_info import function_rows, line_rows
from tracebee.errors import DecodeError, KernelError, SymbolError, UnsupportedError, VerifierError
from tracebee.isa.codec import encode
from tracebee.isa.insn import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from tracebee.kernel.map import Map, entries_here
from tracebee.kernel.program import Program
from tracebee.obj.image import build_image
from tracebee.obj.model import ARENA_DATA, RelocKind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Mapping
    from typing import Self

    from tracebee.btf.reader import Btf
    from tracebee.engine.kernel.core import Core
    from tracebee.engine.kernel.kernel_symbols import KernelSymbols
    from tracebee.engine.kernel.struct_ops import Place
    from tracebee.engine.kernel.usdt import SpecTable
    from tracebee.isa.insn import Insn
    from tracebee.kernel.btf import Btf as KernelBtf
    from tracebee.obj.image import Image
    from tracebee.obj.model import MapDef, Object, ProgramDef, Reloc


# Map types whose keys and values are descriptors or the kernel's own: it refuses types for them.
_UNTYPED = frozenset(
    uapi.MAP_TYPES[name]
    for name in (
        *("perf_event_array", "cgroup_array", "stack_trace", "array_of_maps", "hash_of_maps", "devmap"),
        *("devmap_hash", "cpumap", "xskmap", "sockmap", "sockhash", "queue", "stack", "arena"),
    )
)

# Program types that are loaded for a kernel type or function, or another program's function.
_WITH_TARGET = frozenset((uapi.BPF_PROG_TYPE_TRACING, uapi.BPF_PROG_TYPE_LSM, uapi.BPF_PROG_TYPE_EXT))

_ENOTSUPP = 524  # the kernel's own number


class LoadedObject:
    """An object in the kernel: owns its maps, programs and BTF, and closes them.

    ``memory`` holds the data sections and arenas as mapped memory, shared with the programs (read-only ones
    are mapped for reading). ``warnings`` says what the kernel did not take and the object can do without.
    """

    def __init__(self, obj: Object) -> None:
        self.object = obj
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self.memory: dict[str, mmap.mmap] = {}
        self.btf: KernelBtf | None = None
        self.usdt: SpecTable | None = None  # made when the first USDT program is attached
        self.warnings: list[str] = []
        self.pins: list[str] = []  # names in bpffs that loading made, for maps that ask for it

    def close(self) -> None:
        """Unmap the data sections and close every descriptor; what is attached or pinned stays."""
        for memory in self.memory.values():
            memory.close()
        for owned in (*self.programs.values(), *self.maps.values(), *([self.btf] if self.btf else ())):
            owned.close()
        self.memory.clear()
        self.programs.clear()
        self.maps.clear()
        self.btf = None

    def unpin(self) -> None:
        """Remove the names that loading made in bpffs."""
        for path in self.pins:
            os.unlink(path)
        self.pins.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def load_object(
    obj: Object,
    *,
    target: Btf | None = None,
    reuse: dict[str, Map] | None = None,
    programs: Callable[[ProgramDef], bool] | None = None,
    log_level: int = 0,
    pin_root: str = "/sys/fs/bpf",
    attach_fd: int = 0,
    targets: Mapping[str, Program] | None = None,
) -> LoadedObject:
    """Load an object.

    :param target: the kernel's types, for CO-RE relocations; None for what the running kernel says.
    :param reuse: maps to use in place of the object's own, by name. They stay the caller's.
    :param programs: which programs to load; default: those the object does not mark as optional.
    :param log_level: BPF_LOG_* bits; the log is then on each Program.
    :param pin_root: where maps that ask to be pinned by name are found or pinned.
    :param attach_fd: the program that freplace programs replace.
    :param targets: by a program's name, the program whose function it traces or replaces.
    :raises VerifierError, KernelError, PrivilegeError: the kernel refuses; nothing stays loaded.
    :raises UnsupportedError, SymbolError: the kernel lacks what the object needs.
    """
    loaded = LoadedObject(obj)
    loader = _Loader(loaded, target, reuse or {}, log_level, pin_root, attach_fd, targets or {})
    try:
        loader.run(programs)
    except BaseException:
        loaded.unpin()
        loaded.close()
        raise
    finally:
        loader.close()
    return loaded


class _Prepared(NamedTuple):
    """A program on its way: its instructions, and what is still to be filled in."""

    program: ProgramDef
    image: Image
    insns: list[tuple[Insn, ...]]
    relocs: list[Reloc]
    kernel_fds: list[int]


class _Loader:
    def __init__(
        self,
        loaded: LoadedObject,
        target: Btf | None,
        reuse: dict[str, Map],
        log_level: int,
        pin_root: str,
        attach_fd: int,
        targets: Mapping[str, Program],
    ) -> None:
        self.loaded, self.obj = loaded, loaded.object
        self.target, self.reuse, self.log_level = target, reuse, log_level
        self.pin_root, self.attach_fd, self.targets = pin_root, attach_fd, targets
        self._symbols: KernelSymbols | None = None
        self._core: Core | None = None
        self._kconfig = b""  # the values of .kconfig, the object's own when there are none
        self._places: dict[str, Place] = {}  # of struct_ops programs
        self.inside: dict[str, str] = {}  # data sections that are parts of another map
        self._lacking: frozenset[str] = frozenset()  # what of the object's types the kernel cannot have

    @property
    def core(self) -> Core:
        """Made when first needed: most scripts read no kernel structs."""
        if self._core is None:
            from tracebee.engine.kernel.core import Core

            self._core = Core(self.obj, self.target)
        return self._core

    @property
    def symbols(self) -> KernelSymbols:
        """Made when first needed: most scripts refer to nothing of the kernel's."""
        if self._symbols is None:
            from tracebee.engine.kernel.kernel_symbols import KernelSymbols

            self._symbols = KernelSymbols(self.obj)
        return self._symbols

    def close(self) -> None:
        if self._symbols is not None:
            self._symbols.close()

    def run(self, wanted: Callable[[ProgramDef], bool] | None) -> None:
        """Everything in libbpf's order, so that of several reasons to refuse an object it is the same."""
        obj, loaded = self.obj, self.loaded
        if obj.order != sys.byteorder:
            raise UnsupportedError(
                f"{obj.name} is {obj.order}-endian, this machine is not",
                hint=f"compile it with -target bpf{'el' if sys.byteorder == 'little' else 'eb'}",
            )
        members = {program for ops in obj.struct_ops for _, program in ops.members}
        chosen = [p for p in obj.programs if (wanted(p) if wanted else p.autoload or p.name in members)]
        _check_types(chosen)
        if obj.externs:
            self._resolve_externs()
        if obj.struct_ops:
            from tracebee.engine.kernel.struct_ops import program_places

            self._places = program_places(obj)
        prepared = [self._prepare(program) for program in chosen]
        if obj.btf:
            self._load_types()
        self._create_maps()
        with_values = [m for m in obj.maps if m.values]
        if with_values:
            from tracebee.engine.kernel.map_values import put_maps

            put_maps(with_values, self._find_map)
        if obj.struct_ops:
            from tracebee.engine.kernel.struct_ops import create_maps

            create_maps(loaded)
        for part in prepared:
            loaded.programs[part.program.name] = self._load(part)
        if with_values:
            from tracebee.engine.kernel.map_values import put_programs

            put_programs(with_values, self._find_map, loaded.programs)

    def _resolve_externs(self) -> None:
        from tracebee.obj.externs import check_linked

        check_linked(self.obj)
        settings = next((m for m in self.obj.maps if m.name == ".kconfig"), None)
        if settings is not None and settings.name not in self.reuse:
            from tracebee.engine.kernel.kconfig import kconfig_values

            self._kconfig = kconfig_values(self.obj, settings.value_size)
        self.symbols.check()

    def _load_types(self) -> None:
        from tracebee.kernel.btf import Btf

        obj, loaded = self.obj, self.loaded
        data = _types(obj)
        try:
            loaded.btf = Btf.load(data)
        except KernelError as refusal:
            from tracebee.engine.kernel.object_types import load_reduced

            # It can do without types, as libbpf has it; not for structs that it makes of its own.
            loaded.btf, self._lacking = load_reduced(data, refusal, needed=bool(obj.struct_ops))
            if loaded.btf is None:
                loaded.warnings.append(f"{obj.name} is loaded without its types: {refusal.message}")

    # Maps.

    def _create_maps(self) -> None:
        """All but those of struct_ops variables, which are of the kernel's types."""
        obj, loaded = self.obj, self.loaded
        in_arena = [m for m in obj.maps if m.name == ARENA_DATA]
        for section in in_arena:
            from tracebee.engine.kernel.arena import arena_of

            self.inside[section.name] = arena_of(obj, section).name
        others = self.reuse.keys() | {ops.map for ops in obj.struct_ops} | self.inside.keys()
        for definition in obj.maps:
            if definition.name not in others:
                loaded.maps[definition.name] = self._map(definition)
        for section in in_arena:
            from tracebee.engine.kernel.arena import place_variables

            place_variables(loaded, section)

    def _map(self, definition: MapDef) -> Map:
        definition = definition._replace(max_entries=entries_here(definition))
        if definition.pinning is not None:
            from tracebee.engine.kernel.pinning import reuse_or_pin

            return reuse_or_pin(self.pin_root, definition, self._create, self.loaded.pins)
        created = self._create(definition)
        if definition.contents is not None:
            try:
                self._fill(created, definition)
            except BaseException:
                created.close()
                raise
        if definition.type == uapi.BPF_MAP_TYPE_ARENA and not definition.extra:
            # Programs are loaded only for an arena whose address in user space is known.
            self.loaded.memory[definition.name] = created.map_memory()
        return created

    def _create(self, definition: MapDef) -> Map:
        named = definition
        if definition.name.startswith(".") and "." not in definition.name[1:]:
            # Data sections carry the object's name before their own, as far as the kernel's 15 bytes go;
            # those with names of their own (.rodata.tables) do not.
            room = max(0, uapi.BPF_OBJ_NAME_LEN - 1 - len(definition.name))
            named = definition._replace(name=self.obj.name[: min(room, 8)] + definition.name)
        typed = definition.type not in _UNTYPED and (definition.key_type_id or definition.value_type_id)
        if "datasec" in self._lacking and not definition.key_type_id:
            typed = False
        types = self.loaded.btf if typed else None
        if definition.inner is None:
            return _created(named, types, None)
        with self._create(definition.inner) as inner:
            return _created(named, types, inner)

    def _fill(self, created: Map, definition: MapDef) -> None:
        contents = self._kconfig if definition.name == ".kconfig" else definition.contents
        assert contents is not None
        if any(contents):
            created.update(b"\0\0\0\0", contents)
        if definition.frozen:
            created.freeze()
        if definition.flags & uapi.BPF_F_MMAPABLE:
            try:
                memory = created.map_memory(writable=not definition.frozen)
            except OSError as error:
                # A section with spin locks, lists or kernel pointers in it is for programs only.
                if error.errno != _ENOTSUPP:
                    raise
            else:
                self.loaded.memory[definition.name] = memory

    def _is_left_out(self, name: str) -> bool:
        """Whether a map was taken out of the object: a program may name it where the kernel never comes."""
        return name not in self.reuse and all(definition.name != name for definition in self.obj.maps)

    def _find_map(self, name: str) -> Map:
        name = self.inside.get(name, name)
        found = self.reuse.get(name) or self.loaded.maps.get(name)
        if found is None:
            raise SymbolError(f"the object has no map '{name}'", sorted(self.loaded.maps))
        return found

    # Programs.

    def _prepare(self, program: ProgramDef) -> _Prepared:
        """A program with all in place that needs no map: CO-RE values, kernel functions and variables."""
        image = build_image(self.obj, program)
        kernel_fds: list[int] = []
        # Poison for a wide load is two instructions: each stands in a tuple of its slots until all are done.
        insns: list[tuple[Insn, ...]] = [(insn,) for insn in image.insns]
        left = []
        for reloc in image.relocs:
            if reloc.kind in (RelocKind.MAP, RelocKind.DATA):
                left.append(reloc)
                continue
            try:
                insns[reloc.at] = self._relocate(insns[reloc.at][0], reloc, kernel_fds)
            except (DecodeError, UnsupportedError) as error:
                if reloc.kind != RelocKind.CORE:
                    raise
                where = f"program '{program.name}', instruction {reloc.at}"
                raise type(error)(f"{where}: {error.message}", hint=error.hint) from error
        return _Prepared(program, image, insns, left, kernel_fds)

    def _relocate(self, insn: Insn, reloc: Reloc, kernel_fds: list[int]) -> tuple[Insn, ...]:
        if reloc.kind == RelocKind.CORE:
            return self.core.patch(insn, reloc)
        if reloc.kind == RelocKind.KFUNC:
            return (self.symbols.call(insn, reloc, kernel_fds),)
        return (self.symbols.variable(insn, reloc),)

    def _code(self, prepared: _Prepared) -> bytes:
        """The instructions, with the maps that they refer to."""
        insns = prepared.insns
        for reloc in prepared.relocs:
            (insn,) = insns[reloc.at]
            if self._is_left_out(reloc.symbol):
                from tracebee.btf.core_patch import POISON

                insns[reloc.at] = (POISON,) * insn.slots
                continue
            fd = self._find_map(reloc.symbol).fd
            if reloc.kind == RelocKind.MAP:
                insns[reloc.at] = (insn._replace(src=BPF_PSEUDO_MAP_FD, imm=fd),)
            else:
                insns[reloc.at] = (insn._replace(src=BPF_PSEUDO_MAP_VALUE, imm=fd | reloc.addend << 32),)
        return encode([insn for group in insns for insn in group])

    def _load(self, prepared: _Prepared) -> Program:
        program, image, code = prepared.program, prepared.image, self._code(prepared)
        attach_type = program.expected_attach_type
        if program.type == uapi.BPF_PROG_TYPE_STRUCT_OPS:
            btf_fd = 0
            btf_id, attach_type = self._place(program)
        else:
            btf_id, btf_fd = self._attach_target(program)
        types = None if "func" in self._lacking else self.loaded.btf
        try:
            return Program.load(
                code,
                program.type,
                name=program.name,
                license_name=self.obj.license,
                expected_attach_type=attach_type,
                flags=program.flags,
                btf=types,
                func_info=function_rows(image) if types else (),
                line_info=line_rows(image, self.obj.btf) if types else (),
                attach_btf_id=btf_id,
                attach_fd=btf_fd,
                fd_array=prepared.kernel_fds,
                log_level=self.log_level,
                kern_version=self.obj.version,
            )
        except VerifierError as error:
            from tracebee.engine.kernel.poison import explain_poison  # only on the way to an error

            raise explain_poison(error, program.name, image, lambda: self.core) from error

    def _place(self, program: ProgramDef) -> Place:
        """What a struct_ops program is for."""
        if program.name not in self._places:
            raise UnsupportedError(
                f"struct_ops program '{program.name}' is in no .struct_ops variable",
                hint="set a member of one to it",
            )
        return self._places[program.name]

    def _attach_target(self, program: ProgramDef) -> tuple[int, int]:
        """(BTF id, descriptor of its module's BTF or of the other program) of what it is loaded for."""
        traced = self.targets.get(program.name)
        if traced is None and program.type not in _WITH_TARGET:
            return 0, 0
        if traced is not None or program.type == uapi.BPF_PROG_TYPE_EXT:
            from tracebee.engine.kernel.kernel_symbols import function_of_program

            program_fd = self.attach_fd if traced is None else traced.fd
            return function_of_program(program, program_fd), program_fd
        return self.symbols.attach_target(program)


def _created(definition: MapDef, types: KernelBtf | None, inner: Map | None) -> Map:
    """A map with the types of its keys and values, or without where the kernel does not take them."""
    if types is not None:
        try:
            return Map.create(definition, btf=types, inner=inner)
        except KernelError:
            pass  # if it was not for the types, the error is the same without them
    return Map.create(definition, inner=inner)


def _check_types(programs: list[ProgramDef]) -> None:
    for program in programs:
        if not program.type:
            raise UnsupportedError(
                f"section '{program.section}' of program '{program.name}' says no program type",
                hint="give it a name that libbpf knows, such as kprobe/... or tracepoint/...",
            )


def _types(obj: Object) -> bytes:
    """The object's BTF as the kernel takes it."""
    if not obj.externs and not obj.exports:
        return obj.btf  # a script's
    from tracebee.obj.btf_fixup import kernel_btf

    return kernel_btf(obj)
