"""Debian's cloud kernels for the guest: downloaded and unpacked below .cache, never installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

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
    """The package that Debian's meta-package for the series stands for today."""
    meta = f"linux-image-{series}-cloud-amd64"
    listing = _run(["apt-cache", "depends", meta], Path("/"))
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["Depends:"] and words[1].startswith("linux-image-"):
            return words[1]
    raise GuestUnavailableError(f"{meta} is in no archive this machine knows: run 'apt-get update' first")


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise GuestUnavailableError(f"{command[0]} is not installed: the guest needs a Debian host") from e
    if done.returncode:
        raise GuestUnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
