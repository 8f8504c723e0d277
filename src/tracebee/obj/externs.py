"""What an object expects of the kernel: kconfig values, kernel variables, kernel functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf.kinds import BTF_KIND_DATASEC, BTF_KIND_FUNC, BTF_KIND_UNKN
from tracebee.elf.constants import SHN_UNDEF, STB_WEAK
from tracebee.errors import DecodeError
from tracebee.obj.elf_layout import KCONFIG, KSYMS
from tracebee.obj.model import Extern

if TYPE_CHECKING:
    from tracebee.btf import Btf
    from tracebee.obj.elf_layout import ElfLayout


def read_externs(layout: ElfLayout, btf: Btf | None) -> list[Extern]:
    """Every undefined symbol that BTF places in ``.kconfig`` or ``.ksyms``.

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
    for setting in _place_settings(btf, settings):
        found[setting.name] = setting
    for name in undefined:
        if name not in found:
            raise DecodeError(
                f"extern {name} is in neither .kconfig nor .ksyms", hint="mark it __kconfig or __ksym"
            )
    return list(found.values())


def _place_settings(btf: Btf, settings: list[tuple[str, int, bool]]) -> list[Extern]:
    def order(setting: tuple[str, int, bool]) -> tuple[int, int, str]:
        name, type_id, _ = setting
        return -btf.align(type_id), btf.size(type_id), name

    at = 0
    placed = []
    for name, type_id, weak in sorted(settings, key=order):
        align, size = btf.align(type_id), btf.size(type_id)
        at = (at + align - 1) // align * align
        placed.append(Extern(name, "kconfig", type_id, weak, at, size))
        at += size
    return placed
