"""Debian's cloud kernels for the guest: downloaded and unpacked below .cache, never installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

# How kernel images are compressed: the first bytes, and what undoes it.
_COMPRESSIONS = (
    (b"\x28\xb5\x2f\xfd", ("zstd", "-dcq")),
    (b"\xfd7zXZ\0", ("xz", "-dcq")),
    (b"\x02\x21\x4c\x18", ("lz4", "-dcq")),
)
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "guest"


class GuestKernel(NamedTuple):
    """An unpacked kernel package: the image to boot and the modules to show the guest."""

    image: Path
    modules: Path


class GuestUnavailableError(Exception):
    """The guest kernel cannot be had on this machine; the text says why."""


def fetch(series: str = "6.12") -> GuestKernel:
    """The newest cloud kernel of a series from the machine's Debian archives, cached by version."""
    package = _package_name(series)
    folder = CACHE / package
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", "-qq", package], folder)
        (archive,) = folder.glob("*.deb")
        _run(["dpkg-deb", "-x", archive.name, "."], folder)
        archive.unlink()
        (folder / "complete").touch()
    (image,) = (folder / "boot").glob("vmlinuz-*")
    return GuestKernel(image, folder / "lib" / "modules")


def _package_name(series: str) -> str:
    """The package that one of Debian's meta-packages stands for today: the series' own, or the release's."""
    for meta in (f"linux-image-{series}-cloud-amd64", "linux-image-cloud-amd64"):
        try:
            listing = _run(["apt-cache", "depends", meta], Path("/"))
        except GuestUnavailableError:
            continue
        for line in listing.splitlines():
            words = line.split()
            if words[:1] == ["Depends:"] and words[1].startswith(f"linux-image-{series}."):
                return words[1]
    raise GuestUnavailableError(
        f"no archive this machine knows has a {series} kernel: run 'apt-get update' first"
    )


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise GuestUnavailableError(f"{command[0]} is not installed: the guest needs a Debian host") from e
    if done.returncode:
        raise GuestUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def vmlinux_btf(series: str) -> bytes:
    """The BTF of a kernel in a Debian package, taken out of its compressed image; cached."""
    from tracebee.elf import ElfFile

    kernel = fetch(series)
    cached = kernel.image.parents[1] / "vmlinux.btf"
    if cached.exists():
        return cached.read_bytes()
    image = kernel.image.read_bytes()
    for magic, command in _COMPRESSIONS:
        at = image.find(magic)
        while at >= 0:
            # What follows the payload makes the tool complain; the kernel is out by then.
            plain = subprocess.run(command, input=image[at:], capture_output=True, check=False).stdout
            if plain[:4] == b"\x7fELF":
                elf = ElfFile("vmlinux", plain)
                section = elf.section(".BTF")
                if section is not None:
                    cached.write_bytes(elf.contents(section))
                    return cached.read_bytes()
            at = image.find(magic, at + 1)
    raise GuestUnavailableError(f"no BTF found in {kernel.image.name}")
