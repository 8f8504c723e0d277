"""The running kernel's configuration, as ``__kconfig`` externs see it.

Source: ``CONFIG_IKCONFIG_PROC`` (/proc/config.gz) or the distribution's /boot/config-RELEASE, and the
three names that libbpf adds to it.
"""

from __future__ import annotations

import os
import struct

from tracebee.btf import Btf
from tracebee.btf.kinds import BTF_INT_BOOL, BTF_INT_SIGNED, BTF_KIND_ARRAY, BTF_KIND_INT, ENUMS
from tracebee.errors import DecodeError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tracebee.btf.types import Type
    from tracebee.obj.model import Extern, Object

_VIRTUAL = ("LINUX_KERNEL_VERSION", "LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER")
_TRISTATE = {"n": 0, "y": 1, "m": 2}  # enum libbpf_tristate


def kconfig_values(obj: Object, size: int) -> bytes:
    """The contents of an object's ``.kconfig`` map, ``size`` bytes.

    :raises UnsupportedError: a setting that is not weak is missing, or the configuration is not to be had.
    :raises DecodeError: a setting's value does not fit the type it is declared with.
    """
    data = bytearray(size)
    settings = [e for e in obj.externs if e.kind == "kconfig"]
    config = read_config() if any(e.name.startswith("CONFIG_") for e in settings) else {}
    if config is None and any(not e.weak for e in settings if e.name.startswith("CONFIG_")):
        raise UnsupportedError(
            f"{obj.name} asks for the kernel's configuration, which is in neither /proc/config.gz nor /boot",
            hint="build the kernel with CONFIG_IKCONFIG_PROC=y, or declare the settings __weak",
        )
    btf = Btf.from_bytes(obj.btf)
    for extern in settings:
        _check_type(btf, extern)
        is_setting = extern.name.startswith("CONFIG_")
        text = (config or {}).get(extern.name) if is_setting else _virtual(extern.name)
        if text is None:
            if not is_setting and not (extern.weak and extern.name.startswith("LINUX_")):
                raise UnsupportedError(
                    f"{obj.name}: extern {extern.name} is no setting: none is called so",
                    hint=f"__kconfig has CONFIG_ names, {', '.join(_VIRTUAL)}",
                )
            if extern.weak:
                continue
            raise UnsupportedError(
                f"{obj.name} asks for {extern.name}, which this kernel's configuration does not set",
                hint="declare it __weak to get 0 instead",
            )
        data[extern.offset : extern.offset + extern.size] = _encode(btf, extern, text)
    return bytes(data)


def read_config() -> dict[str, str] | None:
    """The kernel's configuration by name (``CONFIG_HZ``: ``250``); None when it is nowhere to be read."""
    import gzip

    for path in ("/proc/config.gz", f"/boot/config-{os.uname().release}"):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            continue
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
        pairs = (line.partition("=") for line in text.split("\n") if line.startswith("CONFIG_"))
        return {name: value for name, _, value in pairs}
    return None


def _virtual(name: str) -> str | None:
    """What libbpf offers beside the configuration."""
    if name == "LINUX_KERNEL_VERSION":
        major, minor, patch = (*os.uname().release.split("-")[0].split("+")[0].split("."), "0")[:3]
        return str(int(major) << 16 | int(minor) << 8 | min(int(patch), 255))
    if name == "LINUX_HAS_BPF_COOKIE":
        return "y" if os.path.exists("/sys/kernel/btf/vmlinux") and has_cookie() else "n"
    if name == "LINUX_HAS_SYSCALL_WRAPPER":
        from tracebee.kernel.kallsyms import find

        return "y" if any(find(f"__{arch}_sys_bpf") for arch in ("x64", "arm64", "s390x", "riscv")) else "n"
    return None


def has_cookie() -> bool:
    """bpf_get_attach_cookie came in 5.15 under a number that the kernel's own enum says it has."""
    from tracebee.errors import SymbolError

    try:
        Btf.vmlinux().enumerator("BPF_FUNC_get_attach_cookie")
    except SymbolError:
        return False
    return True


def _check_type(btf: Btf, extern: Extern) -> None:
    """Refuse what no setting can be: libbpf takes integers, bool, char arrays and enum libbpf_tristate."""
    record = btf.type(btf.resolve(extern.type_id))
    element = btf.type(btf.resolve(record.type_id)) if record.kind == BTF_KIND_ARRAY else None
    good = (
        (record.kind == BTF_KIND_INT and record.size in (1, 2, 4, 8))
        or (record.kind in ENUMS and record.name == "libbpf_tristate")
        or (element is not None and element.kind == BTF_KIND_INT and element.size == 1 and record.nelems > 0)
    )
    if not good:
        raise DecodeError(
            f"no setting can be of the type that {extern.name} is declared with: {_name(btf, extern)}",
            hint="declare it as an integer, bool, char array or enum libbpf_tristate",
        )


def _encode(btf: Btf, extern: Extern, text: str) -> bytes:
    record = btf.type(btf.resolve(extern.type_id))
    if text.startswith('"'):
        if record.kind != BTF_KIND_ARRAY:
            raise DecodeError(f"{extern.name} is the string {text}, but declared as {_name(btf, extern)}")
        return text[1:-1].encode()[: extern.size - 1].ljust(extern.size, b"\0")
    is_bool = record.kind == BTF_KIND_INT and bool(record.encoding & BTF_INT_BOOL)
    if text in _TRISTATE:
        if record.kind in ENUMS:
            return struct.pack("=I", _TRISTATE[text])[: extern.size]
        if is_bool and text != "m":
            return bytes([_TRISTATE[text]])
        if record.kind == BTF_KIND_INT and record.size == 1 and not is_bool:
            return text.encode()
        raise DecodeError(f"{extern.name} is '{text}', but declared as {_name(btf, extern)}")
    try:
        value = int(text, 0)
    except ValueError:
        raise DecodeError(f"{extern.name} is '{text}', which is no number") from None
    if record.kind != BTF_KIND_INT or is_bool or not _fits(record, value):
        raise DecodeError(f"{extern.name} is {text}, which {_name(btf, extern)} does not hold")
    return (value & (1 << extern.size * 8) - 1).to_bytes(extern.size, "little")


def _fits(record: Type, value: int) -> bool:
    if record.size == 8:
        return True  # a long that was written in hexadecimal is the same bits
    if record.encoding & BTF_INT_SIGNED:
        return -1 << 8 * record.size - 1 <= value < 1 << 8 * record.size - 1
    return 0 <= value < 1 << 8 * record.size


def _name(btf: Btf, extern: Extern) -> str:
    return btf.name_of(extern.type_id)
