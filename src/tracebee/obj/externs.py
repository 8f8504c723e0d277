"""What an object expects of the kernel (kconfig values, variables, functions) and of other objects."""

from __future__ import annotations

from tracebee.btf.kinds import (
    BTF_FUNC_EXTERN,
    BTF_KIND_DATASEC,
    BTF_KIND_FUNC,
    BTF_KIND_UNKN,
    BTF_KIND_VAR,
    BTF_VAR_GLOBAL_EXTERN,
)
from tracebee.elf.constants import SHN_UNDEF, STB_WEAK, STV_HIDDEN, STV_INTERNAL
from tracebee.errors import DecodeError, UnsupportedError
from tracebee.obj.elf_layout import KCONFIG, KSYMS, MAPS
from tracebee.obj.map_section import map_definition
from tracebee.obj.model import Extern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf import Btf
    from tracebee.obj.elf_layout import ElfLayout
    from tracebee.obj.model import Object


def read_externs(layout: ElfLayout, btf: Btf | None) -> list[Extern]:
    """Every undefined symbol: those that BTF places in ``.kconfig`` or ``.ksyms``, and other objects'.

    kconfig values get their offsets as the kernel will see them: sorted by falling alignment, then size
    (as libbpf lays them out), then name.

    :raises DecodeError: an undefined symbol that BTF does not know.
    """
    undefined = {s.name: s for s in layout.symbols if s.section == SHN_UNDEF and s.name}
    if not undefined:
        return []
    if btf is None:
        name = next(iter(undefined))
        raise DecodeError(f"extern {name} needs BTF to be understood", hint="compile the object with -g")
    found: dict[str, Extern] = {}
    settings: list[tuple[str, int, bool]] = []
    for section_name in (KCONFIG, KSYMS):
        for section_id in btf.find_all(section_name, BTF_KIND_DATASEC):
            for variable in btf.type(section_id).variables:
                record = btf.type(variable.type_id)
                symbol = undefined.get(record.name)
                if symbol is None:
                    continue
                weak = symbol.binding == STB_WEAK
                if section_name == KCONFIG:
                    settings.append((record.name, record.type_id, weak))
                elif record.kind == BTF_KIND_FUNC:
                    found[record.name] = Extern(record.name, "kfunc", variable.type_id, weak)
                else:
                    typed = btf.type(btf.resolve(record.type_id)).kind != BTF_KIND_UNKN
                    found[record.name] = Extern(record.name, "ksym", record.type_id if typed else 0, weak)
    for setting in place_settings(btf, settings):
        found[setting.name] = setting
    for name, symbol in undefined.items():
        if name not in found:
            found[name] = _of_another_object(btf, name, weak=symbol.binding == STB_WEAK)
        if symbol.visibility in (STV_HIDDEN, STV_INTERNAL):
            found[name] = found[name]._replace(hidden=True)
    return list(found.values())


def _of_another_object(btf: Btf, name: str, *, weak: bool) -> Extern:
    for type_id in btf.find_all(name, frozenset({BTF_KIND_FUNC, BTF_KIND_VAR})):
        record = btf.type(type_id)
        if record.kind == BTF_KIND_FUNC and record.linkage == BTF_FUNC_EXTERN:
            return Extern(name, "object", type_id, weak)
        if record.kind == BTF_KIND_VAR and record.linkage == BTF_VAR_GLOBAL_EXTERN:
            is_map = any(
                variable.type_id == type_id
                for section in btf.find_all(MAPS, BTF_KIND_DATASEC)
                for variable in btf.type(section).variables
            )
            definition = map_definition(btf, name, record.type_id)[0] if is_map else None
            return Extern(name, "object", type_id, weak, size=btf.size(record.type_id), map=definition)
    raise DecodeError(
        f"{name} is used, but no declaration of it is in the object's BTF",
        hint="a missing #include, or a function or macro that BPF programs do not have",
    )


def check_linked(obj: Object) -> None:
    """Refuse an object that needs others.

    :raises UnsupportedError: it refers to what no object has defined yet.
    """
    missing = [e.name for e in obj.externs if e.kind == "object"]
    if missing:
        raise UnsupportedError(
            f"{obj.name} needs what another object defines: {', '.join(missing)}",
            hint="link the objects first; what the kernel has is declared __kconfig or __ksym",
        )


_MAX_SETTING = 1 << 16


def place_settings(btf: Btf, settings: list[tuple[str, int, bool]]) -> list[Extern]:
    """Settings, (name, type id, weak) each, laid out as the kernel will see them.

    :raises DecodeError: one is of a type that no setting fills.
    """

    def order(setting: tuple[str, int, bool]) -> tuple[int, int, str]:
        name, type_id, _ = setting
        return -btf.align(type_id), btf.size(type_id), name

    at = 0
    placed = []
    for name, type_id, weak in sorted(settings, key=order):
        align, size = btf.align(type_id), btf.size(type_id)
        if size > _MAX_SETTING:
            raise DecodeError(f"extern {name}: no setting of the kernel has {size} bytes")
        at = (at + align - 1) // align * align
        placed.append(Extern(name, "kconfig", type_id, weak, at, size))
        at += size
    return placed
