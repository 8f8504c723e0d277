"""USDT programs of libbpf objects, and what they read a probe's arguments by.

``bpf/usdt.bpf.h`` finds an argument from a description in the object's map ``__bpf_usdt_specs``; the number
of the description is the cookie of the place that was hit. Kernels without cookies have it looked up by the
place's address, in ``__bpf_usdt_ip_to_spec_id``. Source: libbpf's usdt.bpf.h (``struct __bpf_usdt_spec``) and
usdt.c.
"""

from __future__ import annotations

import struct

from tracebee.elf.constants import ET_EXEC
from tracebee.elf.file import ElfFile
from tracebee.engine.kernel.kconfig import has_cookie
from tracebee.errors import SymbolError, UnsupportedError
from tracebee.kernel import procmaps
from tracebee.lang.script import Target
from tracebee.probes.binary import find_binaries
from tracebee.probes.machine import Machine
from tracebee.probes.session import Session, close_all
from tracebee.probes.usdt import places_of
from tracebee.probes.usdt_args import parse_arguments
from tracebee.probes.user_attach import attach_user
from tracebee.suggest import nearest
from tracebee.uapi import BPF_NOEXIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tracebee.engine.kernel.loader import LoadedObject
    from tracebee.kernel.map import Map
    from tracebee.kernel.program import Program
    from tracebee.probes.regs import Registers
    from tracebee.probes.usdt import Note
    from tracebee.probes.usdt_args import Argument

SPECS, ADDRESSES = "__bpf_usdt_specs", "__bpf_usdt_ip_to_spec_id"

_ARGUMENTS = 12  # BPF_USDT_MAX_ARG_CNT
_CONST, _REG, _REG_DEREF, _SIB = range(4)  # enum __bpf_usdt_arg_type; the last since libbpf 1.7
# struct __bpf_usdt_arg_spec: value or offset, type (with index register and scale in its upper bits),
# register's offset in the context, signedness, bits to shift out.
_ARGUMENT = struct.Struct("=QIhBb")
_REST = struct.Struct("=Qh6x")  # cookie and number of arguments


class SpecTable:
    """The numbers of an object's argument descriptions, given out and taken back."""

    def __init__(self, specs: Map, addresses: Map) -> None:
        self.specs, self.addresses = specs, addresses
        self._used: set[int] = set()

    def add(self, spec: bytes) -> int:
        """Write a description under a free number.

        :raises UnsupportedError: all numbers are taken.
        """
        number = next((n for n in range(self.specs.max_entries) if n not in self._used), None)
        if number is None:
            raise UnsupportedError(
                f"more than {self.specs.max_entries} layouts of USDT arguments are attached at once",
                hint="compile the object with -DBPF_USDT_MAX_SPEC_CNT=N, or enlarge the map before loading",
            )
        self._used.add(number)
        self.specs.update(number.to_bytes(4, "little"), spec)
        return number

    def free(self, numbers: Sequence[int]) -> None:
        """Take numbers back; their descriptions are overwritten when they are used again."""
        self._used.difference_update(numbers)


class UsdtLink:
    """A program on every place of a probe, until ``close``."""

    def __init__(self, links: list[Any], table: SpecTable, numbers: list[int], addresses: list[int]) -> None:
        self._links, self._table = links, table
        self._numbers, self._addresses = numbers, addresses

    def close(self) -> None:
        """Detach, and free the argument descriptions."""
        close_all(self._links)
        for address in self._addresses:
            self._table.addresses.delete(address.to_bytes(8, "little"))
        self._table.free(self._numbers)
        self._links, self._numbers, self._addresses = [], [], []

    def stay(self) -> None:
        """Keep the argument descriptions when this is closed: its links are pinned and go on using them."""
        self._numbers, self._addresses = [], []

    @property
    def parts(self) -> list[Any]:
        """The links it is made of: one, or one for each place on kernels before 6.6."""
        return self._links


