"""Kernel functions, variables and attach targets by name: what loading turns into BTF ids and addresses."""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.btf.kinds import BTF_KIND_FUNC, BTF_KIND_TYPEDEF, BTF_KIND_VAR
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.isa.insn import BPF_CALL, BPF_JMP, BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL, Insn
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.btf import Btf as KernelBtf
    from tracebee.kernel.kallsyms import Kallsyms
    from tracebee.obj.model import Extern, Object, ProgramDef, Reloc

# A call no kernel has a helper for: the verifier refuses it only where it can be reached.
POISON_CALL = 0x0BAD2310

# How the kernel names what programs attach to.
_PREFIXES = {
    uapi.BPF_TRACE_RAW_TP: ("btf_trace_", BTF_KIND_TYPEDEF),
    uapi.BPF_TRACE_ITER: ("bpf_iter_", BTF_KIND_FUNC),
    uapi.BPF_LSM_MAC: ("bpf_lsm_", BTF_KIND_FUNC),
    uapi.BPF_LSM_CGROUP: ("bpf_lsm_", BTF_KIND_FUNC),
}


def find_in_kernel(name: str, kind: int, module: str = "") -> tuple[int, int]:
    """(BTF id, id of the BTF object it is in: 0 for vmlinux) of a kernel type, function or variable.

    :param module: look only there; by default in vmlinux, then in every module.
    :raises SymbolError: there is none.
    """
    if module in ("", "vmlinux"):
        found = Btf.vmlinux().find_all(name, kind)
        if found:
            return found[0], 0
    from tracebee.kernel.btf import Btf as KernelBtf

    for object_id in KernelBtf.ids():
        with KernelBtf.by_id(object_id) as loaded:
            info = loaded.info()
            if not info.is_kernel or info.name == "vmlinux" or (module and info.name != module):
                continue
        types = _types_of(object_id)
        own = [i for i in types.find_all(name, kind) if i >= types.first_id]
        if own:
            return own[0], object_id
    where = f"module {module} has" if module else "the kernel and its modules have"
    raise SymbolError(f"{where} no '{name}' in BTF", hint="is it spelled as in /proc/kallsyms?")


def _types_of(object_id: int) -> Btf:
    """The types of vmlinux (0) or of a module."""
    if not object_id:
        return Btf.vmlinux()
    from tracebee.kernel.btf import Btf as KernelBtf

    with KernelBtf.by_id(object_id) as loaded:
        return Btf.from_bytes(loaded.data(), base=Btf.vmlinux(), name=loaded.info().name)


class _Place(NamedTuple):
    """Where the kernel has a symbol: its BTF id and the BTF object it is in, or only its address."""

    type_id: int = 0
    object_id: int = 0
    address: int = 0


