"""Where BTF is found: the running kernel's, a module's, a file's."""

from __future__ import annotations

import mmap
import os

from tracebee.btf.index_cache import kernel_build_id
from tracebee.btf.reader import Btf
from tracebee.errors import DecodeError, SymbolError, UnsupportedError

SYSFS = "/sys/kernel/btf"

# Where distributions keep a kernel image with BTF when /sys has none; %s is the release.
_IMAGES = (
    "/boot/vmlinux-%s",
    "/lib/modules/%s/vmlinux-%s",
    "/lib/modules/%s/build/vmlinux",
    "/usr/lib/modules/%s/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-%s",
    "/usr/lib/debug/boot/vmlinux-%s.debug",
    "/usr/lib/debug/lib/modules/%s/vmlinux",
)

_kernel: Btf | None = None
_modules: dict[str, Btf] = {}


def open_vmlinux() -> Btf:
    """The running kernel's BTF, the same object on every call."""
    global _kernel
    if _kernel is None:
        _kernel = _open_running_kernel()
    return _kernel


def use_kernel(btf: Btf | None) -> None:
    """Let ``btf`` stand for the running kernel's types (``--btf FILE``); None undoes it."""
    global _kernel
    _kernel = btf
    _modules.clear()


def _open_running_kernel() -> Btf:
    path = f"{SYSFS}/vmlinux"
    if os.path.exists(path):
        return Btf(_map(path), name="vmlinux", cache_key=kernel_build_id())
    release = os.uname().release
    for pattern in _IMAGES:
        image = pattern.replace("%s", release)
        if os.path.exists(image):
            return open_file(image)
    raise UnsupportedError(
        f"this kernel has no type information (no {path})",
        hint="it needs CONFIG_DEBUG_INFO_BTF=y, or the BTF of this very kernel given with --btf FILE",
    )


def _map(path: str) -> bytes | mmap.mmap:
    """The file's bytes, mapped where the kernel can (since 6.16), so that they cost no memory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        try:
            return mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        except (OSError, ValueError):
            with open(fd, "rb", buffering=0, closefd=False) as file:
                return file.read()
    finally:
        os.close(fd)


def module_names() -> list[str]:
    """Loaded modules that have BTF, in alphabetical order."""
    try:
        return sorted(n for n in os.listdir(SYSFS) if n != "vmlinux")
    except OSError:
        return []


def open_module(name: str) -> Btf:
    """A module's BTF, split from vmlinux; ``vmlinux`` gives the kernel's own."""
    if name == "vmlinux":
        return open_vmlinux()
    # The kernel writes module names with underscores, file names often have dashes.
    name = name.replace("-", "_")
    found = _modules.get(name)
    if found is None:
        if name not in module_names():
            from tracebee.suggest import nearest

            raise SymbolError(
                f"module '{name}' is not loaded, or has no type information", nearest(name, module_names())
            )
        found = _modules[name] = Btf(_map(f"{SYSFS}/{name}"), open_vmlinux(), name)
    return found


def open_file(path: str, base: Btf | None = None) -> Btf:
    """BTF from a raw file or from an ELF file's ``.BTF`` section.

    A kernel module's file may bring, in ``.BTF.base``, what its types need of vmlinux's. That is then
    their base, unless one is given: then they are relocated onto it. What /sys has of a module has the
    running kernel as base.

    :raises DecodeError: it is neither, or does not fit ``base``.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        if start != b"\x7fELF":
            if base is None and os.path.dirname(path) == SYSFS and os.path.basename(path) != "vmlinux":
                base = open_vmlinux()
            return Btf(start + file.read(), base, path)
    from tracebee.elf.file import ElfFile

    with ElfFile(path) as elf:
        section = elf.section(".BTF")
        if section is None:
            hint = "compile it with -g for the bpf target, or add BTF with pahole -J"
            raise DecodeError(f"{path}: has no .BTF section", hint=hint)
        distilled = elf.section(".BTF.base")
        if distilled is None:
            return Btf(elf.contents(section), base, path)
        own = Btf(elf.contents(distilled), name=f"{path} (.BTF.base)")
        found = Btf(elf.contents(section), own, path)
    if base is None:
        return found
    from tracebee.btf.relocate import relocate

    return relocate(found, base)
