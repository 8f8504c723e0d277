"""Objects as a person names them: by id, name, tag, or the place where they are pinned."""

from __future__ import annotations

import errno

from tracebee.errors import KernelError, SymbolError
from tracebee.kernel.btf import Btf
from tracebee.kernel.link import Link
from tracebee.kernel.map import Map
from tracebee.kernel.program import Program
from tracebee.kernel.program_info import full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    Thing = TypeVar("Thing")

# An object that is gone meanwhile; a link that is being made.
_PASSED_OVER = (errno.ENOENT, errno.EAGAIN)


def all_programs() -> Iterator[Program]:
    """Every loaded program, by id; the caller closes each."""
    return _all(Program.ids(), Program.by_id)


def all_maps() -> Iterator[Map]:
    """Every map, by id; the caller closes each."""
    return _all(Map.ids(), Map.by_id)


def all_links() -> Iterator[Link]:
    """Every link, by id; the caller closes each."""
    return _all(Link.ids(), Link.by_id)


def all_btf() -> Iterator[Btf]:
    """Every BTF object, by id; the caller closes each."""
    return _all(Btf.ids(), Btf.by_id)


def programs(how: str, value: str) -> list[Program]:
    """Programs by ``id``, ``name``, ``tag`` or ``pinned``; the caller closes them.

    :raises SymbolError: none has the name or tag; KernelError: none has the id, or is pinned there.
    """
    if how == "id":
        return [Program.by_id(int(value))]
    if how == "pinned":
        return [Program.pinned(value)]
    found: list[Program] = []
    for program in all_programs():
        if _is_named(program, how, value):
            found.append(program)
        else:
            program.close()
    if not found:
        raise SymbolError(f"no program with the {how} '{value}' is loaded", hint="list them: 'tracebee prog'")
    return found


def name_of(program: Program) -> str:
    """A program's whole name."""
    return full_name(program.fd, program.info())


def _is_named(program: Program, how: str, value: str) -> bool:
    info = program.info()
    if how == "tag":
        return info.tag == value
    # As the kernel has it, cut off after 15 bytes, or whole.
    return info.name == value[:15] and (len(value) <= 15 or full_name(program.fd, info) == value)


def maps(how: str, value: str) -> list[Map]:
    """Maps by ``id``, ``name`` or ``pinned``; the caller closes them.

    :raises SymbolError: none has the name; KernelError: none has the id, or is pinned there.
    """
    if how == "id":
        return [Map.by_id(int(value))]
    if how == "pinned":
        return [Map.pinned(value)]
    found: list[Map] = []
    for table in all_maps():
        if table.name == value[:15]:
            found.append(table)
        else:
            table.close()
    if not found:
        raise SymbolError(f"there is no map with the name '{value}'", hint="list them: 'tracebee map'")
    return found


def link(how: str, value: str) -> Link:
    """A link by ``id`` or ``pinned``; the caller closes it."""
    return Link.pinned(value) if how == "pinned" else Link.by_id(int(value))


def _all(ids: Iterator[int], by_id: Callable[[int], Thing]) -> Iterator[Thing]:
    for number in list(ids):
        try:
            yield by_id(number)
        except KernelError as error:
            if error.errno not in _PASSED_OVER:
                raise
