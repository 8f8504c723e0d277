"""Arguments as BTF's prototypes give them: for contexts that are an array of 8-byte slots."""

from __future__ import annotations

from tracebee.errors import Diagnostic
from tracebee.ir.types import KERNEL
from tracebee.lang.types import Type, TypeField
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.btf.types import Param
    from tracebee.ir import Builder, Value
    from tracebee.lang.records import Records


class Slot(NamedTuple):
    """An argument: its type and its place in the context, in bytes."""

    name: str
    type: Type
    offset: int


def slots(params: Sequence[Param], records: Records) -> list[Slot]:
    """Where each parameter lies: a struct passed by value takes as many slots as it has 8 bytes."""
    found = []
    at = 0
    for number, param in enumerate(params):
        kind = records.from_btf(param.type_id)
        found.append(Slot(param.name or f"arg{number}", kind, at))
        at += max(8, kind.size + 7 & ~7)
    return found


def record(name: str, members: Sequence[Slot]) -> Type:
    """The type of ``args``."""
    fields = tuple(TypeField(s.name, s.type, s.offset) for s in members)
    return Type("record", max((s.offset + 8 for s in members), default=0), name=name, fields=fields)


def emit_slot(b: Builder, ctx: Value, offset: int, kind: Type) -> Value | None:
    """Read one argument, extended to 64 bits as its type says; None for a struct passed by value.

    A pointer to a struct is one that the verifier knows (PTR_TO_BTF_ID): it can be followed by loads.
    """
    if kind.kind in ("record", "array", "string", "none"):
        return None
    if kind.kind == "pointer":
        known = kind.element is not None and kind.element.kind == "record" and kind.name != "user"
        return b.load(ctx, offset, 8, type=KERNEL) if known else b.load(ctx, offset, 8)
    # The upper half of a register that holds an int is undefined.
    return b.extend(b.load(ctx, offset, 8), 8 * kind.size, kind.signed)


def slot_named(members: Sequence[Slot], name: str) -> Slot:
    """The slot of a parameter.

    :raises Diagnostic: there is none.
    """
    for slot in members:
        if slot.name == name:
            return slot
    raise Diagnostic(
        f"there is no argument '{name}'", hint=f"arguments: {', '.join(s.name for s in members)}"
    )
