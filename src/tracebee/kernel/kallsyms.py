"""Kernel symbols: names to addresses and back, from ``/proc/kallsyms``.

A line is ``address type name`` and, for modules, a tab and ``[module]``. The file has some 10 MB
and takes the kernel tens of milliseconds to write, so one name is searched for while reading and
the reading stops there; addresses are looked up by bisection in the text itself, which the kernel
writes in ascending order up to the first module (``scripts/kallsyms.c``).
"""

from __future__ import annotations

from tracebee.typed import NamedTuple

PATH = "/proc/kallsyms"
_CHUNK = 1 << 20


class KernelSymbol(NamedTuple):
    """A symbol of the kernel: ``kind`` is nm's letter, ``module`` empty for the kernel proper."""

    address: int
    kind: str
    name: str
    module: str


def parse_line(line: bytes) -> KernelSymbol:
    """One line of the file.

    :raises ValueError: it is not one.
    """
    head, _, module = line.rstrip(b"\n").partition(b"\t")
    address, kind, name = head.split(b" ", 2)
    return KernelSymbol(int(address, 16), kind.decode(), name.decode(), module.strip(b"[]").decode())


def find(name: str, path: str = PATH) -> list[KernelSymbol]:
    """All symbols of a name: more than one when several files of the kernel define it.

    :raises PrivilegeError: the kernel shows no addresses to this process.
    """
    with open(path, "rb", buffering=0) as file:
        return _named(file.read(), name)


def _named(data: bytes, name: str) -> list[KernelSymbol]:
    wanted = b" " + name.encode()
    found: list[KernelSymbol] = []
    at = data.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if data[end : end + 1] in (b"\n", b"\t", b""):
            start = data.rfind(b"\n", 0, at) + 1
            stop = data.find(b"\n", end)
            found.append(parse_line(data[start : stop if stop >= 0 else len(data)]))
        at = data.find(wanted, end)
    if any(symbol.address == 0 and symbol.kind.lower() in "tw" for symbol in found):
        raise hidden()
    return found


def address_of(name: str, path: str = PATH) -> int | None:
    """Address of the first symbol of a name, reading no further than there; None if there is none.

    :raises PrivilegeError: the kernel shows no addresses to this process.
    """
    wanted = b" " + name.encode()
    rest = b""
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            # read(2) of this file ends at a line's end.
            data = rest + chunk
            for ending in (b"\n", b"\t"):
                at = data.find(wanted + ending)
                if at >= 0:
                    start = data.rfind(b"\n", 0, at) + 1
                    symbol = parse_line(data[start : at + len(wanted)])
                    if symbol.address == 0:
                        raise hidden()
                    return symbol.address
            rest = data[data.rfind(b"\n") + 1 :]
    return None


class Kallsyms:
    """The whole table, read once, for resolving addresses."""

    __slots__ = ("_core_end", "_data", "_modules", "_starts")

    def __init__(self, data: bytes | None = None) -> None:
        if data is None:
            with open(PATH, "rb", buffering=0) as file:
                data = file.read()
        self._data = data
        first_module = data.find(b"\t[")
        self._core_end = len(data) if first_module < 0 else data.rfind(b"\n", 0, first_module) + 1
        self._modules: list[KernelSymbol] | None = None
        self._starts: list[int] = []

    def resolve(self, address: int) -> tuple[KernelSymbol, int] | None:
        """The symbol an address lies in and the offset from its start; None when there is none.

        Of several symbols at one address the first in the file is given, as the kernel does.
        """
        module = self._resolve_module(address)
        core = self._resolve_core(address)
        best = max((s for s in (core, module) if s is not None), key=lambda s: s.address, default=None)
        return None if best is None else (best, address - best.address)

    def find(self, name: str) -> list[KernelSymbol]:
        """All symbols of a name.

        :raises PrivilegeError: the kernel shows no addresses to this process.
        """
        return _named(self._data, name)

    def symbols(self) -> list[KernelSymbol]:
        """Everything, parsed: about a second for a large kernel."""
        return [parse_line(line) for line in self._data.splitlines()]

    def _address_at(self, at: int) -> int:
        return int(self._data[at : self._data.find(b" ", at)], 16)

    def _resolve_core(self, address: int) -> KernelSymbol | None:
        data = self._data
        low, high = 0, self._core_end  # both at a line's start; the answer is at or after low
        if high == 0 or self._address_at(0) > address:
            return None
        while True:
            middle = data.rfind(b"\n", 0, (low + high) // 2) + 1
            if middle <= low:
                middle = data.find(b"\n", low, high) + 1
                if middle == 0 or middle >= high:
                    break
            if self._address_at(middle) <= address:
                low = middle
            else:
                high = middle
        # Several symbols may share the address: go back to the first.
        value = self._address_at(low)
        while low > 0:
            before = data.rfind(b"\n", 0, low - 1) + 1
            if self._address_at(before) != value:
                break
            low = before
        symbol = parse_line(data[low : data.find(b"\n", low)])
        return symbol if symbol.address else None

    def _resolve_module(self, address: int) -> KernelSymbol | None:
        if self._modules is None:
            rows = [parse_line(line) for line in self._data[self._core_end :].splitlines()]
            rows.sort(key=lambda symbol: symbol.address)
            self._modules = rows
            self._starts = [symbol.address for symbol in rows]
        from bisect import bisect_left, bisect_right

        at = bisect_right(self._starts, address)
        if at == 0:
            return None
        return self._modules[bisect_left(self._starts, self._starts[at - 1])]


def hidden() -> Exception:
    """The error for a table full of zeros."""
    from tracebee.errors import PrivilegeError
    from tracebee.kernel.privileges import setting

    value = setting("kernel/kptr_restrict")
    return PrivilegeError(
        "the kernel hides its symbols' addresses from this process",
        hint=f"run as root or with CAP_SYSLOG (kernel.kptr_restrict is {value}: 2 hides them from root too)",
    )


def modules(path: str = "/proc/modules") -> list[str]:
    """Names of the loaded modules; none where the kernel has no modules."""
    try:
        with open(path) as file:
            return [line.partition(" ")[0] for line in file]
    except FileNotFoundError:
        return []


def kprobe_blacklist() -> frozenset[str]:
    """Functions that must not be probed (``kprobes/blacklist`` of debugfs); none when it is not there."""
    from tracebee.errors import TracebeeError
    from tracebee.kernel.mounts import debugfs

    try:
        with open(f"{debugfs()}/kprobes/blacklist") as file:
            return frozenset(line.rstrip("\n").partition("\t")[2] for line in file)
    except (OSError, TracebeeError):
        return frozenset()