def attach_usdt(
    loaded: LoadedObject,
    program: Program,
    where: tuple[str, str, str],
    *,
    attach_type: int,
    pid: int | None = None,
    cookie: int = 0,
) -> UsdtLink:
    """Attach a program to every place of a USDT probe.

    :param where: path (or a library's or program's name), provider (empty for any), name of the probe.
    :param attach_type: what the program was loaded for: BPF_TRACE_UPROBE_MULTI, or 0.
    :param pid: only in this process.
    :param cookie: what bpf_usdt_cookie() answers.
    :raises SymbolError: there is no such probe. UnsupportedError: the object or an argument does not suit.
    """
    table, machine = _table(loaded), Machine(pid)
    path, provider, name = where
    indexed = b"\0BPF_USDT_ARG_SIB\0" in loaded.object.btf
    by_cookie = has_cookie()
    known: dict[str, None] = {}
    numbers: dict[bytes, int] = {}
    links: list[Any] = []
    targets: list[Target] = []
    addresses: list[int] = []
    try:
        for binary in find_binaries(path, machine):
            shown = binary.removeprefix(machine.root) if machine.root else binary
            for note, spec, layout in places_of(binary, shown):
                known[f"{note.provider}:{note.name}"] = None
                if note.name != name or provider not in ("", note.provider):
                    continue
                arguments = parse_arguments(layout.arguments, machine.regs.machine)
                text = encode_spec(arguments, machine.regs, layout.deltas, cookie, indexed=indexed)
                if text not in numbers:
                    numbers[text] = table.add(text)
                if not by_cookie:
                    addresses.append(_address(binary, spec["offset"], note, pid))
                    key = addresses[-1].to_bytes(8, "little")
                    table.addresses.update(key, numbers[text].to_bytes(4, "little"), BPF_NOEXIST)
                targets.append(Target(f"usdt:{shown}:{note.provider}:{name}", numbers[text], spec))
        if not targets:
            wanted = f"{provider}:{name}" if provider else name
            if not known:
                raise SymbolError(f"{path} has no USDT probes", hint="it was built without <sys/sdt.h>")
            raise SymbolError(f"{path} has no USDT probe '{wanted}'", nearest(wanted, known))
        session = Session(pid=pid)
        session.kind, session.attach_type = "usdt", attach_type
        links += attach_user(program, targets, session, returns=False)
    except BaseException:
        UsdtLink(links, table, list(numbers.values()), addresses).close()
        raise
    return UsdtLink(links, table, list(numbers.values()), addresses)


def encode_spec(
    arguments: Sequence[Argument],
    regs: Registers,
    deltas: Mapping[str, int],
    cookie: int = 0,
    *,
    indexed: bool = False,
) -> bytes:
    """``struct __bpf_usdt_spec`` for the arguments of one place.

    :param deltas: how far the symbols that arguments name lie from the place.
    :param indexed: whether the program knows arguments with an index register (libbpf 1.7).
    :raises UnsupportedError: an argument, or their number, cannot be described so.
    """
    if len(arguments) > _ARGUMENTS:
        raise UnsupportedError(f"a USDT probe has {len(arguments)} arguments, programs see {_ARGUMENTS}")
    for number, argument in enumerate(arguments):
        if argument.offset_register and not (indexed and argument.index_bits == 64):
            raise UnsupportedError(
                f"arg{number} of this USDT probe is in memory at the sum of two registers, which these "
                "programs cannot add",
                hint="compile it with the usdt.bpf.h of libbpf 1.7",
            )
    rows = [_encode_argument(number, argument, regs, deltas) for number, argument in enumerate(arguments)]
    data = b"".join(rows).ljust(_ARGUMENTS * _ARGUMENT.size, b"\0")
    return data + _REST.pack(cookie & (1 << 64) - 1, len(arguments))


def _encode_argument(number: int, argument: Argument, regs: Registers, deltas: Mapping[str, int]) -> bytes:
    value, register = argument.value, 0
    if argument.kind == "const":
        kind = _CONST
    elif argument.kind == "reg":
        # A byte in the middle of a register (%ah) is read from that byte on.
        kind, register = _REG, regs.offsets[argument.base] + argument.shift // 8
    elif argument.kind == "symbol":
        if argument.symbol and argument.symbol not in deltas:
            raise UnsupportedError(
                f"arg{number} lies at '{argument.symbol}', which is not in the symbol table"
            )
        kind, register = _REG_DEREF, regs.offsets[regs.pc]
        value += deltas.get(argument.symbol, 0)
    elif not argument.base:
        raise UnsupportedError(
            f"arg{number} of this USDT probe is at a fixed address, which programs cannot read"
        )
    else:
        kind, register = _REG_DEREF, regs.offsets[argument.base]
        if argument.offset_register:
            index = regs.offsets[argument.offset_register]
            kind = _SIB | index << 8 | (argument.scale.bit_length() - 1) << 20
    shift = 64 - 8 * argument.size
    return _ARGUMENT.pack(value & (1 << 64) - 1, kind, register, argument.signed, shift)


def _table(loaded: LoadedObject) -> SpecTable:
    if loaded.usdt is None:
        missing = [name for name in (SPECS, ADDRESSES) if name not in loaded.maps]
        if missing:
            raise UnsupportedError(
                f"{loaded.object.name} has no map '{missing[0]}', which USDT arguments are described in",
                hint="include <bpf/usdt.bpf.h>, or attach the place as a uprobe",
            )
        loaded.usdt = SpecTable(loaded.maps[SPECS], loaded.maps[ADDRESSES])
    return loaded.usdt


def _address(binary: str, offset: int, note: Note, pid: int | None) -> int:
    """Where a place is in memory: what kernels without cookies tell programs."""
    with ElfFile(binary) as image:
        if image.type == ET_EXEC:
            return note.pc
    path = binary.removeprefix(f"/proc/{pid}/root")
    for mapping in (procmaps.read(pid) or ()) if pid is not None else ():
        if mapping.path == path and mapping.executable and mapping.holds(offset):
            return mapping.start + offset - mapping.offset
    raise UnsupportedError(
        f"{binary} can lie anywhere in memory, and this kernel does not say which place was hit",
        hint="name a process that has mapped it; Linux 5.15 needs none",
    )
