"""What a refused program needs that this kernel does not have, said in terms of its source.

An access, type or function that the kernel lacks becomes a call of a helper that no kernel has
(``btf.core_patch.POISON``), which the verifier refuses where it can be reached. The slot it names leads
back to the relocation.
"""

from __future__ import annotations

import re

from tracebee.btf import core_kinds as ck
from tracebee.engine.kernel.refusal import at_line, last_slot, line_at
from tracebee.errors import VerifierError
from tracebee.obj.model import LineInfo, RelocKind
from tracebee.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.kernel.core import Core
    from tracebee.obj.image import Image
    from tracebee.obj.model import CoreReloc

# How the log names the helper: 0x0bad2310, "bad relo".
COMPLAINT = "unknown#195896080"


def explain_poison(
    error: VerifierError, name: str, image: Image, core: Callable[[], Core], *, of_script: bool = False
) -> VerifierError:
    """A refusal of a poisoned instruction as what is missing; any other as it is.

    :param name: the program's.
    :param core: the object's relocations by the kernel's types, asked for only when one was poisoned.
    :param of_script: it was built of a script, whose language has no guards.
    """
    if COMPLAINT not in error.log:
        return error
    slot = last_slot(error.log)
    lack = None if slot is None else find_lack(name, image, slot, core())
    if lack is None:
        return error
    message = lack.message if lack.line is None else at_line(lack.line, lack.message)
    hint = "build the script again, for this kernel" if of_script else lack.hint
    return VerifierError(error.call, error.errno, message, error.log, hint=hint)


class Lack(NamedTuple):
    """What a program needs and the kernel lacks, what to do, and the line that needs it."""

    message: str
    hint: str
    line: LineInfo | None


def find_lack(name: str, image: Image, slot: int, core: Core) -> Lack | None:
    """What the poisoned instruction of a slot stands for; None when it is none.

    :param name: the program's.
    """
    reloc = next((r for r in image.relocs if image.slots[r.at] == slot), None)
    if reloc is None:
        return None
    if reloc.kind == RelocKind.KFUNC:
        thing = reloc.symbol
        what = f"calls the function '{thing}', which this kernel does not have"
        hint = "guard the call with bpf_ksym_exists()"
    elif reloc.kind in (RelocKind.MAP, RelocKind.DATA):
        thing = reloc.symbol
        what = f"uses the map '{thing}', which was left out"
        hint = "guard its uses with a `const volatile` variable that is set before loading"
    elif reloc.core is not None:
        thing = core.describe(reloc.core)
        what, hint = _core_lacks(core, reloc.core, thing)
    else:
        return None
    return Lack(f"program '{name}' {what}", hint, _line_of(thing, image, slot))


def _line_of(thing: str, image: Image, slot: int) -> LineInfo | None:
    """The line that mentions the thing: the instruction's own or, as compilers place constants early, a
    later one.
    """
    own = line_at(image, slot)
    word = re.findall(r"[A-Za-z_]\w*", thing)[-1]
    later = [line for line in image.lines if image.slots[line.at] >= slot]
    for line in [own, *later] if own is not None else later:
        found = re.search(rf"\b{word}\b", line.text)
        if found:
            return line._replace(column=found.start() + 1)
    return own


def _core_lacks(core: Core, reloc: CoreReloc, name: str) -> tuple[str, str]:
    if reloc.kind in ck.TYPE_KINDS:
        return f"needs the type {name}, which this kernel does not have", _guard("bpf_core_type_exists()")
    if reloc.kind in ck.ENUMVAL_KINDS:
        guard = _guard("bpf_core_enum_value_exists()")
        return f"needs the enumerator {name}, which this kernel does not have", guard
    if core.lacks(reloc):
        why = "is of another type in this kernel" if core.has_name(reloc) else "this kernel does not have"
        return f"needs the field {name}, which {why}", _guard("bpf_core_field_exists()")
    return (
        f"needs the field {name}, which has another size or sign in this kernel",
        "read it with BPF_CORE_READ_BITFIELD_PROBED(), which goes by the kernel's size and sign",
    )


def _guard(how: str) -> str:
    return f"guard it with {how}"
