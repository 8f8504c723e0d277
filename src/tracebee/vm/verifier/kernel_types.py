"""Kernel pointers: what the context of a traced function holds, and reading through it.

Source: the kernel's ``btf_ctx_access`` and ``btf_struct_access``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee import uapi
from tracebee.btf import kinds
from tracebee.errors import TracebeeError
from tracebee.vm.verifier.refusal import RefusalError
from tracebee.vm.verifier.state import ANYTHING, BTF, Reg, pointer

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf

_RECORDS = (kinds.BTF_KIND_STRUCT, kinds.BTF_KIND_UNION)


class KernelTypes:
    """Types of the running (or another) kernel, for programs that follow kernel pointers."""

    def __init__(self, btf: Btf | None, attach_type: int, target: str) -> None:
        self.btf = btf
        self.params: list[int] | None = None
        self.may_be_null = False
        if btf is None or not target:
            return
        try:
            if attach_type == uapi.BPF_TRACE_ITER:
                # What is iterated over is NULL in the last call; ``meta``, the first field, never is.
                self.params = [m.type_id for m in btf.iterator(target).members]
                self.may_be_null = True
            elif attach_type == uapi.BPF_TRACE_RAW_TP:
                self.params = [p.type_id for p in btf.raw_tracepoint(target).params]
            else:
                prototype = btf.function(target)
                self.params = [p.type_id for p in prototype.params]
                if attach_type == uapi.BPF_TRACE_FEXIT:
                    self.params.append(prototype.return_id)
        except TracebeeError as error:
            raise RefusalError(f"the target '{target}' is not in the kernel's BTF: {error.message}") from None

    def context_field(self, offset: int, size: int) -> Reg | None:
        """What a field of the context holds; None for a plain number.

        :raises RefusalError: the traced function has no such argument.
        """
        if self.params is None or self.btf is None:
            return None
        if offset % 8:
            raise RefusalError(f"func offset {offset} is not multiple of 8")
        number = offset // 8
        if number >= len(self.params):
            raise RefusalError(f"the traced function has no argument {number + 1}")
        target = self._pointee(self.params[number])
        if target is None:
            return None
        if size != 8:
            raise RefusalError(f"size {size} must be 8: the argument is a pointer")
        found = pointer(BTF)
        found.btf = target
        found.flags = frozenset(("trusted",))
        found.null = self.may_be_null and number > 0
        return found

    def _pointee(self, type_id: int) -> int | None:
        """The struct a pointer type points at, None for another type."""
        assert self.btf is not None
        t = self.btf.type(self.btf.resolve(type_id))
        if t.kind != kinds.BTF_KIND_PTR:
            return None
        target = self.btf.resolve(t.type_id)
        return target if target and self.btf.type(target).kind in _RECORDS else None

    def load(self, number: int, reg: Reg, offset: int, size: int, *, write: bool) -> Reg:
        """Read through a kernel pointer; a fault gives 0, so only the struct's size limits it."""
        if write:
            raise RefusalError("only read is supported through a kernel pointer", register=number)
        if reg.bits != (0, 0):
            raise RefusalError(f"R{number} is a kernel pointer with a variable offset", register=number)
        offset += reg.off
        if self.btf is None or not reg.btf:
            raise RefusalError(f"R{number} points at a kernel type that is not known", register=number)
        layout = self.btf.struct(reg.btf)
        if offset < 0 or offset + size > layout.size:
            raise RefusalError(
                f"access beyond struct {layout.name} at off {offset} size {size}", register=number
            )
        found = self._member(reg.btf, offset) if size == 8 else None
        if found is None:
            return ANYTHING
        target = pointer(BTF)
        target.btf = found
        target.flags = frozenset(("untrusted",))
        return target

    def _member(self, struct_id: int, offset: int, depth: int = 0) -> int | None:
        """The struct that the pointer member at an offset points at."""
        assert self.btf is not None
        for member in self.btf.struct(struct_id).members:
            start = member.bit_offset // 8
            real = self.btf.resolve(member.type_id)
            t = self.btf.type(real)
            if t.kind in _RECORDS:
                if start <= offset < start + self.btf.size(real) and depth < 16:
                    inner = self._member(real, offset - start, depth + 1)
                    if inner is not None:
                        return inner
            elif start == offset:
                return self._pointee(member.type_id)
        return None

    def exists(self, name: str) -> bool:
        """Whether the kernel has a function or variable of a name; True when nothing says so."""
        return self.btf is None or bool(self.btf.find_all(name))

    def named(self, name: str) -> int:
        """BTF id of a struct, 0 when it is not known."""
        if self.btf is None:
            return 0
        try:
            return self.btf.struct(f"struct {name}").id
        except TracebeeError:
            return 0

    def name(self, type_id: int) -> str:
        """A struct's name."""
        return self.btf.struct(type_id).name if self.btf is not None and type_id else ""
