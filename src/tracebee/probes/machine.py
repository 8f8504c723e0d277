"""What expanding a probe needs to know of the machine, found on first use and kept."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import ModuleType
    from typing import Any

    from tracebee.btf.reader import Btf
    from tracebee.lang.records import Records
    from tracebee.probes.regs import Registers

_WILD = frozenset("*?[")


class Machine:
    """The running kernel, the traced process, and the options that shape expansion.

    :param pid: the process of ``-p``, or None; paths are then looked up in its root.
    :param command: the path of the program of ``-c``, for probes that name none.
    :param user: for the user engine: without what only the privileged may read.
    :param portable: for programs that other kernels are to take: without what only newer ones have.
    :param without: features of ``FEATURES`` to do without although the kernel has them.
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        command: str | None = None,
        user: bool = False,
        portable: bool = False,
        without: Collection[str] = (),
    ) -> None:
        self.pid = pid
        self.command = command
        self.user = user
        self.portable = portable
        self.without = without
        self.warnings: list[str] = []
        self._kept: dict[str, Any] = {}

    @property
    def regs(self) -> Registers:
        """The register layout of this architecture."""
        kept: Registers | None = self._kept.get("regs")
        if kept is None:
            from tracebee.probes.regs import registers

            kept = self._kept["regs"] = registers(os.uname().machine)
        return kept

    @property
    def events(self) -> ModuleType:
        """Where tracepoints are looked up: ``kernel.tracefs``, or ``probes.user_events`` in its place."""
        if self.user:
            from tracebee.probes import user_events

            return user_events
        from tracebee.kernel import tracefs

        return tracefs

    @property
    def root(self) -> str:
        """Prefix for paths as the traced process sees them: ``/proc/PID/root``, or nothing."""
        return "" if self.pid is None else f"/proc/{self.pid}/root"

    @property
    def btf(self) -> Btf:
        """The kernel's types.

        :raises UnsupportedError: the kernel has none.
        """
        from tracebee.btf.opening import open_vmlinux

        return open_vmlinux()

    @property
    def records(self) -> Records:
        """Kernel types as script types."""
        kept: Records | None = self._kept.get("records")
        if kept is None:
            from tracebee.lang.records import Records

            kept = self._kept["records"] = Records(lambda: self.btf)
        return kept

    def has(self, feature: str) -> bool:
        """Whether the kernel has a feature of ``FEATURES``; found once."""
        if self.portable or feature in self.without:
            return False
        if feature not in self._kept:
            self._kept[feature] = kernel_has(feature)
        found: bool = self._kept[feature]
        return found

    def warn(self, message: str) -> None:
        """Keep a warning for the user; printed once compiling is done."""
        if message not in self.warnings:
            self.warnings.append(message)


# A feature, and a word of the kernel's own type information that is there when the feature is.
FEATURES = {
    "perf_link": "bpf_perf_link",  # struct, since 5.15
    "uprobe_multi": "bpf_uprobe_multi_link",  # struct, since 6.6
    "kprobe_multi": "bpf_kprobe_multi_link",  # struct, since 5.18 with CONFIG_FPROBE
}


def kernel_has(feature: str) -> bool:
    """Whether the running kernel was built with a feature of ``FEATURES``."""
    return kernel_names(FEATURES[feature])


def kernel_names(name: str) -> bool:
    """Whether the running kernel's types have a name: a search for its bytes in BTF's strings."""
    import mmap

    word = b"\0" + name.encode() + b"\0"
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            try:
                with mmap.mmap(
                    file.fileno(), os.fstat(file.fileno()).st_size, mmap.MAP_PRIVATE, mmap.PROT_READ
                ) as data:
                    return data.find(word) >= 0
            except (OSError, ValueError):  # before 6.16 this file could not be mapped
                return word in file.read()
    except OSError:
        return False


def is_wild(pattern: str) -> bool:
    """Whether a name has shell wildcards."""
    return not _WILD.isdisjoint(pattern)


def matching(pattern: str, names: Iterable[str]) -> Iterator[str]:
    """The names that a shell pattern matches, in their order."""
    if pattern == "*":
        yield from names
        return
    import re
    from fnmatch import translate  # only for patterns

    match = re.compile(translate(pattern)).match
    for name in names:
        if match(name):
            yield name