class KernelSymbols:
    """Resolves an object's references to the kernel; owns the descriptors of modules' BTF meanwhile."""

    def __init__(self, obj: Object) -> None:
        self._object = obj
        self._externs = {e.name: e for e in obj.externs}
        self._places: dict[str, _Place | None] = {}
        self._btf: dict[int, KernelBtf] = {}
        self._own: Btf | None = None
        self._kallsyms: Kallsyms | None = None

    def close(self) -> None:
        """Close the modules' BTF: what was loaded holds its own references."""
        for btf in self._btf.values():
            btf.close()
        self._btf.clear()

    def check(self) -> None:
        """Find all that the object expects of the kernel, whether a program uses it or not: libbpf's rule.

        :raises UnsupportedError: the kernel lacks something that is not weak, or declares it otherwise.
        """
        # By name, those with a type first: of several that are missing, the one that libbpf names.
        for extern in sorted(self._object.externs, key=lambda e: (not e.type_id, e.name)):
            if extern.kind in ("kfunc", "ksym"):
                self._place(extern.name, extern.kind, weak=extern.weak)

    def attach_target(self, program: ProgramDef) -> tuple[int, int]:
        """(BTF id, descriptor of the module's BTF or 0) of what a tracing or LSM program attaches to.

        :raises UnsupportedError: it does not say what. SymbolError: the kernel has nothing of that name.
        """
        if not program.attach_target:
            raise UnsupportedError(
                f"section '{program.section}' does not say what '{program.name}' is for",
                hint=f'write SEC("{program.section}/NAME"), or set its attach_target before loading',
            )
        prefix, kind = _PREFIXES.get(program.expected_attach_type, ("", BTF_KIND_FUNC))
        module, _, name = program.attach_target.rpartition(":")
        try:
            type_id, object_id = find_in_kernel(prefix + name, kind, module)
        except SymbolError as error:
            raise SymbolError(f"program '{program.name}': {error.message}", hint=error.hint) from error
        return type_id, self._btf_fd(object_id)

    def call(self, insn: Insn, reloc: Reloc, fd_array: list[int]) -> Insn:
        """A call of a kernel function; a missing weak one becomes a call that must not be reached.

        :param fd_array: what ``off`` of the call indexes; grows by the function's module.
        """
        place = self._place(reloc.symbol, "kfunc", weak=reloc.weak)
        if place is None:
            return Insn(BPF_JMP | BPF_CALL, imm=POISON_CALL)
        index = 0
        if place.object_id:
            # Index 0 means vmlinux, so a module's descriptor stands at 1 or above.
            fd = self._btf_fd(place.object_id)
            if fd not in fd_array:
                fd_array += [fd] if fd_array else [0, fd]
            index = fd_array.index(fd)
        return insn._replace(src=BPF_PSEUDO_KFUNC_CALL, imm=place.type_id, off=index)

    def variable(self, insn: Insn, reloc: Reloc) -> Insn:
        """The address of a kernel variable or function; 0 for a missing weak one."""
        extern = self._externs.get(reloc.symbol)
        place = self._place(reloc.symbol, "ksym" if extern is None else extern.kind, weak=reloc.weak)
        if place is None:
            return insn._replace(src=0, imm=0)
        if place.type_id:
            where = self._btf_fd(place.object_id)
            return insn._replace(src=BPF_PSEUDO_BTF_ID, imm=place.type_id | where << 32)
        return insn._replace(src=0, imm=place.address)

    def _place(self, name: str, kind: str, *, weak: bool) -> _Place | None:
        """Where a symbol is; None for a weak one that is missing."""
        if name not in self._places:
            self._places[name] = self._find(name, kind, weak=weak)
        place = self._places[name]
        if place is None and not weak:
            what = "function" if kind == "kfunc" else "symbol"
            hint = "declare it __weak and test its address to do without"
            raise UnsupportedError(f"{self._object.name}: this kernel has no {what} '{name}'", hint=hint)
        return place

    def _find(self, name: str, kind: str, *, weak: bool) -> _Place | None:
        extern = self._externs.get(name)
        try:
            if kind == "kfunc":
                type_id, object_id = find_in_kernel(name.partition("___")[0], BTF_KIND_FUNC)
            elif extern is not None and extern.type_id:
                type_id, object_id = find_in_kernel(name, BTF_KIND_VAR)
            else:
                address = self._address(name)
                return None if address is None else _Place(address=address)
        except SymbolError:
            return None
        if extern is None or self._agrees(extern, type_id, object_id):
            return _Place(type_id, object_id)
        if weak:
            return None
        what = "function" if kind == "kfunc" else "symbol"
        raise UnsupportedError(
            f"{self._object.name}: this kernel's {what} '{name}' is not of the type it is declared with",
            hint="declare it as the kernel does ('tracebee btf dump'), and define the structs it takes",
        )

    def _address(self, name: str) -> int | None:
        """From kallsyms: read once for what the object declares, where a name must mean one address."""
        from tracebee.kernel import kallsyms

        if name not in self._externs:
            return kallsyms.address_of(name)
        if self._kallsyms is None:
            self._kallsyms = kallsyms.Kallsyms()
        addresses = {symbol.address for symbol in self._kallsyms.find(name)}
        if len(addresses) > 1:
            raise UnsupportedError(
                f"{self._object.name}: this kernel has {len(addresses)} symbols '{name}': which is meant?",
                hint="use a symbol whose name is its own in /proc/kallsyms",
            )
        return addresses.pop() if addresses else None

    def _agrees(self, extern: Extern, type_id: int, object_id: int) -> bool:
        """Whether the kernel's function or variable can be taken for what the object declares."""
        from tracebee.btf.core_compat import types_compatible

        if self._own is None:
            self._own = Btf.from_bytes(self._object.btf, name=self._object.name)
        kernel = _types_of(object_id)
        declared = extern.type_id
        if extern.kind == "kfunc":
            declared = self._own.type(declared).type_id
        theirs = kernel.type(type_id).type_id
        return types_compatible(self._own, self._own.resolve(declared), kernel, kernel.resolve(theirs))

    def _btf_fd(self, object_id: int) -> int:
        if not object_id:
            return 0
        if object_id not in self._btf:
            from tracebee.kernel.btf import Btf as KernelBtf

            self._btf[object_id] = KernelBtf.by_id(object_id)
        return self._btf[object_id].fd


def function_of_program(program: ProgramDef, other_fd: int) -> int:
    """BTF id, in another loaded program's BTF, of the function that a program traces or replaces.

    Its ``attach_target`` names it; by default it is the other program's main function.

    :param other_fd: the other program's descriptor; 0 for none.
    :raises UnsupportedError: there is no other program, or it was loaded without BTF.
    :raises SymbolError: it has no such function.
    """
    import os

    from tracebee.kernel.btf import Btf as KernelBtf
    from tracebee.kernel.program import Program

    if not other_fd:
        raise UnsupportedError(
            f"freplace program '{program.name}' needs the program it replaces a function of",
            hint="load it from Python: load(replaces=PROGRAM), or set its target_program",
        )
    with Program.from_fd(os.dup(other_fd)) as other:
        object_id = other.info().btf_id
        functions = other.details().func_info
        what = other.what
    if not object_id or not functions:
        raise UnsupportedError(f"{what} was loaded without BTF", hint="compile it with -g")
    if not program.attach_target:
        return functions[0][1]
    with KernelBtf.by_id(object_id) as loaded:
        types = Btf.from_bytes(loaded.data(), name=what)
    return types.find(program.attach_target, BTF_KIND_FUNC)
