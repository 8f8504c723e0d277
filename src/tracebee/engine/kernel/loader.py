"""Loads a BPF object into the running kernel: maps first, then programs with everything filled in.

What only this kernel knows (descriptors, addresses, BTF ids, configuration values) is put into the
instructions here, from the object's symbolic relocations.
"""

from __future__ import annotations

import os
import sys

from tracebee import uapi
from tracebee.engine.kernel.debug_info import function_rows, line_rows
from tracebee.engine.kernel.maps import ObjectMaps
from tracebee.errors import DecodeError, KernelError, UnsupportedError, VerifierError
from tracebee.isa.codec import encode
from tracebee.isa.insn import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from tracebee.kernel.program import Program
from tracebee.obj.image import build_image
from tracebee.obj.model import RelocKind
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
    from tracebee.kernel.map import Map
    from tracebee.obj.image import Image
    from tracebee.obj.model import Object, ProgramDef, Reloc


# Program types that are loaded for a kernel type or function, or another program's function.
_WITH_TARGET = frozenset((uapi.BPF_PROG_TYPE_TRACING, uapi.BPF_PROG_TYPE_LSM, uapi.BPF_PROG_TYPE_EXT))


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

    def definition(self, name: str) -> ProgramDef:
        """The definition of a program that the object has."""
        return next(program for program in self.object.programs if program.name == name)

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
        self.maps = ObjectMaps(loaded, reuse, pin_root)
        self.target, self.log_level, self.attach_fd, self.targets = target, log_level, attach_fd, targets
        self._symbols: KernelSymbols | None = None
        self._core: Core | None = None
        self._places: dict[str, Place] = {}  # of struct_ops programs
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
        kconfig = self._resolve_externs() if obj.externs else b""
        if obj.struct_ops:
            from tracebee.engine.kernel.struct_ops import program_places

            self._places = program_places(obj)
        prepared = [self._prepare(program) for program in chosen]
        if obj.btf:
            self._load_types()
        self.maps.create(kconfig, self._lacking)
        with_values = [m for m in obj.maps if m.values]
        if with_values:
            from tracebee.engine.kernel.map_values import put_maps

            put_maps(with_values, self.maps.find)
        if obj.struct_ops:
            from tracebee.engine.kernel.struct_ops import create_maps

            create_maps(loaded)
        for part in prepared:
            loaded.programs[part.program.name] = self._load(part)
        if with_values:
            from tracebee.engine.kernel.map_values import put_programs

            put_programs(with_values, self.maps.find, loaded.programs)

    def _resolve_externs(self) -> bytes:
        """See that this kernel has all that the object expects; the values of ``.kconfig``."""
        from tracebee.obj.externs import check_linked

        check_linked(self.obj)
        values = b""
        settings = next((m for m in self.obj.maps if m.name == ".kconfig"), None)
        if settings is not None and settings.name not in self.maps.reuse:
            from tracebee.engine.kernel.kconfig import kconfig_values

            values = kconfig_values(self.obj, settings.value_size)
        self.symbols.check()
        return values

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
            if self.maps.is_left_out(reloc.symbol):
                from tracebee.btf.core_patch import POISON

                insns[reloc.at] = (POISON,) * insn.slots
                continue
            fd = self.maps.find(reloc.symbol).fd
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

            of_script = bool(self.obj.metadata)
            raise explain_poison(
                error, program.name, image, lambda: self.core, of_script=of_script
            ) from error

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
