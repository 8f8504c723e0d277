"""Names for all addresses of a machine: the kernel's and those of any process."""

from __future__ import annotations

import time
from bisect import bisect_right

from tracebee.symbols.frame import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.kernel.kallsyms import Kallsyms
    from tracebee.kernel.procmaps import Mapping
    from tracebee.symbols.image import Image
    from tracebee.symbols.perfmap import PerfMap

_KEPT = 1 << 17  # frames remembered before starting over
_RETRY = 0.1  # seconds between two readings of a process's map for addresses outside of it


class Symbolizer:
    """Resolves and remembers. Nothing is read, and no reader imported, before the first question.

    :param demangled: C++ and Rust names as written in their source.
    """

    def __init__(self, *, demangled: bool = True) -> None:
        self._demangled = demangled
        self._kallsyms: Kallsyms | None = None
        self._kernel: dict[int, Frame] = {}
        self._user: dict[tuple[int, int], Frame] = {}
        self._processes: dict[int, _Process] = {}
        self._images: dict[tuple[str, int], Image | None] = {}

    def kernel_frame(self, address: int) -> Frame:
        """The kernel function or object that an address lies in; ``module`` is empty for vmlinux."""
        frame = self._kernel.get(address)
        if frame is None:
            if len(self._kernel) >= _KEPT:
                self._kernel.clear()
            frame = self._kernel[address] = self._find_kernel(address)
        return frame

    def user_frame(self, address: int, tgid: int, pid: int = 0) -> Frame:  # noqa: ARG002 - see Names
        """The function that an address of a process lies in; ``module`` is the mapped file.

        A process that is gone is answered for from the map seen while it lived (see ``see``).
        """
        key = (tgid, address)
        frame = self._user.get(key)
        if frame is None:
            if len(self._user) >= _KEPT:
                self._user.clear()
            frame = self._user[key] = self._find_user(address, tgid)
        return frame

    def see(self, tgid: int) -> None:
        """Remember a process's memory map now, so that its addresses can be named after its end."""
        known = self._processes.get(tgid)
        if known is None:
            self._processes[tgid] = _Process(tgid)
        else:
            known.read()

    def forget(self, tgid: int) -> None:
        """Drop what is known of a process: it ran another program, or its number is used again."""
        self._processes.pop(tgid, None)
        self._user = {key: frame for key, frame in self._user.items() if key[0] != tgid}

    def _find_kernel(self, address: int) -> Frame:
        # The table also lists per-CPU offsets and absolute numbers at low addresses.
        if address < 1 << 63:
            return Frame(address)
        if self._kallsyms is None:
            from tracebee.kernel.kallsyms import Kallsyms

            try:
                self._kallsyms = Kallsyms()
            except OSError:
                self._kallsyms = Kallsyms(b"")
        found = self._kallsyms.resolve(address)
        if found is None:
            return Frame(address)
        symbol, offset = found
        return Frame(address, symbol.name, offset, symbol.module)

    def _find_user(self, address: int, tgid: int) -> Frame:
        process = self._processes.get(tgid)
        if process is None:
            process = self._processes[tgid] = _Process(tgid)
        mapping = process.mapping(address)
        if mapping is None:
            return Frame(address)
        if mapping.inode == 0 and mapping.path != "[vdso]":
            jitted = process.jitted(address)
            found = None if jitted is None else jitted.resolve(address)
        else:
            image = self._image(mapping, tgid)
            found = None if image is None else image.resolve(address - mapping.start + mapping.offset)
        if found is None:
            return Frame(address, module=mapping.path)
        from tracebee.symbols.demangle import demangle

        name, offset = found
        return Frame(address, demangle(name) if self._demangled else name, offset, mapping.path)

    def _image(self, mapping: Mapping, tgid: int) -> Image | None:
        key = (mapping.path, mapping.inode)
        if key not in self._images:
            from tracebee.symbols.image import open_image

            self._images[key] = open_image(mapping, tgid)
        return self._images[key]


class _Process:
    """The memory map of a process as last seen."""

    def __init__(self, tgid: int) -> None:
        self.tgid = tgid
        self._mappings: list[Mapping] = []
        self._starts: list[int] = []
        self._read_at = 0.0
        self._jitted: PerfMap | None = None
        self._jitted_at = 0.0
        self.read()

    def mapping(self, address: int) -> Mapping | None:
        """The executable mapping of an address; the map is read again when it has none."""
        found = self._find(address)
        if found is None and time.monotonic() - self._read_at > _RETRY:
            self.read()
            found = self._find(address)
        return found

    def jitted(self, address: int) -> PerfMap | None:
        """The functions its JIT compiler names, read again when the address is not among them."""
        known = self._jitted
        if known is None or (known.resolve(address) is None and time.monotonic() - self._jitted_at > _RETRY):
            from tracebee.symbols import perfmap

            self._jitted = perfmap.read(self.tgid) or known
            self._jitted_at = time.monotonic()
        return self._jitted

    def _find(self, address: int) -> Mapping | None:
        at = bisect_right(self._starts, address) - 1
        if at >= 0 and address < self._mappings[at].end:
            return self._mappings[at]
        return None

    def read(self) -> None:
        """Read the map as it is now."""
        from tracebee.kernel import procmaps

        self._read_at = time.monotonic()
        mappings = [m for m in procmaps.read(self.tgid) or () if m.executable]
        # An empty map is that of a process about to go: what was seen before says more.
        if mappings:
            self._mappings = mappings
            self._starts = [m.start for m in mappings]
