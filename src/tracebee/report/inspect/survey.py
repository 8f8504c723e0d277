"""All objects of a kind, or chosen ones, each with its holders and pins: what the list commands print."""

from __future__ import annotations

import os

from tracebee.errors import TracebeeError
from tracebee.kernel import choose, pins
from tracebee.kernel.btf import Btf as KernelBtf
from tracebee.kernel.holders import holders
from tracebee.kernel.program import Program
from tracebee.report.inspect.btf import btf_record, users_of_btf
from tracebee.report.inspect.link import link_record
from tracebee.report.inspect.map import map_record
from tracebee.report.inspect.program import program_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from tracebee.kernel.link import Link
    from tracebee.kernel.map import Map


class Surroundings:
    """Who holds what, and what is pinned where, looked up once for a whole list.

    :param bpffs: whether pins are asked for at all.
    """

    def __init__(self, *, bpffs: bool) -> None:
        me = os.getpid()  # the descriptors that listing itself opens are not of interest
        self._holders = {
            thing: [holder for holder in found if holder.pid != me] for thing, found in holders().items()
        }
        self._pins: dict[tuple[str, int], list[str]] | None = None
        if bpffs:
            self._pins = {}
            for pin in pins.walk():
                self._pins.setdefault((pin.kind, pin.id), []).append(pin.path)

    def of(self, kind: str, number: int) -> dict[str, Any]:
        """Keyword arguments ``holders`` and ``pins`` for one object's record."""
        found = {} if self._pins is None else {"pins": self._pins.get((kind, number), [])}
        return {"holders": self._holders.get((kind, number), ()), **found}


def program_records(chosen: Iterable[Program] | None, *, bpffs: bool = False) -> list[dict[str, Any]]:
    """Records of programs, all for None; closes them."""
    around = Surroundings(bpffs=bpffs)
    records = []
    for program in choose.all_programs() if chosen is None else chosen:
        with program:
            records.append(program_record(program, **around.of("prog", program.info().id)))
    return records


def map_records(chosen: Iterable[Map] | None, *, bpffs: bool = False) -> list[dict[str, Any]]:
    """Records of maps, all for None; closes them."""
    around = Surroundings(bpffs=bpffs)
    records = []
    for table in choose.all_maps() if chosen is None else chosen:
        with table:
            records.append(map_record(table, **around.of("map", table.info().id)))
    return records


def link_records(chosen: Iterable[Link] | None, *, bpffs: bool = False) -> list[dict[str, Any]]:
    """Records of links, all for None; closes them."""
    around = Surroundings(bpffs=bpffs)
    records = []
    for link in choose.all_links() if chosen is None else chosen:
        with link:
            info = link.info()
            records.append(
                link_record(link, program_type=_program_type(info.prog_id), **around.of("link", info.id))
            )
    return records


def btf_records(numbers: Iterable[int] | None) -> list[dict[str, Any]]:
    """Records of BTF objects by id, all for None."""
    around = Surroundings(bpffs=False)
    of_programs = users_of_btf((info.id, info.btf_id) for info in _program_infos())
    of_maps = users_of_btf((info.id, info.btf_id) for info in _map_infos())
    records = []
    for held in choose.all_btf() if numbers is None else map(KernelBtf.by_id, numbers):
        with held:
            info = held.info()
        found = around.of("btf", info.id)["holders"]
        records.append(btf_record(info, of_programs.get(info.id, ()), of_maps.get(info.id, ()), found))
    return records


def _program_infos() -> Iterable[Any]:
    for program in choose.all_programs():
        with program:
            yield program.info()


def _map_infos() -> Iterable[Any]:
    for table in choose.all_maps():
        with table:
            yield table.info()


def _program_type(number: int) -> int | None:
    if not number:
        return None
    try:
        with Program.by_id(number) as program:
            return program.type
    except TracebeeError:
        return None
