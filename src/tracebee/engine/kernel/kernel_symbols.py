"""Kernel functions, variables and attach targets by name: what loading turns into BTF ids and addresses."""

from __future__ import annotations

from tracebee import uapi
from tracebee.btf import Btf
from tracebee.btf.kinds import BTF_KIND_FUNC, BTF_KIND_TYPEDEF, BTF_KIND_VAR
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.isa.insn import BPF_CALL, BPF_JMP, BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL, Insn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.btf import Btf as KernelBtf
    from tracebee.obj.model import Extern, ProgramDef, Reloc

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
    if not module:
        found = Btf.vmlinux().find_all(name, kind)
        if found:
            return found[0], 0
    from tracebee.kernel.btf import Btf as KernelBtf

    for object_id in KernelBtf.ids():
        with KernelBtf.by_id(object_id) as loaded:
            info = loaded.info()
            if not info.is_kernel or info.name == "vmlinux" or (module and info.name != module):
                continue
            types = Btf.from_bytes(loaded.data(), base=Btf.vmlinux(), name=info.name)
        own = [i for i in types.find_all(name, kind) if i >= types.first_id]
        if own:
            return own[0], object_id
    where = f"module {module}" if module else "the kernel and its modules"
    raise SymbolError(f"{where} has no '{name}' in BTF", hint="is it spelled as in /proc/kallsyms?")


class KernelSymbols:
    """Resolves an object's references to the kernel; owns the descriptors of modules' BTF meanwhile."""

    def __init__(self, object_name: str) -> None:
        self._object_name = object_name
        self._btf: dict[int, KernelBtf] = {}

    def close(self) -> None:
        """Close the modules' BTF: what was loaded holds its own references."""
        for btf in self._btf.values():
            btf.close()
        self._btf.clear()

    def attach_target(self, program: ProgramDef) -> tuple[int, int]:
        """(BTF id, descriptor of the module's BTF or 0) of what a tracing or LSM program attaches to."""
        prefix, kind = _PREFIXES.get(program.expected_attach_type, ("", BTF_KIND_FUNC))
        module, _, name = program.attach_target.rpartition(":")
        type_id, object_id = find_in_kernel(prefix + name, kind, module)
        return type_id, self._btf_fd(object_id)

    def call(self, insn: Insn, reloc: Reloc, fd_array: list[int]) -> Insn:
        """A call of a kernel function; a missing weak one becomes a call that must not be reached.

        :param fd_array: what ``off`` of the call indexes; grows by the function's module.
        """
        try:
            type_id, object_id = find_in_kernel(reloc.symbol.partition("___")[0], BTF_KIND_FUNC)
        except SymbolError as error:
            if reloc.weak:
                return Insn(BPF_JMP | BPF_CALL, imm=POISON_CALL)
            raise self._missing("function", reloc.symbol) from error
        index = 0
        if object_id:
            # Index 0 means vmlinux, so a module's descriptor stands at 1 or above.
            fd = self._btf_fd(object_id)
            if fd not in fd_array:
                fd_array += [fd] if fd_array else [0, fd]
            index = fd_array.index(fd)
        return insn._replace(src=BPF_PSEUDO_KFUNC_CALL, imm=type_id, off=index)

    def variable(self, insn: Insn, reloc: Reloc, extern: Extern | None) -> Insn:
        """The address of a kernel variable or function; 0 for a missing weak one."""
        try:
            if extern is not None and extern.type_id:
                return self._typed(insn, reloc.symbol)
            from tracebee.kernel.kallsyms import address_of

            address = address_of(reloc.symbol)
        except SymbolError:
            address = None
        if address is None and not reloc.weak:
            raise self._missing("symbol", reloc.symbol)
        return insn._replace(src=0, imm=address or 0)

    def _typed(self, insn: Insn, name: str) -> Insn:
        try:
            type_id, object_id = find_in_kernel(name, BTF_KIND_VAR)
        except SymbolError:
            type_id, object_id = find_in_kernel(name, BTF_KIND_FUNC)
        return insn._replace(src=BPF_PSEUDO_BTF_ID, imm=type_id | self._btf_fd(object_id) << 32)

    def _btf_fd(self, object_id: int) -> int:
        if not object_id:
            return 0
        if object_id not in self._btf:
            from tracebee.kernel.btf import Btf as KernelBtf

            self._btf[object_id] = KernelBtf.by_id(object_id)
        return self._btf[object_id].fd

    def _missing(self, what: str, name: str) -> UnsupportedError:
        hint = "declare it __weak and test its address to do without"
        return UnsupportedError(f"{self._object_name}: this kernel has no {what} '{name}'", hint=hint)


def function_of_program(program_fd: int, name: str) -> int:
    """BTF id of a function in a loaded program's own BTF."""
    import os

    from tracebee.kernel.btf import Btf as KernelBtf
    from tracebee.kernel.program import Program

    with Program.from_fd(os.dup(program_fd)) as program:
        object_id = program.info().btf_id
    if not object_id:
        raise UnsupportedError(f"the program to replace '{name}' of has no BTF", hint="compile it with -g")
    with KernelBtf.by_id(object_id) as loaded:
        types = Btf.from_bytes(loaded.data())
    return types.find(name, BTF_KIND_FUNC)
