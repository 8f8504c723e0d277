"""CO-RE relocations of an object, resolved against the running kernel's types or another's."""

from __future__ import annotations

from tracebee.btf.core import Resolver, kernel_modules
from tracebee.btf.core_kinds import BPF_CORE_FIELD_EXISTS
from tracebee.btf.core_patch import patch
from tracebee.btf.reader import Btf
from tracebee.errors import DecodeError
from tracebee.obj.model import CoreReloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.isa.insn import Insn
    from tracebee.obj.model import Object, Reloc


class Core:
    """Patches instructions; opens the types when first used.

    :param target: the kernel's types; None for the running kernel's, its modules included.
    """

    def __init__(self, obj: Object, target: Btf | None = None) -> None:
        self._local = local = Btf.from_bytes(obj.btf, name=obj.name) if obj.btf else None
        if target is None:
            self._resolver = Resolver(local, Btf.vmlinux(), kernel_modules)
        else:
            self._resolver = Resolver(local, target)
        self._object = obj

    def patch(self, insn: Insn, reloc: Reloc) -> tuple[Insn, ...]:
        """What to put in place of an instruction: as many slots as it has.

        :raises DecodeError: the relocation does not fit the instruction or the object's types.
        :raises UnsupportedError: the kernel's types give no single answer.
        """
        if reloc.core is None:
            raise DecodeError(f"{self._object.name}: a CO-RE relocation that says nothing")
        return patch(insn, self._resolver.resolve(reloc.core))

    def lacks(self, core: CoreReloc) -> bool:
        """Whether the kernel has nothing of what a relocation asks for."""
        return self._resolver.resolve(core).poison

    def has_name(self, core: CoreReloc) -> bool:
        """Whether the kernel has a member of the name that a field's relocation means, of any type."""
        root, _, path = self.describe(core).partition(".")
        return bool(self._resolver.resolve(CoreReloc(BPF_CORE_FIELD_EXISTS, root, path)).value)

    def describe(self, core: CoreReloc) -> str:
        """What a relocation asks for, as C has it: ``struct task_struct.state``."""
        if core.access:
            return f"{core.type_name}.{core.access}"
        if self._local is not None and core.type_id:
            from tracebee.btf.core_spec import parse_spec

            return str(parse_spec(self._local, core.type_id, core.kind, core.spec))
        return core.type_name
